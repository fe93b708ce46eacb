//! When to read what, on one port. Pure: `now` is an argument.
//!
//! - **Due.** Every poll group of every device is due on its own grid of the monotonic clock. All grids have their points in
//!   the middle of the aggregation windows, so that a group whose interval is a multiple of the window is read exactly once
//!   in each of its windows. A grid point that was missed is skipped. A block whose read still waits when it is due
//!   again is skipped, too, and told as that before its window ends ([`Schedule::overdue`]): a bus that is too slow for its plan is read back to back, and never catches up in a burst. When a
//!   device is heard for the first time, what is read of it seldom is read, too.
//! - **Turns.** Of the devices that have something due, the one that has had the least time of the bus is read; of its blocks
//!   the one that must be done first. So fast groups go before slow ones, and no device takes another's turn.
//! - **Patience.** A unit is waited for six times as long as the slowest answer it has given, at least 150 ms and at most its
//!   timeout. Each silence doubles that. So one lost frame costs little, and the timeout is what it is called: the longest time
//!   that a device may take. A device that is alone on its connection is waited for as long as nothing else of it is due.
//! - **Silence** is told of blocks and of units (`unit.rs`). One failure is tried again; what is silent stays due and becomes
//!   "missing" without a request. It is probed on a clock of its own, rarer each time, and **when it fits**: when the wait is
//!   over before anything that answers is due. Only if that has not come about for [`FIT_WAIT`], a probe takes the others' time, and
//!   all such probes together get [`SILENT_SHARE`] of it. What answers its probe is read in full at once. Over TCP a probe may be
//!   short: an answer that comes after it is known as what it is, and teaches patience. A gateway may wait for the unit longer than the
//!   probe, and answer nobody meanwhile: then the next answer is slow. That time counts as cost of the probe, and teaches no patience.
//! - **Budget.** A device that answers, but so slowly that it takes others' polls away, gets its equal share of the time and no
//!   more. Between two requests to a device passes at least its pause, and between an answer of a unit and the next request to it
//!   the one that was learned.

use std::time::Duration;

use hal::{Ahead, Pause};

use super::keeping::Load;
use super::queue::{Job, Queue, Read, Why};
use super::unit::{Block, Ended, Health, Key, Unit};
use crate::measure::Mono;
use crate::spec::RegisterBlock;

/// What all silent devices together may cost the others: one twelfth, with what is spent on being quick about it below a tenth.
const SILENT_SHARE: u32 = 12;
/// So long a probe waits for a moment in which it is in nobody's way. Polls of a second and less leave the same moments free
/// each time, but for a hiccup: if there is none in three, there is none.
const FIT_WAIT: Duration = Duration::from_secs(3);
/// After so long it goes before what is due, whatever else has found its moment.
const TURN_WAIT: Duration = Duration::from_secs(12);
/// An answer that is slow so soon after a probe was silent has waited for it: gateways give a unit 1 to 5 s.
const GATEWAY_WAIT: Duration = Duration::from_secs(5);
/// So long the probes of a device that a gateway waits for are taken to be in others' way, however short.
const NO_FIT: Duration = Duration::from_secs(60);

/// What a schedule must know of a device.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// Its own unit.
    pub(super) unit: u8,
    /// Its poll groups: how often, and which blocks.
    pub(super) groups: Vec<(Duration, Vec<RegisterBlock>)>,
    /// The longest that it may take to answer.
    pub(super) timeout: Duration,
    /// Between its answer and the next request to it.
    pub(super) pause: Duration,
    /// Whether others wait while it is waited for. If not, it is given its whole timeout.
    pub(super) is_shared: bool,
    /// What it costs when it does not answer.
    pub(super) silence: SilenceCost,
}

/// What a request without an answer takes of a bus.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SilenceCost {
    /// Whether the line is heard out for half as long again before the next request: a serial one.
    pub(super) is_heard_out: bool,
    /// A character on the wire.
    pub(super) character: Duration,
}

