//! On a simulated bus, without a clock of its own.

use super::*;

const PATIENCE: Duration = Duration::from_millis(225);
const POLL: Duration = Duration::from_millis(500);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
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
    /// One in so many requests is lost.
    lost: u32,
    /// Of the time before a request, if that is not always about the same.
    seed: Option<u64>,
}

impl Line {
    fn new(deaf: &[u64]) -> Self {
        let units = deaf.iter().map(|deaf| (ms(*deaf), None)).collect();
        let (rests, now) = (Rests::default(), Instant::now());
        Self { rests, now, units, is_shared: false, requests: 0, silences: 0, lost: u32::MAX, seed: None }
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

    /// One request to a unit, which is numbered from 1.
    fn ask(&mut self, unit: u8, start: u16) -> bool {
        let rest = self.rest();
        self.now = self.rests.ready_at(unit).unwrap_or(self.now).max(self.now) + rest;
        let rested = self.rests.asked(unit, start, self.now);
        let at = usize::from(unit) - 1;
        let (deaf, own) = self.units[at];
        let last = if self.is_shared { self.units.iter().filter_map(|(_, last)| *last).max() } else { own };
        self.requests += 1;
        let is_lost = self.requests.is_multiple_of(self.lost) || last.is_some_and(|last| self.now < last + deaf);
        if is_lost {
            self.silences += 1;
            self.now += PATIENCE;
            self.rests.silent(rested, self.now);
        } else {
            self.now += ms(35);
            self.rests.answered(rested, self.now);
            self.units[at].1 = Some(self.now);
        }
        !is_lost
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
        line.lost = lost;
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
