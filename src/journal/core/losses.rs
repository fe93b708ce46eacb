//! Losses on their way to being told: first the gap entry is durable, then the loss takes place.
//!
//! A broker that refuses entry after entry is told once a second, with how many refusals were left out ([`EventKind::EventsLeftOut`]); their
//! gaps are told all.

use std::time::Duration;

use crate::journal::core::ranges::Ranges;
use crate::measure::{Event, EventKind, Gap, Identity, LifeLost, Seq};

/// About this many events of the journal's own go into one window, so that a burst of losses makes no giant entry:
/// 256 gaps are about 8 KB.
const TOLD_AT_ONCE: usize = 256;

/// Between two refusals that are told.
const REFUSAL_TOLD_EVERY: Duration = Duration::from_secs(1);

/// Entries that are given up, and what follows once everyone can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    /// What is told, one for each span of an epoch.
    pub(super) gaps: Vec<Gap>,
    /// The broker's refusal, told beside the gap.
    pub(super) refusal: Option<(Identity, u8)>,
    /// The numbers that are settled by telling.
    pub(super) settles: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Telling {
    loss: Loss,
    /// Refusals that this one stands for beside the one that is told.
    left_out: u64,
    /// The entry that tells it.
    told_in: Option<u64>,
}

/// Windows that follow one another and were refused for want of room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) points: u64,
}

/// All losses that are not told durably yet, and what else the journal has to tell of itself.
#[derive(Debug, Default)]
pub(super) struct Losses {
    tellings: Vec<Telling>,
    /// Refusals are told from here on.
    refusals_from: Duration,
    /// Windows that are refused and not noted as a loss yet.
    refused: Option<Refused>,
    /// What the next window says of the medium, to whoever reads at the broker.
    news: Option<EventKind>,
    /// What newer programs left, to be told once in this life.
    newer: Option<EventKind>,
    /// Lives that lost what they had in memory only, and the entry that tells it.
    lives: Vec<(LifeLost, Option<u64>)>,
    /// The entry that told of the present trouble.
    told_trouble_in: Option<u64>,
    /// Gap events and lost entries told durably.
    gaps: u64,
    entries: u64,
    /// Entries for which coarser ones stand.
    downsampled: u64,
}

impl Telling {
    /// Whether the next window is to tell it.
    fn is_due(&self, refusals_from: Duration, now: Duration) -> bool {
        self.told_in.is_none() && (self.loss.refusal.is_none() || now >= refusals_from)
    }

    /// Tells another one of its kind, too: of refusals the newest, and how many were before it.
    fn join(&mut self, Self { loss: Loss { gaps, refusal, settles }, left_out, told_in: _ }: Self) {
        self.loss.gaps.extend(gaps);
        self.loss.gaps = merged(std::mem::take(&mut self.loss.gaps));
        let mut all: Ranges = std::mem::take(&mut self.loss.settles).into_iter().collect();
        settles.into_iter().for_each(|(from, to)| all.insert(from, to));
        self.loss.settles = all.iter().collect();
        self.left_out += left_out + u64::from(refusal.is_some());
        self.loss.refusal = refusal.or(self.loss.refusal);
    }
}

impl Losses {
    /// Notes a loss; it will be told in the next window.
    pub(super) fn push(&mut self, mut loss: Loss) {
        loss.gaps = merged(loss.gaps);
        // A run of refusals by one broker, or of damage, is one loss and not hundreds.
        let is_same = |t: &&mut Telling| t.told_in.is_none() && t.loss.refusal.is_some() == loss.refusal.is_some();
        if let Some(untold) = self.tellings.iter_mut().rev().find(is_same) {
            untold.join(Telling { loss, left_out: 0, told_in: None });
            return;
        }
        self.tellings.push(Telling { loss, left_out: 0, told_in: None });
    }

    /// Whether something is not told yet.
    pub(super) fn any_untold(&self) -> bool {
        self.tellings.iter().any(|t| t.told_in.is_none()) || self.lives.iter().any(|(_, told_in)| told_in.is_none())
    }

