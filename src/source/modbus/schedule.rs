//! When to read what, on one port. Pure: `now` is an argument.
//!
//! - **Due.** Every poll group of every device is due on its own grid of the monotonic clock. All grids have their points in
//!   the middle of the aggregation windows, so that a group whose interval is a multiple of the window is read exactly once
//!   in each of its windows. A grid point that was missed is skipped. What is due of a group that is still being read is
//!   skipped, too: a bus that is too slow for its plan is read back to back, and never catches up in a burst.
//! - **Turns.** Of the devices that have something due, the one that has had the least time of the bus is read; of its blocks
//!   the one that must be done first. So fast groups go before slow ones, and no device takes another's turn.
//! - **Patience.** A device is waited for [`PATIENCE_FACTOR`] times as long as the slowest answer it has given, at least
//!   [`PATIENCE_MIN`] and at most its timeout. Each silence doubles that. So one lost frame costs little, and the timeout is
//!   what it is called: the longest time that a device may take.
//! - **Silence.** One failure is tried again at once; after [`MISSES_MAX`] in a row a device is silent: its groups stay due
//!   and each becomes "missing" without a request, but for a probe now and then, rarer each time up to [`RETREAT_MAX`]. All
//!   silent devices together get [`SILENT_SHARE`] of the bus, as long as there is one that answers. A device that answers its
//!   probe is read in full at once.
//! - **Budget.** A device that answers, but so slowly that it takes others' polls away, gets its equal share of the time and no
//!   more. Between two requests to a device passes at least its pause.

use std::time::Duration;

use crate::measure::Mono;
use crate::spec::RegisterBlock;

/// The longest time between two probes of a silent device, unless the bus has no more time for it.
const RETREAT_MAX: Duration = Duration::from_secs(8);
/// The first. Short, because most silences are.
const RETREAT_FIRST: Duration = Duration::from_millis(500);
/// One lost request and one lost answer are noise; three in a row are silence.
const MISSES_MAX: u32 = 3;
/// What all silent devices together may cost the others: one twelfth, with what is spent on being quick about it below a tenth.
const SILENT_SHARE: u32 = 12;
/// A device that was never heard is first asked for this long, so that those that are there begin soon. On a line that is
/// heard out, an answer within half as long again is heard, too.
const PATIENCE_FIRST: Duration = Duration::from_millis(150);
/// Below, a scheduler's hiccup would look like a silence.
const PATIENCE_MIN: Duration = Duration::from_millis(150);
/// Devices answer within a spread of about two; twice that, and half of it for luck.
const PATIENCE_FACTOR: u32 = 6;
/// Every so many probes a device that was never heard is given its whole timeout.
const FULL_PROBE_EVERY: u32 = 3;

/// What a schedule must know of a device.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// Its poll groups: how often, and which blocks.
    pub(super) groups: Vec<(Duration, Vec<RegisterBlock>)>,
    /// The longest that it may take to answer.
    pub(super) timeout: Duration,
    /// Between its answer and the next request to it.
    pub(super) pause: Duration,
    /// Whether others wait while it is waited for. If not, it is given its whole timeout.
    pub(super) is_shared: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Read this block of this device, wait so long, and tell with [`Schedule::done`].
    Read(Job, Duration),
    /// Do not read it; it is missing, because the device is silent.
    Missing(Job),
    /// Nothing is due before this.
    Wait(Mono),
}

/// One block of one device, by their places in the port's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) device: usize,
    pub(super) group: usize,
    pub(super) block: RegisterBlock,
    /// When the group is due again.
    until: Mono,
    /// Whether it has been tried before.
    again: bool,
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

/// What becomes of a job that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is over: tell what came of it.
    Over,
    /// It is tried again; nothing is to be told yet.
    Again,
}

/// One port's plan of reads.
#[derive(Debug)]
pub(super) struct Schedule {
    devices: Vec<Device>,
    /// Blocks of the groups that have come due.
    ready: Vec<Job>,
    /// Before this no silent device is probed while others answer.
    probes_from: Mono,
    /// The bus time of the device whose turn it was last.
    turn: u64,
}

#[derive(Debug)]
struct Device {
    groups: Vec<Group>,
    timeout: Duration,
    pause: Duration,
    is_shared: bool,
    health: Health,
    /// The slowest answer it has given of late.
    slowest: Option<Duration>,
    /// Bus time it has had, ns; forgotten while it wants none.
    used: u64,
    /// Before this it is not asked.
    free_at: Mono,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// Never heard: so many tries.
    Unknown(u32),
    /// Heard; failures in a row since.
    Good(u32),
    /// Failures in a row, whether it was ever heard, and when the next probe may go out.
    Silent { failures: u32, probe: Mono },
}

