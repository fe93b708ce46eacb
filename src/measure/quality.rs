//! Why a value is doubtful, or not there.

use serde::{Deserialize, Serialize};

/// Why a value is doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Questionable {
    /// Outside the profile's valid range, or what no such quantity can be.
    OutOfRange,
    /// Bit-identical for too long while its neighbours move: a sensor fault.
    Frozen,
    /// Changed faster than it can.
    Rate,
    /// Its time cannot be believed.
    Clock,
    /// A counter fell to 0 and has not stayed there.
    CounterZero,
    /// A counter is below what it was.
    CounterBackwards,
    /// A counter is further on than can have passed.
    CounterJump,
}

impl Questionable {
    /// Whether a value so doubted says nothing of its quantity: it does not stand for others where there are any.
    #[must_use]
    pub fn is_senseless(self) -> bool {
        match self {
            Self::OutOfRange | Self::CounterZero | Self::CounterBackwards | Self::CounterJump => true,
            Self::Frozen | Self::Rate | Self::Clock => false,
        }
    }

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OutOfRange => "out_of_range",
            Self::Frozen => "frozen",
            Self::Rate => "rate",
            Self::Clock => "clock",
            Self::CounterZero => "counter_zero",
            Self::CounterBackwards => "counter_backwards",
            Self::CounterJump => "counter_jump",
        }
    }
}

/// Why a value is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The device did not answer, or cannot be reached.
    Timeout,
    /// The device refused (Modbus exception).
    Exception,
    /// The bus is off.
    BusOff,
    /// What came cannot be read, or the device says "not available".
    Decode,
    /// Came once, and then no more.
    Stale,
    /// It was due, and was not asked in time, or has not answered yet: the bus or the device was still busy.
    Overrun,
}

impl Missing {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Exception => "exception",
            Self::BusOff => "bus_off",
            Self::Decode => "decode",
            Self::Stale => "stale",
            Self::Overrun => "overrun",
        }
    }
}
