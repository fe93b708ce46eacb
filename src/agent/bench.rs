//! For measurements only (feature `bench`, never in the firmware): a gateway whose sources are simulated beside it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::generation::{Generation, ProcessContext};
use crate::config::Plan;
use crate::health::{Status, StatusBoard};
use crate::journal::OpenError;
use crate::measure::Sample;

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
        let context = ProcessContext::begin();
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
