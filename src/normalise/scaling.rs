//! What a device's number means: scale, unit, sign, words, range. The same for every wire. Total: no value makes it panic.

use std::sync::Arc;

use crate::measure::{Missing, Outcome, Questionable, Raw, Value, fingerprint};
use crate::spec::{PointSpec, Scaling, ValueType};

/// What a raw value says of a point.
pub(super) fn outcome(spec: &PointSpec, raw: &Raw) -> Outcome {
    let known = match spec.value_type {
        ValueType::Float => return float(spec, raw),
        ValueType::Integer => integer(&spec.scaling, raw).map(Value::Integer),
        ValueType::Text => text(&spec.scaling, raw).map(Value::Text),
    };
    known.map_or(Outcome::Missing(Missing::Decode), Outcome::Good)
}

/// Two raw values with the same fingerprint are taken to be the same: what a frozen sensor shows.
pub(super) fn fingerprint_of(raw: &Raw) -> u64 {
    match raw {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no device counts beyond 64 bits")]
        Raw::Integer(integer) => *integer as u64,
        Raw::Float(float) => float.to_bits(),
        Raw::Text(text) => fingerprint(text.bytes()),
    }
}

fn float(spec: &PointSpec, raw: &Raw) -> Outcome {
    #[allow(clippy::cast_precision_loss, reason = "a 64-bit counter beyond 2^53 loses less than its own resolution")]
    let raw = match raw {
        Raw::Integer(integer) => *integer as f64,
        Raw::Float(float) => *float,
        Raw::Text(_) => return Outcome::Missing(Missing::Decode),
    };
    let value = spec.scaling.number(raw);
    if !value.is_finite() {
        return Outcome::Missing(Missing::Decode);
    }
    if spec.makes_sense(value) {
        Outcome::Good(Value::Float(value))
    } else {
        Outcome::Questionable(Value::Float(value), Questionable::OutOfRange)
    }
}

/// A code or a count: only a whole number that fits, never a rounded one.
fn integer(scaling: &Scaling, raw: &Raw) -> Option<i64> {
    i64::try_from(whole(scaling, raw)?).ok()
}

/// The same, of any size: a code of 64 bits is none of the wire's integers, and its word is a text.
fn whole(scaling: &Scaling, raw: &Raw) -> Option<i128> {
    let whole = match raw {
        Raw::Integer(integer) => *integer,
        #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and within 2^53")]
        Raw::Float(float) if float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 => *float as i128,
        Raw::Float(_) | Raw::Text(_) => return None,
    };
    if scaling.invert { whole.checked_neg() } else { Some(whole) }
}

fn text(scaling: &Scaling, raw: &Raw) -> Option<Arc<str>> {
    if let Raw::Text(text) = raw {
        return Some(Arc::clone(text));
    }
    let code = whole(scaling, raw)?;
    Some(match scaling.texts.iter().find(|(known, _)| *known == code) {
        Some((_, word)) => Arc::clone(word),
        None => code.to_string().into(),
    })
}
