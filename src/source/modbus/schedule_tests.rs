//! The schedule on a simulated bus.

use proptest::prelude::*;

use super::*;
use crate::source::modbus::unit::PATIENCE_FIRST;
use crate::spec::RegisterTable;

const MS: u64 = 1_000_000;
const WINDOW: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(1);

fn block(start: u16) -> RegisterBlock {
    RegisterBlock { unit: None, table: RegisterTable::Input, start, count: 2 }
}

fn group(interval_ms: u64, starts: &[u16]) -> (Duration, Vec<RegisterBlock>) {
    (Duration::from_millis(interval_ms), starts.iter().map(|start| block(*start)).collect())
}

fn device(groups: &[(Duration, Vec<RegisterBlock>)]) -> Setting {
    let silence = SilenceCost { is_heard_out: true, character: Duration::ZERO };
    let groups = groups.to_vec();
    Setting { unit: 1, groups, timeout: TIMEOUT, pause: Duration::ZERO, is_shared: true, silence }
}

/// How a simulated device answers.
#[derive(Debug, Clone, Copy)]
enum Is {
    /// After so many ms.
    Prompt(u64),
    /// The same, if it is waited for so long.
    Slow(u64),
    Dead,
    /// Every so many frames of it are noise.
    Noisy(u64),
    /// Dead before, prompt after.
    BackAt(u64),
}

/// What was asked, when, and with what success.
#[derive(Debug, Clone, Copy)]
struct Line {
    at_ms: u64,
    device: usize,
    block: RegisterBlock,
    /// Whether a request went out, and whether it was answered.
    asked: bool,
    answered: bool,
}

/// Runs a schedule over `length_ms`. A silence costs one and a half patiences, as on a line that is heard out.
fn run(settings: Vec<Setting>, devices: &[Is], length_ms: u64) -> Vec<Line> {
    let mut schedule = Schedule::new(settings, WINDOW, Mono(100 * MS), Mono(0));
    let (mut now, mut log, mut frames) = (Mono(0), Vec::new(), 0);
    while now.0 < length_ms * MS {
        match schedule.next(now) {
            Next::Wait(until) => {
                assert!(until > now, "waits for the past");
                now = until;
            }
            Next::Missing(job) => {
                let Read { device, block, .. } = job;
                log.push(Line { at_ms: now.0 / MS, device, block, asked: false, answered: false });
            }
            Next::Do(Job::Read(job), patience) => {
                frames += 1;
                let started = now;
                let (took, ended) = match devices[job.device] {
                    Is::Slow(ms) if nanos(patience) < ms * MS => (nanos(patience) * 3 / 2, Ended::Silent),
                    Is::Prompt(ms) | Is::Slow(ms) => (ms * MS, Ended::Answered),
                    Is::Noisy(every) if frames % every == 0 => (60 * MS, Ended::Broken),
                    Is::BackAt(ms) if now.0 < ms * MS => (nanos(patience) * 3 / 2, Ended::Silent),
                    Is::Noisy(_) | Is::BackAt(_) => (20 * MS, Ended::Answered),
                    Is::Dead => (nanos(patience) * 3 / 2, Ended::Silent),
                };
                now.0 += took;
                let Read { device, block, .. } = job;
                let answered = ended == Ended::Answered;
                log.push(Line { at_ms: started.0 / MS, device, block, asked: true, answered });
                schedule.done(job, ended, started, now);
            }
        }
    }
    log
}

fn answers(log: &[Line], device: usize) -> usize {
    log.iter().filter(|line| line.device == device && line.answered).count()
}

#[test]
fn a_group_at_the_windows_pace_is_read_once_in_the_middle_of_every_window() {
    let log = run(vec![device(&[group(250, &[0])])], &[Is::Prompt(1)], 2_500);
    // Windows end at 100, 350, 600 …: their middles are 225, 475, …
    let times: Vec<u64> = log.iter().map(|line| line.at_ms).collect();
    assert_eq!(times, (0..10).map(|k| 225 + 250 * k).filter(|t| *t < 2_500).collect::<Vec<_>>());
}