impl SilenceCost {
    /// The longest wait for a block of `count` registers that is over within `room`.
    fn affordable(self, room: Duration, count: u16) -> Duration {
        // Request, answer, and three times both for hearing out.
        let wire = self.character * (4 * (13 + 2 * u32::from(count)));
        let rest = room.saturating_sub(wire);
        if self.is_heard_out { rest * 2 / 3 } else { rest }
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Do this, wait so long for the answer, and tell with [`Schedule::done`].
    Do(Job, Duration),
    /// Do not read it; it is missing, because it is silent.
    Missing(Read),
    /// Nothing is due before this.
    Wait(Mono),
}

/// What becomes of a read that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// It is over: tell what came of it.
    Over,
    /// It is tried again, at once or later; there is nothing to tell now.
    Again,
}

/// Which blocks of a device answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// Those that do.
    pub(super) answering: usize,
    /// Those that do not.
    pub(super) silent: Vec<RegisterBlock>,
    /// The units, as in [`RegisterBlock::unit`], of which none does.
    pub(super) silent_units: Vec<Option<u8>>,
}

/// One port's plan of reads.
#[derive(Debug)]
pub(super) struct Schedule {
    devices: Vec<Device>,
    /// Blocks of the groups that have come due.
    queue: Queue,
    /// Before this nothing silent is probed at the cost of others.
    probes_from: Mono,
    /// When a probe last found a moment in which it was in nobody's way.
    fitted: Mono,
    /// The last probe that was silent, by its device and its end, while nothing was answered since.
    silent_probe: Option<(usize, Mono)>,
    /// The bus time of the device whose turn it was last.
    turn: u64,
    pauses: Vec<Resting>,
    took: Option<Duration>,
    window: Duration,
}

/// What passes at least between an answer of a unit (`None`: of any) and the next request to it, and when it answered last.
type Resting = (Option<u8>, Duration, Mono);

#[derive(Debug)]
struct Device {
    unit: u8,
    groups: Vec<Group>,
    units: Vec<Unit>,
    timeout: Duration,
    pause: Duration,
    is_shared: bool,
    silence: SilenceCost,
    /// Bus time it has had, ns; forgotten while it wants none.
    used: u64,
    /// Before this it is not asked.
    free_at: Mono,
    /// Before this no probe of it is in nobody's way.
    fits_from: Mono,
    /// The number of the poll that is going on: all that was due when the one before it was over.
    poll: u64,
    was_heard: bool,
}

#[derive(Debug)]
struct Group {
    interval: Duration,
    /// Some point of its grid.
    phase: Mono,
    due: Mono,
    /// When what was due last must have been told, and from when on that counts.
    told_by: Mono,
    told_from: Mono,
    blocks: Vec<RegisterBlock>,
}

/// A block that is to be probed.
struct Probe {
    read: Read,
    since: Mono,
    /// What it would like to wait, and the least that is of use.
    patience: (Duration, Duration),
}

impl Schedule {
    /// `window_end` is any moment at which a window ends.
    pub(super) fn new(devices: Vec<Setting>, window: Duration, window_end: Mono, now: Mono) -> Self {
        let middle = window_end + window / 2;
        let devices = devices.into_iter().map(|setting| Device::new(setting, middle, now)).collect();
        let (queue, pauses) = (Queue::default(), Vec::new());
        Self {
            devices,
            queue,
            probes_from: Mono(0),
            fitted: Mono(0),
            silent_probe: None,
            turn: 0,
            pauses,
            took: None,
            window,
        }
    }

    /// From now on these pauses are kept after answers.
    pub(super) fn pauses(&mut self, pauses: &[Pause]) {
        let heard = |unit| self.pauses.iter().find(|(of, ..)| *of == unit).map_or(Mono(0), |(.., heard)| *heard);
        self.pauses = pauses.iter().map(|pause| (pause.unit, pause.now, heard(pause.unit))).collect();
    }

    /// What the answer of which [`Schedule::done`] tells next took, from its own request on. Its read may have begun with waiting for
    /// something else, which the unit is not the reason for.
    pub(super) fn took(&mut self, took: Duration) {
        self.took = Some(took);
    }

    /// Before this a block is not asked.
    fn ready_at(&self, device: usize, block: RegisterBlock) -> Mono {
        self.devices[device].ready_at(&self.pauses, block)
    }

