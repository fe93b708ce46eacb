//! Each event of an update once in the record, whatever happens between: what is told, and what is on its way. Pure.
//!
//! `update-told.json`, the agent's own beside the record. Before an event goes into a window the file says so, and from which entry on it
//! may be found; once it is durable the file says that it is told. A life that finds it in between looks into the journal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files::{FORMAT, read_form, write_form};
use super::record::{UpdateRecord, UpdateState};
use crate::measure::{EventKind, Seq};

/// What an update has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum News {
    Started,
    Confirmed,
    RolledBack,
    Failed,
}

/// What was told of one update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    format: u32,
    /// Of the update.
    pub(super) id: String,
    /// What is durable in the journal.
    pub(super) told: Vec<News>,
    /// What may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) telling: Option<Telling>,
}

/// What is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Telling {
    pub(super) news: News,
    /// It is in an entry after this one.
    pub(super) after: Seq,
}

impl Told {
    fn nothing(id: &str) -> Self {
        Self { format: FORMAT, id: id.to_owned(), told: Vec::new(), telling: None }
    }

    fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("update-told.json")
    }

    /// What was told of the update with this id; the error is in words, and then nothing may be told.
    pub(super) fn read(state_dir: &Path, id: &str) -> Result<Self, String> {
        let told: Option<Self> = read_form(&Self::path(state_dir))?;
        Ok(told.filter(|told| told.id == id).unwrap_or_else(|| Self::nothing(id)))
    }

    pub(super) fn write(&self, state_dir: &Path) -> io::Result<()> {
        write_form(&Self::path(state_dir), self)
    }

    pub(super) fn settle(&mut self, news: News) {
        self.told.push(news);
        self.telling = None;
    }

    /// What is to be told next.
    fn due(&self, state: UpdateState) -> Option<News> {
        let end = match state {
            UpdateState::Installing | UpdateState::Installed | UpdateState::Confirming => None,
            UpdateState::Confirmed => Some(News::Confirmed),
            UpdateState::RolledBack => Some(News::RolledBack),
            UpdateState::Failed => Some(News::Failed),
        };
        std::iter::once(News::Started).chain(end).find(|news| !self.told.contains(news))
    }
}

/// The event.
pub(super) fn event(record: &UpdateRecord, news: News) -> EventKind {
    let (from, to) = (Arc::clone(&record.from.version), Arc::clone(&record.to.version));
    let why = || record.why.clone().unwrap_or_else(|| "no reason is known".into());
    match news {
        News::Started => EventKind::UpdateStarted { from, to },
        News::Confirmed => EventKind::UpdateConfirmed { from, to },
        News::RolledBack => EventKind::UpdateRolledBack { from, to, why: why() },
        News::Failed => EventKind::UpdateFailed { from, to, why: why() },
    }
}

/// How the journal is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Journal {
    /// The newest durable entry; 0 for none.
    pub(super) durable: Seq,
    /// It writes to its medium.
    pub(super) works: bool,
    /// All that was handed to the pipeline has been put into a window.
    pub(super) arrived: bool,
    /// Windows that the journal has taken since the start of the process: while it stalls there are none, and what happened goes on to the
    /// first one that it takes again.
    pub(super) taken: u64,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing for now.
    Wait,
    /// Write what was told, then say [`Teller::kept`].
    Keep(Told),
    /// Hand this over, then say [`Teller::sent`].
    Send(EventKind),
    /// Make all that was handed over durable, then, if it is, say [`Teller::committed`].
    Commit,
}

/// Where an event is that was handed over in this life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// On its way to the pipeline, which may be starved, and then closes many windows before it takes the event.
    OnItsWay,
    /// In a window that the journal has taken when it has taken more than so many.
    InAWindow(u64),
}

/// Tells what an update has to tell, one thing after the other.
#[derive(Debug)]
pub(super) struct Teller {
    told: Told,
    /// The file does not say yet what `told` says.
    unkept: bool,
    sent: Option<Sent>,
}

