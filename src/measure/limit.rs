//! The limits of a grid connection.

use serde::{Deserialize, Serialize};

/// A limit of the grid connection, and the power beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteLimitTold {
    /// Which.
    pub limit: SiteLimit,
    /// What it allows, W.
    pub max_w: u64,
    /// The power in its direction, W.
    pub power_w: i64,
}

/// What is limited at the grid connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SiteLimit {
    /// What is taken.
    Import,
    /// What is given.
    Export,
}

impl SiteLimit {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Export => "export",
        }
    }
}
