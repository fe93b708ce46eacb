//! What a device allows: learned from its refusals, and kept.
//!
//! Requests are merged over small holes, and hope that the device reads over them. Some do not, and some read no long blocks.
//! A block that is refused twice in a row as an illegal address or an illegal value is cut in two: at its widest hole, or in the
//! middle. Of a device that has answered something the second time is at once, and so are the parts: a list with many holes is
//! learned within its first poll. A block of one point that is refused stays: it is the point that is not there, and its refusal is told.
//!
//! A cut is on trial until it has helped. As soon as a part is answered, the whole is asked once more: refused again, it is cut and
//! that is kept, as long as the device's register list is the same; answered, the refusals were a mood, and nothing of them is left. If
//! it is neither, it is asked again ever more seldom, and in the end no more: it stays cut until the next start. If every part is
//! refused down to its single points, cutting has not helped, and is undone; it is tried again ever more seldom. Also what is kept
//! may have been a mood, of one point: when a part that was refused is answered, the whole is asked again (the more often that was so,
//! the more seldom), and once some minutes after a start.
//!
//! Kept as JSON in `learned/DEVICE.json` below the agent's state: it may be deleted at any time, and is learned again.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::{DeviceSpec, PollGroup, RegisterBlock, RegisterTable};

/// The refusals that say something about the block: illegal data address, illegal data value.
const REFUSALS: [u8; 2] = [2, 3];

/// What a refusal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What it says.
    Final,
    /// Perhaps nothing: the block is to be asked again.
    Doubtful,
    /// The block is too much for the device: these are to be asked in its place, and all groups planned anew.
    Cut(Vec<RegisterBlock>),
    /// What is known by now: its parts are read in its place, and tell what is to be told.
    Known,
    /// What it says, of every part of the block that was cut: it is whole again, and all groups are to be planned anew.
    Undone,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// No more than its words.
    Plain,
    /// A part was answered: the whole is to be asked once more.
    Helped(RegisterBlock),
    /// The whole is answered after all: it is not cut any more, and all groups are to be planned anew.
    Undone,
}

/// A block that was cut, and of which it is not known yet whether that helps.
#[derive(Debug)]
struct Trial {
    whole: RegisterBlock,
    /// Its parts of one point that were refused, and not answered since.
    refused: Vec<RegisterBlock>,
    /// Answers of its parts.
    answers: u32,
    /// It helps, and is kept. The whole is asked again when a part that was refused is answered: what was not there has come.
    is_kept: bool,
    /// How often that was so.
    returns: u32,
}

impl Trial {
    fn new(whole: RegisterBlock, is_kept: bool) -> Self {
        Self { whole, refused: Vec::new(), answers: 0, is_kept, returns: 0 }
    }
}

/// A register at which a block must begin: unit (0 for the device's own), function code and address.
type Cut = (u8, u8, u16);

/// The answers of parts at which the whole is asked again: four times. Each costs a timeout if the device does not answer it; at
/// two parts a second the last comes after four minutes.
const CHECKED_AT: [u32; 4] = [1, 8, 64, 512];

/// The answer of a part at which the whole of a cut that was kept is asked again, once in a life: some minutes after its start.
const CHECK_KEPT_AT: u32 = 512;

/// Of a block that cutting has not helped, this refusal and the ones that double it are reason to try again.
const RETRY_FIRST: u32 = 64;

/// What one device has taught.
#[derive(Debug)]
pub(super) struct Limits {
    /// Of each point, in ascending order, the registers that must be read together.
    extents: Vec<RegisterBlock>,
    lesson: Lesson,
    /// The blocks that were refused once, and not answered since. At most those that are read.
    refused: Vec<RegisterBlock>,
    /// What was cut; at most one for each block that is read.
    trials: Vec<Trial>,
    /// Blocks that cutting has not helped, with how often they were refused since; at most those of the plan.
    hopeless: Vec<(RegisterBlock, u32)>,
    /// Whether the device has answered any block with words. One that has not may refuse everything for a while.
    has_answered: bool,
    file: Option<PathBuf>,
}

