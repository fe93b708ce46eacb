//! How coarse windows are: a leaf, because what is written says it too.

use std::time::Duration;

/// The length of windows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::journal) enum Resolution {
    /// As the aggregator made them.
    #[default]
    AsRead,
    /// 1 s.
    Second,
    /// 10 s.
    TenSeconds,
    /// 60 s: coarser is not told, but dropped.
    Minute,
}

impl Resolution {
    /// From fine to coarse.
    pub(in crate::journal) const ALL: [Self; 4] = [Self::AsRead, Self::Second, Self::TenSeconds, Self::Minute];

    /// The next coarser one.
    pub(in crate::journal) fn coarser(self) -> Option<Self> {
        Self::ALL.into_iter().find(|resolution| *resolution > self)
    }

    /// The length of a window.
    pub(in crate::journal) fn window(self) -> Duration {
        Duration::from_secs(match self {
            Self::AsRead => 0,
            Self::Second => 1,
            Self::TenSeconds => 10,
            Self::Minute => 60,
        })
    }
}
