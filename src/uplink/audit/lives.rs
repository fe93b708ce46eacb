//! Lives that held entries in memory only, as they tell it themselves, and as the lives after them do.
//!
//! The numbers of such a life may be given again by the next one, so that a run of numbers without a hole proves nothing of it:
//! its entries are counted within its own epoch. Until it says that it writes to its disk again, or that it stops, nobody knows
//! what else it had.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{MemoryLife, Span};
use crate::uplink::wire::read::Line;

/// What is known of one epoch.
#[derive(Debug, Default)]
struct Life {
    /// Its place in the order in which epochs were first heard, and the first number heard; `None`: only others told of it.
    heard: Option<(usize, u64)>,
    /// Entries that say that it is in memory only, those that say that it writes to its disk again, and the one that says that it stops.
    opened: BTreeSet<u64>,
    written: BTreeSet<u64>,
    stopped: Option<u64>,
    /// The first number that was in memory only.
    from: Option<u64>,
    counts_anew: bool,
    /// Later lives tell that it lost what it had from these numbers on.
    lost_from: BTreeSet<u64>,
    /// Later lives tell that what was not delivered of these came under other numbers, or another epoch.
    renumbered: BTreeSet<(u64, u64)>,
    /// What gap events account for, of this epoch alone.
    accounted: BTreeSet<(u64, u64)>,
}

impl Life {
    fn is_open(&self, heard: impl FnOnce() -> Vec<u64>) -> bool {
        // What came under another epoch was on the disk, and says nothing of what was in memory only, behind it.
        let came = |number: &u64| self.renumbered.iter().any(|(from, to)| (from..=to).contains(&number));
        let opened = self.opened.last().filter(|number| !came(number));
        self.is_lost(heard) || opened > self.written.last().max(self.stopped.as_ref())
    }

    /// Whether something was lost by what a later life tells. If it was on disk after all (what says so comes after it), or this life
    /// stopped after it and all up to there was heard or is accounted for, that is an old note, which could not be removed.
    /// `heard`: its numbers, ascending.
    fn is_lost(&self, heard: impl FnOnce() -> Vec<u64>) -> bool {
        let Some(&from) = self.lost_from.last() else { return false };
        let has_all = || self.stopped.is_some_and(|to| from <= to && self.knows_all(from, to, &heard()));
        self.written.last() <= Some(&from) && !has_all()
    }

    /// Whether each of these numbers was heard or is accounted for.
    fn knows_all(&self, from: u64, to: u64, heard: &[u64]) -> bool {
        let mut number = from;
        while number <= to {
            let accounted = self.accounted.iter().find(|(a, b)| (*a..=*b).contains(&number)).map(|(_, last)| *last);
            let Some(last) = accounted.or_else(|| heard.binary_search(&number).is_ok().then_some(number)) else {
                return false;
            };
            let Some(next) = last.checked_add(1) else { return true };
            number = next;
        }
        true
    }
}

/// All epochs of a gateway.
#[derive(Debug, Default)]
pub(super) struct Lives {
    lives: BTreeMap<u64, Life>,
    /// How many were heard.
    count: usize,
}

impl Lives {
    /// An entry was heard for the first time.
    pub(super) fn hear(&mut self, epoch: u64, seq: u64) {
        let life = self.lives.entry(epoch).or_default();
        if life.heard.is_none() {
            life.heard = Some((self.count, seq));
            self.count += 1;
        }
    }