/// As it is kept.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lesson {
    /// The register list it was learned with.
    profile: String,
    registers: u64,
    cuts: Vec<Cut>,
}

impl Limits {
    /// What is known of this device; from its file, if it has one that fits.
    pub(super) fn of(spec: &DeviceSpec, directory: Option<&std::path::Path>) -> Self {
        let mut extents: Vec<_> =
            spec.points.iter().filter_map(|point| point.register()).map(crate::spec::RegisterPoint::extent).collect();
        extents.sort_unstable();
        let fresh =
            Lesson { profile: spec.profile.clone(), registers: registers_fingerprint(&extents), cuts: Vec::new() };
        let file = directory.map(|directory| directory.join(format!("{}.json", spec.id)));
        let kept = file.as_ref().and_then(|file| serde_json::from_slice::<Lesson>(&fs::read(file).ok()?).ok());
        let lesson =
            kept.filter(|kept| (&kept.profile, kept.registers) == (&fresh.profile, fresh.registers)).unwrap_or(fresh);
        let whole = spec.groups.iter().flat_map(|group| &group.blocks);
        let is_cut = |block: &&RegisterBlock| lesson.cuts.iter().any(|cut| is_inside(cut, **block));
        let trials = whole.filter(is_cut).map(|block| Trial::new(*block, true)).collect();
        Self { extents, lesson, refused: Vec::new(), trials, hopeless: Vec::new(), has_answered: false, file }
    }

    /// The blocks of a group, cut where the device wants them cut.
    pub(super) fn blocks(&self, group: &PollGroup) -> Vec<RegisterBlock> {
        group.blocks.iter().flat_map(|block| self.cut(*block)).collect()
    }

    /// The parts of a block.
    fn cut(&self, block: RegisterBlock) -> Vec<RegisterBlock> {
        let end = u32::from(block.start) + u32::from(block.count);
        let mut cuts: Vec<u16> =
            self.lesson.cuts.iter().filter(|cut| is_inside(cut, block)).map(|(.., cut)| *cut).collect();
        if cuts.is_empty() {
            return vec![block];
        }
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut from = block.start;
        for to in cuts.into_iter().map(u32::from).chain([end]) {
            parts.extend(self.trimmed(block, from, to));
            from = u16::try_from(to).unwrap_or(u16::MAX);
        }
        parts
    }

    /// The run of whole points within `from..to` of a block; `None` if there is none.
    fn trimmed(&self, block: RegisterBlock, from: u16, to: u32) -> Option<RegisterBlock> {
        let within = self.within(block).filter(|(start, end)| *start >= u32::from(from) && *end <= to);
        let (start, end) = within.fold(None, |run: Option<(u32, u32)>, (start, end)| {
            Some(run.map_or((start, end), |(first, last)| (first.min(start), last.max(end))))
        })?;
        let (start, count) = (u16::try_from(start).ok()?, u16::try_from(end - start).ok()?);
        Some(RegisterBlock { start, count, ..block })
    }

    /// First register and end of the points that lie whole in a block, ascending.
    fn within(&self, block: RegisterBlock) -> impl Iterator<Item = (u32, u32)> {
        let (from, to) = (u32::from(block.start), u32::from(block.start) + u32::from(block.count));
        self.extents
            .iter()
            .filter(move |extent| (extent.unit, extent.table) == (block.unit, block.table))
            .map(|extent| (u32::from(extent.start), u32::from(extent.start) + u32::from(extent.count)))
            .filter(move |(start, end)| *start >= from && *end <= to)
    }

