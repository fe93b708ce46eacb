//! How long units want to be left alone after an answer: learned from what they do not hear. Pure: `now` is an argument.
//!
//! Some units are deaf for a while after they have answered: 5 to 500 ms, while they write a memory or turn a transceiver round.
//! A gateway may be so as a whole, whichever unit it asked. Nothing in the protocol tells; what tells is that a request soon after
//! an answer is lost, and the same a little later is not.
//!
//! - Each request has a **rest**: how long the unit had been left alone. A loss counts when the same block is answered later, so that
//!   dead units and missing registers teach nothing. That the unit is deaf for some time is weighed against that requests are lost by
//!   chance (`evidence.rs`). When it is likely, a **pause** is kept on trial: the rest that was long enough.
//! - A pause on trial is **proven** by [`PROOF`] answers with it, and then by the losses of requests that are sent without it on purpose ([`PROVEN`]).
//!   If it is not, it is forgotten, and the next one needs more evidence. Only a proven pause is told.
//! - A proven pause is made shorter in steps: to half of it, or half way to what is known to be too short, in logarithms. A step that
//!   is too short costs one request, which is sent again. It ends when both are close.
//! - Whether it is needed at all is tried after [`RETRY_FIRST`], and after twice as long each time that it is.
//! - Who is deaf for longer than [`PAUSE_MAX`] is not waited for: a poll could not be kept with it.

mod evidence;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

pub use evidence::PAUSE_MAX;
use evidence::{Deafness, Evidence, SLACK, What};

/// How much more probable than chance a deafness must be for a pause to be kept on trial: two losses of a unit of which no pause
/// was vain, as each that is waited for costs some values of a slow line; one or two more of another.
const LIKELY_AT_FIRST: f64 = 3.0;
const LIKELY_ENOUGH: f64 = 40.0;
/// The same for what is kept without a trial: a longer pause than the one that was proven.
const SURE: f64 = 90_000.0;
/// How much more probable than chance a deafness must become without the pause for that to be proven, and how much less for it to be
/// forgotten; three of four requests of a deaf unit are taken to be lost then, as it may be deaf for now more, now less than they wait.
const PROVEN: f64 = 100.0;
const REFUTED: f64 = 1.0 / 20.0;
const DEAF_LOSES: f64 = 0.75;
/// How many times as probable after each pause that did not help: a unit whose every second answer fails is held back ever more
/// seldom.
const SURE_AFTER_VAIN: f64 = 1_000.0;
/// Pauses that did not help and are counted: with one less it is out of reach of what is weighed at once.
const VAIN_MAX: u32 = 6;
/// How much more probable than chance it must be to be heeded by a request that must not be lost: one loss.
const LIKELY: f64 = 2.0;
/// More losses by chance than this, and a shorter pause is known to be too short only after its second.
const LOSSES_RARE: f64 = 1.0 / 12.0;
/// Requests after a pause on trial, more answered than lost or more lost than answered, that show whether it helps.
const PROOF: i32 = 2;
/// Answers after which a shorter pause is tried, and those that make it the pause.
const STEP_ANSWERS: u32 = 2;
const TRIAL_ANSWERS: u32 = 2;
/// When a pause that is short enough is given up for a trial.
const RETRY_FIRST: Duration = Duration::from_secs(600);
const RETRY_MAX: Duration = Duration::from_secs(24 * 3600);

/// The pauses of all units of a bus.
#[derive(Debug, Default)]
pub(crate) struct Rests {
    /// Of whatever carries the bus, after an answer of any unit.
    line: Rest,
    units: BTreeMap<u8, Rest>,
}

/// A pause that a bus keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// After an answer of this unit, before the next request to it; `None`: after any answer, before any request.
    pub unit: Option<u8>,
    /// How long it is now; shorter while that is tried.
    pub now: Duration,
    /// As it is known to be long enough.
    pub known: Duration,
    /// As it is known to be too short.
    pub deaf: Duration,
}

