//! The ids of the sessions at one connector, as they are told. Pure.
//!
//! An id is the SessionID of the header: the station gives it, and it stays the same while the session lasts, over a lost feed, a
//! pause and a restart of the gateway. Some stations give one again, to another session: then the time at which that begins stands behind
//! it (ms since 1970). This is noticed as long as the one before is remembered: [`REMEMBERED`] sessions, and no restart.

use std::collections::VecDeque;

use super::tracker::Identified;
use super::vehicle::VehicleIds;
use crate::measure::{EventKind, OfSession, SessionEvent, Utc};
use crate::spec::SessionId;

/// A station that counts its sessions from 1 at each of its starts has seldom more between two of them. 100 bytes each.
const REMEMBERED: usize = 64;

/// The session that runs, and those before it.
#[derive(Debug)]
pub(super) struct SessionIds {
    vehicle_ids: VehicleIds,
    running: Option<SessionId>,
    /// The newest last, one of each SessionID: that, and as what it was told.
    before: VecDeque<(u64, SessionId)>,
}

impl SessionIds {
    /// None was there.
    pub(super) fn new(vehicle_ids: VehicleIds) -> Self {
        Self { vehicle_ids, running: None, before: VecDeque::new() }
    }

    /// The session from now on.
    pub(super) fn session(&mut self, session: Option<Identified>, at: Utc) -> Option<SessionId> {
        self.running = session.and_then(|session| self.told(session, at));
        self.running.clone()
    }

    /// The one that runs.
    pub(super) fn running(&self) -> Option<&SessionId> {
        self.running.as_ref()
    }

    /// Something has happened in it.
    pub(super) fn event(&self, event: SessionEvent) -> EventKind {
        EventKind::Session(OfSession { session: self.running.clone(), event })
    }

    fn told(&mut self, Identified { id, is_given }: Identified, at: Utc) -> Option<SessionId> {
        let known =
            self.before.iter().position(|(before, _)| *before == id).and_then(|place| self.before.remove(place));
        let told = match known {
            Some((_, told)) if !is_given => told,
            Some(_) => {
                let ms = at.0.div_euclid(1_000_000);
                SessionId::try_from(format!("{}-{ms}", self.vehicle_ids.session(id))).ok()?
            }
            None => SessionId::try_from(self.vehicle_ids.session(id)).ok()?,
        };
        if self.before.len() >= REMEMBERED {
            self.before.pop_front();
        }
        self.before.push_back((id, told.clone()));
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> impl FnMut(u64, bool, i64) -> String {
        let mut ids = SessionIds::new(VehicleIds::Send);
        move |id, is_given, seconds| {
            let told = ids.session(Some(Identified { id, is_given }), Utc(seconds * 1_000_000_000)).expect("an id");
            assert_eq!(ids.running(), Some(&told));
            ids.session(None, Utc(0));
            told.to_string()
        }
    }

    #[test]
    fn a_session_that_goes_on_keeps_its_id_and_one_that_was_joined_has_that_of_its_header() {
        let mut told = ids();
        assert_eq!(told(0x4fde_139f_c684_4d0e, true, 1), "4fde139fc6844d0e");
        assert_eq!(told(7, false, 2), "0000000000000007");
        assert_eq!(told(0x4fde_139f_c684_4d0e, false, 3), "4fde139fc6844d0e");
    }

    #[test]
    fn a_station_that_gives_each_session_the_same_id_does_not_make_them_one() {
        let mut told = ids();
        assert_eq!(told(1, true, 1_764_000_000), "0000000000000001");
        assert_eq!(told(1, true, 1_764_003_600), "0000000000000001-1764003600000");
        assert_eq!(told(1, false, 1_764_003_700), "0000000000000001-1764003600000", "it goes on after a pause");
        assert_eq!(told(1, true, 1_764_007_200), "0000000000000001-1764007200000");
    }

    #[test]
    fn so_many_sessions_are_remembered_and_no_more() {
        let mut told = ids();
        for id in 1..=100 {
            assert_eq!(told(id, true, 5).len(), 16);
        }
        assert_eq!(told(36, true, 6).len(), 16, "it is forgotten");
        assert!(told(38, true, 6).len() > 16);
    }
}