    /// Whether the next window must be kept because something is to be told in it.
    pub(super) fn any_to_tell(&self, now: Duration) -> bool {
        self.tellings.iter().any(|t| t.is_due(self.refusals_from, now))
            || self.lives.iter().any(|(_, told_in)| told_in.is_none())
            || self.news.is_some()
            || self.newer.is_some()
    }

    /// This life ends: nothing waits for its turn any more.
    pub(super) fn tell_all_now(&mut self) {
        self.refusals_from = Duration::ZERO;
    }

    /// A window of this number was refused for want of room.
    pub(super) fn refuse(&mut self, number: u64, points: u64) {
        let refused = self.refused.get_or_insert(Refused { from: number, to: number, points: 0 });
        refused.to = number;
        refused.points += points;
    }

    pub(super) fn any_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// The windows that were refused until now, to be noted as a loss.
    pub(super) fn take_refused(&mut self) -> Option<Refused> {
        self.refused.take()
    }

    /// The medium fails: the next window says so.
    pub(super) fn tell_trouble(&mut self, text: &str) {
        self.news = Some(EventKind::JournalFailing(text.into()));
    }

    /// This life begins without a medium that can be written: the next window says so.
    pub(super) fn tell_in_memory(&mut self, why: &str, from: Seq, counts_anew: bool) {
        self.news = Some(EventKind::JournalInMemory { why: why.into(), from, counts_anew });
    }

    /// A life lost what it had in memory only: the next window says so.
    pub(super) fn tell_life_lost(&mut self, lost: LifeLost) {
        if !self.lives.iter().any(|(known, told_in)| *known == lost && told_in.is_none()) {
            self.lives.push((lost, None));
        }
    }

    /// Whether a lost life is not told durably yet.
    pub(super) fn any_life_lost(&self) -> bool {
        !self.lives.is_empty()
    }

    /// Goes on with what a life in memory has not told yet. Nothing is settled by it: its numbers are others.
    pub(super) fn go_on_with(&mut self, other: Self) {
        for Telling { loss, .. } in other.tellings.into_iter().filter(|telling| telling.told_in.is_none()) {
            let lost = loss.gaps.iter().map(|gap| LifeLost::from(*gap));
            lost.for_each(|lost| self.tell_life_lost(lost));
        }
        other
            .lives
            .into_iter()
            .filter(|(_, told_in)| told_in.is_none())
            .for_each(|(lost, _)| self.tell_life_lost(lost));
        self.newer = self.newer.take().or(other.newer);
        // Whoever was never told of the trouble need not be told of its end; and it has none if this life has one of its own.
        if other.told_trouble_in.is_some() && self.news.is_none() {
            self.news = Some(EventKind::JournalWorking);
        }
    }

    /// A newer program has left something: the next window says so.
    pub(super) fn tell_newer(&mut self, text: &str) {
        self.newer = Some(EventKind::JournalNewer(text.into()));
    }

    /// The medium works again. Whoever was never told of the trouble need not be told of its end.
    pub(super) fn tell_end_of_trouble(&mut self) {
        let untold = self.news.as_ref().is_some_and(is_trouble);
        self.news = if untold { None } else { Some(EventKind::JournalWorking) };
    }

    /// Whether entry `seq` told of the trouble that lasts.
    pub(super) fn told_trouble_in(&self, seq: u64) -> bool {
        self.told_trouble_in == Some(seq)
    }

    /// What entry `seq` shall say of the medium.
    pub(super) fn tell_news(&mut self, seq: u64) -> impl Iterator<Item = Event> {
        let news = self.news.take();
        if let Some(kind) = &news {
            self.told_trouble_in = is_trouble(kind).then_some(seq);
        }
        news.into_iter().chain(self.newer.take()).map(|kind| Event { device: None, kind })
    }

