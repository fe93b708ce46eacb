//! What is known of times, in its durable form.

use std::collections::BTreeMap;

use super::course::{Course, SET_NS};
use crate::journal::disk::unreadable::Unreadable;
use crate::journal::disk::v1::record as v1;
use crate::journal::disk::v2;
use crate::measure::{BootId, Epoch, Identity, Mono, Stamp};

/// No life has this number: the piece is of all that go on with it.
pub(super) const NOBODY: Epoch = Epoch(0);

/// The part that is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) anchor: Option<Anchor>,
    /// The highest label that was ever given to a captured time, whole ms.
    pub(super) high: Option<i64>,
    /// The newest.
    pub(super) newest: Option<i64>,
    /// Turns taken so far.
    pub(super) turns: u16,
    /// In the order in which they began.
    pub(super) stretches: Vec<Stretch>,
}

/// A moment of a boot at which its wall clock could be believed: the first, or the one at which a sync moved it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) boot: BootId,
    pub(super) mono: Mono,
    pub(super) utc: i64,
}

/// The windows of a boot before its anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) boot: BootId,
    /// The number of its first entry, or a lower one.
    pub(super) from: u64,
    pub(super) first: Mono,
    /// The newest that is known.
    pub(super) last: Mono,
    /// UTC minus monotonic by the wall clock, at the newest.
    pub(super) wall: i64,
    /// When the wall clock was set last.
    pub(super) set: Option<Mono>,
    /// The newest captured label when it began.
    pub(super) after: Option<i64>,
    pub(super) pieces: Vec<Piece>,
}

/// What was decided for the windows of a stretch up to `to`, behind the piece before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) to: Mono,
    pub(super) course: Course,
    pub(super) turn: u16,
    pub(super) resolved: bool,
    /// The life that decided it; `None`: nobody noted that, as version 0.1.0 did not. Stands in a record of its own.
    pub(super) by: Option<Epoch>,
}

/// What can be known of the record of a newer program.
#[derive(Debug, Clone, Copy)]
pub(in crate::journal) struct TimesBeside {
    pub(super) anchor: Option<Anchor>,
    pub(super) high: Option<i64>,
    pub(super) newest: Option<i64>,
    pub(super) turns: u16,
}

impl TimesBeside {
    pub(in crate::journal) fn of(bytes: &[u8]) -> Option<Self> {
        let v1::Times { anchor, high, newest, turns, .. } = v1::begin_of_times(bytes)?;
        Some(Self { anchor: anchor.map(Anchor::from), high, newest, turns })
    }

    /// The highest label that was ever given to a captured time.
    pub(in crate::journal) fn high(&self) -> Option<i64> {
        self.high
    }
}

impl Anchor {
    /// UTC at `mono`, by the monotonic clock.
    pub(super) fn at(&self, mono: Mono) -> i64 {
        Course::through(self.mono, self.utc).at(mono)
    }

    /// Whether a wall clock was set since: both clocks run at one pace, so that nothing else moves them apart.
    pub(super) fn is_off(&self, shown: Stamp) -> bool {
        shown.utc.0.saturating_sub(self.at(shown.mono)).saturating_abs() > SET_NS
    }
}

impl From<v1::Anchor> for Anchor {
    fn from(v1::Anchor { boot, mono, utc }: v1::Anchor) -> Self {
        Self { boot: BootId(boot), mono: Mono(mono), utc }
    }
}

impl Kept {
    /// The record, with the entry that told the newest captured label.
    pub(super) fn write(&self, told_by: Option<Identity>) -> Option<Vec<u8>> {
        let Self { anchor, high, newest, turns, stretches } = self;
        let anchor = anchor.map(|Anchor { boot, mono, utc }| v1::Anchor { boot: boot.0, mono: mono.0, utc });
        let mut times = v1::Times::new(anchor, *high, *newest, *turns);
        times.stretches = stretches.iter().map(v1::Stretch::from).collect();
        v1::write_times(&times, told_by.map(Into::into))
    }

    /// Reads the record.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, Option<Identity>), Unreadable> {
        let (v1::Times { anchor, high, newest, turns, stretches, .. }, told_by) = v1::read_times(bytes)?;
        let anchor = anchor.map(Anchor::from);
        let stretches = stretches.into_iter().map(Stretch::from).collect();
        Ok((Self { anchor, high, newest, turns, stretches }, told_by.map(Into::into)))
    }

    /// The record of who decided the pieces.
    pub(super) fn write_deciders(&self) -> Option<Vec<u8>> {
        let by = |piece: &Piece| (piece.turn, piece.by.map(|by| by.0));
        let boots = self.stretches.iter().map(|stretch| (stretch.boot.0, stretch.pieces.iter().map(by).collect()));
        v2::write_deciders(&boots.collect::<Vec<_>>())
    }

    /// Reads it. It is written before the pieces are: of one that was never written it says nothing.
    pub(super) fn read_deciders(&mut self, bytes: &[u8]) -> Option<()> {
        let mut boots: BTreeMap<[u8; 16], _> = v2::read_deciders(bytes)?.into_iter().collect();
        for stretch in &mut self.stretches {
            let noted = boots.remove(&stretch.boot.0).unwrap_or_default();
            for (piece, (turn, by)) in stretch.pieces.iter_mut().zip(noted) {
                piece.by = by.map(Epoch).filter(|_| piece.turn == turn);
            }
        }
        Some(())
    }
}

impl From<&Stretch> for v1::Stretch {
    fn from(stretch: &Stretch) -> Self {
        let Stretch { boot, from, first, last, wall, set, after, pieces } = stretch;
        Self {
            boot: boot.0,
            from: *from,
            first: first.0,
            last: last.0,
            wall: *wall,
            set: set.map(|set| set.0),
            after: *after,
            pieces: pieces.iter().map(v1::Piece::from).collect(),
        }
    }
}

impl From<v1::Stretch> for Stretch {
    fn from(stretch: v1::Stretch) -> Self {
        let v1::Stretch { boot, from, first, last, wall, set, after, pieces } = stretch;
        let (boot, first, last, set) = (BootId(boot), Mono(first), Mono(last), set.map(Mono));
        Self { boot, from, first, last, wall, set, after, pieces: pieces.into_iter().map(Piece::from).collect() }
    }
}

impl From<&Piece> for v1::Piece {
    fn from(Piece { to, course, turn, resolved, by: _ }: &Piece) -> Self {
        let Course { mono, utc, mono_span, utc_span } = *course;
        let course = v1::Course { mono: mono.0, utc, mono_span, utc_span };
        Self { to: to.0, course, turn: *turn, resolved: *resolved }
    }
}

impl From<v1::Piece> for Piece {
    fn from(v1::Piece { to, course, turn, resolved }: v1::Piece) -> Self {
        let v1::Course { mono, utc, mono_span, utc_span } = course;
        let course = Course { mono: Mono(mono), utc, mono_span, utc_span };
        Self { to: Mono(to), course, turn, resolved, by: None }
    }
}
