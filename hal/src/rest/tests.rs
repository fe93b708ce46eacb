//! On a simulated bus, without a clock of its own.

use std::collections::BTreeSet;

use super::*;

const PATIENCE: Duration = Duration::from_millis(225);
const POLL: Duration = Duration::from_millis(500);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A number below this, by chance.
fn drawn(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

/// A bus of simulated units.
struct Line {
    rests: Rests,
    now: Instant,
    /// Of each unit, how long it is deaf after an answer, and when it answered last.
    units: Vec<(Duration, Option<Instant>)>,
    /// Whether all are deaf after the answer of any.
    is_shared: bool,
    requests: u32,
    silences: u32,
    /// Of the time before a request, if that is not always about the same.
    seed: Option<u64>,
    trouble: Trouble,
    /// Of the trouble.
    chance: u64,
    /// Whether a block that was not answered is asked in another length first, to tell late answers apart; and those that were not.
    is_serial: bool,
    owed: BTreeSet<(u8, u16)>,
    /// Requests that were held back.
    held: u32,
}

/// Why requests are lost though nobody is deaf.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    None,
    /// One in so many.
    OneIn(u32),
    /// So many of a hundred, by chance.
    Percent(u64),
    /// The same, half of those that fall into bursts, of ten requests in the mean. Whether one goes on.
    Bursts(u64, bool),
    /// Every second one is answered by a gateway in the unit's place, after so long: the unit gave no answer.
    EverySecond(Duration),
    /// What begins at this register.
    At(u16),
}

impl Line {
    fn new(deaf: &[u64]) -> Self {
        let units = deaf.iter().map(|deaf| (ms(*deaf), None)).collect();
        let (rests, now) = (Rests::default(), Instant::now());
        let (is_shared, is_serial, owed) = (false, false, BTreeSet::new());
        let (requests, silences, held, trouble, chance, seed) = (0, 0, 0, Trouble::None, 1, None);
        Self { rests, now, units, is_shared, requests, silences, seed, trouble, chance, is_serial, owed, held }
    }

    /// Of one on which this goes wrong; each seed is another story. Of four seeds two are serial lines, and two have two units.
    fn troubled(deaf: u64, trouble: Trouble, seed: u64) -> Self {
        let mut line = if seed.is_multiple_of(4) || seed % 4 == 3 { Self::new(&[deaf]) } else { Self::new(&[deaf, 0]) };
        line.is_serial = seed.is_multiple_of(2);
        if line.is_serial {
            line.seed = Some(seed);
        }
        (line.trouble, line.chance) = (trouble, seed * 7_919);
        line
    }

