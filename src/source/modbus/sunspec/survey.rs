//! The walk along a device's chain, and what is read of it afterwards. Pure.

use std::collections::HashSet;

use super::BASES;
use super::models::{Place, supported};
use super::request_length::RequestLength;
use crate::measure::{Missing, Raw};
use crate::spec::{Origin, PointIx, PointSpec, RegisterBlock, RegisterTable};

/// `SunS`, the mark at the beginning of a chain.
pub const MARK: [u16; 2] = [0x5375, 0x6e53];
/// The number that ends a chain.
const END: u16 = 0xffff;
/// That a device can have.
const REGISTERS: u32 = 65_536;
/// A chain that is longer goes round in a circle.
const MODELS_MAX: usize = 64;
/// Exceptions that may be about the length of a request: illegal data address, illegal data value.
const ABOUT_LENGTH: [u8; 2] = [2, 3];
/// Server device failure: of the moment, unless it says so as often.
const DEVICE_FAILURE: u8 = 4;
const FAILURES_MAX: u32 = 3;
/// Models of storage and ratings change slowly.
const SLOW: [u16; 7] = [124, 702, 713, 802, 803, 804, 805];
/// Where a chain may begin: most have it in the holding registers, and some in the input registers alone.
const TABLES: [RegisterTable; 2] = [RegisterTable::Holding, RegisterTable::Input];

/// A model in a device's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelAt {
    /// Its number.
    pub id: u16,
    /// The register of its number, as on the wire.
    pub address: u16,
    /// Registers behind number and length.
    pub length: u16,
}

/// What an answer meant.
#[derive(Debug, Clone, PartialEq)]
pub enum SurveyStep {
    /// Something was learned: other blocks are to be read now ([`Survey::blocks`]).
    Step,
    /// Values of points; `Err` for one that had a value and has none now.
    Values(Vec<(PointIx, Result<Raw, Missing>)>),
    /// A part of a model; the rest of it is to come.
    Part,
    /// There is no chain at any of the places where one can begin.
    NoSunSpec,
}

/// What is known of one device.
#[derive(Debug)]
pub struct Survey {
    wanted: Vec<Wanted>,
    state: State,
    /// Other blocks are to be read now, though the last answer had values.
    is_replanned: bool,
    /// In which the chain is, or is looked for.
    table: RegisterTable,
}

/// A point of the plan: the models' points that may carry it, best first.
#[derive(Debug)]
struct Wanted {
    from: Vec<crate::spec::SunSpecSource>,
    /// Whether it ever had a value.
    seen: bool,
}

#[derive(Debug)]
enum State {
    /// Looking for the mark at this base.
    Base(usize),
    /// Reading the number and length of the model here.
    Walk { at: u16, chain: Vec<ModelAt>, failures: u32 },
    /// Reading models.
    Known { chain: Vec<ModelAt>, reads: Vec<ModelRead> },
}

/// A model from which values are taken.
#[derive(Debug)]
struct ModelRead {
    model: ModelAt,
    points: Vec<(usize, Place, Turn)>,
    request: RequestLength,
    /// From its number as far as is needed.
    image: Vec<u16>,
    /// Registers of the image that are of this round.
    fresh: u16,
}

/// What is done to a value on the way to the point's unit and sign.
#[derive(Debug, Clone, Copy)]
struct Turn {
    invert: bool,
    divide: f64,
}

impl Survey {
    /// Nothing is known yet of a device of which these points are wanted. Those of another origin are not looked for.
    #[must_use]
    pub fn new(points: &[PointSpec]) -> Self {
        let from = |point: &PointSpec| match &point.origin {
            Origin::SunSpec(point) => point.from.clone(),
            _ => Vec::new(),
        };
        let wanted = points.iter().map(|point| Wanted { from: from(point), seen: false }).collect();
        Self { wanted, state: State::Base(0), is_replanned: false, table: TABLES[0] }
    }

