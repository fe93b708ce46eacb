//! For measurements only (feature `bench`, never in the firmware): a gateway whose sources are simulated beside it.

use std::sync::Arc;

use hal::{Clock, LinuxClock};
use tokio::sync::mpsc;

use super::generation::{Generation, ProcessContext};
use crate::config::Plan;
use crate::health::{Heartbeats, Status, StatusBoard};
use crate::journal::OpenError;
use crate::live::Live;
use crate::measure::{BootId, Sample};

/// All tasks of an agent but its sources: pipeline, journal and uplink.
pub struct Gateway {
    generation: Generation,
    facts: Arc<StatusBoard>,
}

impl Gateway {
    /// Starts them in the current runtime.
    ///
    /// # Errors
    /// The journal cannot be opened.
    pub fn begin(plan: &Plan) -> Result<Self, OpenError> {
        let clock = Arc::new(LinuxClock::new());
        let context = ProcessContext {
            boot: BootId(hal::boot_id()),
            facts: Arc::new(StatusBoard::default()),
            heartbeats: Arc::new(Heartbeats::default()),
            live: Arc::new(Live::default()),
            since: clock.now().into(),
            clock,
        };
        let generation = Generation::begin_with(plan, &context, false, |_, _| Vec::new())?;
        Ok(Self { generation, facts: context.facts })
    }

    /// Where a source hands over its samples. They must all be dropped before [`Self::end`].
    #[must_use]
    pub fn samples(&self) -> mpsc::Sender<Sample> {
        self.generation.samples()
    }

    /// What the tasks know of themselves.
    #[must_use]
    pub fn status(&self) -> Status {
        self.facts.status()
    }

    /// Ends as an agent does: what is kept is sent.
    pub async fn end(self) {
        self.generation.end().await;
    }
}
