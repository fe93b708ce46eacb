//! How long units want to be left alone after an answer: learned from what they do not hear. Pure: `now` is an argument.
//!
//! Some units are deaf for a while after they have answered: 5 to 500 ms, while they write a memory or turn a transceiver round.
//! A gateway may be so as a whole, whichever unit it asked. Nothing in the protocol tells; what tells is that a request soon after
//! an answer is lost, and the same a little later is not.
//!
//! - A silence after a **rest** raises a *doubt*: is it deaf that long? An answer after a shorter rest settles it, and so do several
//!   after one of about the same length: the request was lost. An answer to the same after a longer one is evidence; [`EVIDENCE`] in a row make a **pause** of it, which is the
//!   rest that was long enough. So what loses a request now and then teaches nothing, and a dead unit neither.
//! - The pause is then made shorter in steps: to half of it, or half way to what is known to be too short, in logarithms. A step that
//!   is too short costs one request, which is sent again. It ends when both are close.
//! - Whether it is needed at all is tried after [`RETRY_FIRST`], and after twice as long each time that it is.
//! - Who is deaf for longer than [`PAUSE_MAX`] is not waited for: a poll could not be kept with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// Twice the longest deafness that is known of a meter.
pub const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Evidence in a row that makes a pause.
const EVIDENCE: u32 = 2;
/// The same after a pause of the greatest length did not help, and so on.
const EVIDENCE_MAX: u32 = 128;
/// Answers without another silence after which a doubt is over.
const DOUBT_ANSWERS: u32 = 16;
/// Answers after which a shorter pause is tried, and those that make it the pause.
const STEP_ANSWERS: u32 = 2;
const TRIAL_ANSWERS: u32 = 2;
/// When a pause that is short enough is given up for a trial.
const RETRY_FIRST: Duration = Duration::from_secs(600);
const RETRY_MAX: Duration = Duration::from_secs(24 * 3600);
/// Silent requests of a doubt that are remembered.
const OPEN_MAX: usize = 8;
/// A timer's spread: what is closer together than this is the same.
const SLACK: Duration = Duration::from_millis(3);

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

    /// The same for a request that must not be lost, as the answer before it was given for its sake: one piece of evidence is enough.
    pub(crate) fn surely_ready_at(&self, unit: u8) -> Option<Instant> {
        let rest = self.units.get(&unit)?;
        let doubt = rest.doubt.as_ref().filter(|doubt| doubt.times > 0 && doubt.enough <= PAUSE_MAX);
        self.ready_at(unit).max(doubt.and_then(|doubt| Some(rest.heard? + doubt.enough)))
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
        self.line.doubt = None;
        self.units.entry(unit).or_default().doubt = None;
    }

    /// The request was answered.
    pub(crate) fn answered(&mut self, rested: Rested, now: Instant) {
        let Rested { unit, start, own, line } = rested;
        let are_several = self.units.keys().any(|other| *other != unit);
        let rest = self.units.entry(unit).or_default();
        let of_unit = own.and_then(|own| rest.answered((unit, start), own, now));
        let of_line = line.and_then(|line| self.line.answered((unit, start), line, now));
        // As long as one of several units is silent and no other, it is rather that one.
        let is_of_one = |doubt: &Doubt| are_several && doubt.units.len() < 2;
        let of_line = of_line.filter(|doubt| !is_of_one(doubt) || doubt.times >= 2 * EVIDENCE);
        match (of_line, of_unit) {
            // The shorter explanation, if it is another one: of a unit that is alone both are the same.
            (Some(doubt), of_unit) if of_unit.as_ref().is_none_or(|own| doubt.rest < own.rest / 2) => {
                self.line.learn(&doubt, now);
                let line = self.line.pause;
                for rest in self.units.values_mut() {
                    rest.doubt = None;
                    // What was learned of it was the line's.
                    if rest.pause <= line {
                        rest.forget();
                    }
                }
            }
            (_, Some(doubt)) => {
                rest.learn(&doubt, now);
                self.line.doubt = None;
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
        let kept = all.filter(|(_, rest)| !rest.pause.is_zero());
        kept.map(|(unit, rest)| Pause { unit, now: rest.wanted(), known: rest.pause, deaf: rest.deaf }).collect()
    }
}

/// Of one unit, or of the line.
#[derive(Debug, Default)]
struct Rest {
    heard: Option<Instant>,
    /// Known to be long enough. Zero: none is needed.
    pause: Duration,
    /// Known to be too short.
    deaf: Duration,
    doubt: Option<Doubt>,
    trial: Option<Trial>,
    /// Answers since the pause is what it is.
    answers: u32,
    /// When it is tried whether it is needed at all, and how long after that again.
    retry: Option<(Instant, Duration)>,
    /// Pauses that did not help.
    vain: u32,
}

/// Whether it is deaf after so long.
#[derive(Debug, Clone)]
struct Doubt {
    /// The longest after which it was silent.
    rest: Duration,
    /// The shortest after which it answered.
    enough: Duration,
    /// What was not answered, and has not been since: of which unit, from which register on. Others say nothing of it: the unit may
    /// not have these registers.
    open: Vec<(u8, u16)>,
    /// The units that were silent.
    units: BTreeSet<u8>,
    times: u32,
    /// Silences, and answers after a rest of about the same length.
    silences: u32,
    near: u32,
    /// Answers since the last silence.
    answers: u32,
}

/// A shorter pause.
#[derive(Debug, Clone, Copy)]
struct Trial {
    pause: Duration,
    /// Rests up to this say something about it.
    near: Duration,
    longest: Duration,
    answers: u32,
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

    /// Answers with the doubt of which there is enough evidence now.
    fn answered(&mut self, what: (u8, u16), rest: Duration, now: Instant) -> Option<Doubt> {
        self.answers = self.answers.saturating_add(1);
        self.try_shorter(rest, now);
        let doubt = self.doubt.as_mut()?;
        doubt.answers += 1;
        let is_near = rest <= doubt.rest + doubt.rest / 2 + SLACK / 3;
        doubt.near += u32::from(is_near);
        if rest <= doubt.rest
            // Of a line: whoever else is heard so soon after an answer says that it is not the line.
            || (is_near && !doubt.units.contains(&what.0))
            || doubt.near > doubt.silences + 1
            || (doubt.answers > DOUBT_ANSWERS && doubt.open.is_empty())
        {
            self.doubt = None;
            return None;
        }
        doubt.enough = doubt.enough.min(rest);
        let at = doubt.open.iter().position(|open| *open == what)?;
        doubt.open.remove(at);
        doubt.times += 1;
        doubt.answers = 0;
        let needed = (EVIDENCE << (2 * self.vain).min(16)).min(EVIDENCE_MAX);
        (doubt.times >= needed).then(|| doubt.clone())
    }

    fn try_shorter(&mut self, rest: Duration, now: Instant) {
        if self.pause.is_zero() {
            return;
        }
        if let Some(trial) = &mut self.trial {
            if rest > trial.near {
                return;
            }
            trial.answers += 1;
            trial.longest = trial.longest.max(rest);
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
        // Without a pause, only what it was deaf after says that it is no longer.
        let near = if shorter.is_zero() { self.deaf.max(SLACK) } else { shorter + shorter / 4 + SLACK };
        self.trial = Some(Trial { pause: shorter, near, longest: Duration::ZERO, answers: 0 });
    }

    /// Whether a shorter pause is tried, and a request after so long was part of that.
    fn is_tried_by(&self, rest: Duration) -> bool {
        self.trial.is_some() && rest < self.pause
    }

    fn trial_failed(&mut self, rest: Duration, now: Instant) {
        self.deaf = self.deaf.max(rest).min(self.pause);
        self.answers = 0;
        if self.trial.take().is_some_and(|trial| trial.pause.is_zero()) {
            let after = self.retry.map_or(RETRY_FIRST, |(_, after)| (after * 2).min(RETRY_MAX));
            self.retry = Some((now + after, after));
        }
    }

    fn forget(&mut self) {
        *self = Self { heard: self.heard, ..Self::default() };
    }

    fn silent(&mut self, what: (u8, u16), rest: Duration) {
        if rest > PAUSE_MAX {
            return;
        }
        let doubt = self.doubt.get_or_insert(Doubt {
            rest,
            enough: Duration::MAX,
            open: Vec::new(),
            units: BTreeSet::new(),
            times: 0,
            silences: 0,
            near: 0,
            answers: 0,
        });
        doubt.silences += 1;
        doubt.units.insert(what.0);
        doubt.rest = doubt.rest.max(rest);
        if !doubt.open.contains(&what) && doubt.open.len() < OPEN_MAX {
            doubt.open.push(what);
        }
        doubt.answers = 0;
        if doubt.enough <= doubt.rest {
            doubt.enough = Duration::MAX;
        }
    }

    fn learn(&mut self, doubt: &Doubt, now: Instant) {
        let enough = doubt.enough.min(PAUSE_MAX);
        let vain = self.vain;
        let heard = self.heard;
        if enough <= doubt.rest || self.pause >= PAUSE_MAX {
            *self = Self { heard, vain: vain + 1, ..Self::default() };
            return;
        }
        let retry = Some((now + RETRY_FIRST, RETRY_FIRST));
        *self = Self { heard, vain, pause: enough, deaf: doubt.rest, retry, ..Self::default() };
    }
}

#[cfg(test)]
mod tests;