    /// Whether the chain is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        matches!(self.state, State::Known { .. })
    }

    /// The table in which its models are.
    #[must_use]
    pub fn table(&self) -> RegisterTable {
        self.table
    }

    /// The models, as far as they are known.
    #[must_use]
    pub fn chain(&self) -> &[ModelAt] {
        match &self.state {
            State::Base(_) => &[],
            State::Walk { chain, .. } | State::Known { chain, .. } => chain,
        }
    }

    /// What is to be read, often and seldom.
    #[must_use]
    pub fn blocks(&self) -> [Vec<RegisterBlock>; 2] {
        let block = |start, count| RegisterBlock { unit: None, table: self.table, start, count };
        match &self.state {
            State::Base(base) => [vec![block(BASES[*base], 2)], vec![]],
            State::Walk { at, .. } => [vec![block(*at, 2)], vec![]],
            State::Known { reads, .. } => {
                let of = |slow: bool| {
                    let of_pace = reads.iter().filter(|read| SLOW.contains(&read.model.id) == slow);
                    let parts = of_pace.flat_map(ModelRead::parts);
                    parts.map(|(start, count)| block(start, count)).collect()
                };
                [of(false), of(true)]
            }
        }
    }

    /// A block was answered.
    pub fn answered(&mut self, asked: RegisterBlock, words: &[u16]) -> SurveyStep {
        if asked.table != self.table {
            // The answer to a request of an earlier step.
            return SurveyStep::Part;
        }
        match &mut self.state {
            State::Base(base) if asked.start == BASES[*base] => {
                if *words == MARK {
                    // Bases are far below the end of the registers.
                    self.state = State::Walk { at: BASES[*base].saturating_add(2), chain: Vec::new(), failures: 0 };
                    return SurveyStep::Step;
                }
                self.next_base()
            }
            State::Walk { at, chain, failures } if asked.start == *at => {
                *failures = 0;
                let &[id, length] = words else { return SurveyStep::Part };
                if id == END || chain.len() == MODELS_MAX {
                    return self.chain_ended();
                }
                let end = u32::from(*at) + 2 + u32::from(length);
                if end > REGISTERS {
                    // It would lie beyond the last register: nothing here is what it says.
                    return self.chain_ended();
                }
                chain.push(ModelAt { id, address: *at, length });
                match u16::try_from(end) {
                    Ok(next) if next < u16::MAX => {
                        *at = next;
                        SurveyStep::Step
                    }
                    _ => self.chain_ended(),
                }
            }
            State::Known { reads, .. } => {
                let count = u16::try_from(words.len()).unwrap_or(u16::MAX);
                let Some(read) = reads.iter_mut().find(|read| read.holds(asked.start, count)) else {
                    return SurveyStep::Part;
                };
                let offset = asked.start - read.model.address;
                if offset == 0 && words.get(..2) != Some(&[read.model.id, read.model.length]) {
                    // Another firmware, or another device: nothing of this is where it was.
                    self.state = State::Base(0);
                    return SurveyStep::Step;
                }
                if !read.take(offset, words) {
                    return SurveyStep::Part;
                }
                self.is_replanned |= read.request.succeeded();
                SurveyStep::Values(read.values(&mut self.wanted))
            }
            // The answer to a request of an earlier step.
            State::Base(_) | State::Walk { .. } => SurveyStep::Part,
        }
    }

    /// Whether other blocks are to be read from now on, since the last time; asked after an answer with values.
    pub fn take_replanned(&mut self) -> bool {
        std::mem::take(&mut self.is_replanned)
    }

    /// A block was refused by an exception of 1 to 4.
    pub fn refused(&mut self, asked: RegisterBlock, exception: u8) -> SurveyStep {
        if asked.table != self.table {
            return SurveyStep::Part;
        }
        match &mut self.state {
            State::Base(base) if asked.start == BASES[*base] => self.next_base(),
            State::Walk { at, chain, failures } if asked.start == *at && !chain.is_empty() => {
                *failures += u32::from(exception == DEVICE_FAILURE);
                if (1..FAILURES_MAX).contains(failures) {
                    return SurveyStep::Part;
                }
                // Some devices end without an end.
                self.chain_ended()
            }
            State::Known { reads, .. } if ABOUT_LENGTH.contains(&exception) => {
                let of_it = reads.iter_mut().find(|read| read.holds(asked.start, asked.count));
                let is_cut = of_it.is_some_and(|read| read.request.refused(asked.count));
                if is_cut { SurveyStep::Step } else { SurveyStep::Part }
            }
            _ => SurveyStep::Part,
        }
    }

    /// A block was not answered, or not asked in time (`Missing::Overrun`). Returns the points that are missing for that: those of
    /// its model that have had a value; if none has, all of a model that was asked, and none of one that was not: which of them
    /// the device has is not known. `None` while the chain is not known: then everything is missing.
    #[must_use]
    pub fn silent(&mut self, asked: RegisterBlock, why: Missing) -> Option<Vec<(PointIx, Result<Raw, Missing>)>> {
        if let State::Base(_) = self.state {
            // It was starting when it refused the others, or does not answer this function at all.
            (self.table, self.state) = (TABLES[0], State::Base(0));
        }
        let State::Known { reads, .. } = &self.state else { return None };
        let read = reads.iter().find(|read| read.holds(asked.start, asked.count))?;
        let was_read = read.points.iter().any(|(ix, ..)| self.wanted[*ix].seen);
        let takes_all = !was_read && why != Missing::Overrun;
        let mut missing: Vec<_> = read
            .points
            .iter()
            .filter(|(ix, ..)| self.wanted[*ix].seen || takes_all)
            .map(|(ix, ..)| (PointIx(u16::try_from(*ix).unwrap_or(u16::MAX)), Err(why)))
            .collect();
        missing.sort_by_key(|(ix, _)| *ix);
        Some(missing)
    }

    /// The points that this device has been found to have.
    pub fn known_points(&self) -> impl Iterator<Item = PointIx> {
        (0..).map(PointIx).zip(&self.wanted).filter(|(_, wanted)| wanted.seen).map(|(ix, _)| ix)
    }

    fn next_base(&mut self) -> SurveyStep {
        let State::Base(base) = self.state else { return SurveyStep::Part };
        if base + 1 < BASES.len() {
            self.state = State::Base(base + 1);
            return SurveyStep::Step;
        }
        self.state = State::Base(0);
        if self.table == TABLES[0] {
            self.table = TABLES[1];
            return SurveyStep::Step;
        }
        self.table = TABLES[0];
        SurveyStep::NoSunSpec
    }

    fn chain_ended(&mut self) -> SurveyStep {
        let chain = match std::mem::replace(&mut self.state, State::Base(0)) {
            State::Walk { chain, .. } | State::Known { chain, .. } => chain,
            State::Base(_) => Vec::new(),
        };
        let reads = plan(&chain, &self.wanted);
        self.state = State::Known { chain, reads };
        SurveyStep::Step
    }
}

