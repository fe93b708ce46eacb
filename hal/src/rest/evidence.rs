//! Whether what was lost was lost by chance or because it came too soon after an answer. Pure, and without a clock.
//!
//! Two explanations of the same requests are weighed, each with the rest before it. By **chance**: each is lost with one
//! probability, of which nothing is known before (Beta(½,½)). By **deafness**: what comes after less than some time is lost, what comes
//! about then may be, and the others are lost by chance. Of that time only the magnitude is known: it is one of [`deafnesses`].

use std::collections::VecDeque;
use std::time::Duration;

/// Twice the longest deafness that is known of a meter.
pub const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A timer's spread: what is closer together than this is the same.
pub(super) const SLACK: Duration = Duration::from_millis(3);
/// The shortest deafness that is thought of, and how many times as long the next one is.
const DEAF_MIN: Duration = Duration::from_millis(3);
const DEAF_STEP: f64 = 1.1;
/// Requests that are weighed.
const REQUESTS_MAX: usize = 48;
/// Lost requests that may still turn out to be of something that answers.
const LOST_MAX: usize = 8;
/// How probable it is that a deaf unit hears nevertheless: it need not always be deaf for the same time.
const HEARS: f64 = 1.0 / 64.0;
/// The same as near to the end of its deafness as a timer or an adapter may be wrong.
const HEARS_AT_THE_END: f64 = 1.0 / 3.0;
/// A block: of which unit, from which register on.
pub(super) type What = (u8, u16);

/// The requests of a unit, or of a line.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    requests: VecDeque<Request>,
    /// Not answered, nor has the same block been answered since. They say nothing yet: the unit may not have these registers.
    lost: VecDeque<(What, Duration)>,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    unit: u8,
    rest: Duration,
    is_lost: bool,
}

/// The most probable deafness.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deafness {
    /// How many times as probable as by chance everything is if it is that, and if it is any, each as probable as the next.
    pub(super) odds: f64,
    pub(super) odds_of_any: f64,
    /// The longest rest after which was lost what it explains.
    pub(super) lost: Duration,
    /// The shortest rest after it that was long enough.
    pub(super) enough: Duration,
    /// Whether only one unit lost what it explains.
    pub(super) is_of_one: bool,
}

impl Evidence {
    /// Answers whether something that was lost says something now.
    pub(super) fn answered(&mut self, what: What, rest: Duration) -> bool {
        let mut has_lost = false;
        while let Some(at) = self.lost.iter().position(|(lost, _)| *lost == what) {
            if let Some((_, rest)) = self.lost.remove(at) {
                self.add(Request { unit: what.0, rest, is_lost: true });
                has_lost = true;
            }
        }
        self.add(Request { unit: what.0, rest: rest.min(PAUSE_MAX), is_lost: false });
        has_lost
    }

    pub(super) fn silent(&mut self, what: What, rest: Duration) {
        if rest > PAUSE_MAX && self.lost.iter().any(|(lost, _)| *lost == what) {
            // An outage is one loss, however long it takes.
            return;
        }
        if self.lost.len() == LOST_MAX {
            self.lost.pop_front();
        }
        self.lost.push_back((what, rest.min(PAUSE_MAX)));
    }

    /// Nothing that was lost up to this rest is to be explained any more.
    pub(super) fn explained(&mut self, deaf: Duration) {
        self.lost.clear();
        self.requests.retain(|request| request.rest > deaf);
    }

    fn add(&mut self, request: Request) {
        if self.requests.len() == REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    /// Whether nothing was lost of as many requests as are weighed.
    pub(super) fn is_clean(&self) -> bool {
        self.requests.len() == REQUESTS_MAX && !self.has_lost()
    }

    fn has_lost(&self) -> bool {
        self.requests.iter().any(|request| request.is_lost)
    }

    /// How probable it is by chance that the next request is lost: of few requests, rather seldom.
    pub(super) fn loss_rate(&self) -> f64 {
        (self.lost_count() + 0.5) / (count(self.requests.len()) + 5.0)
    }

    /// The most probable deafness, if anything was lost.
    pub(super) fn deafness(&self) -> Option<Deafness> {
        if !self.has_lost() {
            return None;
        }
        let by_chance = self.probability(Duration::ZERO);
        let (mut best, mut odds, mut sum, mut of) = (Duration::ZERO, 0.0, 0.0, 0.0);
        for deaf in deafnesses() {
            let odds_of_it = self.probability(deaf) / by_chance;
            sum += odds_of_it;
            of += 1.0;
            if odds_of_it > odds {
                (best, odds) = (deaf, odds_of_it);
            }
        }
        let early_lost = || self.requests.iter().filter(|request| request.is_lost && request.rest < best);
        let last = early_lost().max_by_key(|request| request.rest)?;
        let late = self.requests.iter().filter(|request| !request.is_lost && request.rest >= best);
        let enough = late.map(|request| request.rest).min().unwrap_or(PAUSE_MAX);
        let is_of_one = early_lost().all(|request| request.unit == last.unit);
        Some(Deafness { odds, odds_of_any: sum / of, lost: last.rest, enough, is_of_one })
    }

    /// How probable all of this is if the unit is deaf for so long.
    fn probability(&self, deaf: Duration) -> f64 {
        let surely_deaf = deaf.saturating_sub(SLACK);
        let (mut probability, mut lost, mut answered) = (1.0, 0.5, 0.5);
        for Request { rest, is_lost, .. } in &self.requests {
            if *rest < deaf {
                let hears = if *rest < surely_deaf { HEARS } else { HEARS_AT_THE_END };
                probability *= if *is_lost { 1.0 - hears } else { hears };
                continue;
            }
            // By chance, after what was seen of that so far.
            let of_its_kind = if *is_lost { &mut lost } else { &mut answered };
            *of_its_kind += 1.0;
            probability *= (*of_its_kind - 1.0) / (lost + answered - 1.0);
        }
        probability
    }

    fn lost_count(&self) -> f64 {
        count(self.requests.iter().filter(|request| request.is_lost).count())
    }
}

/// All that are thought of.
fn deafnesses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(DEAF_MIN), |deaf| Some(deaf.mul_f64(DEAF_STEP))).take_while(|deaf| *deaf < PAUSE_MAX)
}

fn count(of: usize) -> f64 {
    u32::try_from(of).map_or(f64::MAX, f64::from)
}