    /// What to do at `now`.
    pub(super) fn next(&mut self, now: Mono) -> Next {
        self.collect(now);
        let devices = &self.devices;
        // Nobody waits for a check.
        self.queue.retain(|read| read.why != Why::Check || !devices[read.device].is_silent(read.key()));
        // What is missing is told first: it costs no time.
        if let Some(read) = self.queue.take_first(|read| devices[read.device].is_silent(read.key())) {
            return Next::Missing(read);
        }
        let answers = self.devices.iter().any(Device::is_live);
        let mut probes = self.probes(now);
        let may_cost = answers && now >= self.probes_from;
        if let Some(at) = probes.iter().position(|probe| may_cost && now.since(probe.since) >= TURN_WAIT) {
            return self.probe(probes.swap_remove(at), false, None, now);
        }
        // What did not answer does not hold up what is due besides.
        let order = |read: &Read| (devices[read.device].used, !read.is_hurried, read.is_again, read.until);
        let is_ready = |read: &Read| devices[read.device].ready_at(&self.pauses, read.block) <= now;
        if let Some(read) = self.queue.take_min(is_ready, order) {
            return self.due(read, now);
        }
        if !answers && !probes.is_empty() {
            return self.probe(probes.swap_remove(0), false, None, now);
        }
        let room = self.room(now, None);
        for at in 0..probes.len() {
            let Probe { read, patience, .. } = &probes[at];
            let device = &self.devices[read.device];
            let affordable = device.silence.affordable(room, read.block.count);
            if affordable >= patience.1 && device.fits_from <= now {
                return self.probe(probes.swap_remove(at), true, Some(affordable), now);
            }
        }
        let has_no_gap = |probe: &Probe| now.since(probe.since.max(self.fitted)) >= FIT_WAIT;
        if let Some(at) = probes.iter().position(|probe| may_cost && has_no_gap(probe)) {
            return self.probe(probes.swap_remove(at), false, None, now);
        }
        Next::Wait(self.next_change(now, &probes))
    }

    /// A block whose turn it is.
    fn due(&mut self, mut read: Read, now: Mono) -> Next {
        let room = self.room(now, Some((read.device, read.key())));
        let device = &mut self.devices[read.device];
        self.turn = self.turn.max(device.used);
        let (is_shared, timeout) = (device.is_shared, device.timeout);
        let affordable = device.silence.affordable(room, read.block.count);
        let Some(unit) = device.unit_of(read.key()) else { return Next::Missing(read) };
        unit.asked(read.key(), now);
        let health = unit.block(read.key()).map_or(Health::Unknown, |block| block.health);
        let (mut patience, least) = unit.patience(health);
        if !is_shared {
            patience = patience.max(timeout);
        }
        patience = patience.min(affordable.max(least));
        read.ahead = match health {
            Health::Good(0) => Ahead::All,
            Health::Unknown => Ahead::OtherUnits,
            Health::Good(_) | Health::Silent { .. } => Ahead::None,
        };
        Next::Do(Job::Read(read), patience)
    }

    /// A block that is probed; `affordable` is what it may wait if it is to be in nobody's way.
    fn probe(&mut self, probe: Probe, fits: bool, affordable: Option<Duration>, now: Mono) -> Next {
        let Probe { mut read, patience: (mut wanted, _), .. } = probe;
        if fits {
            self.fitted = now;
        }
        let device = &mut self.devices[read.device];
        if !device.is_shared && (fits || !device.is_live()) {
            wanted = device.timeout;
        }
        if let Some(unit) = device.unit_of(read.key()) {
            unit.asked(read.key(), now);
        }
        read.why = Why::Probe { fits };
        Next::Do(Job::Read(read), affordable.map_or(wanted, |affordable| wanted.min(affordable)))
    }

    /// What is to be probed now, what has waited longest first.
    fn probes(&self, now: Mono) -> Vec<Probe> {
        let mut probes: Vec<Probe> = Vec::new();
        for (at, device) in self.devices.iter().enumerate().filter(|(_, device)| device.free_at <= now) {
            for unit in &device.units {
                for (since, block) in unit.probes().filter(|(since, _)| *since <= now) {
                    if !self.queue.holds(at, block.key) {
                        let read = device.read(at, block.key, Why::Probe { fits: false });
                        let patience = unit.probe_patience(block, device.silence.is_heard_out);
                        probes.push(Probe { read, since, patience });
                    }
                }
            }
        }
        probes.sort_by_key(|probe| probe.since);
        probes
    }