    /// The device has answered this block with words.
    pub(super) fn allowed(&mut self, block: RegisterBlock) -> Answer {
        self.has_answered = true;
        self.refused.retain(|refused| *refused != block);
        self.hopeless.retain(|(hopeless, _)| *hopeless != block);
        let Some(at) = self.trial_of(block) else { return Answer::Plain };
        let trial = &mut self.trials[at];
        if trial.whole != block {
            let refused = trial.refused.len();
            trial.refused.retain(|refused| *refused != block);
            trial.answers = trial.answers.saturating_add(1);
            let is_to_check = if trial.is_kept {
                let has_returned = trial.refused.len() < refused;
                trial.returns = trial.returns.saturating_add(has_returned.into());
                has_returned && trial.returns.is_power_of_two() || trial.answers == CHECK_KEPT_AT
            } else {
                CHECKED_AT.contains(&trial.answers)
            };
            return if is_to_check { Answer::Helped(trial.whole) } else { Answer::Plain };
        }
        if self.undo(at) {
            self.keep_or_tell();
        }
        Answer::Undone
    }

    /// The innermost trial of which a block is the whole or a part.
    fn trial_of(&self, block: RegisterBlock) -> Option<usize> {
        let covering = self.trials.iter().enumerate().filter(|(_, trial)| trial.whole.covers(&block));
        covering.min_by_key(|(_, trial)| trial.whole.count).map(|(at, _)| at)
    }

    /// The device has refused this block.
    pub(super) fn refused(&mut self, block: RegisterBlock, exception: u8) -> Refusal {
        if !REFUSALS.contains(&exception) {
            return Refusal::Final;
        }
        let trial = self.trial_of(block);
        if let Some(at) = trial.filter(|at| self.trials[*at].whole == block) {
            if !std::mem::replace(&mut self.trials[at].is_kept, true) {
                self.keep_or_tell();
            }
            return Refusal::Known;
        }
        let Some(cut) = self.best_cut(block) else {
            return trial.map_or(Refusal::Final, |at| self.leaf_refused(at, block));
        };
        if self.is_hopeless(block) {
            return Refusal::Final;
        }
        // One refusal may be a mood, or the late one of another request.
        let before = self.refused.len();
        self.refused.retain(|refused| *refused != block);
        if self.refused.len() == before {
            self.refused.push(block);
            return if self.has_answered { Refusal::Doubtful } else { Refusal::Final };
        }
        let cut = (block.unit.unwrap_or(0), code(block.table), cut);
        self.lesson.cuts.push(cut);
        match trial.map(|at| &mut self.trials[at]) {
            Some(trial) if !trial.is_kept => {}
            outer => {
                outer.into_iter().for_each(|outer| outer.refused.push(block));
                self.trials.push(Trial::new(block, false));
            }
        }
        Refusal::Cut(self.cut(block))
    }

    /// A part of one point was refused.
    fn leaf_refused(&mut self, trial: usize, block: RegisterBlock) -> Refusal {
        let Trial { whole, refused, is_kept, .. } = &mut self.trials[trial];
        if !refused.contains(&block) {
            refused.push(block);
        }
        let (whole, is_kept) = (*whole, *is_kept);
        let refused = &self.trials[trial].refused;
        if is_kept || !self.cut(whole).iter().all(|part| refused.contains(part)) {
            return Refusal::Final;
        }
        self.undo(trial);
        self.hopeless.push((whole, 0));
        Refusal::Undone
    }

    /// A block is not cut any more, nor is any part of it. Answers whether that was kept.
    fn undo(&mut self, trial: usize) -> bool {
        let Trial { whole, is_kept, .. } = self.trials.remove(trial);
        self.trials.retain(|part| !whole.covers(&part.whole));
        self.lesson.cuts.retain(|cut| !is_inside(cut, whole));
        is_kept
    }