/// How long one had been left alone when a request began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rested {
    unit: u8,
    start: u16,
    own: Option<Duration>,
    line: Option<Duration>,
}

impl Rests {
    /// Before this nothing may be sent to the unit.
    pub(crate) fn ready_at(&self, unit: u8) -> Option<Instant> {
        [Some(&self.line), self.units.get(&unit)].into_iter().flatten().filter_map(Rest::ready_at).max()
    }

    /// The same for a request that must not be lost, as the answer before it was given for its sake: one loss is enough.
    pub(crate) fn surely_ready_at(&self, unit: u8) -> Option<Instant> {
        let Rest { heard, evidence, pause, .. } = self.units.get(&unit)?;
        let likely = evidence.deafness().filter(|deafness| deafness.odds > LIKELY);
        let enough = likely.map_or(*pause, |deafness| deafness.enough.max(*pause));
        self.ready_at(unit).max(heard.map(|heard| heard + enough))
    }

    /// A request begins.
    pub(crate) fn asked(&mut self, unit: u8, start: u16, now: Instant) -> Rested {
        let since = |rest: &Rest| rest.heard.map(|heard| now.duration_since(heard));
        Rested { unit, start, own: self.units.get(&unit).and_then(since), line: since(&self.line) }
    }

    /// The unit has said something, be it that it refuses, or nothing that can be understood.
    pub(crate) fn spoke(&mut self, unit: u8, now: Instant) {
        self.line.heard = Some(now);
        self.units.entry(unit).or_default().heard = Some(now);
    }

    /// What was taken for deaf was slow: an answer to an earlier request has come.
    pub(crate) fn was_late(&mut self, unit: u8, now: Instant) {
        self.spoke(unit, now);
        self.line.evidence = Evidence::default();
        self.units.entry(unit).or_default().evidence = Evidence::default();
    }

    /// The request was answered.
    pub(crate) fn answered(&mut self, rested: Rested, now: Instant) {
        let Rested { unit, start, own, line } = rested;
        let are_several = self.units.keys().any(|other| *other != unit);
        let rest = self.units.entry(unit).or_default();
        let of_unit = own.and_then(|own| rest.answered((unit, start), own, now));
        let of_line = line.and_then(|line| self.line.answered((unit, start), line, now));
        // As long as one of several units is silent and no other, it is rather that one.
        let is_of_line = |of: &Deafness| are_several && (!of.is_of_one || of.odds_of_any >= SURE);
        match (of_line.filter(is_of_line), of_unit) {
            // The shorter explanation, if it is another one.
            (Some(of_line), of_unit) if of_unit.is_none_or(|own| of_line.lost < own.lost / 2) => {
                self.line.learn(of_line, now);
                let line = self.line.pause;
                for rest in self.units.values_mut() {
                    rest.evidence.explained(of_line.lost);
                    // What was learned of it was the line's.
                    if rest.pause <= line {
                        rest.forget();
                    }
                }
            }
            (_, Some(of_unit)) => {
                rest.learn(of_unit, now);
                self.line.evidence = Evidence::default();
            }
            (Some(_) | None, None) => {}
        }
        self.spoke(unit, now);
    }

    /// The request was not answered, and nothing was heard.
    pub(crate) fn silent(&mut self, rested: Rested, now: Instant) {
        let Rested { unit, start, own, line } = rested;
        let of_unit = self.units.get_mut(&unit).zip(own);
        let of_line = line.map(|rest| (&mut self.line, rest));
        let mut of_both = [of_line, of_unit];
        // A trial that fails explains the silence for both.
        let explains = |rest: &(&mut Rest, Duration)| rest.0.is_tried_by(rest.1);
        if let Some((rest, rested)) = of_both.iter_mut().flatten().find(|rest| explains(rest)) {
            return rest.trial_failed(*rested, now);
        }
        of_both.into_iter().flatten().for_each(|(rest, rested)| rest.silent((unit, start), rested));
    }