#[derive(Debug)]
struct Group {
    interval: Duration,
    /// Some point of its grid.
    phase: Mono,
    due: Mono,
    blocks: Vec<RegisterBlock>,
}

impl Schedule {
    /// `window_end` is any moment at which a window ends.
    pub(super) fn new(devices: Vec<Setting>, window: Duration, window_end: Mono, now: Mono) -> Self {
        let middle = Mono(window_end.0 + nanos(window) / 2);
        let group = |(interval, blocks): (Duration, Vec<RegisterBlock>)| Group {
            interval,
            phase: middle,
            due: grid_point_after(now, middle, interval),
            blocks,
        };
        let device = |setting: Setting| Device {
            groups: setting.groups.into_iter().map(group).collect(),
            timeout: setting.timeout,
            pause: setting.pause,
            is_shared: setting.is_shared,
            health: Health::Unknown(0),
            slowest: None,
            used: 0,
            free_at: Mono(0),
        };
        Self { devices: devices.into_iter().map(device).collect(), ready: Vec::new(), probes_from: Mono(0), turn: 0 }
    }

    /// What to do at `now`.
    pub(super) fn next(&mut self, now: Mono) -> Next {
        self.collect(now);
        let anyone_answers = self.devices.iter().any(|device| matches!(device.health, Health::Good(_)));
        let gate = if anyone_answers { self.probes_from } else { Mono(0) };
        // What is missing is told first: it costs no time.
        let is_missing = |job: &Job| match self.devices[job.device].health {
            Health::Silent { probe, .. } => now < probe.max(gate),
            Health::Unknown(tries) => tries > 0 && now < gate,
            Health::Good(_) => false,
        };
        if let Some(at) = self.ready.iter().position(is_missing) {
            return Next::Missing(self.ready.remove(at));
        }
        let free = |job: &Job| self.devices[job.device].free_at <= now;
        let order = |job: &Job| (self.devices[job.device].used, !job.again, job.until);
        let chosen = (0..self.ready.len()).filter(|at| free(&self.ready[*at])).min_by_key(|at| order(&self.ready[*at]));
        if let Some(at) = chosen {
            let job = self.ready.remove(at);
            let device = &mut self.devices[job.device];
            self.turn = self.turn.max(device.used);
            if let Health::Silent { probe, .. } = &mut device.health {
                // This one block is the probe; what else is due of the device now waits for its outcome.
                *probe = Mono(u64::MAX);
            }
            return Next::Read(job, device.patience());
        }
        let due = self.devices.iter().flat_map(|d| &d.groups).map(|group| group.due);
        let free = self.ready.iter().map(|job| self.devices[job.device].free_at);
        Next::Wait(due.chain(free).min().unwrap_or(Mono(u64::MAX)))
    }

    fn collect(&mut self, now: Mono) {
        for (at, device) in self.devices.iter_mut().enumerate() {
            let mut waits = self.ready.iter().any(|job| job.device == at);
            for (g, group) in device.groups.iter_mut().enumerate() {
                if group.due > now {
                    continue;
                }
                group.due = grid_point_after(now, group.phase, group.interval);
                if self.ready.iter().any(|job| job.device == at && job.group == g) {
                    continue;
                }
                if !waits {
                    // Who wanted nothing has saved nothing up.
                    device.used = device.used.max(self.turn);
                    waits = true;
                }
                let (until, again) = (group.due, false);
                self.ready.extend(group.blocks.iter().map(|block| Job {
                    device: at,
                    group: g,
                    block: *block,
                    until,
                    again,
                }));
            }
        }
    }