    /// Whether cutting has not helped it; counts its refusals, and forgets that at some of them.
    fn is_hopeless(&mut self, block: RegisterBlock) -> bool {
        let Some((_, refusals)) = self.hopeless.iter_mut().find(|(hopeless, _)| *hopeless == block) else {
            return false;
        };
        *refusals = refusals.saturating_add(1);
        !(*refusals >= RETRY_FIRST && refusals.is_power_of_two())
    }

    /// Where to cut a block: before the point behind the widest hole, of equal ones the one nearest to the middle. `None` if
    /// no point begins where another has ended.
    fn best_cut(&self, block: RegisterBlock) -> Option<u16> {
        let middle = u32::from(block.start) + u32::from(block.count) / 2;
        let mut covered: Option<u32> = None;
        let mut cuts = Vec::new();
        for (start, end) in self.within(block) {
            if let Some(covered) = covered
                && start >= covered
            {
                cuts.push((start - covered, start));
            }
            covered = Some(covered.map_or(end, |covered| covered.max(end)));
        }
        let best = cuts.into_iter().min_by_key(|(hole, start)| (u32::MAX - hole, start.abs_diff(middle)))?;
        u16::try_from(best.1).ok()
    }

    fn keep_or_tell(&self) {
        if let Err(error) = self.keep() {
            tracing::warn!(%error, "what a device allows was learned but cannot be kept; it is learned again after a start");
        }
    }