    /// An event in that entry.
    pub(super) fn take(&mut self, epoch: u64, seq: u64, kind: &str, line: &Line) {
        // Of the entry that told it first, if a coarser one stands for that.
        let (epoch, seq) = line.count("of_epoch").zip(line.count("of_seq")).unwrap_or((epoch, seq));
        match kind {
            "journal_in_memory" | "journal_failing" => {
                let life = self.lives.entry(epoch).or_default();
                let from = line.count("from_seq").unwrap_or(seq);
                life.opened.insert(seq);
                life.from = Some(life.from.map_or(from, |known| known.min(from)));
                life.counts_anew |= line.count("counts_anew") == Some(1);
            }
            "journal_working" => {
                self.lives.entry(epoch).or_default().written.insert(seq);
            }
            "stopping" => {
                let life = self.lives.entry(epoch).or_default();
                life.stopped = life.stopped.max(Some(seq));
            }
            "gap" => {
                let (Some(of), Some(from)) = (line.count("from_epoch"), line.count("from_seq")) else { return };
                let life = self.lives.entry(of).or_default();
                match line.count("to_seq") {
                    None => drop(life.lost_from.insert(from)),
                    Some(to) if from <= to => {
                        life.accounted.insert((from, to));
                        if line.text("reason") == Some("renumbered") {
                            life.renumbered.insert((from, to));
                        }
                    }
                    Some(_) => {}
                }
            }
            _ => {}
        }
    }

    /// Whether the numbers of this epoch are not those of the others.
    pub(super) fn counts_anew(&self, epoch: u64) -> bool {
        self.lives.get(&epoch).is_some_and(|life| life.counts_anew)
    }

    /// Whether entries of this epoch may come under other numbers as well.
    pub(super) fn is_renumbered(&self, epoch: u64) -> bool {
        self.lives.get(&epoch).is_some_and(|life| !life.renumbered.is_empty())
    }

    /// The first number that was heard of the epochs that count on from one another: what is below was before our time.
    pub(super) fn baseline(&self) -> Option<u64> {
        let counting_on = self.lives.values().filter(|life| !life.counts_anew).filter_map(|life| life.heard);
        counting_on.min().map(|(_, seq)| seq)
    }

    /// The numbers that a life had in memory, were not heard under its epoch, and are not accounted for; and whether they may still
    /// come. `heard`: all numbers of an epoch, ascending.
    pub(super) fn missing(&self, heard: impl Fn(u64) -> Vec<u64>) -> Vec<(Span, bool)> {
        let mut missing = Vec::new();
        for (&epoch, life) in &self.lives {
            let (Some(from), Some((place, first))) = (life.from, life.heard) else { continue };
            // Of the first life that was heard what came before was before our time.
            let mut expected = if place == 0 { from.max(first) } else { from };
            let may_come = !life.is_open(|| heard(epoch)) || self.lasts(place);
            let accounted =
                |number| life.accounted.iter().find(|(a, b)| (*a..=*b).contains(&number)).map(|(_, to)| *to);
            for seq in heard(epoch) {
                while expected < seq {
                    let next = life.accounted.iter().map(|(a, _)| *a).find(|a| *a > expected).unwrap_or(seq).min(seq);
                    match accounted(expected) {
                        Some(to) => expected = to + 1,
                        None => {
                            missing.push((Span { from: expected, to: next - 1 }, may_come));
                            expected = next;
                        }
                    }
                }
                expected = expected.max(seq + 1);
            }
        }
        missing
    }

    /// Lives of which nobody knows what else they had. `heard`: all numbers of an epoch, ascending.
    pub(super) fn open(&self, heard: impl Fn(u64) -> Vec<u64>) -> Vec<MemoryLife> {
        let told = |(&epoch, life): (&u64, &Life)| {
            if !life.is_open(|| heard(epoch)) {
                return None;
            }
            let numbers = heard(epoch);
            let entries = numbers.len() as u64;
            let after = numbers
                .last()
                .copied()
                .unwrap_or_else(|| life.lost_from.first().map_or(0, |from| from.saturating_sub(1)));
            let lasts = life.heard.is_some_and(|(place, _)| self.lasts(place)) && life.lost_from.is_empty();
            Some(MemoryLife { epoch, entries, after, told: !life.lost_from.is_empty(), lasts })
        };
        self.lives.iter().filter_map(told).collect()
    }

    /// Whether no other life was heard after this one.
    fn lasts(&self, place: usize) -> bool {
        place + 1 == self.count
    }
}