impl Teller {
    pub(super) fn new(told: Told) -> Self {
        Self { told, unkept: false, sent: None }
    }

    /// Of which update.
    pub(super) fn id(&self) -> &str {
        &self.told.id
    }

    /// Whether the beginning is told and will not be told again, and the end.
    pub(super) fn has_told(&self) -> (bool, bool) {
        let told = if self.unkept { &[][..] } else { &self.told.told };
        (told.contains(&News::Started), told.iter().any(|news| *news != News::Started))
    }

    pub(super) fn poll(&mut self, record: &UpdateRecord, journal: Journal) -> Step {
        if self.unkept {
            return Step::Keep(self.told.clone());
        }
        // What memory alone has, a restart takes: it is told once there is a medium.
        let Some(news) = self.told.due(record.state).filter(|_| journal.works) else { return Step::Wait };
        match (self.told.telling, self.sent) {
            (Some(telling), Some(sent)) if telling.news == news => match sent {
                Sent::InAWindow(taken) if journal.taken > taken => Step::Commit,
                Sent::OnItsWay if journal.arrived => {
                    self.sent = Some(Sent::InAWindow(journal.taken));
                    Step::Wait
                }
                Sent::InAWindow(_) | Sent::OnItsWay => Step::Wait,
            },
            (Some(telling), _) if telling.news == news => Step::Send(event(record, news)),
            _ => {
                self.told.telling = Some(Telling { news, after: journal.durable });
                (self.unkept, self.sent) = (true, None);
                Step::Keep(self.told.clone())
            }
        }
    }

    /// The file says what it should.
    pub(super) fn kept(&mut self) {
        self.unkept = false;
    }

    /// The event is on its way into the open window.
    pub(super) fn sent(&mut self) {
        self.sent = Some(Sent::OnItsWay);
    }

