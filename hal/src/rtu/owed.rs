//! What the units of a serial line still owe. Pure: `now` is an argument.
//!
//! An RTU reply has no number by which it could be told from the reply to an earlier request. What tells them apart:
//!
//! 1. A unit answers in the order in which it was asked, and at most once.
//! 2. So a reply that **only** the newest request can have caused settles all older ones: they will never be answered.
//! 3. A request is not sent while a reply of its shape (function, count) is owed by its unit. First another one is,
//!    of a shape that is not owed ([`Owed::another`]).
//!
//! A refusal has no count. While an older request of its function is owed it may be that one's; whoever gets it is
//! told so by the debt that stays.
//!
//! The one bound: a debt is forgotten [`FORGOTTEN_AFTER`] after its request, so that a unit that never answers is not
//! remembered for ever. A reply that comes later than that, to a request of the same shape, cannot be told.

use std::time::Duration;

use tokio::time::Instant;

use crate::register_bus::{ReadRequest, Table};
use crate::reply::{Content, Reply, Shape};

/// Sixty times the longest that a device is usually given, and twice the longest that can be configured.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Requests of one unit that are remembered. A silent unit is asked seldom: at one probe in 2 s thirty are owed.
const DEBTS_MAX: usize = 64;

/// Modbus Application Protocol 1.1b3, 6.3.
const COUNT_MAX: u16 = 125;
/// With the shorter ones, more shapes than a silent unit is probed with before the first is forgotten.
const LONGER_MAX: u16 = 16;

/// The debts of all units of a line.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// By unit, oldest first.
    debts: Vec<(u8, Vec<Debt>)>,
}

#[derive(Debug, Clone, Copy)]
struct Debt {
    shape: Shape,
    asked: Instant,
}

/// Whose a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The newest request's. All older debts of the unit are settled.
    Newest,
    /// A refusal that may be the newest request's or an older one's; the newest stays owed.
    Unclear,
    /// An older request's. How long ago that was asked.
    Late(Duration),
    /// Nobody's: the unit owes nothing of this kind.
    Nobodys,
}

impl Owed {
    fn of(&mut self, unit: u8) -> &mut Vec<Debt> {
        let at = match self.debts.iter().position(|(of, _)| *of == unit) {
            Some(at) => at,
            None => {
                self.debts.push((unit, Vec::new()));
                self.debts.len() - 1
            }
        };
        &mut self.debts[at].1
    }

    /// A request of this shape is about to be sent.
    pub(super) fn asked(&mut self, unit: u8, shape: Shape, now: Instant) {
        let debts = self.of(unit);
        debts.push(Debt { shape, asked: now });
        if debts.len() > DEBTS_MAX {
            debts.remove(0);
        }
    }

    /// Whether a reply of this shape may still come.
    pub(super) fn is_owed(&mut self, unit: u8, shape: Shape, now: Instant) -> bool {
        let debts = self.of(unit);
        debts.retain(|debt| now.duration_since(debt.asked) < FORGOTTEN_AFTER);
        debts.iter().any(|debt| debt.shape == shape)
    }

    /// A request like this one whose shape is not owed; `None` if there is none left.
    ///
    /// A shorter read of the same registers, first those that cut no value of two or four registers; a longer one, which may
    /// be refused, and even that settles the oldest debt; or the same read of the other table.
    pub(super) fn another(&mut self, unit: u8, like: ReadRequest, now: Instant) -> Option<ReadRequest> {
        let shorter = [4, 2, 1, 8, 6, 3, 5, 7].into_iter().filter_map(|by| like.count.checked_sub(by));
        let longest = COUNT_MAX.min(u16::MAX - like.start);
        let longer = (1..=LONGER_MAX).map(|by| like.count + by).filter(|count| *count <= longest);
        let table = match like.table {
            Table::Holding => Table::Input,
            Table::Input => Table::Holding,
            Table::Coil => Table::Discrete,
            Table::Discrete => Table::Coil,
        };
        let same = shorter.filter(|count| *count > 0).chain(longer).map(|count| ReadRequest { count, ..like });
        same.chain([ReadRequest { table, ..like }]).find(|request| !self.is_owed(unit, Shape::from(*request), now))
    }