    /// The events that entry `seq` shall carry. It carries them from here on, also if it is written later.
    pub(super) fn tell(&mut self, seq: u64, now: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        for (lost, told_in) in self.lives.iter_mut().filter(|(_, told_in)| told_in.is_none()).take(TOLD_AT_ONCE) {
            *told_in = Some(seq);
            events.push(Event { device: None, kind: EventKind::LifeLost(*lost) });
        }
        let refusals_from = self.refusals_from;
        for telling in self.tellings.iter_mut().filter(|t| t.is_due(refusals_from, now)) {
            if events.len() >= TOLD_AT_ONCE {
                break;
            }
            telling.told_in = Some(seq);
            let Loss { gaps, refusal, settles: _ } = &telling.loss;
            events.extend(gaps.iter().map(|gap| Event { device: None, kind: EventKind::Gap(*gap) }));
            let Some((identity, code)) = *refusal else { continue };
            self.refusals_from = now + REFUSAL_TOLD_EVERY;
            if telling.left_out > 0 {
                let (of, about, count) = ("entry_refused".into(), "".into(), telling.left_out);
                events.push(Event { device: None, kind: EventKind::EventsLeftOut { of, about, count } });
            }
            events.push(Event { device: None, kind: EventKind::EntryRefused { identity, code } });
        }
        events
    }

    /// The entry that was to tell them will never be written: they are told in a later one. Answers whether there are
    /// any.
    pub(super) fn untell(&mut self, from: u64, to: u64) -> bool {
        let mut any = false;
        for telling in &mut self.tellings {
            if telling.told_in.is_some_and(|seq| (from..=to).contains(&seq)) {
                telling.told_in = None;
                any = true;
            }
        }
        for (_, told_in) in &mut self.lives {
            if told_in.is_some_and(|seq| (from..=to).contains(&seq)) {
                *told_in = None;
                any = true;
            }
        }
        if any {
            self.join_untold();
        }
        any
    }

    /// The broker has entry `seq`: the lives that it tells are told, whether it is written or not.
    pub(super) fn delivered(&mut self, seq: u64) {
        self.lives.retain(|(_, told_in)| *told_in != Some(seq));
    }

    /// A medium that fails for days would otherwise leave a telling for every entry that memory gave up.
    fn join_untold(&mut self) {
        let (untold, told): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.tellings).into_iter().partition(|t| t.told_in.is_none());
        let (refused, lost): (Vec<_>, Vec<_>) = untold.into_iter().partition(|t| t.loss.refusal.is_some());
        let as_one = |tellings: Vec<Telling>| {
            tellings.into_iter().reduce(|mut all, telling| {
                all.join(telling);
                all
            })
        };
        self.tellings = told.into_iter().chain(as_one(refused)).chain(as_one(lost)).collect();
    }

    /// How many losses wait to be told durably.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.tellings.len()
    }

    /// Everything up to `durable` is durable: takes out the losses that are told by that, to be carried out.
    pub(super) fn told(&mut self, durable: u64) -> Vec<Loss> {
        let (told, open) = std::mem::take(&mut self.tellings)
            .into_iter()
            .partition(|t: &Telling| t.told_in.is_some_and(|seq| seq <= durable));
        self.tellings = open;
        self.lives.retain(|(_, told_in)| told_in.is_none_or(|seq| seq > durable));
        let told: Vec<Loss> = told.into_iter().map(|t| t.loss).collect();
        self.gaps += told.iter().map(|l| l.gaps.len() as u64).sum::<u64>();
        self.entries += told.iter().flat_map(|l| &l.settles).map(|&(from, to)| to - from + 1).sum::<u64>();
        told
    }

    /// Entries were given up for coarser ones; it is told durably.
    pub(super) fn note_downsampled(&mut self, gaps: u64, entries: u64) {
        self.gaps += gaps;
        self.downsampled += entries;
    }

    /// Since the start: gaps told, the entries that they say are lost, and those for which coarser ones stand.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        (self.gaps, self.entries, self.downsampled)
    }
}

fn is_trouble(kind: &EventKind) -> bool {
    matches!(kind, EventKind::JournalFailing(_) | EventKind::JournalInMemory { .. })
}