    /// How long nothing that answers is due, but for this block.
    fn room(&self, now: Mono, except: Option<(usize, Key)>) -> Duration {
        let mut first = Mono(u64::MAX);
        for (at, device) in self.devices.iter().enumerate() {
            for block in device.blocks().filter(|block| block.is_live() && Some((at, block.key)) != except) {
                let due = if self.queue.holds(at, block.key) {
                    self.ready_at(at, block.key.block).max(now)
                } else {
                    device.groups[block.key.group].due
                };
                first = first.min(due);
            }
        }
        first.since(now)
    }

    /// When there may be something to do that there is not now.
    fn next_change(&self, now: Mono, probes: &[Probe]) -> Mono {
        let due = self.devices.iter().flat_map(|d| &d.groups).map(|group| group.due);
        let free = self.queue.iter().map(|read| self.ready_at(read.device, read.block));
        let forced = probes.iter().map(|probe| {
            let gap = probe.since.max(self.fitted) + FIT_WAIT;
            gap.min(probe.since + TURN_WAIT).max(self.probes_from)
        });
        let retreats = self
            .devices
            .iter()
            .flat_map(|device| device.units.iter().flat_map(Unit::probes).map(|(since, _)| since.max(device.free_at)));
        let all = due.chain(free).chain(forced).chain(retreats);
        all.filter(|at| *at > now).min().unwrap_or(Mono(u64::MAX))
    }

    fn collect(&mut self, now: Mono) {
        for (at, device) in self.devices.iter_mut().enumerate() {
            let mut waits = self.queue.iter().any(|read| read.device == at);
            let poll = device.poll + u64::from(waits);
            for g in 0..device.groups.len() {
                let group = &mut device.groups[g];
                if group.due > now || self.queue.is_full() {
                    continue;
                }
                group.due = grid_point_after(now, group.phase, group.interval);
                group.await_told(self.window);
                if !waits {
                    // Who wanted nothing has saved nothing up.
                    device.used = device.used.max(self.turn);
                    waits = true;
                }
                for block in device.groups[g].blocks.clone() {
                    self.queue.push(Read { poll, ..device.read(at, Key { group: g, block }, Why::Due) });
                }
            }
        }
    }

    /// A block of which nothing was told of the poll that was due last, just before the window ends in which that should have been;
    /// and whether it is that it does not answer. Once for each poll. To be asked also while a read goes on.
    pub(super) fn overdue(&mut self, now: Mono) -> Option<(Read, bool)> {
        self.collect(now);
        for (at, device) in self.devices.iter_mut().enumerate() {
            for g in 0..device.groups.len() {
                while device.groups[g].told_by <= now {
                    let told_from = device.groups[g].told_from;
                    let is_untold = |block: &&Block| block.key.group == g && block.told < told_from;
                    let untold = device.blocks().find(is_untold).map(|block| (block.key, block.has_failed()));
                    if let Some((key, is_silent)) = untold {
                        // Of this window; not of the next one, however late this is.
                        device.told(key, told_from);
                        return Some((device.read(at, key, Why::Due), is_silent));
                    }
                    device.groups[g].told_by = Mono::MAX;
                    device.groups[g].await_told(self.window);
                }
            }
        }
        None
    }

    /// When there may be something overdue.
    pub(super) fn overdue_at(&self) -> Mono {
        let groups = self.devices.iter().flat_map(|device| &device.groups);
        groups.map(|group| group.told_by.min(group.due)).min().unwrap_or(Mono::MAX)
    }

    /// Something was told of a block.
    pub(super) fn told(&mut self, device: usize, key: Key, now: Mono) {
        self.devices[device].told(key, now);
    }