    /// Before a request. No two are of the same length; drawn, one in 16 is of up to 24 ms.
    fn rest(&mut self) -> Duration {
        let Some(seed) = &mut self.seed else {
            return Duration::from_micros(1_200 + u64::from(self.requests) * 7_919 % 800);
        };
        let mut next = |below: u64| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 33) % below
        };
        let more = if next(16) == 0 { next(20_000) } else { 0 };
        Duration::from_micros(4_000 + next(600) + more)
    }

    /// How long is waited in vain, if the request is lost.
    fn lost(&mut self, unit: u8, start: u16) -> Option<Duration> {
        let is_lost = match &mut self.trouble {
            Trouble::None => false,
            Trouble::OneIn(many) => self.requests.is_multiple_of(*many),
            Trouble::Percent(percent) => drawn(&mut self.chance, 100) < *percent,
            Trouble::Bursts(percent, goes_on) => {
                let turns = if *goes_on { 100 } else { 2 * *percent };
                *goes_on ^= drawn(&mut self.chance, 1_000) < turns;
                *goes_on && drawn(&mut self.chance, 2) == 0
            }
            Trouble::EverySecond(after) => return self.requests.is_multiple_of(2).then_some(*after),
            Trouble::At(register) => start == *register,
        };
        let (deaf, own) = self.units[usize::from(unit) - 1];
        let last = if self.is_shared { self.units.iter().filter_map(|(_, last)| *last).max() } else { own };
        let is_deaf = last.is_some_and(|last| self.now < last + deaf);
        (is_lost || is_deaf).then_some(PATIENCE)
    }

    /// One request to a unit, which is numbered from 1.
    fn ask(&mut self, unit: u8, start: u16) -> bool {
        if self.is_serial && self.owed.contains(&(unit, start)) {
            if !self.exchange(unit, start) {
                return false;
            }
            self.owed.remove(&(unit, start));
            self.now = self.rests.surely_ready_at(unit).unwrap_or(self.now).max(self.now);
        }
        let is_answered = self.exchange(unit, start);
        if !is_answered {
            self.owed.insert((unit, start));
        }
        is_answered
    }

    fn exchange(&mut self, unit: u8, start: u16) -> bool {
        let rest = self.rest();
        let ready = self.rests.ready_at(unit).unwrap_or(self.now).max(self.now);
        self.held += u32::from(ready > self.now + rest);
        self.now = ready + rest;
        let rested = self.rests.asked(unit, start, self.now);
        self.requests += 1;
        if let Some(after) = self.lost(unit, start) {
            self.silences += 1;
            self.now += after;
            self.rests.silent(rested, self.now);
            return false;
        }
        self.now += ms(35);
        self.rests.answered(rested, self.now);
        // A serial adapter hands an answer over when it likes.
        let since = Duration::from_micros(if self.is_serial { drawn(&mut self.chance, 1_500) } else { 0 });
        self.units[usize::from(unit) - 1].1 = self.now.checked_sub(since);
        true
    }

    /// Two values of each unit a poll, each asked twice at the most; how many came.
    fn poll(&mut self, polls: u32) -> u32 {
        let mut values = 0;
        for _ in 0..polls {
            let due = self.now + POLL;
            for unit in (1..).take(self.units.len()) {
                for start in 0..2 {
                    let is_there = self.ask(unit, start) || self.ask(unit, start);
                    values += u32::from(is_there);
                    if !is_there {
                        // Once more in a gap, to find out whether it is there at all.
                        self.now += ms(200);
                        self.ask(unit, start);
                    }
                }
            }
            self.now = self.now.max(due);
        }
        values
    }
}

#[test]
fn a_unit_that_is_deaf_after_its_answer_is_left_alone_so_long_and_not_much_longer() {
    for deaf in [5, 8, 15, 20, 40, 60, 100, 150, 200, 300, 400, 500] {
        let mut line = Line::new(&[deaf]);
        let values = line.poll(40);
        assert!(values >= 75, "deaf for {deaf} ms: {values} of 80");
        let pauses = line.rests.pauses();
        let [Pause { unit: Some(1), known, .. }] = pauses[..] else { panic!("{deaf}: {pauses:?}") };
        assert!((ms(deaf)..=ms(deaf + deaf / 2 + 5)).contains(&known), "deaf for {deaf} ms: {known:?}");
        line.silences = 0;
        assert_eq!(line.poll(400), 800, "deaf for {deaf} ms");
        assert!(line.silences <= 1, "deaf for {deaf} ms: {} requests lost later", line.silences);
    }
}

#[test]
fn lost_requests_and_dead_units_teach_no_pause() {
    for lost in [7, 10, 23, 50, 101] {
        let mut line = Line::new(&[0, 0]);
        line.trouble = Trouble::OneIn(lost);
        line.poll(2_000);
        assert_eq!(line.rests.pauses(), [], "one in {lost}");
    }
    let mut line = Line::new(&[0, 0]);
    line.poll(10);
    line.units[1].0 = ms(1_000_000_000);
    line.poll(100);
    line.units[1].0 = ms(0);
    line.poll(100);
    assert_eq!(line.rests.pauses(), []);
}

/// A block of registers that a unit does not answer is no deafness, though the others are answered later.
#[test]
fn registers_that_are_silent_while_others_answer_teach_no_pause() {
    let mut line = Line::new(&[0]);
    for _ in 0..200 {
        line.ask(1, 0);
        let rested = line.rests.asked(1, 100, line.now + ms(1));
        line.now += PATIENCE;
        line.rests.silent(rested, line.now);
        line.now += POLL;
    }
    assert_eq!(line.rests.pauses(), []);
}