#[test]
fn a_late_schedule_skips_what_it_missed() {
    let mut schedule = Schedule::new(vec![device(&[group(100, &[0])])], WINDOW, Mono(0), Mono(0));
    let Next::Do(Job::Read(job), _) = schedule.next(Mono(1_000 * MS)) else { panic!("due") };
    schedule.done(job, Ended::Answered, Mono(1_000 * MS), Mono(1_001 * MS));
    assert!(matches!(schedule.next(Mono(1_001 * MS)), Next::Wait(_)));
}

#[test]
fn a_bus_too_slow_for_its_plan_is_read_back_to_back_and_in_turns() {
    let log =
        run(vec![device(&[group(10, &[0])]), device(&[group(10, &[0])])], &[Is::Prompt(13), Is::Prompt(13)], 10_000);
    assert!(log.len() >= 10_000 / 13 - 5, "{} reads", log.len());
    let (first, second) = (answers(&log, 0), answers(&log, 1));
    assert!(first.abs_diff(second) <= 1, "{first} and {second}");
}

/// Its first block was waited for 150 ms only as long as others of it were due, which are so always: 20 s of nothing.
#[test]
fn a_device_that_is_as_slow_as_its_poll_has_all_its_blocks_read_from_the_start() {
    for (is_shared, ms) in [(true, 480), (false, 480), (true, 900), (false, 900)] {
        let setting = Setting { is_shared, ..device(&[group(500, &[0, 100]), group(1_000, &[200])]) };
        let log = run(vec![setting], &[Is::Slow(ms)], 30_000);
        for start in [0, 100, 200] {
            let answered: Vec<u64> =
                log.iter().filter(|line| line.answered && line.block.start == start).map(|line| line.at_ms).collect();
            let gaps = [0].iter().chain(&answered).zip(answered.iter().chain(&[30_000]));
            let longest = gaps.map(|(from, to)| to - from).max();
            assert!(longest <= Some(10_000), "{ms} ms, {is_shared}: {start} was read at {answered:?}");
        }
    }
}

#[test]
fn a_fast_group_goes_before_a_slow_one_of_the_same_device() {
    let mut schedule =
        Schedule::new(vec![device(&[group(10_000, &[100, 200]), group(250, &[0])])], WINDOW, Mono(0), Mono(0));
    let at = Mono(11_000 * MS);
    let Next::Do(Job::Read(first), _) = schedule.next(at) else { panic!("due") };
    assert_eq!(first.block.start, 0);
}

#[test]
fn dead_devices_cost_the_others_less_than_a_tenth_of_their_rate() {
    let settings = |count| (0..count).map(|_| device(&[group(250, &[0])])).collect::<Vec<_>>();
    for seconds in [60, 600] {
        let alone = run(settings(6), &[Is::Prompt(20); 6], seconds * 1000);
        let devices = [[Is::Prompt(20); 6].as_slice(), &[Is::Dead; 3]].concat();
        let beside = run(settings(9), &devices, seconds * 1000);
        for healthy in 0..6 {
            let (with, without) = (answers(&beside, healthy), answers(&alone, healthy));
            assert!(with * 10 >= without * 9, "device {healthy}: {with} of {without} in {seconds} s");
        }
        let told = beside.iter().filter(|line| line.device == 8 && !line.answered).count();
        assert!(
            told * 10 >= usize::try_from(seconds).expect("few") * 4 * 9,
            "the silence is told at the poll's rate: {told}"
        );
    }
}

#[test]
fn a_bus_of_dead_devices_alone_is_probed_at_the_pace_of_their_retreat() {
    let log = run(vec![device(&[group(250, &[0])])], &[Is::Dead], 120_000);
    let probes = log.iter().filter(|line| line.asked).count();
    assert!((10..=25).contains(&probes), "{probes} probes");
}

#[test]
fn a_device_that_returns_is_found_soon_and_read_in_full_at_once() {
    let settings = vec![device(&[group(250, &[0])]), device(&[group(250, &[0]), group(60_000, &[10])])];
    let log = run(settings, &[Is::Prompt(20), Is::BackAt(30_000)], 60_000);
    let back: Vec<&Line> = log.iter().filter(|line| line.device == 1 && line.answered).collect();
    assert!(back[0].at_ms <= 30_000 + 16_000, "found after {} ms", back[0].at_ms - 30_000);
    let first_second: Vec<_> = back.iter().filter(|line| line.at_ms < back[0].at_ms + 1_000).collect();
    assert!(first_second.len() >= 4, "full rate: {first_second:?}");
    assert!(first_second.iter().any(|line| line.block.start == 10), "the slow group, too: {first_second:?}");
}