    /// The read of `job`, begun at `started`, ended at `now`.
    pub(super) fn done(&mut self, job: Job, ended: Ended, started: Mono, now: Mono) -> Verdict {
        let cost = now.since(started);
        let others = || (0..).zip(&self.devices).filter(|(at, _)| *at != job.device);
        let live_others = others().filter(|(_, other)| matches!(other.health, Health::Good(_)));
        let (count, shortest) = live_others.fold((0, Duration::MAX), |(count, shortest), (_, other)| {
            (count + 1, other.groups.iter().map(|group| group.interval).min().unwrap_or(Duration::MAX).min(shortest))
        });
        let device = &mut self.devices[job.device];
        device.used += nanos(cost);
        device.free_at = Mono(now.0 + nanos(device.pause));
        if ended == Ended::Answered {
            device.heard_after(cost);
            if cost > shortest {
                device.free_at = Mono(now.0 + nanos(cost.saturating_mul(count).max(device.pause)));
            }
            if matches!(device.health, Health::Silent { .. }) {
                device.groups.iter_mut().for_each(|group| group.due = now);
            }
            device.health = Health::Good(0);
            return Verdict::Over;
        }
        let was_silent = !matches!(device.health, Health::Good(_));
        device.health = match device.health {
            Health::Good(misses) if misses + 1 < MISSES_MAX => Health::Good(misses + 1),
            // Noise is not silence: the device is asked on, unless it never gets through.
            Health::Good(misses) if ended == Ended::Broken && misses + 1 < 4 * MISSES_MAX => Health::Good(misses + 1),
            Health::Good(_) => Health::Silent { failures: 1, probe: Mono(now.0 + nanos(retreat(1))) },
            Health::Unknown(tries) => Health::Unknown(tries + 1),
            Health::Silent { failures, .. } => {
                let failures = failures.saturating_add(1);
                Health::Silent { failures, probe: Mono(now.0 + nanos(retreat(failures))) }
            }
        };
        if let Health::Unknown(tries) = device.health
            && tries >= 2
        {
            device.health = Health::Silent { failures: tries, probe: Mono(now.0 + nanos(retreat(tries))) };
        }
        if was_silent {
            self.probes_from = Mono(now.0.max(self.probes_from.0) + nanos(cost) * u64::from(SILENT_SHARE - 1));
        }
        if matches!(device.health, Health::Good(_)) && !job.again {
            self.ready.push(Job { again: true, ..job });
            return Verdict::Again;
        }
        Verdict::Over
    }

    /// An answer of this device came, after so long, too late to be used.
    pub(super) fn late(&mut self, device: usize, after: Duration) {
        if let Some(device) = self.devices.get_mut(device) {
            device.heard_after(after);
        }
    }

    /// From now on this group is read in these blocks. What is due of it and stays as it was is still due.
    pub(super) fn replan(&mut self, device: usize, group: usize, blocks: Vec<RegisterBlock>) {
        let is_of_it = |job: &Job| job.device == device && job.group == group;
        self.ready.retain(|job| !is_of_it(job) || blocks.contains(&job.block));
        self.devices[device].groups[group].blocks = blocks;
    }

    /// These blocks are due now, in place of a job that taught something.
    pub(super) fn ask(&mut self, job: Job, blocks: impl IntoIterator<Item = RegisterBlock>) {
        self.ready.extend(blocks.into_iter().map(|block| Job { block, again: true, ..job }));
    }

    /// Everything of this device is due now.
    pub(super) fn hurry(&mut self, device: usize) {
        self.devices[device].groups.iter_mut().for_each(|group| group.due = Mono(0));
    }

    /// Whether the device has answered lately.
    #[cfg(test)]
    fn is_good(&self, device: usize) -> bool {
        matches!(self.devices[device].health, Health::Good(_))
    }
}

impl Device {
    fn patience(&self) -> Duration {
        if !self.is_shared {
            return self.timeout;
        }
        let doubled = |patience: Duration, times: u32| patience.saturating_mul(1 << times.min(8)).min(self.timeout);
        let learned = self.slowest.map(|slowest| slowest.saturating_mul(PATIENCE_FACTOR).max(PATIENCE_MIN));
        match (self.health, learned) {
            (Health::Good(misses), Some(learned)) => doubled(learned, misses),
            (Health::Silent { failures, .. }, None) if failures % FULL_PROBE_EVERY == 0 => self.timeout,
            (Health::Silent { failures, .. }, Some(learned)) if failures % FULL_PROBE_EVERY == 0 => doubled(learned, 3),
            (_, Some(learned)) => doubled(learned, 0),
            (_, None) => PATIENCE_FIRST.min(self.timeout),
        }
    }

    fn heard_after(&mut self, after: Duration) {
        // What was slow once is forgotten by an eighth with each answer that is quicker.
        let slowest = self.slowest.map_or(after, |slowest| after.max(slowest - slowest / 8));
        self.slowest = Some(slowest.min(self.timeout));
    }
}

/// How long a device is left alone after so many failures in a row.
fn retreat(failures: u32) -> Duration {
    RETREAT_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(RETREAT_MAX)
}

/// The first point of the grid `phase + k * interval` that is after `now`.
fn grid_point_after(now: Mono, phase: Mono, interval: Duration) -> Mono {
    let interval = nanos(interval).max(1);
    let phase = phase.0 % interval;
    let passed = (now.0 + interval - phase) / interval;
    Mono(passed * interval + phase)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
