//! Messages that are none of the session that runs: strays in the midst of it, or the beginning of another one that was not heard.
//!
//! Feeds that were mixed up, frames that come late of the session before, cross-talk on the power line: a station speaks with one vehicle at a
//! time, so that whoever is heard again after them was there all the while. Messages with another SessionID are held until that is clear:
//!
//! - One of the session's own comes: they were strays, are counted (`other_session`), and told nowhere.
//! - [`OTHER_MESSAGES`] came in a row, or two that are [`OTHER_AFTER`] apart: they are another session, and all of them are read as such, at
//!   their own times. After a lost feed two in a row are enough: what was lost may well be its beginning.
//! - The station gives the other id (SessionSetupRes): that needs no second message.
//! - The connection ends: they are what there was of another session. It turns to TLS, or all is silent: they were strays.
//!
//! A message of another protocol is a stray, too, until [`STRAYS_MAX`] came in a row.

use std::time::Duration;

use iso15118::Protocol;

use super::held::Held;
use super::{Act, Agreed, Heard, Mono, Tracker, Unreadable};

/// A loop turns every 0.25 s (DC) to some seconds (AC), so that a session that goes on has been heard by then.
const OTHER_AFTER: Duration = Duration::from_secs(5);
/// Four questions with their answers: a session that goes on would have had its say in between.
const OTHER_MESSAGES: usize = 8;
/// Messages of another protocol than the session's, one after the other, after which that session is believed to be over.
const STRAYS_MAX: u32 = 3;

impl Tracker {
    /// Whether a message is one of another protocol in the midst of a session.
    pub(super) fn is_stray(&mut self, protocol: Protocol, heard: &Heard) -> bool {
        let runs = self.session.as_ref().is_some_and(|session| session.messages > 0);
        if !runs || self.agreed == Agreed::On(protocol) || matches!(heard.act, Act::Vehicle(_)) {
            self.strays = 0;
            return false;
        }
        self.strays += 1;
        self.strays < STRAYS_MAX
    }

    /// Reads a message as one of the session that runs, or of the one that has taken its place.
    pub(super) fn of_session(&mut self, protocol: Protocol, heard: &mut Heard, now: Mono, own: Mono) {
        let known = self.session.as_ref().and_then(|session| session.id);
        if let (Some(known), Some(id)) = (known, id_of(heard))
            && id != known
        {
            if !matches!(heard.act, Act::Established { .. }) && !self.is_another(own) {
                self.held.push(Held { id, protocol, heard: std::mem::take(heard), at: now, own });
                return;
            }
            self.end(if self.is_lost { "aborted" } else { "superseded" }, now);
        }
        self.release(now);
        self.is_lost = false;
        self.heard_own = own;
        self.message(protocol, heard, now);
    }

    /// Whether those that are held, with one more at `own`, are of another session and no strays.
    fn is_another(&self, own: Mono) -> bool {
        let Some(first) = self.held.first() else { return false };
        // What has an older time than the session's newest message comes late.
        let since = first.own.max(self.heard_own);
        self.is_lost || self.held.len() + 1 >= OTHER_MESSAGES || own.since(since) >= OTHER_AFTER
    }

    /// Reads the messages that were held as those of the session that runs now.
    pub(super) fn release(&mut self, now: Mono) {
        for Held { protocol, mut heard, at, own, .. } in std::mem::take(&mut self.held) {
            self.heard_own = own;
            self.message(protocol, &mut heard, at.min(now));
            self.flush();
        }
    }

    /// The messages that were held are followed by one that is not of their session.
    pub(super) fn drop_held_before(&mut self, heard: &Heard, now: Mono) {
        if self.held.first().is_some_and(|held| id_of(heard) != Some(held.id)) {
            self.drop_held(now);
        }
    }

    /// The messages that were held were strays: they are told nowhere.
    pub(super) fn drop_held(&mut self, now: Mono) {
        for _ in std::mem::take(&mut self.held) {
            self.messages -= 1;
            self.handle_unreadable(Unreadable::OtherSession, now);
        }
    }
}

/// The session that a message belongs to; none if it has no id yet, or the vehicle names the session before.
fn id_of(heard: &Heard) -> Option<u64> {
    heard.session.filter(|id| *id != 0 && !matches!(heard.act, Act::Vehicle(_)))
}