    /// What a device and its bus have to do.
    pub(super) fn load(&self, device: usize) -> Load {
        let poll = self.devices[device].groups.iter().map(|group| group.interval).min().unwrap_or_default();
        let of = |device: &Device| {
            let (mut time, mut requests, mut answer, mut longest) = (Duration::ZERO, 0, Duration::ZERO, Duration::ZERO);
            for unit in &device.units {
                let id = unit.id.unwrap_or(device.unit);
                let of_it = self.pauses.iter().filter(|(of, ..)| of.is_none_or(|of| of == id));
                let pause = of_it.map(|(_, pause, _)| *pause).max().unwrap_or_default().max(device.pause);
                let took = unit.slowest().unwrap_or_default();
                for block in unit.blocks.iter().filter(|block| block.is_live()) {
                    let interval = device.groups[block.key.group].interval.max(Duration::from_millis(1));
                    let share = poll.as_secs_f64() / interval.as_secs_f64();
                    time += (took + pause).mul_f64(share.min(1e6));
                    requests += usize::from(interval <= poll);
                    (answer, longest) = (answer.max(took), longest.max(pause));
                }
            }
            (time, requests, answer, longest)
        };
        let (own, requests, answer, pause) = of(&self.devices[device]);
        let all = self.devices.iter().map(|device| of(device).0).sum();
        Load { poll, answer, requests, pause, own, all }
    }

    /// The read, begun at `started`, has ended at `now`.
    pub(super) fn done(&mut self, read: Read, ended: Ended, started: Mono, now: Mono) -> ReadOutcome {
        let cost = now.since(started);
        let took = self.took.take().map_or(cost, |took| took.min(cost));
        let has_waited = ended == Ended::Answered && self.has_waited_for_a_probe(read, started, now);
        let (others, shortest) = self.live_others(read.device);
        let device = &mut self.devices[read.device];
        let fits = read.why == Why::Probe { fits: true };
        if !fits && !has_waited {
            device.used += nanos(cost);
        }
        device.free_at = now + device.pause;
        if ended != Ended::Silent {
            let unit = read.block.unit.unwrap_or(device.unit);
            let of_it = self.pauses.iter_mut().filter(|(of, ..)| of.is_none_or(|of| of == unit));
            of_it.for_each(|(.., heard)| *heard = now);
        }
        if ended == Ended::Answered {
            if took > shortest && !has_waited {
                device.free_at = now + cost.saturating_mul(others).max(device.pause);
            }
            self.answered(read, (!has_waited).then_some(took), now);
            return ReadOutcome::Over;
        }
        let interval = device.groups.get(read.group).map_or(Duration::ZERO, |group| group.interval);
        let Some(unit) = device.unit_of(read.key()) else { return ReadOutcome::Over };
        let was_live = unit.block(read.key()).is_some_and(Block::is_live);
        let had_answered = started.since(unit.heard_at) < hal::PAUSE_MAX;
        unit.missed(read.key(), ended, interval, now);
        let is_live = unit.block(read.key()).is_some_and(Block::is_live);
        if let Some(key) = unit.to_check() {
            let check = Read { is_hurried: true, ..device.read(read.device, key, Why::Check) };
            self.queue.hurry(check);
        }
        if ended == Ended::Silent && matches!(read.why, Why::Probe { .. }) {
            self.silent_probe = Some((read.device, now));
        }
        if !was_live && !fits {
            self.probes_from = now.max(self.probes_from) + cost * (SILENT_SHARE - 1);
        }
        if read.why != Why::Due {
            return ReadOutcome::Again;
        }
        if is_live && !read.is_again {
            // Noise is over at once. And who did not hear because it had just answered must not be asked after an answer again.
            self.queue.push(Read { is_again: true, is_hurried: ended == Ended::Broken || had_answered, ..read });
            return ReadOutcome::Again;
        }
        ReadOutcome::Over
    }

    /// How many other devices answer, and how often at most one of them is due.
    fn live_others(&self, device: usize) -> (u32, Duration) {
        let others = self.devices.iter().enumerate().filter(|(at, other)| *at != device && other.is_live());
        let shortest = |other: &Device| other.groups.iter().map(|group| group.interval).min().unwrap_or(Duration::MAX);
        others.fold((0, Duration::MAX), |(count, least), (_, other)| (count + 1, least.min(shortest(other))))
    }

