//! DIN SPEC 70121: the crate has its EXI and not its messages. Here is a table of them and a reader that walks it.
//!
//! Schema-informed EXI, non-strict (DIN SPEC 70121, 7.3): in each state of a grammar the event code has as many bits as it
//! takes to number the productions there and one more (what the schema does not declare), so the table of particles is the
//! grammar. What is read is told as it comes, leaf by leaf; a document is accepted only when it ends where its bytes do.

mod table;

use iso15118::exi::{Decoder, ExiError, ExiResult, Lengths, ValueCtx};

use super::enums::{EV_ERROR, EVSE_STATUS, FAULT, ISOLATION, NOTIFICATION_2, RESPONSE_DIN, TRANSFER, word};
use super::iso2::{hex, session_id};
use super::message::{Act, Datum, Heard, Power, Stop, Symbol};
use crate::spec::SessionValue as V;
use table::{BODY, HEADER};

/// One element, attribute or choice of elements in a content model.
#[derive(Debug)]
struct Particle {
    /// More than one: a choice, in the order of the schema's event codes.
    branches: &'static [Branch],
    required: bool,
    /// How often it may come.
    at_most: u16,
}

#[derive(Debug)]
struct Branch {
    name: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Children.
    Group(&'static [Particle]),
    /// PhysicalValueType: three leaves that only make sense together.
    Physical,
    Integer,
    Unsigned,
    /// Numbers of a range that is small enough to be counted from its beginning.
    Range(i64, i64),
    Flag,
    /// One of so many words.
    Word(u64),
    /// At most so many characters.
    Text(usize),
    /// At most so many bytes.
    Bytes(usize),
    /// An attribute's text or word: a value without the events around it.
    AttributeText(usize),
    AttributeWord(u64),
    /// Part of the schema, and not read: certificates, signatures.
    Closed,
}

/// What stands in an element.
#[derive(Debug)]
enum Leaf {
    Number(i64),
    Flag(bool),
    Word(usize),
    Physical {
        digits: i16,
        exponent: i8,
        unit: Option<usize>,
    },
    Bytes(Vec<u8>),
    /// Its content is of no interest, that it is there may be.
    Text,
    /// A group begins.
    Group,
}

/// `V2G_Message` among the schema's global elements, and the width of that choice.
const DOCUMENT: (u64, u32) = (77, 7);
/// unitSymbolType.
const PHYSICAL_UNIT_WORDS: u64 = 10;

/// Reads a document into `heard`.
///
/// # Errors
/// Why it is none of this schema.
pub(super) fn read(bytes: &[u8], heard: &mut Heard) -> ExiResult<()> {
    let mut decoder = Decoder::new(bytes);
    decoder.read_header()?;
    decoder.expect_event(DOCUMENT.0, DOCUMENT.1)?;
    decoder.expect_event(0, 1)?;
    group(&mut decoder, HEADER, &mut |name, leaf| header_leaf(name, &leaf, heard))?;
    decoder.expect_event(0, 1)?;
    group(&mut decoder, BODY, &mut |name, leaf| body_leaf(name, &leaf, heard))?;
    decoder.expect_event(0, 1)?;
    decoder.finish()?;
    if heard.name.is_empty() { Err(ExiError::MissingElement) } else { Ok(()) }
}

/// Bits that number `productions` and one more.
fn width(productions: u64) -> u32 {
    u64::BITS - productions.leading_zeros()
}

fn codes(particle: &Particle) -> u64 {
    particle.branches.len() as u64
}

/// Walks one content model, up to and including its end event.
fn group(
    decoder: &mut Decoder<'_>,
    particles: &'static [Particle],
    tell: &mut dyn FnMut(&'static str, Leaf),
) -> ExiResult<()> {
    decoder.enter()?;
    // The first particle that may come next, and the one before it if it may come once more.
    let (mut next, mut again, mut count) = (0, None, 0_u16);
    loop {
        let open = &particles[next..];
        let reach = open.iter().position(|p| p.required).map_or(open.len(), |first| first + 1);
        let may_end = reach == open.len() && !open.last().is_some_and(|p| p.required);
        let repeat: Option<&Particle> = again.map(|at: usize| &particles[at]);
        let candidates = || repeat.into_iter().chain(&open[..reach]);
        let productions = candidates().map(codes).sum::<u64>() + u64::from(may_end);
        let mut code = decoder.event(width(productions))?;
        let mut chosen = None;
        for (place, particle) in candidates().enumerate() {
            if code < codes(particle) {
                chosen = Some((place, particle));
                break;
            }
            code -= codes(particle);
        }
        let Some((place, particle)) = chosen else {
            if may_end && code == 0 {
                decoder.leave();
                return Ok(());
            }
            return Err(ExiError::UnknownEventCode);
        };
        let branch = usize::try_from(code).ok().and_then(|code| particle.branches.get(code));
        element(decoder, branch.ok_or(ExiError::UnknownEventCode)?, tell)?;
        match (again, place) {
            (Some(_), 0) => count += 1,
            (Some(_), _) => (next, count) = (next + place, 1),
            (None, _) => (next, count) = (next + place + 1, 1),
        }
        again = (count < particle.at_most).then_some(next - 1);
    }
}

fn element(
    decoder: &mut Decoder<'_>,
    branch: &'static Branch,
    tell: &mut dyn FnMut(&'static str, Leaf),
) -> ExiResult<()> {
    let leaf = match branch.kind {
        Kind::Group(particles) => {
            tell(branch.name, Leaf::Group);
            return group(decoder, particles, tell);
        }
        Kind::Closed => return Err(ExiError::UnsupportedOption),
        Kind::Physical => physical(decoder)?,
        Kind::AttributeText(most) => {
            decoder.string(partition(branch.name), Lengths::max(most))?;
            Leaf::Text
        }
        Kind::AttributeWord(words) => Leaf::Word(enumerated(decoder, words)?),
        Kind::Integer
        | Kind::Unsigned
        | Kind::Range(..)
        | Kind::Flag
        | Kind::Word(_)
        | Kind::Text(_)
        | Kind::Bytes(_) => {
            decoder.expect_event(0, 1)?;
            let leaf = simple(decoder, branch)?;
            decoder.expect_event(0, 1)?;
            leaf
        }
    };
    tell(branch.name, leaf);
    Ok(())
}

fn simple(decoder: &mut Decoder<'_>, branch: &Branch) -> ExiResult<Leaf> {
    Ok(match branch.kind {
        Kind::Integer => Leaf::Number(decoder.int()?),
        Kind::Unsigned => Leaf::Number(i64::try_from(decoder.uint()?).map_err(|_| ExiError::IntegerOverflow)?),
        Kind::Range(low, high) => Leaf::Number(decoder.restricted(low, high)?),
        Kind::Flag => Leaf::Flag(decoder.boolean()?),
        Kind::Word(words) => Leaf::Word(enumerated(decoder, words)?),
        Kind::Bytes(most) => Leaf::Bytes(decoder.binary(Lengths::max(most))?),
        Kind::Text(most) => {
            decoder.string(partition(branch.name), Lengths::max(most))?;
            Leaf::Text
        }
        Kind::Group(_) | Kind::Physical | Kind::Closed | Kind::AttributeText(_) | Kind::AttributeWord(_) => {
            return Err(ExiError::UnsupportedOption);
        }
    })
}

/// Strings are numbered by the element that has them (EXI 1.0, 7.3.1). FNV-1a of its name.
fn partition(name: &str) -> ValueCtx {
    ValueCtx(name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)))
}

/// An index among `words`, in as many bits as they take.
fn enumerated(decoder: &mut Decoder<'_>, words: u64) -> ExiResult<usize> {
    let index = decoder.nbit(width(words - 1))?;
    if index < words {
        usize::try_from(index).map_err(|_| ExiError::UnknownEnumValue)
    } else {
        Err(ExiError::UnknownEnumValue)
    }
}

/// PhysicalValueType: Multiplier -3..=3, Unit (0..1), Value (short).
fn physical(decoder: &mut Decoder<'_>) -> ExiResult<Leaf> {
    decoder.enter()?;
    decoder.expect_event(0, 1)?;
    decoder.expect_event(0, 1)?;
    let exponent = i8::try_from(decoder.restricted(-3, 3)?).map_err(|_| ExiError::ValueOutOfRange)?;
    decoder.expect_event(0, 1)?;
    let unit = match decoder.event(2)? {
        0 => {
            decoder.expect_event(0, 1)?;
            let unit = enumerated(decoder, PHYSICAL_UNIT_WORDS)?;
            decoder.expect_event(0, 1)?;
            decoder.expect_event(0, 1)?;
            Some(unit)
        }
        1 => None,
        _ => return Err(ExiError::UnknownEventCode),
    };
    decoder.expect_event(0, 1)?;
    let digits = i16::try_from(decoder.int()?).map_err(|_| ExiError::IntegerOverflow)?;
    decoder.expect_event(0, 1)?;
    decoder.expect_event(0, 1)?;
    decoder.leave();
    Ok(Leaf::Physical { digits, exponent, unit })
}

fn header_leaf(name: &'static str, leaf: &Leaf, heard: &mut Heard) {
    match (name, leaf) {
        ("SessionID", Leaf::Bytes(bytes)) => heard.session = Some(session_id(bytes)),
        ("FaultCode", Leaf::Word(index)) => heard.word(V::FaultCode, word(&FAULT, *index)),
        _ => {}
    }
}

/// unitSymbolType.
const UNITS: [Symbol; 10] = [
    Symbol::Hour,
    Symbol::Minute,
    Symbol::Second,
    Symbol::Ampere,
    Symbol::Other,
    Symbol::Volt,
    Symbol::Other,
    Symbol::Watt,
    Symbol::WattSecond,
    Symbol::WattHour,
];

fn body_leaf(name: &'static str, leaf: &Leaf, heard: &mut Heard) {
    match leaf {
        // The message itself is the first group of a body.
        Leaf::Group if heard.name.is_empty() => {
            heard.name = name;
            match name {
                "SessionStopReq" => heard.act = Act::Stop { how: Stop::Terminate, reason: None },
                "CurrentDemandReq" | "CurrentDemandRes" => heard.word(V::Service, "DC"),
                _ => {}
            }
        }
        Leaf::Physical { digits, exponent, unit } => {
            if let Some(value) = quantity(name) {
                let symbol = unit.map(|unit| UNITS.get(unit).copied().unwrap_or(Symbol::Other));
                heard.physical(value, *digits, *exponent, symbol);
            }
        }
        Leaf::Bytes(bytes) => match name {
            "EVCCID" => heard.act = Act::Vehicle(hex(bytes)),
            "EVSEID" => heard.values.push((V::EvseId, Datum::Text(hex(bytes)))),
            _ => {}
        },
        Leaf::Word(index) => word_leaf(name, *index, heard),
        Leaf::Flag(flag) => flag_leaf(name, *flag, heard),
        #[allow(clippy::cast_precision_loss, reason = "percents, seconds and codes")]
        Leaf::Number(number) => match name {
            "EVRESSSOC" => heard.number(V::Soc, *number as f64),
            "FullSOC" => heard.number(V::SocFull, *number as f64),
            "BulkSOC" => heard.number(V::SocBulk, *number as f64),
            "NotificationMaxDelay" => heard.number(V::NotificationDelay, *number as f64),
            "DepartureTime" => heard.number(V::DepartureTime, *number as f64),
            "MeterStatus" => heard.values.push((V::MeterStatus, Datum::Whole(*number))),
            _ => {}
        },
        Leaf::Text | Leaf::Group => {}
    }
}

fn word_leaf(name: &'static str, index: usize, heard: &mut Heard) {
    match name {
        "ResponseCode" => {
            heard.respond(word(&RESPONSE_DIN, index));
            if heard.name == "SessionSetupRes" {
                let resumed = RESPONSE_DIN.get(index) == Some(&"OK_OldSessionJoined");
                heard.act = Act::Established { resumed };
            }
        }
        "EVErrorCode" => heard.word(V::EvError, word(&EV_ERROR, index)),
        "EVSEStatusCode" => heard.word(V::EvseStatus, word(&EVSE_STATUS, index)),
        "EVSEIsolationStatus" => heard.word(V::Isolation, word(&ISOLATION, index)),
        "EVSENotification" => heard.word(V::EvseNotification, word(&NOTIFICATION_2, index)),
        "EVRequestedEnergyTransferType" => {
            heard.word(V::Service, if word(&TRANSFER, index).starts_with("AC") { "AC" } else { "DC" });
        }
        _ => {}
    }
}

fn flag_leaf(name: &'static str, flag: bool, heard: &mut Heard) {
    let value = match name {
        "ReadyToChargeState" => {
            heard.act = Act::Power(if flag { Power::Start } else { Power::Stop });
            return;
        }
        "EVReady" => V::EvReady,
        "BulkChargingComplete" => V::BulkComplete,
        "ChargingComplete" => V::ChargingComplete,
        "EVSECurrentLimitAchieved" => V::CurrentLimitAchieved,
        "EVSEVoltageLimitAchieved" => V::VoltageLimitAchieved,
        "EVSEPowerLimitAchieved" => V::PowerLimitAchieved,
        "RCD" => V::Rcd,
        _ => return,
    };
    heard.flag(value, flag);
}

fn quantity(name: &str) -> Option<V> {
    Some(match name {
        "EVTargetVoltage" => V::VoltageTarget,
        "EVTargetCurrent" => V::CurrentTarget,
        "EVMaximumVoltageLimit" | "EVMaxVoltage" => V::EvVoltageLimit,
        "EVMaximumCurrentLimit" | "EVMaxCurrent" => V::EvCurrentCharge,
        "EVMinCurrent" => V::EvCurrentChargeLeast,
        "EVMaximumPowerLimit" => V::EvPowerCharge,
        "EVEnergyCapacity" => V::Capacity,
        "EVEnergyRequest" | "EAmount" => V::RequestTarget,
        "RemainingTimeToFullSoC" => V::TimeToFull,
        "RemainingTimeToBulkSoC" => V::TimeToBulk,
        "EVSEPresentVoltage" => V::Voltage,
        "EVSEPresentCurrent" => V::Current,
        "EVSEMaximumVoltageLimit" | "EVSEMaxVoltage" => V::EvseVoltageLimit,
        "EVSEMaximumCurrentLimit" | "EVSEMaxCurrent" => V::EvseCurrentCharge,
        "EVSEMaximumPowerLimit" => V::EvsePowerCharge,
        "EVSEMinimumCurrentLimit" | "EVSEMinCurrent" => V::EvseCurrentChargeLeast,
        "EVSEMinimumVoltageLimit" => V::EvseVoltageLeast,
        "EVSEEnergyToBeDelivered" => V::EnergyOffered,
        "MeterReading" => V::MeterImport,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_code_has_room_for_what_the_schema_does_not_declare() {
        assert_eq!([1, 2, 3, 4, 5, 7, 36].map(width), [1, 2, 2, 3, 3, 3, 6]);
    }

    #[test]
    fn bytes_of_another_schema_are_refused() {
        let mut heard = Heard::default();
        assert!(read(&[], &mut heard).is_err());
        assert!(read(&[0x80], &mut heard).is_err());
        assert!(read(&[0x80, 0x00, 0xff, 0xff, 0xff, 0xff], &mut heard).is_err());
        assert!(heard.name.is_empty());
    }
}
