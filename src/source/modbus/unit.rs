//! Whether a unit answers, and for which of its blocks. Pure.
//!
//! - A **block** that has answered may miss [`MISSES_MAX`] times in a row before it is silent; one that was never heard, once.
//!   A silent block is left alone, longer each time (its retreat), while the others of its unit are read as before.
//! - A **unit** that misses as often in a row, with the block that it answered last among them, is silent as a whole: all its
//!   blocks are, and one of them at a time is probed, in turns. When it answers, all are asked at once. One that was never
//!   heard is silent at its first failure if others wait for the bus meanwhile.
//! - **Patience** is a unit's: its blocks take about equally long.

use std::time::Duration;

use crate::measure::Mono;
use crate::spec::RegisterBlock;

/// The longest time between two probes of a silent unit, unless the bus has no more time for it.
const RETREAT_MAX: Duration = Duration::from_secs(8);
/// The same for a silent block of a unit that answers, if its group is read even more seldom.
const RETREAT_SELDOM_MAX: Duration = Duration::from_secs(60);
/// The first. Short, because most silences are.
const RETREAT_FIRST: Duration = Duration::from_millis(500);
/// One lost request and one lost answer are noise; three in a row are silence.
pub(super) const MISSES_MAX: u32 = 3;
/// What was never heard is known to be silent after so many.
const MISSES_KNOWN: u32 = 2;
/// A unit that was never heard is first asked for this long, so that those that are there begin soon. On a line that is
/// heard out, an answer within half as long again is heard, too.
pub(super) const PATIENCE_FIRST: Duration = Duration::from_millis(150);
/// Below, a scheduler's hiccup would look like a silence.
const PATIENCE_MIN: Duration = Duration::from_millis(150);
/// The same for a probe, of which nothing is believed but an answer.
const PROBE_PATIENCE_MIN: Duration = Duration::from_millis(50);
/// Units answer within a spread of about two; twice that, and half of it for luck.
const PATIENCE_FACTOR: u32 = 6;
/// That spread: a probe that is given less finds out nothing.
const PROBE_PATIENCE_FACTOR: u32 = 2;
/// Every so many probes a unit on a serial line that was never heard is given its whole timeout.
const FULL_PROBE_EVERY: u32 = 3;

/// A block of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// The poll group that reads it.
    pub(super) group: usize,
    pub(super) block: RegisterBlock,
}

/// How a read ended, as far as the schedule cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The device spoke, be it to refuse.
    Answered,
    /// What came could not be used: noise, a part, somebody else.
    Broken,
    /// It did not answer, or cannot be reached.
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// Never asked, or not since its unit returned.
    Unknown,
    /// Heard; failures in a row since.
    Good(u32),
    Silent {
        /// Failures in a row since it is silent.
        failures: u32,
        /// Whether it had answered before.
        was_heard: bool,
    },
}

#[derive(Debug)]
pub(super) struct Block {
    pub(super) key: Key,
    pub(super) health: Health,
    /// When it is asked again though its group is not due; of a block that is silent, or about to be.
    ask_at: Mono,
    /// When it was asked last.
    asked: Option<Mono>,
    /// When something was told of it last.
    pub(super) told: Mono,
}

impl Block {
    pub(super) fn is_live(&self) -> bool {
        matches!(self.health, Health::Good(_))
    }

    /// Whether it was asked and did not answer the last time.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.health, Health::Good(1..) | Health::Silent { .. })
    }

    pub(super) fn is_silent(&self) -> bool {
        matches!(self.health, Health::Silent { .. })
    }

    pub(super) fn was_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether it is known that it answers, or that it does not. One failure is not enough for either.
    fn is_decided(&self) -> bool {
        match self.health {
            Health::Unknown => false,
            Health::Good(misses) => misses == 0,
            Health::Silent { failures, was_heard } => was_heard || failures >= MISSES_KNOWN,
        }
    }
}

/// One unit of a device, with what is read of it.
#[derive(Debug)]
pub(super) struct Unit {
    /// `None` is the device's own.
    pub(super) id: Option<u8>,
    pub(super) blocks: Vec<Block>,
    timeout: Duration,
    /// Failures that are waited for before it is silent though it was never heard.
    unheard_max: u32,
    /// When it answered last.
    pub(super) heard_at: Mono,
    /// The slowest answer it has given of late.
    slowest: Option<Duration>,
    /// Failures in a row, whichever block was asked.
    misses: u32,
    /// The block that it has answered last, and whether that one has failed since.
    last_heard: Option<(Key, bool)>,
    /// While all its blocks are silent.
    retreat: Option<Retreat>,
}

