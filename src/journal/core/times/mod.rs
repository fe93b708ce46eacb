//! Which UTC an entry is told with, so that it never changes once it was told and no two entries share one. Pure: what
//! must be durable before a label may leave is handed out as bytes and called saved by whoever saved them.
//!
//! Three kinds of windows:
//! - **Captured with a clock that can be believed** (synced, holdover): the label is the captured time, and stands in the
//!   entry itself. A clock that runs free and is set by somebody ([`SET_NS`]) is not believed: the label goes on by the monotonic
//!   clock from the last sync, which is what `holdover` says. The anchor moves to what a synced clock goes on showing.
//! - **Captured unsynced in a boot that was synced later**: the first window of a boot with a believable clock is its
//!   *anchor*. From then on the label of every earlier window of that boot is `anchor.utc - (anchor.mono - mono)`;
//!   trust `resolved`.
//! - **Captured unsynced, and no anchor**: the boot ended without one, or the wait for it is over. Placed between its
//!   neighbours ([`Course::between`]); trust `estimated`.
//!
//! The last two are not written into entries: a boot's windows before its anchor are a [`Stretch`], and what was decided
//! of it is a few [`Piece`]s, each a straight line from monotonic time to UTC. They are added and never changed, and are
//! durable before the first entry that depends on them is leased: that is what seals a label. A boot that never gets an
//! anchor is told in pieces of [`HORIZON`], so that an anchor still helps all that was not told before.
//!
//! **What waits may lie in a backup, too**, and whoever restores that decides otherwise: another anchor, or none. So an entry whose
//! time is decided by another life than the one that recorded it goes out under an epoch that is made of what was decided
//! ([`Times::tell`]): the same for who decides the same, and no one's else. Who decided a piece stands in a record of its own, which is
//! durable before the piece is. A life goes on with pieces of its own only.
//!
//! **No two entries share a label.** Labels are whole milliseconds, at least one apart within a boot (a window's end is
//! moved where two would be closer). A captured time that was given before (the clock was set back) gets a *turn*: a number
//! of microseconds, 1 to [`TURNS`], that no other pass over that time has; the step back is told as an event. Each piece
//! has a turn of its own, too, and each run of windows that come late (captured `resolved`). So a label is at most 1.5 ms off, and can collide after 999 turns at the earliest.

mod course;
mod kept;

#[cfg(test)]
mod tests;

use std::time::Duration;

use self::course::{Course, MS, PLAUSIBLE_NS, Run, SET_NS, signed};
pub(in crate::journal) use self::kept::TimesBeside;
use self::kept::{Anchor, Kept, NOBODY, Piece, Stretch};
use crate::journal::core::epoch;
use crate::measure::{BootId, ClockTrust, Entry, Epoch, Event, Identity, Mono, Seq, Stamp, Utc};

/// An estimate is sealed for so much of a boot at a time: one small write in that time, and what an anchor that comes
/// after all can no longer help.
const HORIZON: Duration = Duration::from_secs(300);
/// Windows of a boot end at least so far apart: a label is a whole millisecond, also at twice the pace.
const APART: Duration = Duration::from_millis(2);
/// Turns are microseconds within a millisecond; 0 is for what needs none.
const TURNS: u16 = 999;
/// Times that are set by hand in one unsynced boot, and lives in it; beyond, its estimates keep the last, which is nobody's.
const PIECES_MAX: usize = 64;
/// Who sets the clock calls it synced a moment later, and `adjtimex` is asked once a second. A sync that holds for less, and
/// contradicts the one before, moves no anchor.
const SETTLING: Duration = Duration::from_secs(10);
/// Sources whose values come late, one beside the other: each has a turn of its own as long as its times go forward.
const LATE_PASSES_MAX: usize = 32;
/// From here on stretches of which no entry is left are forgotten: 64 take about 4 KB.
const STRETCHES_KEPT: usize = 64;
/// Boots that never synced with their entries still waiting; of more the oldest are told as they were captured. 280 KB.
const STRETCHES_MAX: usize = 4_096;

/// What is told of an entry's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) enum Label {
    /// This, for ever.
    Told(Stamp),
    /// Not decided yet; see [`Times::decide`].
    Open,
    /// A newer program may have decided it, in a record that this one cannot read: the entry waits for that.
    Newer,
}

