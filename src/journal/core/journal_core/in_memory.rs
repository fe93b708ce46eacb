//! A life that begins without a medium that can be written: what it holds in memory is told to be in danger, and goes to the
//! medium, in order and before all that is new, as soon as there is one.
//!
//! - A medium that can be read and not written is like one that fails later: numbers go on from what is there, its backlog is
//!   delivered, and the life is noted with the first write that succeeds.
//! - One that cannot even be read leaves a life that counts from 1. When it can be read, another life begins there and goes on
//!   with what nobody has: under numbers of its own, and it tells so.

use std::time::Duration;

use super::JournalCore;
use crate::journal::core::clock::Clock;
use crate::journal::core::context::WriterContext;
use crate::journal::core::held::is_about_the_medium;
use crate::journal::core::recovery::Start;
use crate::journal::disk::entry;
use crate::journal::disk::store::{Store, StoreError};
use crate::measure::{Epoch, Event, EventKind, LifeLost, Seq};

impl<S: Store> JournalCore<S> {
    /// There is no medium, and why.
    pub(in crate::journal) fn without_medium(&mut self, error: &StoreError) {
        let text = error.with_remedy();
        tracing::error!(trouble = text, "no journal on disk: entries wait in memory only, and a kill loses them");
        self.medium.set_absent(text);
        self.tell_trouble_again();
    }

    /// There is one, and it cannot be written.
    pub(super) fn begin_in_memory(&mut self, life: Vec<u8>, error: &StoreError) {
        self.medium.set_unbegun(life);
        self.medium.fail(error, Duration::ZERO);
        self.tell_trouble_again();
    }

    /// The next window says what is wrong.
    pub(super) fn tell_trouble_again(&mut self) {
        let Some(text) = self.medium.trouble() else { return };
        if self.medium.has_begun() {
            self.losses.tell_trouble(text);
        } else {
            let from = Seq(self.medium.durable() + 1);
            self.losses.tell_in_memory(text, from, !self.medium.is_there());
        }
    }

    /// The first number that only memory has, while the medium fails or there is none: what a kill would take, the next life
    /// shall tell. `None`: all is as it should be.
    pub(in crate::journal) fn in_memory_from(&self) -> Option<Seq> {
        self.medium.trouble().map(|_| Seq(self.medium.durable() + 1))
    }

    /// Lives before this one lost what they had in memory only.
    pub(in crate::journal) fn tell_lives_lost(&mut self, lives: impl Iterator<Item = (Epoch, Seq)>) {
        for (epoch, from) in lives {
            self.losses.tell_life_lost(LifeLost { epoch, from, to: None, renumbered: false });
        }
    }

    /// Whether all of that is told in an entry that is durable.
    pub(in crate::journal) fn has_told_lives(&self) -> bool {
        self.medium.has_begun() && !self.losses.any_life_lost()
    }

    /// Whether there is no medium at all, so that one may be looked for.
    pub(in crate::journal) fn lacks_medium(&self) -> bool {
        !self.medium.is_there()
    }

    /// Whether nobody holds an entry: then all that is in memory may have other numbers.
    pub(in crate::journal) fn is_unleased(&self) -> bool {
        self.queue.outstanding() == 0
    }

    /// The same trouble has another cause now.
    pub(in crate::journal) fn still_without_medium(&mut self, error: &StoreError) {
        self.medium.set_absent(error.with_remedy());
    }

    /// There is a medium: another life begins there, and goes on with what this one has and nobody else. `start` is what was
    /// found. Nothing may be out on lease.
    pub(in crate::journal) fn adopt(&mut self, store: S, start: Start, now: Duration) {
        let context = WriterContext { epoch: start.epoch, ..self.context.clone() };
        let mut next = Self::new(Some(store), self.limits.clone(), context, start);
        next.age.begin(now);
        let Self { context, queue, losses, mut held, clock, newer, .. } = std::mem::replace(self, next);
        let (epoch, last, is_live) = (context.epoch, queue.next() - 1, queue.lanes().is_live());
        tracing::info!(%epoch, last, as_epoch = %self.context.epoch, "the journal is on disk now; what waits in memory follows");
        self.newer = self.newer.take().or(newer);
        self.losses.go_on_with(losses);
        self.held.hold(held.take());
        if last > 0 {
            self.losses.tell_life_lost(LifeLost { epoch, from: Seq(1), to: Some(Seq(last)), renumbered: true });
        }
        let waits: Vec<u64> = queue.lanes().waiting_in(1, last).into_iter().flat_map(|(a, b)| a..=b).collect();
        for kept in queue.into_entries().filter(|kept| waits.binary_search(&kept.seq).is_ok()) {
            let Ok(mut window) = entry::decode(&kept.encoded.bytes, context.boot) else { continue };
            // What they say of the medium is about numbers that these entries do not have any more.
            window.events.retain(|event| !is_about_the_medium(&event.kind));
            for Event { kind, .. } in &mut window.events {
                // Its numbers are none of this journal's.
                if let Some(gap) = kind.gap().filter(|gap| gap.epoch == epoch) {
                    *kind = EventKind::LifeLost(gap.into());
                }
            }
            self.append_as(window, now, Clock::capture_again);
        }
        self.clock.go_on_with(clock);
        if is_live {
            self.go_live();
        }
    }
}