#[derive(Debug, Clone, Copy)]
struct Retreat {
    failures: u32,
    ask_at: Mono,
}

impl Unit {
    /// `is_shared`: whether others wait for the bus while it is waited for.
    pub(super) fn new(id: Option<u8>, timeout: Duration, is_shared: bool) -> Self {
        let unheard_max = if is_shared { 1 } else { MISSES_MAX };
        Self {
            id,
            blocks: Vec::new(),
            timeout,
            unheard_max,
            heard_at: Mono(0),
            slowest: None,
            misses: 0,
            last_heard: None,
            retreat: None,
        }
    }

    /// From now on this group is read in these blocks. Nothing is known of those that are new.
    pub(super) fn replan(&mut self, group: usize, blocks: &[RegisterBlock]) {
        self.blocks.retain(|block| block.key.group != group || blocks.contains(&block.key.block));
        for block in blocks {
            let key = Key { group, block: *block };
            if self.block(key).is_none() {
                self.blocks.push(Block { key, health: Health::Unknown, ask_at: Mono(0), asked: None, told: Mono(0) });
            }
        }
        if self.last_heard.is_some_and(|(key, _)| self.block(key).is_none()) {
            self.last_heard = None;
        }
    }

    pub(super) fn block(&self, key: Key) -> Option<&Block> {
        self.blocks.iter().find(|block| block.key == key)
    }

    /// Whether it is known of each of its blocks that it answers, or that it does not.
    pub(super) fn is_decided(&self) -> bool {
        match self.retreat {
            Some(retreat) => self.slowest.is_some() || retreat.failures >= MISSES_KNOWN,
            None => self.blocks.iter().all(Block::is_decided),
        }
    }

    /// Whether all its blocks are silent.
    pub(super) fn is_silent(&self) -> bool {
        !self.blocks.is_empty() && self.blocks.iter().all(Block::is_silent)
    }

    /// The block by which to find out whether it answers at all, after others of it did not.
    pub(super) fn to_check(&self) -> Option<Key> {
        let (key, has_missed) = self.last_heard?;
        (self.misses + 1 >= MISSES_MAX && !has_missed).then_some(key)
    }

    /// A block was asked.
    pub(super) fn asked(&mut self, key: Key, now: Mono) {
        if let Some(block) = self.blocks.iter_mut().find(|block| block.key == key) {
            block.asked = Some(now);
        }
    }

    /// A block was answered after so long; `None` if its unit was not the reason for that. Returns what is to be asked at once because
    /// of it: a block that has returned, once more before it is believed; of a unit that has returned, all.
    pub(super) fn answered(&mut self, key: Key, took: Option<Duration>) -> Vec<Key> {
        if let Some(took) = took {
            self.heard_after(took);
        }
        self.misses = 0;
        if self.block(key).is_some() {
            self.last_heard = Some((key, false));
        }
        let has_unit_returned = self.retreat.take().is_some();
        let mut to_ask = Vec::new();
        for block in &mut self.blocks {
            if block.key == key {
                if block.is_silent() {
                    to_ask.push(key);
                }
                block.health = Health::Good(0);
            } else if has_unit_returned {
                block.health = Health::Unknown;
                to_ask.push(block.key);
            }
        }
        to_ask
    }

    /// A block was not answered, or not in a usable way; its group is due every `interval`.
    pub(super) fn missed(&mut self, key: Key, ended: Ended, interval: Duration, now: Mono) {
        let was_heard = self.slowest.is_some();
        if ended == Ended::Silent || !was_heard {
            self.misses = self.misses.saturating_add(1);
            if let Some((last, has_missed)) = &mut self.last_heard {
                *has_missed |= *last == key;
            }
        }
        if let Some(block) = self.blocks.iter_mut().find(|block| block.key == key) {
            block.missed(ended, interval, now);
        }
        let is_lost = if was_heard {
            self.misses >= MISSES_MAX && self.last_heard.is_none_or(|(_, has_missed)| has_missed)
        } else {
            self.misses >= self.unheard_max
        };
        if is_lost {
            for block in self.blocks.iter_mut().filter(|block| !block.is_silent()) {
                let was_heard = block.is_live();
                block.health = Health::Silent { failures: 1, was_heard };
            }
        }
        if self.is_silent() {
            let failures = self.retreat.map_or(if was_heard { 1 } else { self.misses }, |retreat| retreat.failures + 1);
            self.retreat = Some(Retreat { failures, ask_at: now + retreat(failures, RETREAT_MAX) });
        }
    }

