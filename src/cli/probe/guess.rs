//! Which profile fits what a device answers, and what is wrong when none quite does. Pure.
//!
//! A profile fits when its quantities are what they can be: a voltage is a mains voltage, a frequency is near 50 or 60 Hz, a
//! power factor is at most 1, a state is a word that the profile knows. Most numbers in most registers are none of these.

use std::collections::BTreeMap;

use crate::measure::{ClockTrust, Missing, Mono, Outcome, Payload, Sample, Stamp, Utc, Value};
use crate::normalise::Normaliser;
use crate::spec::{DeviceIx, DeviceSpec, Origin, PointSpec, RegisterBlock, RegisterTable, WordOrder};

/// What was read of a unit: table and register.
#[derive(Debug, Default, Clone)]
pub(super) struct Image {
    words: BTreeMap<(Option<u8>, RegisterTable, u16), u16>,
    /// Blocks that were asked, with whether they were answered.
    pub(super) asked: Vec<(RegisterBlock, bool)>,
}

impl Image {
    pub(super) fn put(&mut self, block: RegisterBlock, words: Option<&[u16]>) {
        self.asked.push((block, words.is_some()));
        let places = (block.start..).map(|at| (block.unit, block.table, at));
        self.words.extend(places.zip(words.unwrap_or(&[]).iter().copied()));
    }

    /// The words of a block, if all of it was read.
    pub(super) fn words(&self, block: RegisterBlock) -> Option<Vec<u16>> {
        let end = u32::from(block.start) + u32::from(block.count);
        let word = |at: u32| self.words.get(&(block.unit, block.table, u16::try_from(at).ok()?)).copied();
        (u32::from(block.start)..end).map(word).collect()
    }

    /// Whether it was asked for already, alone or within a longer block.
    pub(super) fn knows(&self, block: RegisterBlock) -> bool {
        self.words(block).is_some() || self.asked.iter().any(|(asked, answered)| *asked == block && !answered)
    }
}

/// A point with what it says.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) spec: PointSpec,
    pub(super) words: Option<Vec<u16>>,
    pub(super) outcome: Outcome,
    pub(super) plausibility: Plausibility,
}

impl Shown {
    /// The device has no registers for it. What is worked out of others has none anyway.
    pub(super) fn is_not_there(&self) -> bool {
        self.words.is_none() && self.spec.derived().is_none()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plausibility {
    /// It is what such a quantity is.
    Plausible,
    /// It can be anything.
    Unknown,
    /// It can be, but a device of this profile would rarely say it.
    Odd,
    /// It makes no sense: what `status` and the wire would call so, too ([`PointSpec::makes_sense`]).
    Implausible,
}

/// How well a profile fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fit {
    pub(super) plausible: usize,
    /// Odd ones with them.
    pub(super) implausible: usize,
    pub(super) missing: usize,
    pub(super) points: usize,
}

impl Fit {
    /// Above 0, the more the better. Long lists that fit say more than short ones: many lists are a part of another.
    pub(super) fn score(self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "at most 512 points")]
        let [plausible, implausible, missing] =
            [self.plausible, self.implausible, self.missing].map(|count| count as f64);
        plausible - 3.0 * implausible - missing
    }

    /// Whether a person should believe it.
    pub(super) fn is_good(self) -> bool {
        self.plausible >= 2 && self.implausible * 8 <= self.plausible && self.missing * 2 <= self.points
    }
}

/// Every point of a profile as this image has it.
pub(super) fn read(spec: &DeviceSpec, image: &Image) -> Vec<Shown> {
    let mut normaliser = Normaliser::new(std::slice::from_ref(spec));
    let at = Stamp { mono: Mono(0), utc: Utc(0), trust: ClockTrust::Unsynced };
    let shown = |point: &PointSpec| {
        let extent = point.register().map(crate::spec::RegisterPoint::extent);
        Shown {
            words: extent.and_then(|extent| image.words(extent)),
            spec: point.clone(),
            outcome: Outcome::Missing(Missing::Exception),
            plausibility: Plausibility::Unknown,
        }
    };
    let mut all: Vec<Shown> = spec.points.iter().map(shown).collect();
    let mut worked_out = BTreeMap::new();
    for (at_point, shown) in all.iter_mut().enumerate() {
        let Some(block) = shown.spec.register().map(crate::spec::RegisterPoint::extent) else { continue };
        let Some(words) = shown.words.clone() else { continue };
        let sample = Sample { device: DeviceIx(0), at, payload: Payload::Registers { block, words: Ok(words) } };
        normaliser.readings(&sample, |reading| {
            let ix = usize::from(reading.point.0);
            if ix == at_point {
                shown.outcome = reading.outcome;
            } else if spec.points.get(ix).is_some_and(|point| point.derived().is_some()) {
                worked_out.insert(ix, reading.outcome);
            }
        });
    }
    for (ix, outcome) in worked_out {
        if let Some(shown) = all.get_mut(ix) {
            shown.outcome = outcome;
        }
    }
    for shown in &mut all {
        shown.plausibility = plausibility(&shown.spec, &shown.outcome);
    }
    all
}