#[test]
fn noise_is_tried_again_at_once_and_is_not_silence() {
    let log = run(vec![device(&[group(250, &[0])])], &[Is::Noisy(20)], 60_000);
    assert!(answers(&log, 0) >= 238, "{} of 239", answers(&log, 0));
    assert!(log.iter().all(|line| line.asked), "never told as silent");
}

#[test]
fn a_slow_device_gets_its_share_and_no_more() {
    let settings = vec![device(&[group(250, &[0])]), device(&[group(250, &[0])]), device(&[group(250, &[0])])];
    let log = run(settings, &[Is::Prompt(20), Is::Prompt(20), Is::Prompt(800)], 60_000);
    let slow = answers(&log, 2);
    assert!((20..=26).contains(&slow), "a third of 60 s at 0.8 s each, but {slow}");
}

#[test]
fn patience_is_learned_and_never_beyond_the_timeout() {
    let mut schedule = Schedule::new(vec![device(&[group(250, &[0])])], WINDOW, Mono(0), Mono(0));
    let read = |schedule: &mut Schedule, at: u64| match schedule.next(Mono(at * MS)) {
        Next::Do(Job::Read(job), patience) => (job, patience),
        other => panic!("{other:?} at {at}"),
    };
    let (job, patience) = read(&mut schedule, 200);
    assert_eq!(patience, PATIENCE_FIRST);
    schedule.done(job, Ended::Answered, Mono(200 * MS), Mono(240 * MS));
    let (job, patience) = read(&mut schedule, 400);
    assert_eq!(patience, Duration::from_millis(240));
    assert_eq!(schedule.done(job, Ended::Silent, Mono(400 * MS), Mono(700 * MS)), ReadOutcome::Again);
    let (job, patience) = read(&mut schedule, 700);
    assert_eq!(patience, Duration::from_millis(480));
    schedule.late(0, None, Duration::from_millis(600));
    assert_eq!(schedule.done(job, Ended::Silent, Mono(700 * MS), Mono(1_300 * MS)), ReadOutcome::Over);
    assert!(schedule.is_good(0));
    assert_eq!(read(&mut schedule, 1_400).1, TIMEOUT);
}

#[test]
fn a_pause_is_kept_between_two_requests_to_a_device() {
    let setting = Setting { pause: Duration::from_millis(50), ..device(&[group(250, &[0, 10, 20])]) };
    let log = run(vec![setting], &[Is::Prompt(5)], 5_000);
    assert!(log.windows(2).all(|pair| pair[1].at_ms - pair[0].at_ms >= 55), "{log:?}");
    assert!(answers(&log, 0) >= 55);
}

/// Runs a schedule over `length_ms`; `answers` says of a block, by its first register, whether it is answered at a time. Each
/// answer takes 20 ms. Returns all that was asked, and each standing that was judged and another one than before.
fn run_blocks(
    setting: Setting,
    length_ms: u64,
    answers: impl Fn(u16, u64) -> bool,
) -> (Vec<Line>, Vec<(u64, usize, usize)>) {
    let mut schedule = Schedule::new(vec![setting], WINDOW, Mono(100 * MS), Mono(0));
    let (mut now, mut log, mut judged) = (Mono(0), Vec::new(), Vec::new());
    while now.0 < length_ms * MS {
        match schedule.next(now) {
            Next::Wait(until) => {
                assert!(until > now, "waits for the past");
                now = until;
                continue;
            }
            Next::Missing(Read { device, block, .. }) => {
                log.push(Line { at_ms: now.0 / MS, device, block, asked: false, answered: false });
            }
            Next::Do(Job::Read(read), patience) => {
                let (started, answered) = (now, answers(read.block.start, now.0 / MS));
                now.0 += if answered { 20 * MS } else { nanos(patience) * 3 / 2 };
                let ended = if answered { Ended::Answered } else { Ended::Silent };
                let Read { device, block, .. } = read;
                log.push(Line { at_ms: started.0 / MS, device, block, asked: true, answered });
                schedule.done(read, ended, started, now);
            }
        }
        if let Some(Standing { answering, silent, .. }) = schedule.judge(0)
            && judged.last().is_none_or(|(_, a, s)| (*a, *s) != (answering, silent.len()))
        {
            judged.push((now.0 / MS, answering, silent.len()));
        }
    }
    (log, judged)
}

