//! A way out to the brokers.

/// One network interface, and how much of the history it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The network interface as `ip link` names it, 1 to 15 bytes; `None` for the system's choice.
    pub interface: Option<String>,
    /// Bytes per second of the history lane.
    pub history_rate_max: u64,
    /// Bytes of the history lane in a day; `None` where data costs nothing.
    pub history_bytes_per_day: Option<u64>,
}