    /// Whether an answer was slow because a gateway still waited for the unit that was probed before. Such a probe has cost the
    /// others what the answer took, whether it was thought to fit or not.
    fn has_waited_for_a_probe(&mut self, read: Read, started: Mono, now: Mono) -> bool {
        let Some((probed, ended)) = self.silent_probe.take() else { return false };
        let cost = now.since(started);
        let is_slow = self.devices[read.device].unit_of(read.key()).is_some_and(|unit| unit.is_slow(cost));
        if !is_slow || started.since(ended) > GATEWAY_WAIT {
            return false;
        }
        self.probes_from = now.max(self.probes_from) + cost * (SILENT_SHARE - 1);
        self.devices[probed].fits_from = now + NO_FIT;
        true
    }

    fn answered(&mut self, read: Read, took: Option<Duration>, now: Mono) {
        let device = &mut self.devices[read.device];
        let Some(unit) = device.unit_of(read.key()) else { return };
        unit.heard_at = now;
        let mut to_ask = unit.answered(read.key(), took);
        if !std::mem::replace(&mut device.was_heard, true) {
            to_ask.extend(device.blocks().filter(|block| !block.was_asked()).map(|block| block.key));
        }
        for key in to_ask {
            self.queue.push(device.read(read.device, key, Why::Due));
        }
    }

    /// Which blocks of the device answer, if all that was due of it when this was asked last has been done since, and if it is
    /// known of each.
    pub(super) fn judge(&mut self, device: usize) -> Option<Standing> {
        let is_of_poll = |read: &Read, poll| read.device == device && read.poll <= poll;
        let poll = self.devices[device].poll;
        if self.queue.iter().any(|read| is_of_poll(read, poll)) {
            return None;
        }
        let device = &mut self.devices[device];
        device.poll += 1;
        let (was_heard, blocks) = (device.was_heard, device.blocks().count());
        let answering = device.blocks().filter(|block| block.is_live()).count();
        let silent: Vec<_> = device.blocks().filter(|block| block.is_silent()).map(|block| block.key.block).collect();
        let silent_units = device.units.iter().filter(|unit| unit.is_silent()).map(|unit| unit.id).collect();
        let is_known = match answering {
            // A device that offers nothing of what is wanted has nothing to be silent about.
            0 if blocks == 0 => was_heard,
            // Of a device that was never heard, one failure says as much as the next. Of one that was, a block that was not
            // asked yet may answer.
            0 => !silent.is_empty() && (!was_heard || silent.len() == blocks),
            _ => device.units.iter().all(Unit::is_decided),
        };
        is_known.then_some(Standing { answering, silent, silent_units })
    }

    /// Whether any block of the device is silent.
    pub(super) fn has_silent(&self, device: usize) -> bool {
        self.devices[device].blocks().any(Block::is_silent)
    }

    /// An answer of this unit (as in [`RegisterBlock::unit`]) of the device came, after so long, too late to be used. Answers
    /// whether the device has such a unit.
    pub(super) fn late(&mut self, device: usize, unit: Option<u8>, after: Duration) -> bool {
        let units = self.devices.get_mut(device).into_iter().flat_map(|device| &mut device.units);
        let known = units.filter(|known| known.id == unit).map(|known| known.heard_after(after));
        known.count() > 0
    }

    /// From now on this group is read in these blocks. What is due of it and stays as it was is still due.
    pub(super) fn replan(&mut self, device: usize, group: usize, blocks: Vec<RegisterBlock>) {
        let is_of_it = |read: &Read| read.device == device && read.group == group;
        self.queue.retain(|read| !is_of_it(read) || blocks.contains(&read.block));
        self.devices[device].replan(group, blocks);
    }

    /// These blocks are due now, in place of a read that taught something.
    pub(super) fn ask(&mut self, read: Read, blocks: impl IntoIterator<Item = RegisterBlock>) {
        for block in blocks {
            self.queue.push(Read { block, is_again: true, is_hurried: true, ..read });
        }
    }

    /// This block, which need not be one of the plan, is asked once now, beside a read that taught something; only an answer to it
    /// is told.
    pub(super) fn check(&mut self, read: Read, block: RegisterBlock) {
        self.queue.push_first(Read { block, why: Why::Check, is_again: true, is_hurried: true, ..read });
    }

