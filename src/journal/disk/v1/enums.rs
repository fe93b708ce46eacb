//! Plain choices, as they are written: the number of a variant is its place in the list. Nothing is ever put into a list,
//! taken out of it or moved in it; what the domain adds has no place here until a later version gives it one.

use serde::{Deserialize, Serialize};

use crate::{measure, spec};

/// An enum of the domain as version 1 writes it, and both ways between the two. A variant that the domain adds does not
/// compile until somebody has decided how it is written.
macro_rules! as_written {
    ($($(#[$doc:meta])* enum $name:ident = $domain:path { $($variant:ident),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub(in crate::journal) enum $name { $($variant),+ }

        impl From<$domain> for $name {
            fn from(value: $domain) -> Self {
                use $domain as Domain;
                match value { $(Domain::$variant => Self::$variant),+ }
            }
        }

        impl From<$name> for $domain {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => Self::$variant),+ }
            }
        }
    )+};
}

/// Why a value is doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::journal) enum Questionable {
    OutOfRange,
    Frozen,
    Rate,
    Clock,
}

impl From<measure::Questionable> for Questionable {
    fn from(why: measure::Questionable) -> Self {
        use measure::Questionable as Domain;
        match why {
            Domain::OutOfRange => Self::OutOfRange,
            Domain::Frozen => Self::Frozen,
            Domain::Rate => Self::Rate,
            Domain::Clock => Self::Clock,
            // The nearest that this version has; version 2 says beside it which it is.
            Domain::CounterZero | Domain::CounterBackwards | Domain::CounterJump => Self::Rate,
        }
    }
}

/// The kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::journal) enum DeviceKind {
    Evse,
    Meter,
}

impl From<spec::DeviceKind> for DeviceKind {
    fn from(kind: spec::DeviceKind) -> Self {
        use spec::DeviceKind as Domain;
        match kind {
            Domain::Evse => Self::Evse,
            // The nearest that this version has; version 2 says beside it which it is.
            Domain::Meter | Domain::Vehicle | Domain::Battery | Domain::Inverter => Self::Meter,
        }
    }
}

impl From<DeviceKind> for spec::DeviceKind {
    fn from(kind: DeviceKind) -> Self {
        match kind {
            DeviceKind::Evse => Self::Evse,
            DeviceKind::Meter => Self::Meter,
        }
    }
}

/// Why a value is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::journal) enum Missing {
    Timeout,
    Exception,
    BusOff,
    Decode,
    Stale,
}

impl From<measure::Missing> for Missing {
    fn from(why: measure::Missing) -> Self {
        match why {
            // Version 2 says beside it which it is.
            measure::Missing::Timeout | measure::Missing::Overrun => Self::Timeout,
            measure::Missing::Exception => Self::Exception,
            measure::Missing::BusOff => Self::BusOff,
            measure::Missing::Decode => Self::Decode,
            measure::Missing::Stale => Self::Stale,
        }
    }
}

impl From<Questionable> for measure::Questionable {
    fn from(why: Questionable) -> Self {
        match why {
            Questionable::OutOfRange => Self::OutOfRange,
            Questionable::Frozen => Self::Frozen,
            Questionable::Rate => Self::Rate,
            Questionable::Clock => Self::Clock,
        }
    }
}

impl From<Missing> for measure::Missing {
    fn from(why: Missing) -> Self {
        match why {
            Missing::Timeout => Self::Timeout,
            Missing::Exception => Self::Exception,
            Missing::BusOff => Self::BusOff,
            Missing::Decode => Self::Decode,
            Missing::Stale => Self::Stale,
        }
    }
}

as_written! {
    /// How far a time can be believed.
    enum ClockTrust = measure::ClockTrust { Synced, Holdover, Unsynced, Resolved, Estimated }


    /// Which way energy goes.
    enum Direction = measure::Direction { GridToVehicle, VehicleToGrid, Idle }

    /// Why entries were given up.
    enum GapReason = measure::GapReason { JournalFull, Aged, Corrupt, Refused, Thinned, Forgotten }

    /// The type of a value.
    enum ValueType = spec::ValueType { Float, Integer, Text }

    /// The unit of a value.
    enum Unit = spec::Unit {
        Watt, Kilowatt, Megawatt, Var, Kilovar, VoltAmpere, KilovoltAmpere, Millivolt, Volt, Milliampere, Ampere, Hertz,
        WattHour, KilowattHour, MegawattHour, VarHour, KilovarHour, VoltAmpereHour, KilovoltAmpereHour, Percent, Celsius,
        Degree, Ohm, Second, Millisecond, One,
    }

    /// The length of a segment's windows.
    enum Resolution = crate::journal::resolution::Resolution { AsRead, Second, TenSeconds, Minute }
}
