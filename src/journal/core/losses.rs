//! Losses on their way to being told: first the gap entry is durable, then the loss takes place.

use crate::journal::core::ranges::Ranges;
use crate::measure::{Event, EventKind, Gap, Identity};

/// About this many events of the journal's own go into one window, so that a burst of losses makes no giant entry:
/// 256 gaps are about 8 KB.
const TOLD_AT_ONCE: usize = 256;

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
    /// Windows that are refused and not noted as a loss yet.
    refused: Option<Refused>,
    /// What the next window says of the medium, to whoever reads at the broker.
    news: Option<EventKind>,
    /// What newer programs left, to be told once in this life.
    newer: Option<EventKind>,
    /// The entry that told of the present trouble.
    told_trouble_in: Option<u64>,
    /// Gap events and lost entries told durably.
    gaps: u64,
    entries: u64,
    /// Entries for which coarser ones stand.
    downsampled: u64,
}

impl Losses {
    /// Notes a loss; it will be told in the next window.
    pub(super) fn push(&mut self, mut loss: Loss) {
        loss.gaps = merged(loss.gaps);
        // A run of refusals by one broker, or of damage, is one loss and not hundreds.
        if loss.refusal.is_none()
            && let Some(last) = self.tellings.last_mut()
            && last.told_in.is_none()
            && last.loss.refusal.is_none()
        {
            last.loss.gaps.extend(loss.gaps);
            last.loss.gaps = merged(std::mem::take(&mut last.loss.gaps));
            last.loss.settles.extend(loss.settles);
            return;
        }
        self.tellings.push(Telling { loss, told_in: None });
    }

    /// Whether the next window must be kept although nothing else is in it.
    pub(super) fn any_untold(&self) -> bool {
        self.tellings.iter().any(|t| t.told_in.is_none())
    }

    /// Whether the next window must be kept because something is to be told in it.
    pub(super) fn any_to_tell(&self) -> bool {
        self.any_untold() || self.news.is_some() || self.newer.is_some()
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

    /// A newer program has left something: the next window says so.
    pub(super) fn tell_newer(&mut self, text: &str) {
        self.newer = Some(EventKind::JournalNewer(text.into()));
    }

    /// The medium works again. Whoever was never told of the trouble need not be told of its end.
    pub(super) fn tell_end_of_trouble(&mut self) {
        let untold = matches!(self.news, Some(EventKind::JournalFailing(_)));
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
            self.told_trouble_in = matches!(kind, EventKind::JournalFailing(_)).then_some(seq);
        }
        news.into_iter().chain(self.newer.take()).map(|kind| Event { device: None, kind })
    }

    /// The events that entry `seq` shall carry. It carries them from here on, also if it is written later.
    pub(super) fn tell(&mut self, seq: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for telling in self.tellings.iter_mut().filter(|t| t.told_in.is_none()) {
            if events.len() >= TOLD_AT_ONCE {
                break;
            }
            telling.told_in = Some(seq);
            let Loss { gaps, refusal, settles: _ } = &telling.loss;
            events.extend(gaps.iter().map(|gap| Event { device: None, kind: EventKind::Gap(*gap) }));
            events.extend(
                refusal
                    .map(|(identity, code)| Event { device: None, kind: EventKind::EntryRefused { identity, code } }),
            );
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
        if any {
            self.join_untold();
        }
        any
    }

    /// A medium that fails for days would otherwise leave a telling for every entry that memory gave up.
    fn join_untold(&mut self) {
        let (untold, mut rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.tellings)
            .into_iter()
            .partition(|t| t.told_in.is_none() && t.loss.refusal.is_none());
        let (mut gaps, mut settles) = (Vec::new(), Ranges::default());
        for telling in untold {
            gaps.extend(telling.loss.gaps);
            telling.loss.settles.into_iter().for_each(|(from, to)| settles.insert(from, to));
        }
        if !gaps.is_empty() || settles.iter().next().is_some() {
            let loss = Loss { gaps: merged(gaps), refusal: None, settles: settles.iter().collect() };
            rest.push(Telling { loss, told_in: None });
        }
        self.tellings = rest;
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
    use crate::measure::{Epoch, GapReason, Seq};

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
        let events = losses.tell(20);
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
        assert_eq!(losses.tell(20).len(), 1);
        assert!(losses.told(19).is_empty(), "told, not durable");
        losses.untell(18, 20);
        assert_eq!(losses.tell(21).len(), 1, "the entry was lost: told again");
        assert_eq!(losses.told(21), [loss(1, 1, 5)]);
        assert_eq!(losses.counts(), (1, 5, 0));
    }
}