/// All that must be known of the time of entries that wait, or wait to be told.
#[derive(Debug)]
pub(in crate::journal) struct Times {
    kept: Kept,
    /// The entry that told the newest captured label.
    told_by: Option<Identity>,
    /// The life that lasts, and its boot.
    epoch: Epoch,
    boot: BootId,
    /// The newest window: its boot and its monotonic end.
    newest: Option<(BootId, Mono)>,
    /// While captured times are at or below the highest.
    pass: Option<Pass>,
    /// Since when a synced clock shows something else than the anchor says.
    moved_since: Option<Mono>,
    /// By how much a wall clock that runs free is off the last sync, ns, because somebody has set it.
    set: Option<i64>,
    /// Of windows that come late, with times of their source's own.
    late: Vec<Pass>,
    /// If a newer program keeps a record of its own: the number that comes next by its cursor.
    newer_next: Option<u64>,
    dirty: bool,
    /// What is kept has changed, in a way that the newest entries tell as well.
    moved: bool,
    /// A piece has a decider that is not in its record yet.
    undecided: bool,
}

/// What must be durable: first who decided, if there is anything new, then what.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::journal) struct Unsaved {
    pub(in crate::journal) deciders: Option<Vec<u8>>,
    pub(in crate::journal) times: Vec<u8>,
}

/// A pass over times that were given before.
#[derive(Debug, Clone, Copy)]
struct Pass {
    turn: u16,
    last: i64,
}

const EVER: Mono = Mono::MAX;

impl Times {
    /// Continues what a start has found: the record, if it is whole, the newest captured label in the newest segment with
    /// the last entry of that, and the lowest number that is still there. Either may be the newer one: a segment goes
    /// when it is settled, also before an older one, and the record then stands for it.
    pub(in crate::journal) fn open(
        bytes: Option<&[u8]>,
        newest: Option<(Identity, i64)>,
        oldest: u64,
        (epoch, boot): (Epoch, BootId),
    ) -> Self {
        let kept = bytes.and_then(|bytes| Kept::read(bytes).ok());
        if kept.is_none() && bytes.is_some() {
            tracing::error!("the record of times is damaged: entries of unsynced boots are told as they were captured");
        }
        let (mut kept, mut told_by) = kept.unwrap_or_default();
        if let Some((last, utc)) = newest {
            kept.high = kept.high.max(Some(whole_ms(utc)));
            // An older agent did not say who told its newest.
            if told_by.is_none_or(|by| last >= by) {
                (kept.newest, told_by) = (Some(whole_ms(utc)), Some(last));
            }
        }
        while kept.stretches.len() > STRETCHES_KEPT && kept.stretches.get(1).is_some_and(|next| next.from <= oldest) {
            kept.stretches.remove(0);
        }
        // What only a segment tells must be in the record before that segment goes.
        let moved = newest.is_some();
        Self {
            kept,
            told_by,
            epoch,
            boot,
            newest: None,
            pass: None,
            moved_since: None,
            set: None,
            late: Vec::new(),
            newer_next: None,
            dirty: false,
            moved,
            undecided: false,
        }
    }

    /// Who decided what is kept, by the record of that.
    pub(in crate::journal) fn with_deciders(mut self, bytes: Option<&[u8]>) -> Self {
        if bytes.is_some_and(|bytes| self.kept.read_deciders(bytes).is_none()) {
            tracing::error!(
                "the record of who decided times is damaged: entries that another life has told may come under a second epoch"
            );
        }
        self
    }

    /// A newer program keeps a record beside: its labels are not given again, and what it may have decided is left to it.
    /// `next`: the number that comes next by its cursor; 0 if it has none, and so has told nothing.
    pub(in crate::journal) fn set_beside(&mut self, newer: TimesBeside, next: u64) {
        let TimesBeside { anchor, high, newest, turns } = newer;
        self.newer_next = Some(next);
        // Unless this program has gone on since.
        if high > self.kept.high {
            (self.kept.high, self.kept.newest, self.kept.turns) = (high, newest, turns);
        }
        self.dirty = true;
        // What waited for it in this boot is decided by it, as by one that was seen here.
        let is_news = |anchor: &Anchor| {
            anchor.boot == self.boot && self.kept.anchor.is_none_or(|known| known.boot != anchor.boot)
        };
        if let Some(anchor) = anchor.filter(is_news) {
            self.anchor(anchor);
        }
    }

    /// The record as it is written again.
    #[cfg(test)]
    pub(in crate::journal) fn rewritten(bytes: &[u8]) -> Option<Vec<u8>> {
        Kept::read(bytes).ok().and_then(|(kept, told_by)| kept.write(told_by))
    }

