//! Looks at the record once a second, says in the status what is waited for, and hands the events of the update over.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::record::{Found, UpdateRecord, UpdateState};
use super::told::{Journal, Step, Teller, Told, event};
use super::{WatchedBus, waits_for};
use crate::health::{StatusBoard, UpdateFacts};
use crate::journal::{Archive, JournalHandle, Place};
use crate::measure::{Mono, Notice, Seq};

/// Whoever installs an update waits for this.
const LOOK: Duration = Duration::from_secs(1);

/// What the watch over an update needs of its surroundings.
pub(in crate::agent) struct Surroundings {
    pub(in crate::agent) state_dir: PathBuf,
    pub(in crate::agent) buses: Vec<WatchedBus>,
    pub(in crate::agent) facts: Arc<StatusBoard>,
    pub(in crate::agent) notices: mpsc::Sender<Notice>,
    pub(in crate::agent) journal: JournalHandle,
    /// The start of the process.
    pub(in crate::agent) since: Mono,
}

/// Before the journal is opened, and so before anything of it can go: whether an event that was on its way is in it. Reads what was
/// written after the event was handed over, and only if a life has ended in between.
pub(in crate::agent) fn find_told(state_dir: &Path, journal: &Path) {
    let Found::Record(record) = UpdateRecord::read(state_dir) else { return };
    let Ok(mut told) = Told::read(state_dir, &record.id) else { return };
    let Some(telling) = told.telling else { return };
    let sought = event(&record, telling.news);
    let mut is_there = false;
    let looked = Archive::open(journal).and_then(|archive| {
        archive.read((telling.after.next(), Seq(u64::MAX)), |place| {
            let Place::Entry(entry, _) = place else { return ControlFlow::Continue(()) };
            is_there = entry.window.events.iter().any(|event| event.kind == sought);
            if is_there { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    if let Err(error) = looked {
        tracing::warn!(%error, "whether {} was told cannot be read: it may be told twice", sought.name());
    }
    if is_there {
        told.settle(telling.news);
        if let Err(error) = told.write(state_dir) {
            tracing::warn!(%error, "{} may be told twice", sought.name());
        }
    }
}

/// Runs until `stop` turns true. What was handed over and is not known to be durable then is looked for at the next start
/// ([`find_told`]): it may have come too late for the last window.
pub(in crate::agent) async fn run(
    surroundings: Surroundings,
    now: impl Fn() -> Mono + Send,
    mut stop: watch::Receiver<bool>,
) {
    let mut driver = Driver { surroundings, teller: None, is_unkept: false };
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => driver.look(now()).await,
            () = told_to(&mut stop) => return,
        }
    }
}

async fn told_to(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

struct Driver {
    surroundings: Surroundings,
    teller: Option<Teller>,
    /// What was told cannot be written down, and the log says so.
    is_unkept: bool,
}

impl Driver {
    async fn look(&mut self, now: Mono) {
        let facts = match UpdateRecord::read(&self.surroundings.state_dir) {
            Found::Nothing => None,
            Found::Unreadable(why) => Some(UpdateFacts { trouble: Some(why), ..UpdateFacts::default() }),
            Found::Record(record) => {
                let trouble = self.tell(&record).await.err();
                Some(self.facts(&record, trouble, now))
            }
        };
        self.surroundings.facts.update(facts);
    }

    fn facts(&self, record: &UpdateRecord, trouble: Option<String>, now: Mono) -> UpdateFacts {
        let Surroundings { facts, buses, since, .. } = &self.surroundings;
        // Of a failed one, too: RAUC may have gone on with it, and it is what runs.
        let awaited = if record.state.is_open() || record.state == UpdateState::Failed {
            waits_for(&record.buses, buses, &facts.status(), now.since(*since))
        } else {
            Vec::new()
        };
        let (start_told, end_told) = self.teller.as_ref().map_or((false, false), Teller::has_told);
        UpdateFacts {
            id: record.id.clone(),
            state: record.state.as_str().to_owned(),
            from: record.from.version.to_string(),
            to: record.to.version.to_string(),
            start_told,
            end_told,
            waits_for: awaited.iter().map(ToString::to_string).collect(),
            trouble,
        }
    }

    /// Goes on with the telling as far as it goes now. The error is in words.
    async fn tell(&mut self, record: &UpdateRecord) -> Result<(), String> {
        let Surroundings { state_dir, notices, journal, .. } = &self.surroundings;
        let mut teller = match self.teller.take().filter(|teller| teller.id() == record.id) {
            Some(teller) => teller,
            None => Teller::new(Told::read(state_dir, &record.id)?),
        };
        loop {
            match teller.poll(record, self.view()) {
                Step::Wait => break,
                Step::Keep(told) => match told.write(state_dir) {
                    Ok(()) => {
                        teller.kept();
                        self.is_unkept = false;
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut self.is_unkept, true) {
                            tracing::warn!(%error, "what is told of the update cannot be noted; trying on");
                        }
                        break;
                    }
                },
                // Rare: the bound on events must neither hold it back nor put a newer one in its place.
                Step::Send(kind) => match notices.try_send(Notice { kind, is_rare: true }) {
                    Ok(()) => teller.sent(),
                    Err(_) => break,
                },
                Step::Commit => {
                    if !journal.commit().await {
                        break;
                    }
                    teller.committed();
                }
            }
        }
        self.teller = Some(teller);
        Ok(())
    }

    fn view(&self) -> Journal {
        let Surroundings { facts, notices, journal, .. } = &self.surroundings;
        let durable = journal.progress().borrow().durable.unwrap_or(Seq(0));
        // Before the count of windows: what has arrived by now is in the next window that is counted, if not in one before.
        let arrived = notices.capacity() == notices.max_capacity();
        let (mut works, mut taken) = (false, 0);
        facts.journal(|facts| works = facts.trouble.is_none());
        facts.pipeline(|facts| taken = facts.windows_taken);
        Journal { durable, works, arrived, taken }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::example;
    use super::super::told::{News, Telling};
    use super::*;
    use crate::journal::Appended;
    use crate::journal::testing::{empty_window, small_journal};
    use crate::measure::{Event, EventKind, Window};

    /// A life of the journal that has kept one event and was killed.
    async fn life(dir: &Path, kind: EventKind) -> Seq {
        let journal = small_journal(dir);
        let window = Window { events: vec![Event { device: None, kind }], ..empty_window(1) };
        assert!(matches!(journal.handle().append(window), Appended::Queued));
        assert!(journal.handle().commit().await);
        let durable = journal.handle().progress().borrow().durable;
        durable.expect("it is durable")
    }

    #[tokio::test]
    async fn what_a_killed_life_has_told_is_found_in_its_journal_and_what_it_has_not_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let (state, journal) = (dir.path(), dir.path().join("journal"));
        let record = example(UpdateState::Confirmed);
        record.write(state).expect("written");
        let last = life(&journal, event(&record, News::Started)).await;
        let found = |news, after| {
            let mut told = Told::read(state, "none of it").expect("read");
            told.id.clone_from(&record.id);
            told.telling = Some(Telling { news, after });
            told.write(state).expect("written");
            find_told(state, &journal);
            Told::read(state, &record.id).expect("read").told == [news]
        };
        assert!(found(News::Started, Seq(0)));
        assert!(!found(News::Confirmed, Seq(0)), "another one was told");
        assert!(!found(News::Started, last), "that was before it was handed over");
        std::fs::remove_dir_all(&journal).expect("removed");
        assert!(!found(News::Started, Seq(0)), "there is no journal");
    }
}