    /// Written beside and moved into place, so that a power cut leaves the old one or the new one.
    fn keep(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if let Some(directory) = file.parent() {
            // Nobody but the agent reads what lies in its state directory.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let beside = file.with_extension("new");
        let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        out.write_all(&serde_json::to_vec(&self.lesson)?)?;
        out.sync_all()?;
        fs::rename(&beside, file)
    }
}

fn code(table: RegisterTable) -> u8 {
    table.function()
}

/// Whether a cut is within a block.
fn is_inside((unit, function, cut): &Cut, block: RegisterBlock) -> bool {
    let (cut, start) = (u32::from(*cut), u32::from(block.start));
    (*unit, *function) == (block.unit.unwrap_or(0), code(block.table))
        && cut > start
        && cut < start + u32::from(block.count)
}

/// The fingerprint of a register list.
fn registers_fingerprint(extents: &[RegisterBlock]) -> u64 {
    let bytes = extents.iter().flat_map(|extent| {
        let head = [code(extent.table), extent.unit.unwrap_or(0)];
        [head, extent.start.to_be_bytes(), extent.count.to_be_bytes()].into_iter().flatten()
    });
    crate::measure::fingerprint(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::spec::{
        Aggregation, ByteOrder, DeviceKind, Origin, PointSpec, RawKind, RegisterPoint, Scaling, Unit, ValueType,
        WordOrder,
    };

    fn point(address: u16) -> PointSpec {
        PointSpec {
            field: format!("p{address}").as_str().try_into().expect("a field"),
            unit: Unit::One,
            value_type: ValueType::Float,
            aggregation: Aggregation::Mean,
            valid: None,
            frozen_after: None,
            scaling: Scaling::default(),
            origin: Origin::Register(RegisterPoint {
                unit: None,
                table: RegisterTable::Input,
                address,
                raw: RawKind::U32,
                byte_order: ByteOrder::Big,
                word_order: WordOrder::MswFirst,
                mask: None,
                not_available: vec![],
                scale: None,
            }),
        }
    }

    fn block(start: u16, count: u16) -> RegisterBlock {
        RegisterBlock { unit: None, table: RegisterTable::Input, start, count }
    }

    fn spec(addresses: &[u16]) -> DeviceSpec {
        let last = addresses.iter().max().expect("some");
        DeviceSpec {
            id: "meter".try_into().expect("a name"),
            kind: DeviceKind::Meter,
            profile: "test".to_owned(),
            points: addresses.iter().map(|address| point(*address)).collect(),
            groups: vec![PollGroup {
                name: "fast".to_owned(),
                interval: Duration::from_secs(1),
                blocks: vec![block(addresses[0], last + 2 - addresses[0])],
            }],
        }
    }

    /// Asks a device that has these registers until nothing more is learned; the blocks in the end.
    fn learn(limits: &mut Limits, spec: &DeviceSpec, has: impl Fn(u16) -> bool, longest: u16) -> Vec<RegisterBlock> {
        for _ in 0..100 {
            let blocks = limits.blocks(&spec.groups[0]);
            let refused =
                |block: &RegisterBlock| block.count > longest || !(block.start..block.start + block.count).all(&has);
            for block in blocks.iter().filter(|block| !refused(block)) {
                if let Answer::Helped(whole) = limits.allowed(*block) {
                    assert!(refused(&whole), "it was cut for nothing");
                    assert_eq!(limits.refused(whole, 2), Refusal::Known);
                }
            }
            let learned: Vec<bool> = blocks
                .iter()
                .filter(|block| refused(block))
                .map(|block| {
                    let first = limits.refused(*block, 2);
                    !matches!(first, Refusal::Cut(_)) && matches!(limits.refused(*block, 2), Refusal::Cut(_))
                })
                .collect();
            if !learned.contains(&true) {
                return blocks;
            }
        }
        panic!("it never ends");
    }

    #[test]
    fn a_block_over_a_hole_that_the_device_does_not_read_over_is_cut_at_it() {
        let spec = spec(&[0, 2, 4, 10, 12]);
        let mut limits = Limits::of(&spec, None);
        let blocks = learn(&mut limits, &spec, |register| !(6..10).contains(&register), 125);
        assert_eq!(blocks, [block(0, 6), block(10, 4)]);
    }

    #[test]
    fn a_point_that_is_not_there_costs_its_neighbours_nothing() {
        let spec = spec(&[0, 2, 4, 6, 8]);
        let mut limits = Limits::of(&spec, None);
        let blocks = learn(&mut limits, &spec, |register| !(4..6).contains(&register), 125);
        assert!(blocks.contains(&block(4, 2)), "alone: {blocks:?}");
        let read: u16 = blocks.iter().filter(|b| **b != block(4, 2)).map(|b| b.count).sum();
        assert_eq!(read, 8, "all others: {blocks:?}");
    }

    #[test]
    fn the_longest_block_of_a_device_is_found() {
        let spec = spec(&(0..60).map(|n| n * 2).collect::<Vec<_>>());
        let mut limits = Limits::of(&spec, None);
        let blocks = learn(&mut limits, &spec, |_| true, 32);
        assert!(blocks.iter().all(|b| b.count <= 32) && blocks.len() <= 4, "{blocks:?}");
        assert_eq!(blocks.iter().map(|b| b.count).sum::<u16>(), 120);
    }

    #[test]
    fn one_refusal_teaches_nothing_and_a_busy_device_never_does() {
        let spec = spec(&[0, 10]);
        let mut limits = Limits::of(&spec, None);
        let whole = spec.groups[0].blocks[0];
        assert_eq!(limits.refused(whole, 2), Refusal::Final, "it may not have begun to work");
        limits.allowed(whole);
        assert_eq!(limits.refused(whole, 2), Refusal::Doubtful);
        assert!((0..10).all(|_| limits.refused(whole, 6) == Refusal::Final));
        assert_eq!(limits.refused(whole, 2), Refusal::Cut(vec![block(0, 2), block(10, 2)]));
    }

    /// For seven seconds a meter refused everything, and was read in single points for ever.
    #[test]
    fn refusals_of_a_mood_leave_nothing_behind_and_are_not_tried_at_each_poll() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(&[0, 2, 4, 10, 12]);
        let whole = spec.groups[0].blocks[0];
        let mut limits = Limits::of(&spec, Some(directory.path()));
        limits.allowed(whole);
        let mut requests = 0;
        for _ in 0..14 {
            let mut asked = limits.blocks(&spec.groups[0]);
            while let Some(block) = asked.pop() {
                requests += 1;
                match limits.refused(block, 2) {
                    Refusal::Doubtful => asked.push(block),
                    Refusal::Cut(parts) => asked.extend(parts),
                    Refusal::Final | Refusal::Undone => {}
                    Refusal::Known => panic!("nothing was answered"),
                }
            }
        }
        assert!(requests <= 14 + 20, "{requests} requests in 14 polls");
        assert_eq!(limits.allowed(whole), Answer::Plain);
        assert_eq!(limits.blocks(&spec.groups[0]), [whole], "whole again");
        assert_eq!(Limits::of(&spec, Some(directory.path())).blocks(&spec.groups[0]), [whole], "nothing is kept");
    }

    #[test]
    fn a_mood_that_ends_while_it_is_learned_from_leaves_nothing_behind_either() {
        let spec = spec(&[0, 2, 4, 10, 12]);
        let whole = spec.groups[0].blocks[0];
        let mut limits = Limits::of(&spec, None);
        limits.allowed(whole);
        limits.refused(whole, 2);
        let Refusal::Cut(parts) = limits.refused(whole, 2) else { panic!("cut") };
        assert_eq!(limits.allowed(parts[0]), Answer::Helped(whole));
        assert_eq!(limits.allowed(whole), Answer::Undone);
        assert_eq!(limits.blocks(&spec.groups[0]), [whole]);
    }

    /// One poll of a device that refuses these; what it was asked.
    fn poll(limits: &mut Limits, spec: &DeviceSpec, refuses: impl Fn(&RegisterBlock) -> bool) -> Vec<RegisterBlock> {
        let (mut asked, mut waiting) = (Vec::new(), limits.blocks(&spec.groups[0]));
        while let Some(block) = waiting.pop() {
            asked.push(block);
            if refuses(&block) {
                match limits.refused(block, 2) {
                    Refusal::Doubtful => waiting.push(block),
                    Refusal::Cut(parts) => waiting.extend(parts),
                    Refusal::Final | Refusal::Known | Refusal::Undone => {}
                }
            } else {
                match limits.allowed(block) {
                    Answer::Helped(whole) => waiting.push(whole),
                    Answer::Undone => waiting = limits.blocks(&spec.groups[0]),
                    Answer::Plain => {}
                }
            }
        }
        asked
    }

    /// Of a counter that was refused for seven seconds its neighbours were read by themselves for ever.
    #[test]
    fn a_point_that_was_refused_for_a_while_is_read_with_its_neighbours_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let spec = spec(&[0, 2, 4, 10, 12]);
        let whole = spec.groups[0].blocks[0];
        let is_away = |asked: &RegisterBlock| asked.covers(&block(2, 2));
        let mut limits = Limits::of(&spec, Some(directory.path()));
        poll(&mut limits, &spec, |_| false);
        (0..20).for_each(|_| drop(poll(&mut limits, &spec, is_away)));
        let cut = limits.blocks(&spec.groups[0]);
        assert!(cut.contains(&block(2, 2)), "{cut:?}");
        let mut again = Limits::of(&spec, Some(directory.path()));
        assert_eq!(again.blocks(&spec.groups[0]), cut, "it is kept");

        (0..3).for_each(|_| drop(poll(&mut limits, &spec, |_| false)));
        assert_eq!(limits.blocks(&spec.groups[0]), [whole], "whole again");
        assert_eq!(Limits::of(&spec, Some(directory.path())).blocks(&spec.groups[0]), [whole], "nothing is kept");
        // What came while nobody looked is found out in time.
        (0..CHECK_KEPT_AT).for_each(|_| drop(poll(&mut again, &spec, |_| false)));
        assert_eq!(again.blocks(&spec.groups[0]), [whole]);
    }