/// A block of one shape is asked in place of another, to tell late answers apart: each made the other one deaf.
#[test]
fn two_blocks_that_make_each_other_deaf_teach_the_pause() {
    let mut line = Line::new(&[20]);
    line.ask(1, 0);
    for n in 0..8 {
        line.ask(1, (n + 1) % 2);
        line.now += POLL;
        line.ask(1, n % 2);
    }
    assert!(matches!(line.rests.pauses()[..], [Pause { unit: Some(1), .. }]), "{:?}", line.rests.pauses());
}

#[test]
fn a_pause_is_of_the_unit_that_needs_it() {
    let mut line = Line::new(&[60, 0]);
    assert!(line.poll(100) >= 395);
    assert!(matches!(line.rests.pauses()[..], [Pause { unit: Some(1), .. }]), "{:?}", line.rests.pauses());
}

/// In whatever order they are asked: what was silent soon after an answer of the other was taken for a matter of the line.
#[test]
fn a_unit_that_is_deaf_teaches_no_pause_to_another_or_to_the_line() {
    const ORDERS: [[(u8, u16); 4]; 3] =
        [[(1, 0), (2, 0), (1, 1), (2, 1)], [(2, 0), (1, 0), (2, 1), (1, 1)], [(2, 0), (2, 1), (1, 0), (1, 1)]];
    for (deaf, seed) in [60, 120, 200].into_iter().flat_map(|deaf| (1..200_u8).map(move |seed| (deaf, seed))) {
        let mut line = Line::new(&[0, deaf]);
        line.seed = Some(seed.into());
        for order in ORDERS.iter().cycle().skip(usize::from(seed % 3)).take(30) {
            let due = line.now + ms(2 * deaf + 300);
            let mut silent = order.to_vec();
            silent.retain(|(unit, start)| !line.ask(*unit, *start));
            silent.retain(|(unit, start)| !line.ask(*unit, *start));
            line.now = line.now.max(due);
        }
        let pauses = line.rests.pauses();
        assert!(matches!(pauses[..], [Pause { unit: Some(2), .. }]), "deaf for {deaf} ms, {seed}: {pauses:?}");
    }
}

#[test]
fn a_gateway_that_is_deaf_after_any_answer_is_left_alone_whichever_unit_is_asked() {
    let mut line = Line::new(&[30, 30, 30]);
    line.is_shared = true;
    assert!(line.poll(100) >= 590);
    let pauses = line.rests.pauses();
    assert!(matches!(pauses[..], [Pause { unit: None, known, .. }] if known < ms(50)), "{pauses:?}");
}

#[test]
fn a_pause_that_is_not_needed_any_more_is_given_up_and_one_that_is_costs_ever_fewer_requests() {
    let mut line = Line::new(&[60]);
    line.poll(40);
    line.silences = 0;
    // A day and more.
    line.poll(200_000);
    assert!(line.silences <= 9, "{} in a day", line.silences);
    line.units[0].0 = ms(0);
    line.poll(400_000);
    assert_eq!(line.rests.pauses(), []);
}

#[test]
fn who_is_deaf_for_longer_than_any_poll_is_not_waited_for() {
    let mut line = Line::new(&[3_000]);
    line.poll(2_000);
    assert!(line.rests.pauses().is_empty() || line.silences > 0);
    let before = line.rests.pauses();
    assert!(before.iter().all(|pause| pause.known <= PAUSE_MAX), "{before:?}");
}

#[test]
fn what_was_late_was_not_deaf() {
    let mut line = Line::new(&[0]);
    for _ in 0..50 {
        line.ask(1, 0);
        let rested = line.rests.asked(1, 0, line.now + ms(2));
        line.now += PATIENCE;
        line.rests.silent(rested, line.now);
        line.rests.was_late(1, line.now);
        line.now += POLL;
    }
    assert_eq!(line.rests.pauses(), []);
}

#[test]
fn what_was_kept_is_kept_at_once() {
    let mut line = Line::new(&[60]);
    line.poll(40);
    let kept = line.rests.pauses();
    let mut later = Line::new(&[60]);
    kept.iter().for_each(|pause| later.rests.keep(*pause));
    assert_eq!((later.poll(100), later.silences), (200, 0));
}