    /// Whether these bytes can be read as the record of times.
    pub(in crate::journal) fn is_whole(bytes: &[u8]) -> bool {
        Kept::read(bytes).is_ok()
    }

    /// Whether this boot is new and the one before ended without a clock: when that was matters.
    pub(super) fn lacks_end(&self) -> bool {
        let anchored = self.kept.anchor.is_some_and(|anchor| anchor.boot == self.boot);
        !anchored && self.kept.stretches.last().is_some_and(|stretch| stretch.boot != self.boot)
    }

    /// The last window of the life before.
    pub(super) fn note_end(&mut self, boot: BootId, end: Stamp) {
        if let Some(stretch) = self.stretch(boot)
            && end.trust == ClockTrust::Unsynced
        {
            stretch.last = stretch.last.max(end.mono);
            let wall = end.utc.0.saturating_sub(signed(end.mono.0));
            if stretch.is_set_to(wall) {
                stretch.wall = wall;
            }
        }
    }

    /// Sees the time of a window, whether it is kept or not.
    pub(super) fn witness(&mut self, boot: BootId, end: Stamp) {
        // A source's own time says nothing of our clock.
        if end.trust.is_of_source() {
            return;
        }
        let seen = Anchor { boot, mono: end.mono, utc: end.utc.0 };
        match (end.trust, self.kept.anchor.filter(|anchor| anchor.boot == boot)) {
            (ClockTrust::Synced | ClockTrust::Holdover, None) => self.anchor(seen),
            // What was decided by the first one stays; what the clock shows when it runs free is measured by this one.
            (ClockTrust::Synced, Some(anchor)) if anchor.is_off(end) => {
                let since = *self.moved_since.get_or_insert(end.mono);
                if end.mono.since(since) >= SETTLING {
                    (self.kept.anchor, self.moved_since, self.dirty) = (Some(seen), None, true);
                }
            }
            _ => self.moved_since = None,
        }
    }

    /// Takes note of a new window before it is written as `seq`, and gives a captured time its final form. Answers by
    /// how much the clock went back, if it shows times that were given before.
    pub(super) fn capture(&mut self, boot: BootId, end: &mut Stamp, seq: u64) -> Option<i64> {
        if end.trust.is_of_source() {
            end.utc = self.place_late(end.utc);
            return None;
        }
        if let Some((newest_boot, newest)) = self.newest
            && newest_boot == boot
            && end.mono < newest + APART
        {
            let later = newest + APART;
            end.utc = Utc(end.utc.0.saturating_add(signed(later.0 - end.mono.0)));
            end.mono = later;
        }
        self.newest = Some((boot, end.mono));
        self.moved = true;
        self.witness(boot, *end);
        let anchor = self.kept.anchor.filter(|anchor| anchor.boot == boot);
        match end.trust {
            ClockTrust::Unsynced if anchor.is_none() => {
                self.extend_stretch(boot, *end, seq);
                None
            }
            ClockTrust::Unsynced | ClockTrust::Synced | ClockTrust::Holdover => {
                if end.trust == ClockTrust::Unsynced {
                    // The process is younger than the boot: only the journal knows that the clock was synced before.
                    end.trust = ClockTrust::Holdover;
                }
                let set = anchor.filter(|anchor| end.trust == ClockTrust::Holdover && anchor.is_off(*end));
                self.note_set(set.map(|anchor| end.utc.0.saturating_sub(anchor.at(end.mono))));
                if let Some(anchor) = set {
                    end.utc = Utc(anchor.at(end.mono));
                }
                self.told_by = Some(Identity { epoch: self.epoch, seq: Seq(seq) });
                let (utc, back) = self.straighten(end.utc);
                end.utc = utc;
                back
            }
            // Told already.
            ClockTrust::Resolved | ClockTrust::Estimated => None,
        }
    }

    /// What is told of the end of a window.
    pub(in crate::journal) fn label(&self, boot: BootId, end: Stamp) -> Label {
        if end.trust != ClockTrust::Unsynced {
            return Label::Told(end);
        }
        // In no stretch: written by an agent that knew nothing of all this and told the captured time.
        let Some(stretch) = self.stretch_of(boot, end.mono) else {
            return if self.newer_next.is_some() { Label::Newer } else { Label::Told(end) };
        };
        let Some(piece) = stretch.piece_of(end.mono) else {
            return if self.is_left_to_newer(stretch) { Label::Newer } else { Label::Open };
        };
        let utc = whole_ms(piece.course.at(end.mono)).saturating_add(i64::from(piece.turn) * 1_000);
        let trust = if piece.resolved { ClockTrust::Resolved } else { ClockTrust::Estimated };
        Label::Told(Stamp { mono: end.mono, utc: Utc(utc), trust })
    }