    /// A reply came while the newest request of `asked_unit` was waited for.
    pub(super) fn heard(&mut self, asked_unit: Option<u8>, reply: &Reply, now: Instant) -> Whose {
        let debts = self.of(reply.unit);
        let matches = |debt: &Debt| match (&reply.content, reply.shape()) {
            (Content::Words(_), Some(shape)) => debt.shape == shape,
            _ => debt.shape.function == reply.function,
        };
        let Some(at) = debts.iter().position(matches) else { return Whose::Nobodys };
        let is_newest = asked_unit == Some(reply.unit) && at + 1 == debts.len();
        let may_be_newest = asked_unit == Some(reply.unit) && debts.last().is_some_and(matches);
        let ago = now.duration_since(debts[at].asked);
        debts.drain(..=at);
        match (is_newest, may_be_newest) {
            (true, _) => Whose::Newest,
            (false, true) => Whose::Unclear,
            (false, false) => Whose::Late(ago),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::reply::function;

    const UNIT: u8 = 5;

    fn request(table: Table, count: u16) -> ReadRequest {
        ReadRequest { table, start: 10, count }
    }

    fn words(request: ReadRequest, mark: u16) -> Reply {
        let content = Content::Words(vec![mark; request.count.into()]);
        Reply { unit: UNIT, function: function(request.table), content }
    }

    fn refusal(request: ReadRequest) -> Reply {
        Reply { unit: UNIT, function: function(request.table), content: Content::Exception(2) }
    }

    #[test]
    fn a_late_reply_pays_its_own_debt_only() {
        let (mut owed, now) = (Owed::default(), Instant::now());
        let (first, second) = (request(Table::Input, 10), request(Table::Input, 6));
        owed.asked(UNIT, first.into(), now);
        owed.asked(UNIT, second.into(), now);
        assert!(matches!(owed.heard(Some(UNIT), &words(first, 0), now), Whose::Late(_)));
        assert_eq!(owed.heard(Some(UNIT), &words(second, 0), now), Whose::Newest);
        assert_eq!(owed.heard(Some(UNIT), &words(second, 0), now), Whose::Nobodys);
    }

    #[test]
    fn an_answer_that_only_the_newest_request_can_have_settles_all_older_ones() {
        let (mut owed, now) = (Owed::default(), Instant::now());
        owed.asked(UNIT, request(Table::Input, 10).into(), now);
        owed.asked(UNIT, request(Table::Input, 6).into(), now);
        assert_eq!(owed.heard(Some(UNIT), &words(request(Table::Input, 6), 0), now), Whose::Newest);
        assert!(!owed.is_owed(UNIT, request(Table::Input, 10).into(), now));
    }

    #[test]
    fn a_refusal_that_may_be_an_older_requests_leaves_the_newest_owed() {
        let (mut owed, now) = (Owed::default(), Instant::now());
        let (first, second) = (request(Table::Input, 10), request(Table::Input, 6));
        owed.asked(UNIT, first.into(), now);
        owed.asked(UNIT, second.into(), now);
        assert_eq!(owed.heard(Some(UNIT), &refusal(second), now), Whose::Unclear);
        assert!(!owed.is_owed(UNIT, first.into(), now) && owed.is_owed(UNIT, second.into(), now));
    }

    #[test]
    fn another_request_cuts_no_value_first_and_turns_to_the_other_table_in_the_end() {
        let (mut owed, now) = (Owed::default(), Instant::now());
        let like = request(Table::Holding, 10);
        let mut found = Vec::new();
        owed.asked(UNIT, like.into(), now);
        while let Some(another) = owed.another(UNIT, like, now) {
            owed.asked(UNIT, another.into(), now);
            found.push(another);
        }
        assert_eq!(found[..3], [6, 8, 9].map(|count| request(Table::Holding, count)));
        assert_eq!(found.last(), Some(&request(Table::Input, 10)));
        assert!(found.len() > 20, "{}", found.len());
        let single = request(Table::Holding, 1);
        assert_eq!(Owed::default().another(UNIT, single, now), Some(request(Table::Holding, 2)));
        let last = ReadRequest { table: Table::Holding, start: u16::MAX, count: 1 };
        assert_eq!(Owed::default().another(UNIT, last, now), Some(ReadRequest { table: Table::Input, ..last }));
    }

    #[test]
    fn a_debt_is_forgotten_in_the_end() {
        let (mut owed, now) = (Owed::default(), Instant::now());
        owed.asked(UNIT, request(Table::Input, 1).into(), now);
        let later = now + FORGOTTEN_AFTER;
        assert!(owed.is_owed(UNIT, request(Table::Input, 1).into(), later - Duration::from_millis(1)));
        assert!(!owed.is_owed(UNIT, request(Table::Input, 1).into(), later));
    }

    /// What a device does with the requests in its queue while we wait for the newest.
    #[derive(Debug, Clone, Copy)]
    enum Does {
        Answers,
        Refuses,
        Forgets,
        Sleeps,
    }

    proptest! {
        /// A device that answers in order but as late as it likes, forgets what it likes, and is asked by the rules:
        /// no reply of words is ever taken for the answer to another request than its own.
        #[test]
        fn no_late_reply_ever_passes_as_the_answer_to_another_request(
            steps in prop::collection::vec((1_u16..6, any::<bool>(), prop::collection::vec(
                prop_oneof![Just(Does::Answers), Just(Does::Refuses), Just(Does::Forgets), Just(Does::Sleeps)], 0..4)), 1..80),
        ) {
            let (mut owed, now) = (Owed::default(), Instant::now());
            let mut queue: VecDeque<(u16, ReadRequest)> = VecDeque::new();
            for (mark, (count, holding, deeds)) in (0_u16..).zip(steps) {
                let wanted = request(if holding { Table::Holding } else { Table::Input }, count);
                let sent = if owed.is_owed(UNIT, wanted.into(), now) { owed.another(UNIT, wanted, now) } else { Some(wanted) };
                let Some(sent) = sent else { continue };
                owed.asked(UNIT, sent.into(), now);
                queue.push_back((mark, sent));
                for deed in deeds {
                    let reply = match deed {
                        Does::Sleeps => continue,
                        Does::Forgets => { queue.pop_front(); continue }
                        Does::Answers => queue.pop_front().map(|(mark, asked)| words(asked, mark)),
                        Does::Refuses => queue.pop_front().map(|(_, asked)| refusal(asked)),
                    };
                    let Some(reply) = reply else { continue };
                    if owed.heard(Some(UNIT), &reply, now) == Whose::Newest {
                        if let Content::Words(words) = reply.content {
                            prop_assert!(words.iter().all(|word| *word == mark), "{words:?} for {mark}");
                        }
                        break;
                    }
                }
            }
        }
    }
}
