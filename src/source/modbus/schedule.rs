//! When to read what, on one port. Pure: `now` is an argument.
//!
//! Every poll group of every device is due on its own grid of the monotonic clock. All grids have their points in the
//! middle of the aggregation windows, so that a group whose interval is a multiple of the window is read exactly once
//! in each of its windows. A grid point that was missed is skipped.
//!
//! A device that does not answer is left alone for a time that doubles with each failure, up to
//! [`RETREAT_MAX`], and is then asked for one block only. Meanwhile its groups stay due: each becomes a sample that
//! says "missing", without a request.

use std::time::Duration;

use crate::measure::{Mono, RegisterBlock};

/// The longest time between two probes of a silent device: what a device that comes back waits at the most.
const RETREAT_MAX: Duration = Duration::from_secs(8);
/// The first. Short, because most silences are one lost packet.
const RETREAT_FIRST: Duration = Duration::from_millis(500);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Read this block of this device, and tell with [`Schedule::done`].
    Read(Job),
    /// Do not read it; it is missing, because the device is silent.
    Missing(Job),
    /// Nothing is due before this.
    Wait(Mono),
}

/// One block of one device, by their places in the port's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) device: usize,
    pub(super) block: RegisterBlock,
}

/// How a read ended, as far as the schedule cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The device spoke, be it to refuse.
    Answered,
    /// It did not.
    Silent,
}

/// One port's plan of reads.
#[derive(Debug)]
pub(super) struct Schedule {
    devices: Vec<Device>,
    /// Blocks of the groups that have come due, in order.
    ready: Vec<Job>,
}

#[derive(Debug)]
struct Device {
    groups: Vec<Group>,
    /// Failures in a row, and when the next probe may go out.
    silent: Option<(u32, Mono)>,
}

#[derive(Debug)]
struct Group {
    interval: Duration,
    due: Mono,
    blocks: Vec<RegisterBlock>,
}

impl Schedule {
    /// The groups of each device with their blocks. `window_end` is any moment at which a window ends.
    pub(super) fn new(
        devices: &[Vec<(Duration, Vec<RegisterBlock>)>],
        window: Duration,
        window_end: Mono,
        now: Mono,
    ) -> Self {
        let middle = Mono(window_end.0 + nanos(window) / 2);
        let group = |(interval, blocks): &(Duration, Vec<RegisterBlock>)| Group {
            interval: *interval,
            due: grid_point_after(now, middle, *interval),
            blocks: blocks.clone(),
        };
        let device = |groups: &Vec<_>| Device { groups: groups.iter().map(group).collect(), silent: None };
        Self { devices: devices.iter().map(device).collect(), ready: Vec::new() }
    }

    /// What to do at `now`.
    pub(super) fn next(&mut self, now: Mono) -> Next {
        if self.ready.is_empty() {
            self.collect(now);
        }
        if self.ready.is_empty() {
            let due = self.devices.iter().flat_map(|d| &d.groups).map(|group| group.due).min();
            return Next::Wait(due.unwrap_or(Mono(u64::MAX)));
        }
        let job = self.ready.remove(0);
        match &mut self.devices[job.device].silent {
            Some((_, probe)) if now < *probe => Next::Missing(job),
            Some((_, probe)) => {
                // This one block is the probe; what else is due of the device now waits for its outcome.
                *probe = Mono(u64::MAX);
                Next::Read(job)
            }
            None => Next::Read(job),
        }
    }

    fn collect(&mut self, now: Mono) {
        for (device, Device { groups, .. }) in self.devices.iter_mut().enumerate() {
            for group in groups.iter_mut().filter(|group| group.due <= now) {
                self.ready.extend(group.blocks.iter().map(|block| Job { device, block: *block }));
                group.due = grid_point_after(now, group.due, group.interval);
            }
        }
    }

