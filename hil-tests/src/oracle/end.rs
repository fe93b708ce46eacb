//! The end of a test, when the agent has ended in order.

use std::time::Duration;

use super::{Judgement, Message, Oracle};
use crate::wait::wait_for;

/// Judges everything from the first number to the last that came, which is `durable` at least, until nothing is wrong or
/// `within` is over: what a broker owes to a consumer that was away is on its way for a while, and what comes late can end
/// a gap and cure nothing else. `oracle` knows the truth and has taken nothing yet.
///
/// # Panics
/// With the judgement if it is not passed then, or if the last state of the gateway does not say `offline`.
#[track_caller]
pub fn judge_the_end(
    within: Duration,
    gateway: &str,
    durable: u64,
    oracle: impl Fn() -> Oracle,
    messages: impl Fn() -> Vec<Message>,
) -> Judgement {
    let judge = || {
        let (mut oracle, messages) = (oracle(), messages());
        oracle.take_all(&messages);
        // What was appended after that answer is delivered too, but how much that is only the agent knew.
        let last = oracle.judge().tally(gateway).range.map_or(durable, |(_, last)| last.max(durable));
        oracle.expect_range(gateway, 1, last);
        let state = messages.iter().rfind(|message| message.topic.ends_with("/state"));
        (oracle.judge(), state.is_some_and(Message::says_offline))
    };
    let look = || match judge() {
        (judgement, true) if judgement.passed() => Ok(judgement),
        (_, true) => Err("something is wrong with what came".to_owned()),
        (_, false) => Err("the last state does not say offline".to_owned()),
    };
    let judgement = wait_for(within, "an end without a finding", look).unwrap_or_else(|_| {
        let (judgement, is_offline) = judge();
        assert!(is_offline, "the last state does not say offline: {judgement}");
        judgement
    });
    println!("{judgement}");
    judgement.assert_passed();
    judgement
}
