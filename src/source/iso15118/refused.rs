//! Senders that were not let in: counted by reason, told as few events. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::measure::{Mono, SessionEvent};

/// Between two events of one reason. A station that is not let in tries again every few seconds, for days.
const PACE: Duration = Duration::from_secs(60);
/// So long after the last one it is a trouble of the present.
const PRESENT: Duration = Duration::from_secs(60);

/// All of a bus since the start. Reasons are names in the code: a dozen.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    known: BTreeMap<&'static str, Tally>,
    last: Option<(Mono, String)>,
}

#[derive(Debug, Default)]
struct Tally {
    count: u64,
    untold: u64,
    told_at: Option<Mono>,
    /// Who it was last, what happened and what to do.
    detail: String,
}

impl Refusals {
    /// One more.
    pub(super) fn add(&mut self, reason: &'static str, detail: String, now: Mono) {
        self.last = Some((now, detail.clone()));
        let tally = self.known.entry(reason).or_default();
        tally.count += 1;
        tally.untold += 1;
        tally.detail = detail;
    }

    /// What is to be told now: each reason at once, then at most once a minute.
    pub(super) fn poll(&mut self, now: Mono, mut tell: impl FnMut(SessionEvent)) {
        for (reason, tally) in &mut self.known {
            if tally.untold > 0 && tally.told_at.is_none_or(|told| now.since(told) >= PACE) {
                tally.told_at = Some(now);
                let count = std::mem::take(&mut tally.untold);
                let (reason, detail) = ((*reason).into(), tally.detail.as_str().into());
                tell(SessionEvent::FeedRefused { reason, count, detail });
            }
        }
    }

    /// The last one, for as long as it is of the present.
    pub(super) fn trouble(&self, now: Mono) -> Option<&str> {
        let (at, detail) = self.last.as_ref()?;
        (now.since(*at) < PRESENT).then_some(detail)
    }

    /// By reason, since the start.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.known.iter().map(|(reason, tally)| ((*reason).to_owned(), tally.count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_one_event_a_minute_and_none_is_uncounted() {
        let mut refusals = Refusals::default();
        let (mut told, mut counted) = (0, 0);
        // 1000 a second for ten minutes.
        for millisecond in 0..600_000_u64 {
            let now = Mono(millisecond * 1_000_000);
            refusals.add("tls_not_spoken", "10.0.0.9: …".to_owned(), now);
            refusals.poll(now, |event| {
                let SessionEvent::FeedRefused { count, .. } = event else { panic!("{event:?}") };
                told += 1;
                counted += count;
            });
        }
        assert_eq!(told, 10);
        refusals.poll(Mono(600_000_000_000), |event| {
            let SessionEvent::FeedRefused { count, .. } = event else { panic!("{event:?}") };
            counted += count;
        });
        assert_eq!((counted, refusals.counts()["tls_not_spoken"]), (600_000, 600_000));
        assert_eq!(refusals.trouble(Mono(600_000_000_000)), Some("10.0.0.9: …"));
        assert_eq!(refusals.trouble(Mono(660_000_000_000)), None, "it is not of the present any more");
    }
}