    /// Gives an entry the time it is told with, and the identity, as far as they are decided: the epoch is that of the life that
    /// recorded it, unless another one has found its time.
    pub(in crate::journal) fn tell(&self, entry: &mut Entry) {
        let Entry { identity, window, .. } = entry;
        let Label::Told(stamp) = self.label(window.boot, window.end) else { return };
        let piece = || self.stretch_of(window.boot, window.end.mono)?.piece_of(window.end.mono);
        let recorded = *identity;
        if window.end.trust == ClockTrust::Unsynced
            && let Some(piece) = piece()
            && piece.by.is_some_and(|by| by != recorded.epoch)
        {
            identity.epoch = epoch::of_time_found(recorded.epoch, piece.checksum());
            // What it says of its own life is of the one that recorded it.
            let own = |Event { device, kind }| Event { device, kind: kind.of_entry(recorded) };
            window.events = std::mem::take(&mut window.events).into_iter().map(own).collect();
        }
        window.end = stamp;
    }

    fn stretch_of(&self, boot: BootId, mono: Mono) -> Option<&Stretch> {
        self.kept.stretches.iter().rev().find(|stretch| stretch.boot == boot && stretch.first <= mono)
    }

    /// Whether a newer program may have decided what is open of a stretch: of a boot that had ended, with numbers from
    /// before that program's last. What was decided before it came, it has kept.
    fn is_left_to_newer(&self, stretch: &Stretch) -> bool {
        stretch.boot != self.boot && self.newer_next.is_some_and(|next| stretch.from < next)
    }

    /// Nothing better will come in time: decides for all boots that have ended, and for this one up to a little behind
    /// `mono` if the window is of this boot.
    pub(super) fn decide(&mut self, boot: BootId, mono: Mono) {
        let current = self.kept.stretches.iter().position(|stretch| stretch.boot == self.boot);
        let zero = current.map(|at| &self.kept.stretches[at]).filter(|stretch| stretch.shows_plausible_time());
        let zero = zero.map(|stretch| stretch.wall);
        self.place_ended(zero);
        if boot == self.boot
            && let Some(at) = current
        {
            self.estimate(at, mono);
        }
    }

    /// The first number that must wait for the clock.
    pub(super) fn held_from(&self) -> Option<u64> {
        let stretches = &self.kept.stretches;
        if let Some(current) = stretches.iter().find(|stretch| stretch.boot == self.boot)
            && (!current.pieces.is_empty() || (current.shows_plausible_time() && current.has_settled()))
        {
            return None;
        }
        let ours = stretches.iter().filter(|stretch| stretch.pieces.is_empty() && !self.is_left_to_newer(stretch));
        ours.map(|stretch| stretch.from).min()
    }

    /// Notes by how much a clock that runs free was set, and tells it once.
    fn note_set(&mut self, set: Option<i64>) {
        if let (None, Some(by_ns)) = (self.set, set) {
            tracing::warn!(
                by_ns,
                "the wall clock was set while nothing disciplines it; times go on from the last sync"
            );
        }
        self.set = set;
    }

    /// By how much the wall clock is off what the last sync says, ns, if it runs free and somebody has set it.
    pub(super) fn set(&self) -> Option<i64> {
        self.set
    }

    /// What must be durable before anything that was captured is written or told.
    pub(super) fn unsaved(&self) -> Option<Unsaved> {
        if self.dirty { self.write() } else { None }
    }

    /// What must be durable before the newest entries may be removed.
    pub(super) fn behind(&self) -> Option<Unsaved> {
        if self.dirty || self.moved { self.write() } else { None }
    }

    /// It is durable as it is now.
    pub(super) fn saved(&mut self) {
        (self.dirty, self.moved, self.undecided) = (false, false, false);
    }

    fn write(&self) -> Option<Unsaved> {
        let deciders = if self.undecided { Some(self.kept.write_deciders()?) } else { None };
        Some(Unsaved { deciders, times: self.kept.write(self.told_by)? })
    }

    fn stretch(&mut self, boot: BootId) -> Option<&mut Stretch> {
        self.kept.stretches.iter_mut().rev().find(|stretch| stretch.boot == boot)
    }

