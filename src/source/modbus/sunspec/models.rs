//! The models as data, and how their registers are read. Total: no words make it panic.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::measure::Raw;

/// One line of `models.txt` is one point.
const TEXT: &str = include_str!("models.txt");

static MODELS: LazyLock<HashMap<u16, Model>> = LazyLock::new(|| parse(TEXT));

/// More than any device has; a count that is noise must not make a list without end.
const REPEATS_MAX: usize = 256;

/// A model: its points behind number and length.
#[derive(Debug)]
pub(super) struct Model {
    label: String,
    body: Group,
}

#[derive(Debug, Default)]
struct Group {
    name: String,
    /// How often it repeats.
    count: Count,
    points: Vec<Point>,
    groups: Vec<Self>,
}

#[derive(Debug, Default)]
enum Count {
    #[default]
    Once,
    /// As often as this point of a group around it says.
    Says(String),
    /// To the end of the model.
    Rest,
}

#[derive(Debug)]
pub(super) struct Point {
    name: String,
    kind: Kind,
    /// Registers.
    size: u16,
    scale: Scale,
    unit: String,
    words: Vec<(i64, Arc<str>)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Scale {
    None,
    Fixed(i8),
    Point(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Signed,
    Unsigned,
    /// An accumulator: 0 is "not implemented".
    Accumulator,
    Bits,
    Enum,
    Float,
    Text,
    ScaleFactor,
    Pad,
}

fn parse(text: &str) -> HashMap<u16, Model> {
    let mut models = HashMap::new();
    let mut open: Option<(u16, String, Vec<Group>)> = None;
    let close = |open: Option<(u16, String, Vec<Group>)>, models: &mut HashMap<u16, Model>| {
        if let Some((id, label, mut groups)) = open {
            let body = groups.swap_remove(0);
            models.insert(id, Model { label, body });
        }
    };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or("");
        if first == "model" {
            close(open.take(), &mut models);
            let id = words.next().and_then(|id| id.parse().ok()).expect("models.txt: a model has a number");
            open = Some((id, words.collect::<Vec<_>>().join(" "), vec![Group::default()]));
            continue;
        }
        let (_, _, groups) = open.as_mut().expect("models.txt: a point is of a model");
        match first {
            "group" => {
                let name = words.next().unwrap_or("").to_owned();
                let count = match words.next() {
                    Some("1") | None => Count::Once,
                    Some("0") => Count::Rest,
                    Some(point) => Count::Says(point.to_owned()),
                };
                groups.push(Group { name, count, ..Group::default() });
            }
            "end" => {
                let done = groups.pop().expect("models.txt: what ends has begun");
                groups.last_mut().expect("models.txt: a group is of a model").groups.push(done);
            }
            name => {
                let point = parse_point(name, words);
                groups.last_mut().expect("models.txt: a point is of a group").points.push(point);
            }
        }
    }
    close(open, &mut models);
    models
}

fn parse_point<'t>(name: &str, mut words: impl Iterator<Item = &'t str>) -> Point {
    let (kind, size) = words.next().map_or(("", None), |kind| {
        kind.split_once('*').map_or((kind, None), |(kind, size)| (kind, size.parse::<u16>().ok()))
    });
    let (kind, own_size) = match kind {
        "i16" => (Kind::Signed, 1),
        "i32" => (Kind::Signed, 2),
        "i64" => (Kind::Signed, 4),
        "u16" => (Kind::Unsigned, 1),
        "u32" => (Kind::Unsigned, 2),
        "u64" => (Kind::Unsigned, 4),
        "acc32" => (Kind::Accumulator, 2),
        "acc64" => (Kind::Accumulator, 4),
        "bits16" => (Kind::Bits, 1),
        "bits32" => (Kind::Bits, 2),
        "enum16" => (Kind::Enum, 1),
        "f32" => (Kind::Float, 2),
        "text" => (Kind::Text, 1),
        "sf" => (Kind::ScaleFactor, 1),
        "pad" => (Kind::Pad, 1),
        other => unreachable!("models.txt: {name} is of the unknown type {other}"),
    };
    let mut point = Point {
        name: name.to_owned(),
        kind,
        size: size.unwrap_or(own_size),
        scale: Scale::None,
        unit: String::new(),
        words: Vec::new(),
    };
    for word in words {
        if let Some(scale) = word.strip_prefix('^') {
            point.scale = scale.parse().map_or_else(|_| Scale::Point(scale.to_owned()), Scale::Fixed);
        } else if let Some(list) = word.strip_prefix('=') {
            let pair =
                |pair: &str| pair.split_once(':').and_then(|(code, word)| Some((code.parse().ok()?, word.into())));
            point.words = list.split(',').filter_map(pair).collect();
        } else {
            word.clone_into(&mut point.unit);
        }
    }
    point
}