    /// Takes over what was known earlier.
    pub(crate) fn keep(&mut self, pause: Pause) {
        let rest = pause.unit.map_or(&mut self.line, |unit| self.units.entry(unit).or_default());
        (rest.pause, rest.deaf) = (pause.known.min(PAUSE_MAX), pause.deaf);
    }

    /// All that are kept.
    pub(crate) fn pauses(&self) -> Vec<Pause> {
        let units = self.units.iter().map(|(unit, rest)| (Some(*unit), rest));
        let all = std::iter::once((None, &self.line)).chain(units);
        let kept = all.filter(|(_, rest)| !rest.pause.is_zero() && rest.proof.is_none());
        kept.map(|(unit, rest)| Pause { unit, now: rest.wanted(), known: rest.pause, deaf: rest.deaf }).collect()
    }
}

/// Of one unit, or of the line.
#[derive(Debug, Default)]
struct Rest {
    heard: Option<Instant>,
    /// Known to be long enough, if it is not on trial. Zero: none is needed.
    pause: Duration,
    /// Known to be too short.
    deaf: Duration,
    evidence: Evidence,
    trial: Option<Trial>,
    /// Answers since the pause is what it is.
    answers: u32,
    /// When it is tried whether it is needed at all, and how long after that again.
    retry: Option<(Instant, Duration)>,
    /// Pauses that did not help, since requests began to be lost.
    vain: u32,
    /// While the pause is on trial: the requests after it that were answered, less those that were lost.
    proof: Option<i32>,
    /// Whether the last request was lost.
    is_out: bool,
}

/// A shorter pause.
#[derive(Debug, Clone, Copy)]
struct Trial {
    pause: Duration,
    /// Rests up to this say something about it.
    near: Duration,
    longest: Duration,
    answers: u32,
    failures: u32,
    /// How much more probable than chance what came of it is if it is too short.
    odds: f64,
}

impl Trial {
    fn of(pause: Duration, deaf: Duration) -> Self {
        // Without a pause, only what it was deaf after says that it is no longer.
        let near = if pause.is_zero() { deaf.max(SLACK) } else { pause + pause / 4 + SLACK };
        Self { pause, near, longest: Duration::ZERO, answers: 0, failures: 0, odds: 1.0 }
    }
}

impl Rest {
    fn ready_at(&self) -> Option<Instant> {
        Some(self.heard? + self.wanted()).filter(|_| !self.pause.is_zero())
    }

    fn wanted(&self) -> Duration {
        if self.pause.is_zero() {
            return Duration::ZERO;
        }
        let with_margin = self.pause + self.pause / 16 + Duration::from_millis(1);
        self.trial.map_or(with_margin, |trial| trial.pause)
    }

    /// Whether what is too short and what is long enough are as good as one.
    fn is_narrow(&self) -> bool {
        self.pause <= self.deaf + self.deaf / 4 + SLACK
    }

    /// Answers with the deafness of which there is enough evidence now.
    fn answered(&mut self, what: What, rest: Duration, now: Instant) -> Option<Deafness> {
        self.answers = self.answers.saturating_add(1);
        let has_new_loss = self.evidence.answered(what, rest);
        if self.evidence.is_clean() {
            self.vain = 0;
        }
        if !std::mem::take(&mut self.is_out) {
            self.prove(rest, 1);
        }
        self.try_shorter(rest, now);
        let after_vain = |odds: f64| odds * SURE_AFTER_VAIN.powi(self.vain.cast_signed());
        let sure = match (self.pause.is_zero(), self.vain) {
            (true, 0) => LIKELY_AT_FIRST,
            (true, _) => after_vain(LIKELY_ENOUGH),
            (false, _) => after_vain(SURE),
        };
        let deafness = has_new_loss.then(|| self.evidence.deafness()).flatten()?;
        (deafness.odds_of_any >= sure && deafness.enough > self.pause).then_some(deafness)
    }