    /// All that was handed over is durable.
    pub(super) fn committed(&mut self) {
        if self.sent.take().is_some()
            && let Some(Telling { news, .. }) = self.told.telling
        {
            self.told.settle(news);
            self.unkept = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::example;
    use super::*;

    const STATES: [UpdateState; 6] = [
        UpdateState::Installing,
        UpdateState::Installed,
        UpdateState::Confirming,
        UpdateState::Confirmed,
        UpdateState::RolledBack,
        UpdateState::Failed,
    ];

    fn journal(arrived: bool, taken: u64) -> Journal {
        Journal { durable: Seq(40), works: true, arrived, taken }
    }

    /// The pipeline and the journal, at their slowest: windows are closed before what was handed over is looked at, and the journal takes
    /// none in the first `stalls` rounds.
    #[derive(Default)]
    struct Surroundings {
        stalls: u64,
        rounds: u64,
        on_its_way: Option<EventKind>,
        open: Option<EventKind>,
        appended: Option<EventKind>,
        taken: u64,
        durable: Vec<EventKind>,
    }

    impl Surroundings {
        fn go_on(&mut self) {
            self.rounds += 1;
            if self.rounds > self.stalls {
                self.taken += 3;
                self.appended = self.appended.take().or(self.open.take());
            }
            // Only every other time does the pipeline have a turn.
            if self.rounds.is_multiple_of(2) {
                self.open = self.open.take().or(self.on_its_way.take());
            }
        }

        /// What is in the journal's queue becomes durable.
        fn commit(&mut self) {
            self.durable.extend(self.appended.take());
        }
    }

    /// A life that is cut after so many steps: what is on the disk then, and what was told in a durable entry.
    fn life(record: &UpdateRecord, disk: &mut Told, steps: usize, stalls: u64) -> Vec<EventKind> {
        let mut teller = Teller::new(disk.clone());
        let mut around = Surroundings { stalls, ..Surroundings::default() };
        for _ in 0..steps {
            match teller.poll(record, journal(around.on_its_way.is_none(), around.taken)) {
                Step::Wait => around.go_on(),
                Step::Keep(told) => {
                    let is_durable = |news| around.durable.contains(&event(record, news));
                    let noted = told.told.iter().filter(|news| !disk.told.contains(news));
                    assert!(noted.copied().all(is_durable), "{told:?} is not durable yet");
                    *disk = told;
                    teller.kept();
                }
                Step::Send(event) => {
                    around.on_its_way = Some(event);
                    teller.sent();
                }
                Step::Commit => {
                    around.commit();
                    teller.committed();
                }
            }
        }
        around.durable
    }

    #[test]
    fn each_event_is_told_once_wherever_a_life_is_cut_and_however_long_the_journal_stalls() {
        let lives =
            STATES.iter().flat_map(|state| (0..60).flat_map(move |cut| [0, 1, 7].map(|stalls| (*state, cut, stalls))));
        for (state, cut, stalls) in lives {
            let record = example(state);
            let expected = if state.is_open() { 1 } else { 2 };
            {
                let mut disk = Told::nothing(&record.id);
                let mut told = life(&record, &mut disk, cut, stalls);
                // What the next life does first.
                if let Some(Telling { news, .. }) = disk.telling
                    && told.contains(&event(&record, news))
                {
                    disk.settle(news);
                }
                told.extend(life(&record, &mut disk, 60, stalls));
                assert_eq!(told.len(), expected, "{state:?} cut after {cut} steps: {told:?}");
                assert!(matches!(told[0], EventKind::UpdateStarted { .. }), "{told:?}");
                assert_eq!(life(&record, &mut disk, 60, stalls), [], "and never again");
            }
        }
    }

    #[test]
    fn nothing_is_told_while_only_memory_would_have_it_nor_before_the_file_says_so() {
        let record = example(UpdateState::Installing);
        let mut teller = Teller::new(Told::nothing(&record.id));
        assert_eq!(teller.poll(&record, Journal { works: false, ..journal(true, 0) }), Step::Wait);
        let Step::Keep(told) = teller.poll(&record, journal(true, 0)) else { panic!("it is noted first") };
        assert_eq!(told.telling, Some(Telling { news: News::Started, after: Seq(40) }));
        assert!(matches!(teller.poll(&record, journal(true, 0)), Step::Keep(_)), "it could not be written");
        teller.kept();
        assert!(matches!(teller.poll(&record, journal(true, 7)), Step::Send(_)));
        assert!(matches!(teller.poll(&record, journal(true, 7)), Step::Send(_)), "there was no room");
        teller.sent();
        assert_eq!(teller.poll(&record, journal(false, 39)), Step::Wait, "the pipeline was starved");
        assert_eq!(teller.poll(&record, journal(true, 40)), Step::Wait);
        assert_eq!(teller.poll(&record, journal(true, 40)), Step::Wait, "the journal stalls");
        assert_eq!(teller.poll(&record, journal(true, 41)), Step::Commit);
        assert_eq!(teller.poll(&record, journal(true, 41)), Step::Commit, "it could not be made durable");
        assert_eq!(teller.has_told(), (false, false));
        teller.committed();
        assert_eq!(teller.has_told(), (false, false));
        teller.kept();
        assert_eq!(teller.has_told(), (true, false));
    }

    #[test]
    fn of_another_update_nothing_was_told_and_what_a_newer_program_noted_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut told = Told::nothing("a");
        told.settle(News::Started);
        told.write(dir.path()).expect("written");
        let text = r#"{"format":1,"id":"a","told":["started"]}"#;
        assert_eq!(std::fs::read_to_string(Told::path(dir.path())).expect("read"), text);
        assert_eq!(Told::read(dir.path(), "a"), Ok(told));
        assert_eq!(Told::read(dir.path(), "b"), Ok(Told::nothing("b")));
        std::fs::write(Told::path(dir.path()), r#"{"format":2}"#).expect("written");
        assert!(Told::read(dir.path(), "a").is_err_and(|why| why.contains("newer program")));
    }
}