    #[test]
    fn a_whole_that_is_cut_for_good_is_asked_once_more_in_a_life() {
        let spec = spec(&[0, 2, 4, 10, 12]);
        let whole = spec.groups[0].blocks[0];
        let refuses = |asked: &RegisterBlock| asked.covers(&block(6, 4));
        let mut limits = Limits::of(&spec, None);
        (0..4).for_each(|_| drop(poll(&mut limits, &spec, refuses)));
        let asked = (0..5_000).flat_map(|_| poll(&mut limits, &spec, refuses)).filter(|block| *block == whole);
        assert_eq!(asked.count(), 1);
        assert_eq!(limits.blocks(&spec.groups[0]), [block(0, 6), block(10, 4)]);
    }

    #[test]
    fn a_whole_that_is_neither_answered_nor_refused_is_asked_ever_more_seldom_and_in_the_end_no_more() {
        let spec = spec(&[0, 10]);
        let whole = spec.groups[0].blocks[0];
        let mut limits = Limits::of(&spec, None);
        limits.allowed(block(50, 2));
        limits.refused(whole, 2);
        let Refusal::Cut(parts) = limits.refused(whole, 2) else { panic!("cut") };
        let checked_at: Vec<u32> = (1..10_000)
            .filter(|n| match limits.allowed(parts[usize::from(n % 2 == 0)]) {
                Answer::Helped(whole) => limits.refused(whole, 4) == Refusal::Final,
                _ => false,
            })
            .collect();
        assert_eq!(checked_at, CHECKED_AT);
        assert_eq!(limits.blocks(&spec.groups[0]), parts);
    }

