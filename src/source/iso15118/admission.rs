//! Who makes room when no more feeds can be open. Pure.
//!
//! A station is mute until its next session, for hours after a restart of the agent: to be mute is no reason to go. Only who holds
//! more than one feed, and most of all, loses one that is mute, so that one client's connections keep no station out.

use std::net::IpAddr;

/// Who is at the other end, as the operating system tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Address(IpAddr),
    /// Of a unix socket (`SO_PEERCRED`).
    Process(i32),
}

/// An open feed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) peer: Option<Peer>,
    /// It has never sent a record.
    pub(super) is_mute: bool,
}

/// Which of the open feeds, the oldest first, makes room for one more of `newcomer`; none if the new one is to be refused.
/// The new one counts among those of its peer. Where feeds are let in by certificate (`by_certificate`), none makes
/// room for another of the same peer: stations behind one router have one address.
pub(super) fn to_make_room(feeds: &[Place], newcomer: Option<Peer>, by_certificate: bool) -> Option<usize> {
    let newcomer = newcomer?;
    let count =
        |peer: Peer| feeds.iter().filter(|feed| feed.peer == Some(peer)).count() + usize::from(peer == newcomer);
    let most = feeds.iter().filter_map(|feed| feed.peer).map(count).max().filter(|most| *most > 1)?;
    let gives_way = |feed: &Place| {
        feed.is_mute && feed.peer.is_some_and(|peer| count(peer) == most && !(by_certificate && peer == newcomer))
    };
    feeds.iter().position(gives_way)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station(last: u8) -> Option<Peer> {
        Some(Peer::Address(IpAddr::from([10, 0, 0, last])))
    }

    fn mute(peer: Option<Peer>) -> Place {
        Place { peer, is_mute: true }
    }

    fn speaking(peer: Option<Peer>) -> Place {
        Place { peer, is_mute: false }
    }

    #[test]
    fn idle_stations_make_no_room_for_one_more() {
        let idle: Vec<Place> = (0..16).map(|last| mute(station(last))).collect();
        assert_eq!(to_make_room(&idle, station(16), false), None);
        assert_eq!(to_make_room(&idle, station(16), true), None);
    }

    #[test]
    fn who_holds_most_loses_the_oldest_that_is_mute() {
        let feeds = [1, 2, 3, 3, 2, 3].map(|last| mute(station(last)));
        for by_certificate in [false, true] {
            assert_eq!(to_make_room(&feeds, station(4), by_certificate), Some(2));
        }
        let mut feeds = feeds;
        feeds[2] = speaking(station(3));
        assert_eq!(to_make_room(&feeds, station(4), false), Some(3));
        // The others are not at fault.
        for feed in [3, 5] {
            feeds[feed] = speaking(station(3));
        }
        assert_eq!(to_make_room(&feeds, station(4), false), None);
    }

    #[test]
    fn who_comes_again_takes_its_own_place_unless_a_certificate_has_let_it_in() {
        let feeds = [1, 2, 3].map(|last| mute(station(last)));
        assert_eq!(to_make_room(&feeds, station(2), false), Some(1));
        assert_eq!(to_make_room(&feeds, station(2), true), None);
    }

    #[test]
    fn for_whom_and_of_whom_nothing_is_known_no_room_is_made() {
        let feeds = [None, None, Some(Peer::Process(7)), Some(Peer::Process(7))].map(mute);
        assert_eq!(to_make_room(&feeds, None, false), None);
        assert_eq!(to_make_room(&feeds[..2], Some(Peer::Process(8)), false), None);
        assert_eq!(to_make_room(&feeds, Some(Peer::Process(8)), false), Some(2));
    }
}