/// The times at which a block was read, at most once in each of its polls.
fn polls(log: &[Line], start: u16, interval_ms: u64) -> usize {
    let mut polls: Vec<u64> = log
        .iter()
        .filter(|line| line.block.start == start && line.answered)
        .map(|line| (line.at_ms - 225) / interval_ms)
        .collect();
    polls.dedup();
    polls.len()
}

#[test]
fn a_silent_block_is_probed_in_the_gaps_and_costs_its_neighbour_no_poll() {
    let dead = |start, _| start != 10;
    let (log, judged) = run_blocks(device(&[group(500, &[0, 10])]), 60_000, dead);
    assert_eq!(polls(&log, 0, 500), 120);
    let probes = log.iter().filter(|line| line.asked && line.block.start == 10).count();
    assert!((8..=14).contains(&probes), "at the pace of its retreat: {probes}");
    assert!(log.iter().filter(|line| !line.asked && line.block.start == 10).count() >= 117, "told at each poll");
    assert_eq!(judged.iter().map(|(_, a, s)| (*a, *s)).collect::<Vec<_>>(), [(1, 1)], "no state before it is known");
}

/// A gateway waits 3 s for each request to a dead unit, however short the probe was, and answers nobody meanwhile: the unit that
/// answers was taken for one that takes 3 s, and was read that much more seldom.
#[test]
fn a_gateway_that_waits_for_a_dead_unit_costs_the_one_that_answers_less_than_a_tenth() {
    let short = |setting| Setting { silence: SilenceCost::default(), ..setting };
    let settings = (0..3).map(|_| short(device(&[group(1_000, &[0])]))).collect();
    let mut schedule = Schedule::new(settings, Duration::from_secs(1), Mono(0), Mono(0));
    let (mut now, mut free_at, mut read_at, mut longest) = (Mono(0), Mono(0), Vec::new(), Duration::ZERO);
    while now.0 < 600_000 * MS {
        match schedule.next(now) {
            Next::Wait(until) => now = until,
            Next::Missing(_) => {}
            Next::Do(Job::Read(read), patience) if read.device == 0 => {
                let started = now;
                // What was given up before it is waited for, too.
                now = now.max(free_at) + Duration::from_millis(20);
                schedule.done(read, Ended::Answered, started, now);
                read_at.push(now.0 / MS);
                longest = longest.max(patience);
            }
            Next::Do(Job::Read(read), patience) => {
                let started = now;
                free_at = now.max(free_at) + Duration::from_secs(3);
                now = now + patience;
                schedule.done(read, Ended::Silent, started, now);
            }
        }
    }
    assert!(read_at.len() >= 540, "{} of 600", read_at.len());
    assert!(longest <= PATIENCE_FIRST, "3 s are not its own: {longest:?}");
}

#[test]
fn a_block_that_dies_and_returns_is_judged_each_time_once_all_that_was_due_has_shown_it() {
    let lives = |start, at| start != 10 || !(10_000..30_000).contains(&at);
    let (log, judged) = run_blocks(device(&[group(500, &[0, 10])]), 60_000, lives);
    assert_eq!(judged.iter().map(|(_, a, s)| (*a, *s)).collect::<Vec<_>>(), [(2, 0), (1, 1), (2, 0)]);
    assert_eq!(polls(&log, 0, 500), 120);
    let (died, back) = (judged[1].0, judged[2].0);
    assert!((10_400..12_000).contains(&died) && (30_000..39_000).contains(&back), "{judged:?}");
}

#[test]
fn a_block_that_answers_now_and_then_is_not_told_at_each_answer() {
    // One request of nine is answered.
    let count = std::cell::Cell::new(0_u32);
    let flaps = |start: u16, at: u64| {
        count.set(count.get() + u32::from(start == 10));
        start != 10 || at < 10_000 || count.get().is_multiple_of(9)
    };
    let (_, judged) = run_blocks(device(&[group(500, &[0, 10])]), 60_000, flaps);
    assert!(judged.len() <= 3, "{judged:?}");
}