/// Whether the registers of this model are known.
#[must_use]
pub fn supported(id: u16) -> bool {
    MODELS.contains_key(&id)
}

/// What a model is called.
#[must_use]
pub fn label(id: u16) -> Option<&'static str> {
    MODELS.get(&id).map(|model| model.label.as_str())
}

/// A point of a model with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// As SunSpec has it; inside of a repeating group with its number: `Prt[2].DCW`.
    pub name: String,
    /// Registers behind the model's number.
    pub offset: usize,
    /// The registers themselves.
    pub words: Vec<u16>,
    /// The value in SunSpec's unit, scaled; `None` is "not implemented".
    pub value: Option<Raw>,
    /// SunSpec's unit, empty for none.
    pub unit: &'static str,
}

/// All points of a model, without scale factors and padding. `words` begins at the model's number. Empty for a model that is
/// not supported.
#[must_use]
pub fn decode(id: u16, words: &[u16]) -> Vec<Decoded> {
    let Some(model) = MODELS.get(&id) else { return Vec::new() };
    let mut out = Vec::new();
    let mut scope = Vec::new();
    walk(&model.body, "", 2, words, &mut scope, &mut out);
    out
}

/// Goes through a group; answers where it ends. `scope` has the points of the groups around it, for counts and scales.
fn walk(
    group: &'static Group,
    prefix: &str,
    mut at: usize,
    words: &[u16],
    scope: &mut Vec<(&'static Point, usize)>,
    out: &mut Vec<Decoded>,
) -> usize {
    let outer = scope.len();
    let begin = at;
    for point in &group.points {
        scope.push((point, at));
        at += usize::from(point.size);
    }
    for (point, offset) in
        scope[outer..].iter().copied().filter(|(p, _)| !matches!(p.kind, Kind::ScaleFactor | Kind::Pad))
    {
        let Some(own) = words.get(offset..offset + usize::from(point.size)) else { continue };
        let value = value(point, own, exponent(point, scope, words));
        out.push(Decoded {
            name: format!("{prefix}{}", point.name),
            offset,
            words: own.to_vec(),
            value,
            unit: &point.unit,
        });
    }
    debug_assert!(at >= begin);
    for inner in &group.groups {
        let repeats = match &inner.count {
            Count::Once => 1,
            Count::Rest => REPEATS_MAX,
            Count::Says(name) => {
                let said = scope.iter().rev().find(|(point, _)| point.name == *name);
                said.and_then(|(_, offset)| words.get(*offset)).map_or(0, |count| usize::from(*count))
            }
        };
        for n in 1..=repeats.min(REPEATS_MAX) {
            if at >= words.len() {
                break;
            }
            let prefix = match inner.count {
                Count::Once => format!("{prefix}{}.", inner.name),
                _ => format!("{prefix}{}[{n}].", inner.name),
            };
            at = walk(inner, &prefix, at, words, scope, out);
        }
    }
    scope.truncate(outer);
    at
}

/// Where a point of a model's fixed part stands, behind the model's number, and how it is scaled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    point: &'static Point,
    pub(super) offset: u16,
    scale: Option<u16>,
}