    #[test]
    fn a_block_that_cutting_has_not_helped_is_tried_again_in_time() {
        let spec = spec(&[0, 10]);
        let whole = spec.groups[0].blocks[0];
        let mut limits = Limits::of(&spec, None);
        limits.allowed(block(50, 2));
        limits.refused(whole, 2);
        let Refusal::Cut(parts) = limits.refused(whole, 2) else { panic!("cut") };
        assert_eq!(
            parts.into_iter().map(|part| limits.refused(part, 2)).collect::<Vec<_>>(),
            [Refusal::Final, Refusal::Undone]
        );
        let tries = (0..64).filter(|_| limits.refused(whole, 2) != Refusal::Final).count();
        assert_eq!(tries, 1, "at the sixty-fourth");
    }

    /// Each block was remembered only until another was refused: a device with two of them was never read.
    #[test]
    fn blocks_that_are_refused_in_turn_are_each_learned() {
        let mut spec = spec(&[0, 10, 20, 30]);
        spec.groups[0].blocks = vec![block(0, 12), block(20, 12)];
        let mut limits = Limits::of(&spec, None);
        for _ in 0..2 {
            for block in limits.blocks(&spec.groups[0]) {
                limits.refused(block, 2);
            }
        }
        assert_eq!(limits.blocks(&spec.groups[0]), [block(0, 2), block(10, 2), block(20, 2), block(30, 2)]);
    }

    #[test]
    fn what_was_learned_is_there_after_a_restart_and_not_for_another_register_list() {
        let directory = tempfile::tempdir().expect("a directory");
        let learned = directory.path().join("learned");
        let spec = spec(&[0, 2, 4, 10, 12]);
        let mut limits = Limits::of(&spec, Some(&learned));
        let blocks = learn(&mut limits, &spec, |register| !(6..10).contains(&register), 125);
        assert_eq!(Limits::of(&spec, Some(&learned)).blocks(&spec.groups[0]), blocks);
        let other = self::spec(&[0, 2, 4, 12]);
        assert_eq!(Limits::of(&other, Some(&learned)).blocks(&other.groups[0]), other.groups[0].blocks);
        fs::write(learned.join("meter.json"), "{").expect("damaged");
        assert_eq!(Limits::of(&spec, Some(&learned)).blocks(&spec.groups[0]), spec.groups[0].blocks);
    }
}
