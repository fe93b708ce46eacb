//! What one message says, whatever schema it was written in.

use crate::spec::{SessionValue, Unit};

/// The content of one message. Made once for each connector and filled again and again.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The element's name, as the schema has it, without the prefix of its schema set: `ChargeLoopReq`.
    pub(super) name: &'static str,
    /// The header's session id; all zero before one is given.
    pub(super) session: Option<u64>,
    /// Of an answer.
    pub(super) response: Option<Response>,
    /// What the header's notification says in words, of the sender's own choice.
    pub(super) fault: Option<String>,
    /// What it means for the course of the session.
    pub(super) act: Act,
    /// In the order of the message.
    pub(super) values: Vec<(SessionValue, Datum)>,
    /// Something stands behind the document in its frame, beyond the zeros of a buffer that is sent whole.
    pub(super) is_trailed: bool,
}

/// A response code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Response {
    /// As the schema has it.
    pub(super) code: &'static str,
}

impl Response {
    /// The session is over but for its SessionStop (ISO 15118-2, 8.8.3; -20, 8.8.3).
    pub(super) fn is_failed(self) -> bool {
        self.code.starts_with("FAILED") || self.code.starts_with("Failed")
    }
}

/// What a message means for the course of the session.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing but its name.
    #[default]
    None,
    /// The vehicle's list of protocols: schema id and namespace.
    Offer(Vec<(u8, String)>),
    /// The station's choice.
    Choice(Option<u8>),
    /// The vehicle says who it is.
    Vehicle(String),
    /// The session has its id; whether it goes on after a pause.
    Established { resumed: bool },
    /// What power is asked to do.
    Power(Power),
    /// The vehicle ends the session.
    Stop { how: Stop, reason: Option<String> },
}

/// PowerDeliveryReq.ChargeProgress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    Start,
    Stop,
    Standby,
    Renegotiate,
}

/// SessionStopReq.ChargingSession.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Terminate,
    Pause,
    /// The service is chosen anew; the session goes on.
    Renegotiate,
}

/// One value as a message has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Datum {
    /// In the wire's unit.
    Number(f64),
    Whole(i64),
    Word(&'static str),
    Text(String),
    /// It is there and cannot be meant: a current in volts.
    Unusable,
}

impl Heard {
    pub(super) fn clear(&mut self) {
        self.name = "";
        self.session = None;
        self.response = None;
        self.fault = None;
        self.act = Act::None;
        self.values.clear();
        self.is_trailed = false;
    }

    pub(super) fn number(&mut self, value: SessionValue, number: impl Into<f64>) {
        self.values.push((value, Datum::Number(number.into())));
    }

    pub(super) fn some_number(&mut self, value: SessionValue, number: Option<impl Into<f64>>) {
        if let Some(number) = number {
            self.number(value, number);
        }
    }

    pub(super) fn flag(&mut self, value: SessionValue, flag: impl Into<Option<bool>>) {
        if let Some(flag) = flag.into() {
            self.values.push((value, Datum::Whole(i64::from(flag))));
        }
    }

    pub(super) fn word(&mut self, value: SessionValue, word: &'static str) {
        self.values.push((value, Datum::Word(word)));
    }

    /// A number in the schema's base unit (W, Wh, var, V, A, s, Hz): `value · 10^exponent`.
    pub(super) fn decimal(&mut self, value: SessionValue, digits: i16, exponent: i8) {
        let thousandths = match value.unit() {
            Unit::Kilowatt | Unit::Kilovar | Unit::KilowattHour => 3,
            _ => 0,
        };
        self.number(value, decimal(i64::from(digits), i32::from(exponent) - thousandths));
    }

    /// Energy in Wh.
    pub(super) fn watt_hours(&mut self, value: SessionValue, reading: u64) {
        self.number(value, decimal(i64::try_from(reading).unwrap_or(i64::MAX), -3));
    }

    pub(super) fn respond(&mut self, code: &'static str) {
        self.response = Some(Response { code });
        self.word(SessionValue::ResponseCode, code);
    }
}

/// The float next to `digits · 10^exponent`. Total: the exponents of the schemas reach from -128 to 127.
pub(super) fn decimal(digits: i64, exponent: i32) -> f64 {
    /// Powers of ten that a float has exactly.
    const EXACT: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    ];
    #[allow(clippy::cast_precision_loss, reason = "16-bit mantissas, and meters below 2^53 Wh")]
    let digits = digits as f64;
    let place = usize::try_from(exponent.unsigned_abs()).unwrap_or(usize::MAX);
    let power = EXACT.get(place).copied().unwrap_or_else(|| 10_f64.powi(exponent.abs()));
    if exponent < 0 { digits / power } else { digits * power }
}

/// The unit that a station or a vehicle puts beside a number (ISO 15118-2 and DIN), or `None` if it is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    Hour,
    Minute,
    Second,
    Ampere,
    Volt,
    Watt,
    WattSecond,
    WattHour,
    /// One that no value of ours is in.
    Other,
}

impl Heard {
    /// A number with its unit, where the unit fits the value.
    pub(super) fn physical(&mut self, value: SessionValue, digits: i16, exponent: i8, unit: Option<Symbol>) {
        let (digits, exponent) = (i64::from(digits), i32::from(exponent));
        let number = match (value.unit(), unit) {
            (Unit::Volt, None | Some(Symbol::Volt)) | (Unit::Ampere, None | Some(Symbol::Ampere)) => {
                Some(decimal(digits, exponent))
            }
            (Unit::Kilowatt, None | Some(Symbol::Watt)) | (Unit::KilowattHour, None | Some(Symbol::WattHour)) => {
                Some(decimal(digits, exponent - 3))
            }
            (Unit::KilowattHour, Some(Symbol::WattSecond)) => Some(decimal(digits, exponent) / 3_600_000.0),
            (Unit::Second, None | Some(Symbol::Second)) => Some(decimal(digits, exponent)),
            (Unit::Second, Some(Symbol::Minute)) => Some(decimal(digits, exponent) * 60.0),
            (Unit::Second, Some(Symbol::Hour)) => Some(decimal(digits, exponent) * 3600.0),
            _ => None,
        };
        self.values.push((value, number.map_or(Datum::Unusable, Datum::Number)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_the_nearest_float() {
        assert_eq!(decimal(3985, -1).to_bits(), 398.5_f64.to_bits());
        assert_eq!(decimal(-33, -4).to_bits(), (-0.0033_f64).to_bits());
        assert_eq!(decimal(12_000, 1 - 3).to_bits(), 120_f64.to_bits());
        assert!(decimal(i64::from(i16::MAX), 127).is_finite());
        assert!(decimal(i64::from(i16::MIN), -131).abs() < 1e-100);
    }

    #[test]
    fn a_current_in_volts_is_not_a_current() {
        let mut heard = Heard::default();
        heard.physical(SessionValue::Current, 5, 0, Some(Symbol::Volt));
        heard.physical(SessionValue::TimeToFull, 2, 0, Some(Symbol::Minute));
        heard.physical(SessionValue::EvPowerCharge, 5, 4, Some(Symbol::Watt));
        let expected = [Datum::Unusable, Datum::Number(120.0), Datum::Number(50.0)];
        assert!(heard.values.iter().map(|(_, datum)| datum).eq(&expected));
    }
}