    fn extend_stretch(&mut self, boot: BootId, end: Stamp, seq: u64) {
        let wall = end.utc.0.saturating_sub(signed(end.mono.0));
        if let Some(stretch) = self.stretch(boot) {
            stretch.last = end.mono;
            if stretch.is_set_to(wall) {
                (stretch.set, stretch.wall) = (Some(end.mono), wall);
                self.dirty = true;
            }
            return;
        }
        let after = self.kept.newest;
        let pieces = Vec::new();
        self.kept.stretches.push(Stretch {
            boot,
            from: seq,
            first: end.mono,
            last: end.mono,
            wall,
            set: None,
            after,
            pieces,
        });
        if self.kept.stretches.len() > STRETCHES_MAX {
            self.kept.stretches.remove(0);
        }
        self.dirty = true;
    }

    /// The clock of this boot can be believed from here on: all that waited for it is decided.
    fn anchor(&mut self, anchor: Anchor) {
        let Anchor { boot, mono, utc } = anchor;
        tracing::info!(utc = Utc(utc).rfc3339(), "the wall clock is synced; times of this boot are known");
        self.kept.anchor = Some(anchor);
        self.boot = boot;
        self.place_ended(Some(utc.saturating_sub(signed(mono.0))));
        if self.stretch(boot).is_some() {
            let piece = self.piece(EVER, Course::through(mono, utc), true);
            if let Some(stretch) = self.stretch(boot) {
                stretch.pieces.push(piece);
            }
        }
        self.dirty = true;
    }

    /// Decides for every boot but this one. `zero`: UTC at the start of this boot, if known.
    fn place_ended(&mut self, zero: Option<i64>) {
        let boot = self.boot;
        let mut before = zero;
        let mut bounds: Vec<Option<i64>> = Vec::with_capacity(self.kept.stretches.len());
        for stretch in self.kept.stretches.iter().rev() {
            bounds.push(before);
            if stretch.boot != boot {
                // It had ended before the next one began, and began so long before that.
                let began = before.map(|utc| utc.saturating_sub(signed(stretch.last.0)));
                before = stretch.pieces.first().map_or(began, |piece| Some(piece.course.at(Mono(0))));
            }
        }
        for (at, before) in bounds.into_iter().rev().enumerate() {
            let stretch = &self.kept.stretches[at];
            let is_placed = stretch.pieces.last().is_some_and(|piece| piece.to == EVER);
            if stretch.boot == boot || is_placed || self.is_left_to_newer(stretch) {
                continue;
            }
            let Stretch { first, last, wall, .. } = *stretch;
            let run = Run { first, last, wall, after: self.after(at), before };
            if stretch.pieces.is_empty() {
                let piece = self.piece(EVER, Course::between(run), false);
                self.kept.stretches[at].pieces.push(piece);
            } else {
                self.carry_on(at, EVER);
            }
            self.dirty = true;
        }
    }

    /// Carries the estimate of a stretch of this boot on to a little behind `mono`.
    fn estimate(&mut self, at: usize, mono: Mono) {
        let to = mono + HORIZON;
        let Stretch { first, wall, ref pieces, .. } = self.kept.stretches[at];
        let run = match pieces.last() {
            Some(piece) if piece.to >= mono => return,
            // Somebody has set the clock meanwhile.
            Some(piece)
                if wall.saturating_sub(piece.course.offset(mono)) > SET_NS
                    && self.kept.stretches[at].shows_plausible_time()
                    && pieces.len() < PIECES_MAX =>
            {
                let first = piece.to + Duration::from_nanos(1);
                Some(Run { first, last: first, wall, after: Some(piece.course.at(piece.to)), before: None })
            }
            Some(_) => None,
            None => Some(Run { first, last: first, wall, after: self.after(at), before: None }),
        };
        self.dirty = true;
        if let Some(run) = run {
            let piece = self.piece(to, Course::between(run), false);
            self.kept.stretches[at].pieces.push(piece);
        } else {
            self.carry_on(at, to);
        }
    }

    /// The line of the last piece of a stretch goes on up to `to`.
    fn carry_on(&mut self, at: usize, to: Mono) {
        let pieces = &mut self.kept.stretches[at].pieces;
        let is_full = pieces.len() >= PIECES_MAX;
        match pieces.last_mut() {
            Some(piece) if piece.by == Some(self.epoch) || piece.by == Some(NOBODY) => piece.to = to,
            // Of what waits behind it its own life may decide otherwise, elsewhere.
            Some(piece) => {
                let by = Some(if is_full { NOBODY } else { self.epoch });
                let next = Piece { to, by, ..piece.clone() };
                pieces.push(next);
                self.undecided = true;
            }
            None => {}
        }
    }