    /// The blocks that are to be asked though they are not due, with the time from which on. One that has answered is among them
    /// from its first failure on: its group may be due in an hour, which is too long to be in doubt. Of a unit that does not answer
    /// at all, the one that was not asked for the longest time.
    pub(super) fn probes(&self) -> impl Iterator<Item = (Mono, &Block)> {
        let of_all = self.retreat.and_then(|retreat| {
            Some((retreat.ask_at, self.blocks.iter().min_by_key(|block| block.asked.unwrap_or(Mono(0)))?))
        });
        let is_alone = of_all.is_none();
        let wants = move |block: &&Block| is_alone && matches!(block.health, Health::Silent { .. } | Health::Good(1..));
        of_all.into_iter().chain(self.blocks.iter().filter(wants).map(|block| (block.ask_at, block)))
    }

    /// How long a block that is due is waited for, and how long even if something else that answers is due before that is over.
    pub(super) fn patience(&self, health: Health) -> (Duration, Duration) {
        let first = PATIENCE_FIRST.min(self.timeout);
        let (Some(learned), Some(slowest)) = (self.learned(), self.slowest) else { return (first, first) };
        match health {
            Health::Good(misses) => (self.doubled(learned, misses), learned),
            // What answers as slowly as the blocks before it is not silent.
            Health::Unknown | Health::Silent { .. } => {
                (learned, (slowest * PROBE_PATIENCE_FACTOR).max(first).min(learned))
            }
        }
    }

    /// How long a probe of a block would like to wait, and the least that finds out something. `is_heard_out`: an answer that
    /// comes later may be lost among others.
    pub(super) fn probe_patience(&self, block: &Block, is_heard_out: bool) -> (Duration, Duration) {
        let failures = match (self.retreat, block.health) {
            (Some(retreat), _) => retreat.failures,
            (None, Health::Silent { failures, .. }) => failures,
            (None, _) => 0,
        };
        let is_full = is_heard_out && failures > 0 && failures.is_multiple_of(FULL_PROBE_EVERY);
        let wanted = match self.learned() {
            Some(learned) => self.doubled(learned, if is_full { 3 } else { 0 }),
            None if is_full => self.timeout,
            None => PATIENCE_FIRST,
        };
        let least = match self.slowest {
            Some(slowest) => (slowest * PROBE_PATIENCE_FACTOR).max(PROBE_PATIENCE_MIN),
            None if is_heard_out => PATIENCE_FIRST,
            None => PROBE_PATIENCE_MIN,
        };
        (wanted.min(self.timeout), least.min(self.timeout))
    }

    /// Whether an answer after so long took longer than the spread of its answers and any hiccup explain.
    pub(super) fn is_slow(&self, took: Duration) -> bool {
        self.slowest.is_some_and(|slowest| took > (slowest * PROBE_PATIENCE_FACTOR).max(PATIENCE_MIN))
    }

    /// The slowest answer it has given of late.
    pub(super) fn slowest(&self) -> Option<Duration> {
        self.slowest
    }

    fn learned(&self) -> Option<Duration> {
        let learned = |slowest: Duration| slowest.saturating_mul(PATIENCE_FACTOR).max(PATIENCE_MIN).min(self.timeout);
        self.slowest.map(learned)
    }

    fn doubled(&self, patience: Duration, times: u32) -> Duration {
        patience.saturating_mul(1 << times.min(8)).min(self.timeout)
    }

    /// It has answered after so long, in time or not.
    pub(super) fn heard_after(&mut self, after: Duration) {
        // What was slow once is forgotten by an eighth with each answer that is quicker.
        let slowest = self.slowest.map_or(after, |slowest| after.max(slowest.saturating_sub(slowest / 8)));
        self.slowest = Some(slowest.min(self.timeout));
    }
}

impl Block {
    fn missed(&mut self, ended: Ended, interval: Duration, now: Mono) {
        let max = interval.min(RETREAT_SELDOM_MAX).max(RETREAT_MAX);
        let after = match self.health {
            Health::Good(misses) if misses + 1 < MISSES_MAX => Health::Good(misses + 1),
            // Noise is not silence: the block is asked on, unless it never gets through.
            Health::Good(misses) if ended == Ended::Broken && misses + 1 < 4 * MISSES_MAX => Health::Good(misses + 1),
            Health::Good(_) => Health::Silent { failures: 1, was_heard: true },
            Health::Unknown => Health::Silent { failures: 1, was_heard: false },
            Health::Silent { failures, was_heard } => {
                Health::Silent { failures: failures.saturating_add(1), was_heard }
            }
        };
        self.health = after;
        let failures = if let Health::Silent { failures, .. } = after { failures } else { 1 };
        self.ask_at = now + retreat(failures, max);
    }
}

/// How long something silent is left alone after so many failures in a row.
fn retreat(failures: u32, max: Duration) -> Duration {
    RETREAT_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(max)
}