#[test]
fn a_unit_that_dies_is_silent_after_three_waits_however_many_blocks_it_has() {
    let dies = |_, at| at < 10_000;
    let starts: Vec<u16> = (0..12).map(|n| n * 10).collect();
    let (log, judged) = run_blocks(device(&[group(500, &starts)]), 14_000, dies);
    let waits = log.iter().filter(|line| line.asked && !line.answered && line.at_ms < 11_000).count();
    assert!(waits <= 4, "{waits} waits in the first second");
    assert_eq!(judged.iter().map(|(_, a, s)| (*a, *s)).collect::<Vec<_>>(), [(12, 0), (0, 12)]);
}

#[test]
fn a_block_that_is_read_seldom_is_known_to_be_silent_long_before_it_is_due_again() {
    let dead = |start, _| start != 10;
    let (_, judged) = run_blocks(device(&[group(500, &[0]), group(3_600_000, &[10])]), 10_000, dead);
    assert_eq!(judged.len(), 1, "{judged:?}");
    assert!(judged[0].0 < 3_000 && judged[0].1 == 1, "{judged:?}");
}

/// The second try of a block that was refused is not tried a third time when it is lost: the device was in doubt for an hour.
#[test]
fn a_seldom_read_block_of_which_one_answer_is_lost_is_decided_long_before_it_is_due_again() {
    let setting = device(&[group(500, &[0]), group(3_600_000, &[10])]);
    let mut schedule = Schedule::new(vec![setting], WINDOW, Mono(0), Mono(0));
    let (mut now, mut asked, mut decided) = (Mono(0), 0, Vec::new());
    while now.0 < 10_000 * MS {
        match schedule.next(now) {
            Next::Wait(until) => now = until,
            Next::Missing(read) => panic!("{read:?} is not silent"),
            Next::Do(Job::Read(read), patience) => {
                let started = now;
                asked += u32::from(read.block.start == 10);
                let is_lost = read.block.start == 10 && asked == 2;
                now = now + if is_lost { patience * 3 / 2 } else { Duration::from_millis(20) };
                schedule.done(read, if is_lost { Ended::Silent } else { Ended::Answered }, started, now);
                if read.block.start == 10 && asked == 1 {
                    schedule.ask(read, [read.block]);
                }
                if schedule.judge(0).is_some() {
                    decided.push(now.0 / MS);
                }
            }
        }
    }
    assert_eq!(asked, 3);
    assert!(decided.first().is_some_and(|at| *at < 3_000), "{decided:?}");
}

#[test]
fn a_check_of_a_block_that_has_gone_silent_is_dropped_and_one_of_a_block_that_comes_due_is_told() {
    let mut schedule = Schedule::new(vec![device(&[group(500, &[0, 10])])], WINDOW, Mono(0), Mono(0));
    let mut now = Mono(1_000 * MS);
    let Next::Do(Job::Read(dead), _) = schedule.next(now) else { panic!("due") };
    schedule.check(dead, block(10));
    let checked = schedule.queue.take_first(|read| read.why == Why::Check);
    assert_eq!(checked, None, "it is due already");
    schedule.done(dead, Ended::Silent, now, now);
    schedule.queue.retain(|_| false);
    schedule.check(dead, dead.block);
    assert!(schedule.devices[0].is_silent(dead.key()));
    assert!(!matches!(schedule.next(now), Next::Missing(_)), "nobody waits for it");
    assert!(!schedule.queue.iter().any(|read| read.why == Why::Check));

    let mut schedule = Schedule::new(vec![device(&[group(500, &[0])])], WINDOW, Mono(0), Mono(0));
    let Next::Do(Job::Read(read), _) = schedule.next(now) else { panic!("due") };
    schedule.done(read, Ended::Answered, now, now);
    schedule.check(read, read.block);
    now.0 += 600 * MS;
    let Next::Do(Job::Read(read), _) = schedule.next(now) else { panic!("due") };
    assert_eq!(read.why, Why::Due);
}

#[test]
fn where_no_gap_is_left_a_probe_takes_its_share_of_the_time() {
    // Ten blocks of 20 ms in every 250: what is left is too short for a probe.
    let starts: Vec<u16> = (0..11).map(|n| n * 10).collect();
    let returns = |start, at| start != 100 || at >= 20_000;
    let (log, judged) = run_blocks(device(&[group(250, &starts)]), 60_000, returns);
    assert!(polls(&log, 0, 250) >= 232, "{} of 239", polls(&log, 0, 250));
    let back = judged.last().expect("judged");
    assert!((back.1, back.2) == (11, 0) && back.0 < 36_000, "{judged:?}");
}