impl Place {
    /// A point of the body, or of the n-th repetition of its group as `probe sunspec` names it: `module[0].DCW`.
    pub(super) fn of(id: u16, name: &str) -> Option<Self> {
        let body = &MODELS.get(&id)?.body;
        let size = |group: &Group| group.points.iter().map(|point| point.size).sum::<u16>();
        if let Some((group, name)) = name.split_once("].") {
            let (group, n) = group.split_once('[')?;
            let [inner] = &body.groups[..] else { return None };
            let from = 2 + size(body) + n.parse::<u16>().ok().filter(|n| *n < 64)? * size(inner);
            let place = |offset| from + offset;
            let mut offset = 0;
            let point =
                inner.points.iter().filter(|_| inner.name == group && inner.groups.is_empty()).find(|point| {
                    let is_it = point.name == name;
                    offset += if is_it { 0 } else { point.size };
                    is_it
                })?;
            let scale = match &point.scale {
                Scale::Point(scale) => Some(Self::of(id, scale)?.offset),
                Scale::None | Scale::Fixed(_) => None,
            };
            return Some(Self { point, offset: place(offset), scale });
        }
        let offset_of = |wanted: &str| {
            let mut offset = 2;
            for point in &body.points {
                if point.name == wanted {
                    return Some((point, offset));
                }
                offset += point.size;
            }
            None
        };
        let (point, offset) = offset_of(name)?;
        let scale = match &point.scale {
            Scale::Point(scale) => Some(offset_of(scale)?.1),
            Scale::None | Scale::Fixed(_) => None,
        };
        Some(Self { point, offset, scale })
    }

    /// How many registers from the model's number on are needed to read it.
    pub(super) fn span(&self) -> u16 {
        (self.offset + self.point.size).max(self.scale.map_or(0, |scale| scale + 1))
    }

    /// Its value in the model's registers, `None` if it is not implemented or not there.
    pub(super) fn read(&self, words: &[u16]) -> Option<Raw> {
        let from = usize::from(self.offset);
        let own = words.get(from..from + usize::from(self.point.size))?;
        let exponent = match (self.scale, &self.point.scale) {
            (Some(at), _) => valid_exponent(*words.get(usize::from(at))?),
            (None, Scale::Fixed(exponent)) => Some(i32::from(*exponent)),
            (None, _) => Some(0),
        };
        value(self.point, own, exponent)
    }
}

