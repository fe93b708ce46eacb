//! Power cuts at moments of a run that is over: the disk is taken back, and with it what the box has said and sent.
//!
//! A run is had once, with its disk recorded; each cut of it takes one start of the box, and not another run.

use std::time::Duration;

use super::feed::Feed;
use super::{Cut, Rig, RigError};
use crate::disk::{Recording, Remains};
use crate::oracle::Message;
use crate::wait::wait_for;

/// What was sent before the power went is with the consumer by then, over the broker, on a busy machine.
const ARRIVES_WITHIN_NS: i64 = 2_000_000_000;
/// The broker still hands on what it had from a box whose power has gone.
const QUIET: Duration = Duration::from_millis(500);
const QUIET_WITHIN: Duration = Duration::from_secs(30);

/// What a consumer has heard of the life that the box lives now: after a cut in the past the rest was never sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Past {
    cut: Option<PastCut>,
}

#[derive(Debug, Clone, Copy)]
struct PastCut {
    /// When, ns since 1970.
    at_ns: i64,
    /// What the box had said to be durable then.
    durable: u64,
    /// How many messages of other lives there are.
    heard: usize,
}

impl Past {
    /// Those of them that count.
    pub(super) fn of<'a>(&self, messages: &'a [Message]) -> impl Iterator<Item = &'a Message> {
        let cut = self.cut;
        let counts =
            move |number: usize, message: &Message| cut.is_none_or(|cut| number >= cut.heard || cut.has_sent(message));
        messages
            .iter()
            .enumerate()
            .filter(move |(number, message)| counts(*number, message))
            .map(|(_, message)| message)
    }
}

impl PastCut {
    fn has_sent(&self, message: &Message) -> bool {
        let late_ns = message.received_ns - self.at_ns;
        late_ns <= 0 || late_ns <= ARRIVES_WITHIN_NS && number(message).is_some_and(|seq| seq <= self.durable)
    }
}

fn number(message: &Message) -> Option<u64> {
    message.user_properties.iter().find(|(name, _)| name == "seq").and_then(|(_, seq)| seq.parse().ok())
}

impl Rig {
    /// Records the disk from now on.
    pub fn record(&mut self) -> Result<Run, RigError> {
        self.disk("a recording")?.record();
        Ok(Run { feed: self.feed.clone() })
    }

    /// What was recorded.
    pub fn recorded(&mut self) -> Result<Recording, RigError> {
        self.disk("a recording")?.recorded().ok_or(RigError::NotOnThisRig("what was never begun"))
    }

    /// The power goes, and all is as if it had gone after the first `events` of a recording of this run.
    pub fn power_cut_at(
        &mut self,
        run: &Run,
        recording: &Recording,
        events: usize,
        remains: Remains,
    ) -> Result<Cut, RigError> {
        if let Some(machine) = self.power.take() {
            machine.power_off()?;
        }
        let disk = self.disk.as_ref().ok_or(RigError::NotOnThisRig("a cut in the past"))?;
        let traffic = disk.traffic();
        let blocks_lost = disk.cut_at(recording, events, remains, &mut self.seed);
        wait_for(QUIET_WITHIN, "the broker to hand on nothing more", || match self.consumer.quiet_for() {
            quiet if quiet >= QUIET => Ok(()),
            quiet => Err(format!("quiet for {quiet:?}")),
        })?;
        let at_ns = recording.time_after(events);
        self.feed = run.feed.until(at_ns);
        let durable = self.feed.newest_durable().unwrap_or(0);
        self.past = Past { cut: Some(PastCut { at_ns, durable, heard: self.consumer.look(<[Message]>::len) }) };
        Ok(Cut { blocks_lost, traffic, committed: None })
    }
}

/// A run whose disk is recorded: what the box has said in it.
#[derive(Debug)]
pub struct Run {
    feed: Feed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_after_a_cut_in_the_past_counts_no_more_and_what_was_on_its_way_does() {
        let message = |seq: u64, received_ns| Message {
            topic: "v2g/a/b/telemetry".to_owned(),
            payload: Vec::new(),
            intact: true,
            user_properties: vec![("seq".to_owned(), seq.to_string())],
            content_type: None,
            payload_is_utf8: true,
            qos: 1,
            retain: false,
            received_ns,
        };
        let cut = PastCut { at_ns: 100, durable: 7, heard: 5 };
        let messages = [
            message(7, 90),
            message(8, 100),
            message(7, 110),
            message(8, 110),
            message(7, 3_000_000_000),
            message(1, 9_000_000_000),
        ];
        let of =
            |past: Past| past.of(&messages).map(|message| (number(message), message.received_ns)).collect::<Vec<_>>();
        assert_eq!(of(Past::default()).len(), 6);
        assert_eq!(
            of(Past { cut: Some(cut) }),
            [(Some(7), 90), (Some(8), 100), (Some(7), 110), (Some(1), 9_000_000_000)]
        );
    }
}