    /// A piece that this life decides.
    fn piece(&mut self, to: Mono, course: Course, resolved: bool) -> Piece {
        self.undecided = true;
        Piece { to, course, turn: self.turn(), resolved, by: Some(self.epoch) }
    }

    /// The newest time that is known before a stretch.
    fn after(&self, at: usize) -> Option<i64> {
        let predecessor = at.checked_sub(1).map(|before| &self.kept.stretches[before]);
        let ended = predecessor.and_then(|stretch| {
            let piece = stretch.pieces.iter().find(|piece| stretch.last <= piece.to)?;
            // The whole millisecond above, so that its turn does not count.
            Some(whole_ms(piece.course.at(stretch.last)).saturating_add(MS))
        });
        self.kept.stretches[at].after.max(ended)
    }

    /// A captured time in its final form, and by how much the clock went back.
    fn straighten(&mut self, utc: Utc) -> (Utc, Option<i64>) {
        let ms = whole_ms(utc.0);
        let newest = self.kept.newest.replace(ms);
        if self.kept.high.is_none_or(|high| ms > high) {
            self.kept.high = Some(ms);
            self.pass = None;
            return (Utc(ms), None);
        }
        let mut back = None;
        let turn = match self.pass {
            Some(pass) if ms > pass.last => pass.turn,
            _ => {
                back = newest.map(|newest| ms.saturating_sub(newest)).filter(|back| *back < 0);
                self.turn()
            }
        };
        self.pass = Some(Pass { turn, last: ms });
        (Utc(ms.saturating_add(i64::from(turn) * 1_000)), back)
    }

    /// The time of a window that comes late: beside those that were given before, whatever they are.
    fn place_late(&mut self, utc: Utc) -> Utc {
        let ms = whole_ms(utc.0);
        let nearest = self.late.iter_mut().filter(|pass| pass.last < ms).max_by_key(|pass| pass.last);
        let turn = match nearest {
            Some(pass) => {
                pass.last = ms;
                pass.turn
            }
            None => {
                let turn = self.turn();
                if self.late.len() >= LATE_PASSES_MAX {
                    self.late.remove(0);
                }
                self.late.push(Pass { turn, last: ms });
                turn
            }
        };
        Utc(ms.saturating_add(i64::from(turn) * 1_000))
    }

    fn turn(&mut self) -> u16 {
        self.kept.turns = self.kept.turns % TURNS + 1;
        self.dirty = true;
        self.kept.turns
    }
}

impl Stretch {
    /// Whether its wall clock, though never synced, shows a time that can be true: not before this agent existed, and
    /// behind what was known when it began.
    fn shows_plausible_time(&self) -> bool {
        let shown = self.wall.saturating_add(signed(self.first.0));
        shown >= PLAUSIBLE_NS && self.after.is_none_or(|after| shown > after)
    }

    /// Whether a wall clock that is so far ahead of the monotonic one was set since. What is less comes from reading the two one
    /// after the other, and is left out: a backup that is restored twice estimates the same times twice.
    fn is_set_to(&self, wall: i64) -> bool {
        wall.saturating_sub(self.wall).saturating_abs() > SET_NS
    }

    /// What was decided for this moment.
    fn piece_of(&self, mono: Mono) -> Option<&Piece> {
        self.pieces.iter().find(|piece| mono <= piece.to)
    }

    fn has_settled(&self) -> bool {
        self.set.is_none_or(|set| self.last.since(set) >= SETTLING)
    }
}

impl Piece {
    /// Of all that a label depends on, CRC-32C.
    fn checksum(&self) -> u32 {
        let Self { to: _, course: Course { mono, utc, mono_span, utc_span }, turn, resolved, by: _ } = self;
        let line = [mono.0, utc.cast_unsigned(), *mono_span, *utc_span, u64::from(*turn), u64::from(*resolved)];
        line.iter().fold(0, |sum, number| crc32c::crc32c_append(sum, &number.to_le_bytes()))
    }
}

/// Rounded to a whole millisecond.
fn whole_ms(ns: i64) -> i64 {
    ns.saturating_add(MS / 2).div_euclid(MS).saturating_mul(MS)
}