fn exponent(point: &Point, scope: &[(&'static Point, usize)], words: &[u16]) -> Option<i32> {
    match &point.scale {
        Scale::None => Some(0),
        Scale::Fixed(exponent) => Some(i32::from(*exponent)),
        Scale::Point(name) => {
            let (_, offset) = scope.iter().rev().find(|(point, _)| point.name == *name)?;
            valid_exponent(*words.get(*offset)?)
        }
    }
}

/// A scale factor is -10 to 10; 0x8000 is "not implemented", and so is what it scales.
fn valid_exponent(word: u16) -> Option<i32> {
    let exponent = i32::from(word.cast_signed());
    (-10..=10).contains(&exponent).then_some(exponent)
}

/// A point's registers as a value; `None` is "not implemented".
fn value(point: &Point, words: &[u16], exponent: Option<i32>) -> Option<Raw> {
    let bits = words.iter().fold(0_u128, |bits, word| bits << 16 | u128::from(*word)) & u128::from(u64::MAX);
    let width = 16 * u32::from(point.size.min(4));
    let all = (1_u128 << width) - 1;
    match point.kind {
        Kind::ScaleFactor | Kind::Pad => None,
        Kind::Text => text(words),
        Kind::Float => {
            let float = f32::from_bits(u32::try_from(bits & u128::from(u32::MAX)).ok()?);
            float.is_finite().then_some(Raw::Float(float.into()))
        }
        Kind::Enum => {
            let code = i64::try_from(bits).ok().filter(|_| bits != all)?;
            Some(match point.words.iter().find(|(known, _)| *known == code) {
                Some((_, word)) => Raw::Text(Arc::clone(word)),
                None => Raw::Integer(code.into()),
            })
        }
        Kind::Bits => (bits != all && bits >> (width - 1) == 0).then(|| Raw::Integer(bits.cast_signed())),
        Kind::Accumulator if bits == 0 => None,
        Kind::Unsigned if bits == all => None,
        Kind::Signed if bits == 1 << (width - 1) => None,
        Kind::Accumulator | Kind::Unsigned => Some(scaled(bits.cast_signed(), exponent?)),
        Kind::Signed => {
            let negative = bits >> (width - 1) == 1;
            Some(scaled(if negative { bits.cast_signed() - (1_i128 << width) } else { bits.cast_signed() }, exponent?))
        }
    }
}

/// A power of ten is exact as a divisor, not as a fraction: 2301 / 10 is 230.1, 2301 * 0.1 is not.
fn scaled(integer: i128, exponent: i32) -> Raw {
    #[allow(clippy::cast_precision_loss, reason = "a counter beyond 2^53 loses less than its own resolution")]
    match exponent {
        0 => Raw::Integer(integer),
        1.. => Raw::Float(integer as f64 * 10_f64.powi(exponent)),
        _ => Raw::Float(integer as f64 / 10_f64.powi(-exponent)),
    }
}

fn text(words: &[u16]) -> Option<Raw> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).take_while(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&bytes);
    let shown: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    (!shown.is_empty()).then(|| Raw::Text(shown.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_model_that_is_promised_is_there_with_the_length_that_it_has() {
        // SunSpec's own lengths, without repeating groups.
        let lengths = [
            (1, 66),
            (101, 50),
            (102, 50),
            (103, 50),
            (111, 60),
            (112, 60),
            (113, 60),
            (201, 105),
            (202, 105),
            (203, 105),
            (204, 105),
            (211, 124),
            (212, 124),
            (213, 124),
            (214, 124),
            (124, 24),
            (160, 8),
            (701, 153),
            (702, 50),
            (713, 7),
            (714, 18),
            (802, 62),
        ];
        for (id, length) in lengths {
            let model = &MODELS[&id];
            let registers: u16 = model.body.points.iter().map(|point| point.size).sum();
            assert_eq!(registers, length, "model {id}");
        }
        let promised = [1, 124, 160].into_iter().chain(101..=103).chain(111..=113).chain(201..=204).chain(211..=214);
        assert!(promised.chain(701..=714).chain(802..=805).all(supported));
    }

    #[test]
    fn not_implemented_is_no_value_and_a_scale_that_is_not_is_none_either() {
        let read = |name: &str, words: &[u16]| value(Place::of(701, name).expect(name).point, words, Some(0));
        assert_eq!(read("W", &[0x8000]), None);
        assert_eq!(read("W", &[0xffff]), Some(Raw::Integer(-1)));
        assert_eq!(read("LNV", &[0xffff]), None);
        assert_eq!(read("Hz", &[0xffff, 0xffff]), None);
        assert_eq!(read("TotWhInj", &[0xffff; 4]), None);
        assert_eq!(read("InvSt", &[0xffff]), None);
        assert_eq!(read("InvSt", &[3]), Some(Raw::Text("running".into())));
        assert_eq!(read("Alrm", &[0xffff, 0xffff]), None);
        let energy = Place::of(203, "TotWhExp").expect("there").point;
        assert_eq!(value(energy, &[0, 0], Some(0)), None);
        assert_eq!(value(energy, &[0, 5], Some(3)), Some(Raw::Float(5000.0)));
        assert_eq!(value(energy, &[0, 5], valid_exponent(0x8000)), None);
        let float = Place::of(213, "W").expect("there").point;
        assert_eq!(value(float, &[0x7fc0, 0], Some(0)), None);
    }

    #[test]
    fn repeating_groups_are_read_as_often_as_the_device_says() {
        let ports = 2;
        let mut words = vec![714, 18 + 2 * 25];
        let fixed = &MODELS[&714].body;
        for point in &fixed.points {
            let value = match point.name.as_str() {
                "NPrt" => ports,
                "DCW_SF" => 2,
                _ => 0,
            };
            words.extend(std::iter::repeat_n(value, point.size.into()));
        }
        let port: u16 = fixed.groups[0].points.iter().map(|point| point.size).sum();
        words.extend((1..=ports).flat_map(|n| std::iter::repeat_n(n, port.into())));
        let decoded = decode(714, &words);
        let second = decoded.iter().find(|point| point.name == "Prt[2].DCW").expect("two ports");
        assert_eq!(second.value, Some(Raw::Float(200.0)));
        assert!(!decoded.iter().any(|point| point.name.starts_with("Prt[3]")));
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(id in 0_u16..900, words in prop::collection::vec(any::<u16>(), 0..300)) {
            let ids: Vec<u16> = MODELS.keys().copied().collect();
            let _ = decode(ids[usize::from(id) % ids.len()], &words);
        }
    }
}