/// Of 200 such lines with one request in twenty lost, all but a few had a pause within 300 polls, and a third to a half of the
/// requests were held back.
#[test]
fn what_is_lost_by_chance_on_200_lines_teaches_none_of_them_a_pause() {
    for trouble in [1, 5].map(Trouble::Percent).into_iter().chain([Trouble::Bursts(5, false)]) {
        assert_eq!(lines_with_a_pause(trouble), [0; 0], "{trouble:?}");
    }
}

/// Where as much is lost as of a deaf unit, chance may look like one now and then.
#[test]
fn what_is_lost_by_chance_on_lines_that_hardly_work_teaches_few_of_them_a_pause() {
    for (percent, most) in [(10, 4), (20, 10)] {
        let held = lines_with_a_pause(Trouble::Percent(percent));
        assert!(held.len() <= most, "{percent} %: {held:?}");
    }
}

/// Which of 200 lines on which nobody is deaf have a pause within 300 polls. Of the requests of all of them hardly one is held back before.
fn lines_with_a_pause(trouble: Trouble) -> Vec<u64> {
    let (mut held, mut requests, mut with_a_pause) = (0, 0, Vec::new());
    for seed in 0..200 {
        let mut line = Line::troubled(0, trouble, seed);
        let is_told = (0..300).any(|_| {
            line.poll(1);
            !line.rests.pauses().is_empty()
        });
        with_a_pause.extend(is_told.then_some(seed));
        held += line.held;
        requests += line.requests;
    }
    assert!(held * 1_000 <= requests, "{trouble:?}: {held} of {requests} held back");
    with_a_pause
}

#[test]
fn a_deaf_unit_is_known_soon_and_for_good_though_others_of_its_requests_are_lost_by_chance() {
    for (deaf, percent) in [5, 20, 100, 500].into_iter().flat_map(|deaf| [(deaf, 0), (deaf, 5)]) {
        let (mut polls, mut of, mut values, mut of_values) = (0, 0, 0, 0);
        for seed in 0..40 {
            let mut line = Line::troubled(deaf, Trouble::Percent(percent), seed);
            let mut known_at = None;
            for n in 1..=300 {
                values += line.poll(1);
                of_values += 2 * u32::try_from(line.units.len()).expect("few");
                let is_known = line.rests.pauses().iter().any(|pause| pause.unit == Some(1));
                assert!(known_at.is_none() || is_known, "deaf for {deaf} ms, {percent} % lost, {seed}: forgotten");
                known_at = known_at.or(is_known.then_some(n));
            }
            // A serial line keeps a silence of nearly 5 ms by itself.
            if deaf > 5 || !line.is_serial {
                polls += known_at.unwrap_or(300);
                of += 1;
            }
        }
        assert!(polls <= 7 * of, "deaf for {deaf} ms, {percent} % lost: known after {polls} polls of {of} lines");
        assert!(values * 100 >= of_values * 98, "deaf for {deaf} ms, {percent} % lost: {values} of {of_values}");
    }
}

#[test]
fn a_unit_of_which_every_second_answer_is_a_gateways_word_is_not_held_back() {
    for (after, seed) in [5, 100, 1_000, 3_000].into_iter().flat_map(|after| [(after, 1), (after, 3)]) {
        let mut line = Line::troubled(0, Trouble::EverySecond(ms(after)), seed);
        for n in 0..300 {
            line.poll(1);
            assert_eq!(line.rests.pauses(), [], "after {after} ms, {seed}, {n} polls");
        }
        assert!(line.held * 100 <= line.requests, "after {after} ms, {seed}: {} of {}", line.held, line.requests);
    }
}

#[test]
fn a_block_that_is_never_answered_costs_the_others_of_its_unit_nothing_on_any_line() {
    for seed in 0..8 {
        let mut line = Line::troubled(0, Trouble::At(1), seed);
        let values = line.poll(300);
        assert_eq!((line.rests.pauses(), line.held), (vec![], 0), "{seed}");
        assert_eq!(u64::from(values), 300 * line.units.len() as u64, "{seed}");
    }
}