/// Which model carries which point. Each value of a device is told once: under the first name that can have it.
fn plan(chain: &[ModelAt], wanted: &[Wanted]) -> Vec<ModelRead> {
    let mut reads: Vec<ModelRead> = Vec::new();
    let mut taken: HashSet<(u16, &str)> = HashSet::new();
    for (ix, wanted) in wanted.iter().enumerate() {
        let found = wanted.from.iter().find_map(|source| {
            let model = chain.iter().find(|model| source.models.contains(&model.id) && supported(model.id))?;
            let place = Place::of(model.id, &source.point)?;
            let fits = place.span() <= model.length.saturating_add(2) && !taken.contains(&(model.id, &*source.point));
            fits.then_some((source, *model, place))
        });
        let Some((source, model, place)) = found else { continue };
        taken.insert((model.id, &source.point));
        let at = reads.iter().position(|read| read.model == model).unwrap_or_else(|| {
            reads.push(ModelRead {
                model,
                points: Vec::new(),
                request: RequestLength::new(),
                image: Vec::new(),
                fresh: 0,
            });
            reads.len() - 1
        });
        let span = usize::from(place.span()).max(reads[at].image.len());
        reads[at].image.resize(span, 0);
        reads[at].points.push((ix, place, Turn { invert: source.invert, divide: source.divide }));
    }
    reads
}

impl ModelRead {
    /// Whether these registers are of its image.
    fn holds(&self, start: u16, count: u16) -> bool {
        let from = self.model.address;
        start >= from && usize::from(start - from) + usize::from(count) <= self.image.len()
    }

    /// First register and count of the requests that read it, in order.
    fn parts(&self) -> Vec<(u16, u16)> {
        let span = u16::try_from(self.image.len()).unwrap_or(u16::MAX);
        let mut parts = Vec::new();
        let mut from = 0;
        while from < span {
            let count = self.request.now().min(span - from);
            parts.push((self.model.address + from, count));
            from += count;
        }
        parts
    }

    /// Takes a part; whether the model is whole. A part that does not continue the ones before begins anew or is dropped.
    fn take(&mut self, offset: u16, words: &[u16]) -> bool {
        if offset == 0 {
            self.fresh = 0;
        }
        if offset != self.fresh {
            return false;
        }
        let from = usize::from(offset);
        self.image[from..from + words.len()].copy_from_slice(words);
        self.fresh = u16::try_from(from + words.len()).unwrap_or(u16::MAX);
        usize::from(self.fresh) == self.image.len()
    }

    fn values(&self, wanted: &mut [Wanted]) -> Vec<(PointIx, Result<Raw, Missing>)> {
        let mut values = Vec::new();
        for (ix, place, turn) in &self.points {
            let known = &mut wanted[*ix].seen;
            let value = match place.read(&self.image) {
                Some(raw) => {
                    *known = true;
                    Ok(turned(raw, *turn))
                }
                // Had one, has none.
                None if *known => Err(Missing::Decode),
                None => continue,
            };
            values.push((PointIx(u16::try_from(*ix).unwrap_or(u16::MAX)), value));
        }
        values
    }
}

fn turned(raw: Raw, turn: Turn) -> Raw {
    #[allow(clippy::cast_precision_loss, reason = "a counter beyond 2^53 loses less than its own resolution")]
    let raw = match raw {
        Raw::Integer(integer) if turn.divide != 1.0 => Raw::Float(integer as f64 / turn.divide),
        Raw::Float(float) if turn.divide != 1.0 => Raw::Float(float / turn.divide),
        raw => raw,
    };
    match raw {
        Raw::Integer(integer) if turn.invert => Raw::Integer(-integer),
        Raw::Float(float) if turn.invert => Raw::Float(-float),
        raw => raw,
    }
}

#[cfg(test)]
#[path = "survey_tests.rs"]
mod tests;
