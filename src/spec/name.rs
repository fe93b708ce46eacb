//! Names that identify things. Each is parsed once and cannot be wrong afterwards.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes. Keeps a full MQTT topic under 256 bytes and a tag readable.
const NAME_BYTES_MAX: usize = 64;

/// A name that cannot be used, with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" {problem}")]
pub struct InvalidName {
    /// The refused text.
    pub text: String,
    /// What is wrong with it and what is allowed.
    pub problem: &'static str,
}

fn checked(text: &str) -> Result<Arc<str>, InvalidName> {
    let invalid = |problem| InvalidName { text: text.chars().take(80).collect(), problem };
    if text.is_empty() {
        return Err(invalid("is empty; write 1 to 64 letters, digits, '-', '_' or '.'"));
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(invalid("is longer than 64 characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(invalid("has a character that topics and tags cannot carry; use letters, digits, '-', '_' or '.'"));
    }
    Ok(text.into())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// 1 to 64 of `A-Z a-z 0-9 - _ .`: safe as an MQTT topic level and as a line-protocol tag.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;
            fn try_from(text: &str) -> Result<Self, InvalidName> {
                checked(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::try_from(text.as_str())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

names! {
    /// One gateway box; unique in the whole fleet, because identity hangs on it.
    GatewayId;
    /// The depot.
    SiteId;
    /// A meter or charger, unique on its gateway.
    DeviceId;
    /// A wire of the gateway: a serial line, a network, a CAN interface.
    BusId;
    /// A vehicle, as the charging protocol names it.
    VehicleId;
    /// A charging session at its device. Opaque: the same for the same session, another for another one.
    SessionId;
}

/// A field of the wire: `power_flow`, `voltage_l1`. Lower-case snake case, 1 to 48 bytes, a letter first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct FieldName(Arc<str>);

/// What the gateway writes beside points, as tags of the wire and as fields of its own: a point of such a name would take its
/// place, or be dropped by a database (InfluxDB drops a field `time`, and a field of a tag's name, without a word).
const RESERVED: [&str; 18] = [
    "time",
    "time_trust",
    "epoch",
    "seq",
    "version",
    "points",
    "site",
    "gateway",
    "device",
    "vehicle_id",
    "direction",
    "kind",
    "rule",
    "historical",
    "session_id",
    "energy_import_delta",
    "energy_export_delta",
    "known_s",
];

impl FieldName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a point that somebody writes down. What a journal holds may have a name that is refused today.
    ///
    /// # Errors
    /// It is none, or one that the gateway or a database keeps for itself.
    pub fn of_point(text: &str) -> Result<Self, InvalidName> {
        if RESERVED.contains(&text) {
            let problem =
                "is reserved: the gateway writes a tag or a field of this name, and a database keeps one of two";
            return Err(InvalidName { text: text.to_owned(), problem });
        }
        Self::try_from(text)
    }
}

impl TryFrom<&str> for FieldName {
    type Error = InvalidName;
    fn try_from(text: &str) -> Result<Self, InvalidName> {
        let invalid = |problem| InvalidName { text: text.chars().take(80).collect(), problem };
        let snake = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if text.is_empty() || text.len() > 48 || !text.bytes().all(snake) {
            return Err(invalid("is not a field name; write 1 to 48 lower-case letters, digits or '_'"));
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(invalid("must begin with a letter"));
        }
        if text.ends_with("_min") || text.ends_with("_max") || matches!(text, "missing" | "suspect") {
            return Err(invalid(
                "is reserved: `missing`, `suspect` and the endings `_min`, `_max` are written by the gateway",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for FieldName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::try_from(text.as_str())
    }
}

impl From<FieldName> for String {
    fn from(name: FieldName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_break_a_topic_is_refused() {
        for text in ["", "a/b", "a+b", "#", "a b", "a,b", "ä", &"x".repeat(65)] {
            assert!(DeviceId::try_from(text).is_err(), "{text:?} was accepted");
        }
        assert_eq!(DeviceId::try_from("evse-07.a").expect("a plain name").as_str(), "evse-07.a");
    }

    #[test]
    fn a_field_name_leaves_the_gateways_own_names_free() {
        for text in ["power_flow_min", "power_flow_max", "missing", "suspect", "Power", "1st", ""] {
            assert!(FieldName::try_from(text).is_err(), "{text:?} was accepted");
        }
        assert!(FieldName::try_from("voltage_l1").is_ok());
        for text in RESERVED {
            assert!(FieldName::of_point(text).is_err(), "{text:?} was accepted");
            assert!(FieldName::try_from(text).is_ok(), "what an old journal has is read: {text:?}");
        }
        assert!(FieldName::of_point("voltage_l1").is_ok());
    }
}