#[test]
fn over_tcp_a_probe_is_as_short_as_the_gap_and_a_late_answer_teaches_how_long_it_must_be() {
    let setting = Setting { silence: SilenceCost::default(), ..device(&[group(100, &[0])]) };
    let other = RegisterBlock { unit: Some(200), ..block(10) };
    let setting =
        Setting { groups: [setting.groups, vec![(Duration::from_millis(100), vec![other])]].concat(), ..setting };
    let mut schedule = Schedule::new(vec![setting], Duration::from_millis(100), Mono(0), Mono(0));
    let (mut now, mut reads, mut probes) = (Mono(0), 0, Vec::new());
    while now.0 < 10_000 * MS {
        match schedule.next(now) {
            Next::Wait(until) => now = until,
            Next::Missing(_) => {}
            Next::Do(Job::Read(read), patience) => {
                let started = now;
                let is_dead = read.block.unit.is_some();
                now.0 += if is_dead { nanos(patience) } else { 5 * MS };
                if is_dead {
                    probes.push((read.why, patience));
                } else {
                    reads += 1;
                }
                schedule.done(read, if is_dead { Ended::Silent } else { Ended::Answered }, started, now);
            }
        }
    }
    assert!(reads >= 98, "{reads} of 99");
    let fit =
        |(why, patience): &(Why, Duration)| *why == Why::Probe { fits: true } && *patience <= Duration::from_millis(95);
    assert!(probes.len() >= 4 && probes[1..].iter().all(fit), "{probes:?}");
    assert!(schedule.late(0, Some(200), Duration::from_millis(300)));
    assert!(!schedule.late(0, Some(7), Duration::from_millis(300)), "nobody's");
    let next = loop {
        match schedule.next(now) {
            Next::Wait(until) => now = until,
            Next::Missing(_) => {}
            Next::Do(Job::Read(read), patience) if read.block.unit.is_some() => break (read.why, patience),
            Next::Do(Job::Read(read), _) => {
                schedule.done(read, Ended::Answered, now, now);
            }
        }
    };
    assert_eq!(next, (Why::Probe { fits: false }, TIMEOUT), "it is given what it needs, though others wait");
}

/// The next point of the grid took the place of what was still to be told of the one before.
#[test]
fn what_is_overdue_is_told_also_if_nobody_looked_before_the_next_point_of_the_grid() {
    let at = |ms: u64| Mono(ms * MS);
    let mut schedule = Schedule::new(vec![device(&[group(250, &[0])])], WINDOW, Mono(0), at(1_000));
    assert!(matches!(schedule.next(at(1_125)), Next::Do(..)));
    let mut told = |ms| schedule.overdue(at(ms)).map(|(read, _)| read.block);
    // The window ended at 1,250; the next point is 1,375.
    assert_eq!(told(1_380), Some(block(0)));
    assert_eq!(told(1_380), None);
    assert_eq!(told(1_499), Some(block(0)), "and of the next window");
    assert_eq!(told(1_500), None);
}

#[test]
fn of_a_block_at_most_one_read_waits() {
    let mut schedule = Schedule::new(vec![device(&[group(250, &[0, 10])])], WINDOW, Mono(0), Mono(0));
    for second in 1..100 {
        schedule.collect(Mono(second * 1_000 * MS));
        assert_eq!(schedule.queue.iter().count(), 2);
    }
    let read = schedule.queue.take_first(|_| true).expect("it waits");
    schedule.queue.push(read);
    schedule.queue.push(read);
    assert_eq!(schedule.queue.iter().count(), 2);
}

proptest! {
    #[test]
    fn the_grid_never_drifts(now in 0_u64..1 << 60, phase in 0_u64..1 << 50, interval in 1_u64..1 << 40) {
        let next = grid_point_after(Mono(now), Mono(phase), Duration::from_nanos(interval));
        prop_assert!(next.0 > now && next.0 - now <= interval);
        prop_assert_eq!(next.0 % interval, phase % interval);
    }
}