/// Joins gaps that follow one another in the same epoch for the same reason.
fn merged(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_by_key(|g| (g.from, g.epoch));
    let mut joined: Vec<Gap> = Vec::with_capacity(gaps.len());
    for gap in gaps {
        match joined.last_mut() {
            Some(last) if last.epoch == gap.epoch && last.reason == gap.reason && last.to.next() == gap.from => {
                last.to = gap.to;
                last.points = last.points.zip(gap.points).map(|(a, b)| a + b);
            }
            _ => joined.push(gap),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Epoch, GapReason};

    const NOW: Duration = Duration::ZERO;

    fn refused(seq: u64) -> Loss {
        let (identity, reason) = (Identity { epoch: Epoch(1), seq: Seq(seq) }, GapReason::Refused);
        let gap = Gap { epoch: Epoch(1), from: Seq(seq), to: Seq(seq), points: Some(1), reason };
        Loss { gaps: vec![gap], refusal: Some((identity, 0x99)), settles: vec![(seq, seq)] }
    }

    /// A broker that refuses all: 4 entries a second, each with an event of its own.
    #[test]
    fn refusals_are_told_once_a_second_with_how_many_were_left_out_and_every_gap() {
        let (mut losses, mut told) = (Losses::default(), Vec::new());
        for n in 0..40_u32 {
            losses.push(refused(n.into()));
            let now = Duration::from_millis(250) * n;
            if losses.any_to_tell(now) {
                told.push(losses.tell(100 + u64::from(n), now));
            }
        }
        losses.tell_all_now();
        told.push(losses.tell(200, Duration::from_secs(10)));
        assert!(told.len() <= 11, "{told:?}");
        let (mut gaps, mut refusals, mut last) = (0, 0, 0);
        for event in told.iter().flatten() {
            match event.kind {
                EventKind::Gap(gap) => gaps += gap.to.0 - gap.from.0 + 1,
                EventKind::EventsLeftOut { count, .. } => refusals += count,
                EventKind::EntryRefused { identity, .. } => (refusals, last) = (refusals + 1, identity.seq.0),
                _ => panic!("{event:?}"),
            }
        }
        assert_eq!((gaps, refusals, last), (40, 40, 39));
        let settles: Ranges = losses.told(200).into_iter().flat_map(|loss| loss.settles).collect();
        assert_eq!(settles.iter().collect::<Vec<_>>(), [(0, 39)]);
    }

    fn loss(epoch: u64, from: u64, to: u64) -> Loss {
        let gap =
            Gap { epoch: Epoch(epoch), from: Seq(from), to: Seq(to), points: Some(10), reason: GapReason::JournalFull };
        Loss { gaps: vec![gap], refusal: None, settles: vec![(from, to)] }
    }

    #[test]
    fn neighbours_of_one_epoch_are_told_as_one_gap() {
        let mut losses = Losses::default();
        losses.push(loss(1, 1, 5));
        losses.push(loss(1, 6, 9));
        losses.push(loss(2, 10, 12));
        let events = losses.tell(20, NOW);
        let spans: Vec<_> = events
            .iter()
            .map(|e| if let EventKind::Gap(g) = e.kind { (g.from.0, g.to.0, g.points) } else { (0, 0, None) })
            .collect();
        assert_eq!(spans, [(1, 9, Some(20)), (10, 12, Some(10))]);
    }

    #[test]
    fn a_loss_takes_place_only_when_its_telling_is_durable() {
        let mut losses = Losses::default();
        losses.push(loss(1, 1, 5));
        assert!(losses.told(100).is_empty(), "not told at all");
        assert_eq!(losses.tell(20, NOW).len(), 1);
        assert!(losses.told(19).is_empty(), "told, not durable");
        losses.untell(18, 20);
        assert_eq!(losses.tell(21, NOW).len(), 1, "the entry was lost: told again");
        assert_eq!(losses.told(21), [loss(1, 1, 5)]);
        assert_eq!(losses.counts(), (1, 5, 0));
    }
}
