//! The local API: what the running agent tells to people on the box.
//!
//! In: one JSON object per line on a unix socket ([`Request`]). Out: one JSON object per line ([`Response`]),
//! in the order asked. Nothing that is asked here changes a value or the plan. One request changes the journal:
//! [`Request::Forget`], from root or the agent's own user only, as the kernel tells who asks. [`Request::Subscribe`] is answered by a line
//! for each window until the caller says something or hangs up; the form is in `docs/api.md`.
//!
//! Limits: 8 callers at once, 4 of them subscribers, 4 KiB for a request, 10 s of silence and the line is closed. The socket is
//! readable and writable by owner and group (0660); nothing here listens on a network.
//!
//! Nothing here survives a restart. A caller that hangs up in mid-answer costs nothing.

mod client;
mod task;

pub use client::{AskError, ask};
pub use task::{ApiServer, DoorError};

use serde::{Deserialize, Serialize};

use crate::health::{Finding, Status, judge};
use crate::journal::{Inventory, Purged};
use crate::live::LiveWindow;
use crate::measure::ClockTrust;
use crate::spec::{GatewayId, SiteId};

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the agent is.
    Status,
    /// What is in the journal, segment by segment.
    Journal,
    /// Each window as it ends, from now on.
    Subscribe,
    /// Give up what is older.
    Forget {
        /// Older than this before the newest entry, s.
        older_than_s: u64,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Report>),
    /// To [`Request::Journal`].
    Journal(Box<Inventory>),
    /// To [`Request::Forget`]: what was given up. The next window tells it.
    Forgotten(Purged),
    /// To [`Request::Subscribe`]: a window.
    Window(Box<LiveWindow>),
    /// To [`Request::Subscribe`]: so many windows were lost, because the caller reads too slowly.
    Missed {
        /// How many.
        windows: u64,
    },
    /// The request could not be understood, is not for who asked, or cannot be answered now.
    Refused {
        /// Why, and what can be asked.
        why: String,
    },
}

/// The whole agent at one moment, in its own view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The agent's version.
    pub version: String,
    /// Which gateway it is.
    pub gateway: GatewayId,
    /// At which site.
    pub site: SiteId,
    /// Process id.
    pub pid: u32,
    /// Since the process started, s.
    pub uptime_s: u64,
    /// Resident memory of the process, bytes; `None` if the kernel does not tell.
    pub rss_bytes: Option<u64>,
    /// Wall clock, RFC 3339, UTC.
    pub wall_clock: String,
    /// How far that clock can be believed.
    pub clock: ClockTrust,
    /// Tasks that have not shown a sign of life within their allowance, with the silence in s.
    pub hung: Vec<(String, f64)>,
    /// What every task last knew of itself.
    #[serde(flatten)]
    pub status: Status,
}

impl Report {
    /// What a person should look at; nothing: all is well.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        judge(&self.status, &self.hung, self.clock)
    }
}