    /// A request after a pause that is on trial. Only if the one before was answered: an outage says nothing of it.
    fn prove(&mut self, rest: Duration, by: i32) {
        let Some(proof) = self.proof.as_mut().filter(|_| rest >= self.pause) else { return };
        *proof += by;
        if *proof >= PROOF {
            self.trial.get_or_insert(Trial::of(Duration::ZERO, self.deaf));
        } else if *proof <= -PROOF {
            self.was_vain();
        }
    }

    fn try_shorter(&mut self, rest: Duration, now: Instant) {
        if self.pause.is_zero() || (self.proof.is_some() && self.trial.is_none()) {
            return;
        }
        if let Some(trial) = &mut self.trial {
            if rest > trial.near {
                return;
            }
            trial.answers += 1;
            trial.longest = trial.longest.max(rest);
            if self.proof.is_some() {
                trial.odds *= (1.0 - DEAF_LOSES) / (1.0 - self.evidence.loss_rate());
                if trial.odds <= REFUTED {
                    self.was_vain();
                }
                return;
            }
            if trial.answers < TRIAL_ANSWERS {
                return;
            }
            if trial.pause.is_zero() {
                return self.forget();
            }
            self.pause = self.pause.min(trial.longest);
            (self.trial, self.answers) = (None, 0);
        }
        let retry = *self.retry.get_or_insert((now + RETRY_FIRST, RETRY_FIRST));
        if self.answers < STEP_ANSWERS {
            return;
        }
        let shorter = if !self.is_narrow() {
            let middle = (self.deaf.max(SLACK / 2).as_secs_f64() * self.pause.as_secs_f64()).sqrt();
            Duration::from_secs_f64(middle).max(self.pause / 2)
        } else if now >= retry.0 {
            Duration::ZERO
        } else {
            return;
        };
        self.trial = Some(Trial::of(shorter, self.deaf));
    }

    /// Whether a shorter pause is tried, and a request after so long was part of that.
    fn is_tried_by(&self, rest: Duration) -> bool {
        self.trial.is_some() && rest < self.pause
    }

    fn trial_failed(&mut self, rest: Duration, now: Instant) {
        let Some(trial) = &mut self.trial else { return };
        let loss_rate = self.evidence.loss_rate();
        trial.failures += 1;
        trial.odds *= DEAF_LOSES / loss_rate;
        let is_too_short = if self.proof.is_some() {
            trial.odds >= PROVEN
        } else {
            trial.failures > u32::from(loss_rate > LOSSES_RARE)
        };
        if !is_too_short {
            return;
        }
        if trial.pause.is_zero() && self.proof.take().is_none() {
            let after = self.retry.map_or(RETRY_FIRST, |(_, after)| (after * 2).min(RETRY_MAX));
            self.retry = Some((now + after, after));
        }
        self.deaf = self.deaf.max(rest).min(self.pause);
        (self.trial, self.answers) = (None, 0);
    }

    fn forget(&mut self) {
        *self = self.forgotten();
    }

    /// A pause did not help.
    fn was_vain(&mut self) {
        let vain = (self.vain + 1).min(VAIN_MAX);
        *self = Self { vain, ..self.forgotten() };
    }

    /// As it is without a pause.
    fn forgotten(&mut self) -> Self {
        let Self { heard, is_out, vain, .. } = *self;
        Self { heard, evidence: std::mem::take(&mut self.evidence), is_out, vain, ..Self::default() }
    }

    fn silent(&mut self, what: What, rest: Duration) {
        self.evidence.silent(what, rest);
        if !std::mem::replace(&mut self.is_out, true) {
            self.prove(rest, -1);
        }
    }

    fn learn(&mut self, deafness: Deafness, now: Instant) {
        self.evidence.explained(deafness.lost);
        if self.pause >= PAUSE_MAX {
            return self.was_vain();
        }
        let retry = Some((now + RETRY_FIRST, RETRY_FIRST));
        // What helped will help when it is longer.
        let proof = if self.pause.is_zero() { Some(0) } else { self.proof };
        *self = Self { pause: deafness.enough, deaf: deafness.lost, retry, proof, ..self.forgotten() };
    }
}

#[cfg(test)]
mod tests;
