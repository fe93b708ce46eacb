//! What the words of a charge point's state say of its connector.

/// Whether a vehicle is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connector {
    /// No vehicle.
    Free,
    /// A vehicle, whatever it does.
    Occupied,
}

/// What profiles call a connector without a vehicle; the words of OCPP 1.6 (4.9), and of IEC 61851-1 state A.
const FREE: [&str; 4] = ["available", "reserved", "idle", "standby"];
/// The same with one.
const OCCUPIED: [&str; 9] = [
    "preparing",
    "occupied",
    "charging",
    "discharging",
    "suspended",
    "finishing",
    "waiting for authorisation",
    "vehicle ready",
    "stopped",
];

impl Connector {
    /// Of a state's word, or its first one before a colon or a blank; `None`: it says nothing of a vehicle (`faulted`, `unavailable`).
    #[must_use]
    pub fn of_state(state: &str) -> Option<Self> {
        let is_one = |word: &str| {
            let rest = state.strip_prefix(word);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ':', ',']))
        };
        if FREE.iter().any(|word| is_one(word)) {
            return Some(Self::Free);
        }
        OCCUPIED.iter().any(|word| is_one(word)).then_some(Self::Occupied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_profiles_say_whether_a_vehicle_is_there() {
        for free in ["available", "reserved", "standby", "idle"] {
            assert_eq!(Connector::of_state(free), Some(Connector::Free), "{free}");
        }
        for occupied in ["preparing: vehicle connected", "suspended by station", "charging", "finishing", "stopped"] {
            assert_eq!(Connector::of_state(occupied), Some(Connector::Occupied), "{occupied}");
        }
        for neither in ["faulted", "unavailable: firmware update", "starting", "availableish", ""] {
            assert_eq!(Connector::of_state(neither), None, "{neither}");
        }
    }
}