    /// Everything of this device is due now.
    pub(super) fn hurry(&mut self, device: usize) {
        self.devices[device].groups.iter_mut().for_each(|group| group.due = Mono(0));
    }

    /// Whether the device has answered lately.
    #[cfg(test)]
    fn is_good(&self, device: usize) -> bool {
        self.devices[device].is_live()
    }
}

impl Device {
    /// `middle` is the middle of some window.
    fn new(setting: Setting, middle: Mono, now: Mono) -> Self {
        let Setting { unit, groups, timeout, pause, is_shared, silence } = setting;
        let mut device = Self {
            unit,
            groups: Vec::new(),
            units: Vec::new(),
            timeout,
            pause,
            is_shared,
            silence,
            used: 0,
            free_at: Mono(0),
            fits_from: Mono(0),
            poll: 0,
            was_heard: false,
        };
        for (at, (interval, blocks)) in groups.into_iter().enumerate() {
            let due = grid_point_after(now, middle, interval);
            device.groups.push(Group {
                interval,
                phase: middle,
                due,
                told_by: Mono::MAX,
                told_from: Mono(0),
                blocks: Vec::new(),
            });
            device.replan(at, blocks);
        }
        device
    }

    fn replan(&mut self, group: usize, blocks: Vec<RegisterBlock>) {
        for block in &blocks {
            if !self.units.iter().any(|unit| unit.id == block.unit) {
                self.units.push(Unit::new(block.unit, self.timeout, self.is_shared));
            }
        }
        for unit in &mut self.units {
            let of_it: Vec<_> = blocks.iter().filter(|block| block.unit == unit.id).copied().collect();
            unit.replan(group, &of_it);
        }
        self.groups[group].blocks = blocks;
    }

    fn ready_at(&self, pauses: &[Resting], block: RegisterBlock) -> Mono {
        let unit = block.unit.unwrap_or(self.unit);
        let of_it = pauses.iter().filter(|(of, ..)| of.is_none_or(|of| of == unit));
        of_it.map(|(_, pause, heard)| *heard + *pause).fold(self.free_at, Mono::max)
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.units.iter().flat_map(|unit| &unit.blocks)
    }

    fn told(&mut self, key: Key, now: Mono) {
        let of_it = self.units.iter_mut().flat_map(|unit| &mut unit.blocks).filter(|block| block.key == key);
        of_it.for_each(|block| block.told = now);
    }

    fn unit_of(&mut self, key: Key) -> Option<&mut Unit> {
        self.units.iter_mut().find(|unit| unit.id == key.block.unit)
    }

    /// Whether any block of it answers.
    fn is_live(&self) -> bool {
        self.blocks().any(Block::is_live)
    }

    fn is_silent(&self, key: Key) -> bool {
        self.blocks().any(|block| block.key == key && block.is_silent())
    }

    /// A read of a block of it; `at` is its own place.
    fn read(&self, at: usize, key: Key, why: Why) -> Read {
        let Key { group, block } = key;
        let until = self.groups.get(group).map_or(Mono(u64::MAX), |group| group.due);
        let poll = self.poll;
        Read { device: at, group, block, why, ahead: Ahead::None, until, is_again: false, is_hurried: false, poll }
    }
}

impl Group {
    /// From now on something is to be told of the window (or of the interval of a group that is slower) in which the point of the grid
    /// lies that was due last. Not before all of the one before it was told, and once for all points of one window.
    fn await_told(&mut self, window: Duration) {
        let span = self.interval.max(window);
        // Phases are in the middle of windows.
        let end = grid_point_after(self.due - self.interval, self.phase - window / 2, span);
        if self.told_by == Mono::MAX && end - span > self.told_from {
            (self.told_from, self.told_by) = (end - span, end - told_margin(window));
        }
    }
}

/// What is left of a window when it is told what is missing in it: enough to get there.
fn told_margin(window: Duration) -> Duration {
    (window / 16).clamp(Duration::from_millis(2), Duration::from_millis(50)).min(window / 4)
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