    /// The read of `job` ended at `now`.
    pub(super) fn done(&mut self, job: Job, ended: Ended, now: Mono) {
        let device = &mut self.devices[job.device];
        device.silent = match ended {
            Ended::Answered => None,
            Ended::Silent => {
                let failures = device.silent.map_or(0, |(failures, _)| failures) + 1;
                Some((failures, Mono(now.0 + nanos(retreat(failures)))))
            }
        };
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::measure::RegisterTable;

    const MS: u64 = 1_000_000;
    const WINDOW: Duration = Duration::from_millis(250);

    fn block(start: u16) -> RegisterBlock {
        RegisterBlock { unit: None, table: RegisterTable::Input, start, count: 2 }
    }

    fn group(interval_ms: u64, starts: &[u16]) -> (Duration, Vec<RegisterBlock>) {
        (Duration::from_millis(interval_ms), starts.iter().map(|start| block(*start)).collect())
    }

    /// Runs the schedule over `length_ms`; a read takes 1 ms, or the timeout if the device is dead.
    fn reads(devices: &[Vec<(Duration, Vec<RegisterBlock>)>], dead: &[usize], length_ms: u64) -> Vec<(u64, Next)> {
        let mut schedule = Schedule::new(devices, WINDOW, Mono(100 * MS), Mono(0));
        let (mut now, mut log) = (Mono(0), Vec::new());
        while now.0 < length_ms * MS {
            let next = schedule.next(now);
            match next {
                Next::Wait(until) => now = until,
                Next::Missing(_) => log.push((now.0 / MS, next)),
                Next::Read(job) => {
                    log.push((now.0 / MS, next));
                    let silent = dead.contains(&job.device);
                    now.0 += if silent { 300 * MS } else { MS };
                    schedule.done(job, if silent { Ended::Silent } else { Ended::Answered }, now);
                }
            }
        }
        log
    }

    #[test]
    fn a_group_at_the_windows_pace_is_read_once_in_the_middle_of_every_window() {
        let log = reads(&[vec![group(250, &[0])]], &[], 2_500);
        // Windows end at 100, 350, 600 …: their middles are 225, 475, …
        let times: Vec<u64> = log.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, (0..10).map(|k| 225 + 250 * k).filter(|t| *t < 2_500).collect::<Vec<_>>());
    }

    #[test]
    fn a_late_schedule_skips_what_it_missed() {
        let mut schedule = Schedule::new(&[vec![group(100, &[0])]], WINDOW, Mono(0), Mono(0));
        assert!(matches!(schedule.next(Mono(1_000 * MS)), Next::Read(_)));
        assert!(matches!(schedule.next(Mono(1_000 * MS)), Next::Wait(_)));
    }

    #[test]
    fn a_dead_device_is_missing_at_its_rate_and_hardly_asked() {
        let log = reads(&[vec![group(250, &[0, 10])], vec![group(250, &[0])]], &[0], 60_000);
        let count = |device: usize, read: bool| {
            log.iter()
                .filter(|(_, next)| match next {
                    Next::Read(job) => read && job.device == device,
                    Next::Missing(job) => !read && job.device == device,
                    Next::Wait(_) => false,
                })
                .count()
        };
        assert!(count(0, true) <= 12, "{} probes", count(0, true));
        assert!(count(0, true) + count(0, false) >= 2 * 220, "the silence must be told at the poll's rate");
        assert!(count(1, true) >= 220, "{} reads of the healthy neighbour", count(1, true));
    }

    #[test]
    fn a_device_that_answers_its_probe_is_read_in_full_at_once() {
        let mut schedule = Schedule::new(&[vec![group(250, &[0, 10])]], WINDOW, Mono(0), Mono(0));
        let Next::Read(job) = schedule.next(Mono(200 * MS)) else { panic!("due") };
        schedule.done(job, Ended::Silent, Mono(200 * MS));
        assert!(matches!(schedule.next(Mono(201 * MS)), Next::Missing(_)));
        let Next::Read(probe) = schedule.next(Mono(900 * MS)) else { panic!("the probe is due") };
        schedule.done(probe, Ended::Answered, Mono(901 * MS));
        assert!(matches!(schedule.next(Mono(902 * MS)), Next::Read(_)));
    }

    proptest! {
        #[test]
        fn the_grid_never_drifts(now in 0_u64..1 << 60, phase in 0_u64..1 << 50, interval in 1_u64..1 << 40) {
            let next = grid_point_after(Mono(now), Mono(phase), Duration::from_nanos(interval));
            prop_assert!(next.0 > now && next.0 - now <= interval);
            prop_assert_eq!(next.0 % interval, phase % interval);
        }
    }
}