pub(super) fn fit(points: &[Shown]) -> Fit {
    let count = |wanted| points.iter().filter(|shown| shown.plausibility == wanted).count();
    Fit {
        plausible: count(Plausibility::Plausible),
        implausible: count(Plausibility::Implausible) + count(Plausibility::Odd),
        missing: points.iter().filter(|shown| shown.is_not_there()).count(),
        points: points.len(),
    }
}

fn plausibility(spec: &PointSpec, outcome: &Outcome) -> Plausibility {
    let judge = |is_so: bool| if is_so { Plausibility::Plausible } else { Plausibility::Odd };
    match outcome {
        // The normaliser's own judgement.
        Outcome::Questionable(..) => Plausibility::Implausible,
        // Not a number in the registers of a measured value is no value; "not available" by the profile's own code is.
        Outcome::Missing(_) => Plausibility::Unknown,
        Outcome::Good(Value::Text(word)) if spec.scaling.texts.is_empty() => {
            judge(word.chars().all(|c| c.is_ascii_graphic() || c == ' ') && !word.is_empty())
        }
        // A code without a word is written as its number.
        Outcome::Good(Value::Text(word)) => judge(spec.scaling.texts.iter().any(|(_, known)| known == word)),
        Outcome::Good(Value::Integer(_)) => Plausibility::Unknown,
        Outcome::Good(Value::Float(value)) => usual(spec.field.as_str(), *value).map_or(Plausibility::Unknown, judge),
    }
}

/// Whether a value is what a quantity of this name usually is; `None` if that cannot be told.
fn usual(field: &str, value: f64) -> Option<bool> {
    let size = value.abs();
    // A number with an exponent far out is a float read in the wrong order; nothing measured is like that.
    if size != 0.0 && !(1e-6..1e9).contains(&size) {
        return Some(false);
    }
    match field {
        _ if field.starts_with("frequency") => Some((44.0..=66.0).contains(&value)),
        _ if field.starts_with("voltage_dc") || field.contains("battery") => Some((0.0..=1500.0).contains(&value)),
        _ if field.starts_with("voltage_l") && field.len() > "voltage_l1".len() => {
            Some((80.0..=900.0).contains(&value))
        }
        // A phase that is not wired reads 0.
        _ if field.starts_with("voltage_l2") || field.starts_with("voltage_l3") => {
            Some(value == 0.0 || (80.0..=520.0).contains(&value))
        }
        _ if field.starts_with("voltage") => Some((80.0..=900.0).contains(&value)),
        _ if field.starts_with("power_factor") => Some(size <= 1.001),
        _ if field.starts_with("soc") || field.starts_with("soh") => Some((0.0..=100.0).contains(&value)),
        _ if field.starts_with("temperature") => Some((-40.0..=120.0).contains(&value)),
        // 0 says nothing.
        _ if field.starts_with("current") && size > 0.0 => Some(size <= 3_000.0),
        _ if field.starts_with("power") && size > 0.0 => Some(size <= 5_000.0),
        _ => None,
    }
}

/// A way to read a profile's registers that its author may have meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant {
    /// Added to every register.
    pub(super) shift: i8,
    pub(super) swap_words: bool,
    pub(super) other_table: bool,
}

impl Variant {
    pub(super) const AS_IS: Self = Self { shift: 0, swap_words: false, other_table: false };

