//! A set of sequence numbers kept as ranges: what is acknowledged, what is given up, what is passed over.

use std::collections::BTreeMap;

/// Numbers as inclusive ranges that neither touch nor overlap. Its size is the number of holes, not of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::journal) struct Ranges {
    /// First number to last number, inclusive.
    ranges: BTreeMap<u64, u64>,
    /// How many numbers there are in all ranges.
    len: u64,
}

impl Ranges {
    /// Adds `from..=to`. Nothing happens if `from > to`.
    pub(in crate::journal) fn insert(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        let (mut from, mut to) = (from, to);
        // One that begins before and touches, then all that begin inside or just behind.
        let before = self.ranges.range(..from).next_back().map(|(&a, &b)| (a, b));
        if let Some((a, b)) = before
            && b.saturating_add(1) >= from
        {
            self.take(a, b);
            (from, to) = (a, to.max(b));
        }
        while let Some((&a, &b)) = self.ranges.range(from..=to.saturating_add(1)).next() {
            self.take(a, b);
            to = to.max(b);
        }
        self.ranges.insert(from, to);
        self.len += to - from + 1;
    }

    /// Takes `from..=to` out.
    pub(in crate::journal) fn remove(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        for (a, b) in self.touching(from, to) {
            self.take(a, b);
            if a < from {
                self.insert(a, from - 1);
            }
            if b > to {
                self.insert(to + 1, b);
            }
        }
    }

    /// Whether `number` is in it.
    pub(in crate::journal) fn contains(&self, number: u64) -> bool {
        self.ranges.range(..=number).next_back().is_some_and(|(_, &b)| b >= number)
    }

    /// Whether all of `from..=to` is in it. True for an empty range.
    pub(in crate::journal) fn covers(&self, from: u64, to: u64) -> bool {
        from > to || self.ranges.range(..=from).next_back().is_some_and(|(_, &b)| b >= to)
    }

    /// The smallest number that is not in it and not below `number`.
    pub(in crate::journal) fn next_outside(&self, number: u64) -> u64 {
        match self.ranges.range(..=number).next_back() {
            Some((_, &b)) if b >= number => b.saturating_add(1),
            _ => number,
        }
    }

    /// The parts of `from..=to` that are not in it, ascending.
    pub(in crate::journal) fn missing(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut at = from;
        for (a, b) in self.touching(from, to) {
            if a > at {
                holes.push((at, a - 1));
            }
            at = b.saturating_add(1);
        }
        if at <= to {
            holes.push((at, to));
        }
        holes
    }

    /// The parts of `from..=to` that are in it, ascending.
    pub(in crate::journal) fn within(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        self.touching(from, to).into_iter().map(|(a, b)| (a.max(from), b.min(to))).collect()
    }

    /// How many numbers of `from..=to` are in it.
    pub(in crate::journal) fn count_within(&self, from: u64, to: u64) -> u64 {
        self.touching(from, to).iter().map(|&(a, b)| b.min(to) - a.max(from) + 1).sum()
    }

    /// How many numbers there are in it.
    #[cfg(test)]
    pub(in crate::journal) fn len(&self) -> u64 {
        self.len
    }

    /// All ranges, ascending.
    pub(in crate::journal) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(&a, &b)| (a, b))
    }

    fn touching(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        if from > to {
            return Vec::new();
        }
        let before = self.ranges.range(..from).next_back().filter(|&(_, &b)| b >= from);
        before.into_iter().chain(self.ranges.range(from..=to)).map(|(&a, &b)| (a, b)).collect()
    }

    fn take(&mut self, a: u64, b: u64) {
        self.ranges.remove(&a);
        self.len -= b - a + 1;
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Self {
        let mut set = Self::default();
        for (from, to) in ranges {
            set.insert(from, to);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_become_one_range() {
        let set: Ranges = [(1, 3), (7, 9), (4, 6)].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [(1, 9)]);
        assert_eq!(set.len(), 9);
    }

    proptest! {
        #[test]
        fn ranges_say_the_same_as_a_plain_set(steps in prop::collection::vec((any::<bool>(), 0_u64..60, 0_u64..12), 0..60)) {
            let (mut ranges, mut plain) = (Ranges::default(), BTreeSet::new());
            for (add, from, length) in steps {
                let to = from + length;
                if add {
                    ranges.insert(from, to);
                    plain.extend(from..=to);
                } else {
                    ranges.remove(from, to);
                    plain.retain(|n| !(from..=to).contains(n));
                }
                prop_assert_eq!(ranges.len(), plain.len() as u64);
            }
            for n in 0..80 {
                prop_assert_eq!(ranges.contains(n), plain.contains(&n));
                prop_assert_eq!(ranges.next_outside(n), (n..=n + 1 + plain.len() as u64).find(|m| !plain.contains(m)).expect("the set is finite"));
                prop_assert_eq!(ranges.count_within(n, n + 9), plain.range(n..=n + 9).count() as u64);
                prop_assert_eq!(ranges.covers(n, n + 3), (n..=n + 3).all(|m| plain.contains(&m)));
                let within: Vec<u64> = ranges.within(n, n + 9).into_iter().flat_map(|(a, b)| a..=b).collect();
                prop_assert_eq!(within, plain.range(n..=n + 9).copied().collect::<Vec<_>>());
                let missing: Vec<u64> = ranges.missing(n, n + 15).into_iter().flat_map(|(a, b)| a..=b).collect();
                prop_assert_eq!(missing, (n..=n + 15).filter(|m| !plain.contains(m)).collect::<Vec<_>>());
            }
        }
    }
}
