//! What is given up when there is no more room for what was measured.

/// What gives when the journal has reached a bound. Each leaves a [`Gap`](super::Gap).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// Detail: the oldest entries that were never handed out are rewritten at windows of 1 s, then 10 s, then 60 s, then
    /// dropped. Energy counters stay exact.
    Thin,
    /// The oldest entries, a segment at a time.
    DropOldest,
    /// New windows, until room was made by acknowledgements.
    RefuseNewest,
}