    /// The profile first as it is, then every other way.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [false, true].into_iter().flat_map(|other_table| {
            [0, -1, 1]
                .into_iter()
                .flat_map(move |shift| [false, true].map(move |swap_words| Self { shift, swap_words, other_table }))
        })
    }

    /// The profile read this way, without the points that would be off the wire.
    pub(super) fn of(self, spec: &DeviceSpec) -> DeviceSpec {
        let mut changed = spec.clone();
        let moved = |address: u16| address.checked_add_signed(self.shift.into());
        let table = |table| match (self.other_table, table) {
            (false, table) => table,
            (true, RegisterTable::Holding) => RegisterTable::Input,
            (true, RegisterTable::Input) => RegisterTable::Holding,
            (true, RegisterTable::Coil) => RegisterTable::Discrete,
            (true, RegisterTable::Discrete) => RegisterTable::Coil,
        };
        let point = |point: &PointSpec| {
            let mut point = point.clone();
            if let Origin::Register(register) = &mut point.origin {
                register.address = moved(register.address)?;
                register.table = table(register.table);
                if let Some(scale) = &mut register.scale {
                    scale.address = moved(scale.address)?;
                }
                if self.swap_words {
                    register.word_order = match register.word_order {
                        WordOrder::MswFirst => WordOrder::LswFirst,
                        WordOrder::LswFirst => WordOrder::MswFirst,
                    };
                }
            }
            Some(point)
        };
        changed.points = spec.points.iter().filter_map(point).collect();
        for block in changed.groups.iter_mut().flat_map(|group| &mut group.blocks) {
            block.table = table(block.table);
            match moved(block.start) {
                Some(start) => block.start = start,
                // Its first register is off the wire.
                None => block.count = block.count.saturating_sub(1),
            }
        }
        changed
    }

    /// What to write so that the profile is read this way. `name` is the profile's, `base` its address base.
    pub(super) fn remedy(self, name: &str, spec: &DeviceSpec, base: Option<u32>) -> Vec<String> {
        let mut lines = Vec::new();
        let orders = || spec.points.iter().filter_map(PointSpec::register);
        if self.swap_words {
            let is_msw = orders().filter(|r| r.width() > 1).any(|r| r.word_order == WordOrder::MswFirst);
            lines.push(format!("word_order = \"{}\"", if is_msw { "lsw-first" } else { "msw-first" }));
        }
        if self.other_table {
            let is_input = orders().any(|register| register.table == RegisterTable::Input);
            lines.push(format!("table = \"{}\"", if is_input { "holding" } else { "input" }));
        }
        if self.shift != 0 {
            let new = base.and_then(|base| base.checked_add_signed(i32::from(-self.shift)));
            lines.push(match new.filter(|new| [0, 1, 30_001, 40_001, 300_001, 400_001].contains(new)) {
                Some(new) => format!("address_base = {new}   # in the file of the profile {name} itself"),
                None => format!("# add {} to every register of the profile {name}", self.shift),
            });
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ProfileSource, ProfileView, profile_views};

    fn profiles() -> Vec<ProfileView> {
        profile_views(&ProfileSource::built_in()).0
    }

    fn sdm630() -> ProfileView {
        profiles().into_iter().find(|profile| profile.name == "eastron-sdm630").expect("built in")
    }

    /// An SDM630 whose words lie as `variant` has them.
    fn image(variant: Variant) -> Image {
        let spec = variant.of(&sdm630().spec);
        let mut image = Image::default();
        for point in spec.points.iter() {
            let Some(register) = point.register() else { continue };
            let value: f32 = match point.field.as_str() {
                field if field.starts_with("frequency") => 49.98,
                field if field.starts_with("voltage") => 231.5,
                field if field.starts_with("power_factor") => 0.97,
                field if field.starts_with("energy") => 1234.5,
                field if field.starts_with("power") => 4321.0,
                _ => 7.25,
            };
            let [high, low] =
                [value.to_bits() >> 16, value.to_bits() & 0xffff].map(|word| u16::try_from(word).expect("16 bits"));
            let words = if variant.swap_words { [low, high] } else { [high, low] };
            image.put(register.extent(), Some(&words));
        }
        image
    }

    #[test]
    fn the_profile_of_a_meter_is_guessed_from_what_it_answers() {
        let image = image(Variant::AS_IS);
        let best = profiles()
            .into_iter()
            .map(|profile| (fit(&read(&profile.spec, &image)), profile.name))
            .max_by(|(a, _), (b, _)| a.score().total_cmp(&b.score()))
            .expect("some");
        assert_eq!(best.1, "eastron-sdm630");
        assert!(best.0.is_good(), "{:?}", best.0);
    }

    #[test]
    fn a_wrong_word_order_and_a_wrong_base_are_found_with_the_line_to_write() {
        let profile = sdm630();
        for (variant, line) in [
            (Variant { swap_words: true, ..Variant::AS_IS }, "word_order = \"lsw-first\""),
            (Variant { shift: -1, ..Variant::AS_IS }, "address_base = 1"),
            (Variant { other_table: true, ..Variant::AS_IS }, "table = \"holding\""),
        ] {
            // Registers around it are there, as in a real device.
            let mut image = image(Variant { shift: variant.shift.max(0), ..variant });
            if variant.shift < 0 {
                // The device has everything one register earlier: only what does not begin at 0.
                let later: Vec<_> =
                    image.words.iter().filter_map(|((u, t, at), w)| Some(((*u, *t, at.checked_sub(1)?), *w))).collect();
                image.words = later.into_iter().collect();
            }
            assert!(!fit(&read(&profile.spec, &image)).is_good(), "as it is, it does not fit");
            let tried = Variant::all().map(|variant| (fit(&read(&variant.of(&profile.spec), &image)), variant));
            let (found, best) = tried.max_by(|(a, _), (b, _)| a.score().total_cmp(&b.score())).expect("some");
            assert_eq!(best, variant);
            assert!(found.is_good());
            let remedy = best.remedy("mine", &profile.spec, profile.address_base);
            assert!(remedy.iter().any(|written| written.contains(line)), "{remedy:?}");
        }
    }
}
