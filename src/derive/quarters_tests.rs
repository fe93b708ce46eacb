use proptest::prelude::*;

use super::quarters::Quarters;
use super::rollup_tests::meter;
use super::*;
use crate::measure::{
    ClockTrust, Energy, EnergyDelta, EnergySource, GridConnection, GridKnownBy, Interval, Missing, Mono, Outcome,
    SiteProgress, SiteRollup, Utc, Value,
};
use crate::spec::{PointIx, PollGroup};

const S: i64 = 1_000_000_000;
/// 2026-06-01 12:00 UTC.
const NOON: i64 = 1_780_315_200;
const BOOT: BootId = BootId([1; 16]);
const NEXT_BOOT: BootId = BootId([2; 16]);

/// A window of `seconds` that ends so many seconds after noon, in which `mwh` were taken at `kw`; `None`: the power is not known.
fn window(seconds: u64, end_s: i64, kw: Option<f64>, mwh: Option<(u64, EnergySource)>) -> Window {
    let mono = Mono(u64::try_from(end_s + 10_000).expect("after the boot") * 1_000_000_000);
    let end = Stamp { mono, utc: Utc((NOON + end_s) * S), trust: ClockTrust::Synced };
    let length = Duration::from_secs(seconds);
    let grid = kw.map(|kw| GridConnection {
        known_by: GridKnownBy::Meter,
        import_kw: kw.max(0.0),
        export_kw: (-kw).max(0.0),
        currents: None,
        headroom_import_kw: None,
        headroom_export_kw: None,
    });
    let import = mwh.map(|(mwh, source)| EnergyDelta { mwh, source });
    let energy = Energy { import, export: None, known: kw.map(|_| length) };
    let is_known = grid.is_some() || !energy.is_empty();
    let site = is_known.then(|| Box::new(SiteRollup { grid, energy, ..SiteRollup::default() }));
    Window { site, ..Window::empty(BOOT, end, length) }
}

/// What is told of the quarter-hours, of each the last.
fn rows(told: impl IntoIterator<Item = SiteInterval>) -> Vec<SiteInterval> {
    let mut rows: Vec<SiteInterval> = Vec::new();
    for told in told {
        rows.retain(|row| row.start != told.start);
        rows.push(told);
    }
    rows
}

fn power(kw: f64, seconds: u64) -> Option<(u64, EnergySource)> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a test's few kW")]
    let mwh = (kw * seconds as f64 / 3600.0 * 1e6).round() as u64;
    Some((mwh, EnergySource::Power))
}

#[test]
fn a_quarter_hour_is_told_at_its_begin_each_minute_and_when_it_is_over() {
    let mut quarters = Quarters::default();
    let mut told = Vec::new();
    for n in 1..=910 {
        let kw = if n <= 450 { 36.0 } else { 72.0 };
        let mut window = window(1, n, Some(kw), power(kw, 1));
        quarters.complete(&mut window);
        told.extend(window.site_intervals.into_iter().map(|told| (n, told)));
    }
    let times: Vec<i64> = told.iter().map(|(n, _)| *n).collect();
    let expected: Vec<i64> = (0..15).map(|minute| 1 + minute * 60).chain([900, 901]).collect();
    assert_eq!(times, expected);
    let (_, half) = told.iter().find(|(n, _)| *n == 421).expect("told");
    let near = |pair: Option<(f64, f64)>, kw: f64| {
        pair.is_some_and(|(import, export)| (import - kw).abs() < 0.01 && export == 0.0)
    };
    assert!(near(half.means(), 36.0) && near(half.forecast, 36.0), "{half:?}");
    // 72 kW for some time: 450 s of each are 54 kW.
    let (_, later) = told.iter().find(|(n, _)| *n == 541).expect("told");
    assert!(near(later.forecast, 54.0), "{later:?}");
    let rows = rows(told.into_iter().map(|(_, told)| told));
    let whole = rows[0];
    assert_eq!((whole.start, whole.from, whole.until), (Utc(NOON * S), Utc(NOON * S), Utc((NOON + 900) * S)));
    assert!(whole.is_complete && near(whole.means(), 54.0) && near(whole.forecast, 54.0), "{whole:?}");
    assert_eq!((whole.import_max_kw, whole.energy.known), (72.0, Some(Duration::from_secs(900))));
    assert!(!rows[1].is_complete && rows[1].start == Utc((NOON + 900) * S));
}

#[test]
fn a_silence_is_in_no_mean_of_power_and_a_register_counts_through_it() {
    let mut by_power = Quarters::default();
    let mut by_register = Quarters::default();
    let mut told = (Vec::new(), Vec::new());
    for n in 1..=900 {
        // 300 s in which nobody knows anything.
        let is_silent = (300..600).contains(&n);
        let kw = (!is_silent).then_some(36.0);
        let mut one = window(1, n, kw, kw.and_then(|kw| power(kw, 1)));
        by_power.complete(&mut one);
        told.0.extend(one.site_intervals);
        let counted = if n == 600 { 301 * 10_000 } else { 10_000 };
        let mut other = window(1, n, kw, kw.map(|_| (counted, EnergySource::Register)));
        by_register.complete(&mut other);
        told.1.extend(other.site_intervals);
    }
    let (by_power, by_register) = (rows(told.0)[0], rows(told.1)[0]);
    let known = Some(Duration::from_secs(600));
    assert_eq!((by_power.energy.known, by_register.energy.known), (known, known));
    assert_eq!(by_power.energy.import.map(EnergyDelta::kwh), Some(6.0));
    assert_eq!(by_register.energy.import.map(EnergyDelta::kwh), Some(9.0));
    assert_eq!((by_power.means(), by_register.means()), (Some((36.0, 0.0)), Some((36.0, 0.0))));
}

#[test]
fn what_a_register_counted_before_a_quarter_hour_makes_no_demand_of_it() {
    let mut quarters = Quarters::default();
    let mut told = Vec::new();
    // Silent from 100 s on; back in the next quarter-hour, with all that was counted meanwhile.
    for n in (1..=100).chain(1_000..=1_800) {
        let mwh = if n == 1_000 { 9_000_000 } else { 10_000 };
        let mut window = window(1, n, Some(36.0), Some((mwh, EnergySource::Register)));
        quarters.complete(&mut window);
        told.extend(window.site_intervals);
    }
    let [first, second] = rows(told)[..] else { panic!("two quarter-hours") };
    assert!(first.is_complete && second.is_complete);
    assert_eq!(first.means(), Some((36.0, 0.0)), "as far as it was counted");
    assert_eq!((second.means(), second.energy.import.map(EnergyDelta::kwh)), (None, Some(9.0 + 8.0)));
}

#[test]
fn a_little_step_back_makes_no_finished_quarter_hour_anew_and_what_comes_late_is_in_none() {
    let mut quarters = Quarters::default();
    let mut told = Vec::new();
    let late = |at: i64| {
        let mut late = window(1, at, Some(1e3), power(1e3, 1));
        late.end.trust = ClockTrust::Resolved;
        late
    };
    let ends = [899, 900, 901, 899, 900, 901];
    for at in ends {
        for mut window in [window(1, at, Some(36.0), power(36.0, 1)), late(at - 2)] {
            quarters.complete(&mut window);
            told.extend(window.site_intervals);
        }
    }
    let complete: Vec<_> = rows(told).into_iter().filter(|row| row.is_complete).collect();
    let [complete] = &complete[..] else { panic!("{complete:?}") };
    assert_eq!((complete.start, complete.energy.known), (Utc(NOON * S), Some(Duration::from_secs(2))));
    assert_eq!(complete.import_max_kw, 36.0);
}

/// A box without a clock of its own goes on from the time that it has saved: its clock shows a quarter-hour that is long over.
#[test]
fn what_is_told_before_the_clock_is_synced_is_in_no_quarter_hour_and_makes_no_mean() {
    let (mut quarters, mut site) = (Quarters::default(), SiteProgress::default());
    let mut told = Vec::new();
    let register = |mwh| Some((mwh, EnergySource::Register));
    for n in 1..=100 {
        let mut window = window(1, n, Some(36.0), register(10_000));
        quarters.complete(&mut window);
        window.advance_site(&mut site);
        told.extend(window.site_intervals);
    }
    // Off for eight hours; the meter is read before the clock is synced, and the agent starts once more.
    for n in 101..=110 {
        quarters = Quarters::default();
        quarters.resume(&site);
        let mut unsynced = window(1, n, Some(36.0), register(if n == 101 { 288_000_000 } else { 10_000 }));
        (unsynced.boot, unsynced.end.trust) = (NEXT_BOOT, ClockTrust::Unsynced);
        quarters.complete(&mut unsynced);
        unsynced.advance_site(&mut site);
        assert_eq!(unsynced.site_intervals, [], "{n}");
    }
    let evening = 32 * 900;
    for n in evening + 11..=evening + 1_800 {
        let mut window = window(1, n, Some(36.0), register(10_000));
        (window.boot, window.end.trust) = (NEXT_BOOT, ClockTrust::Holdover);
        quarters.complete(&mut window);
        told.extend(window.site_intervals);
    }
    let [noon, first, second] = rows(told)[..] else { panic!("three quarter-hours") };
    let kwh = |row: SiteInterval| row.energy.import.map(EnergyDelta::kwh);
    assert_eq!((noon.is_complete, kwh(noon), noon.means()), (true, Some(1.0), Some((36.0, 0.0))));
    assert_eq!((first.start, kwh(first), first.means()), (Utc((NOON + evening) * S), Some(8.9), None));
    assert_eq!((kwh(second), second.means()), (Some(9.0), Some((36.0, 0.0))));
}

#[test]
fn a_quarter_hour_has_no_mean_of_a_register_that_told_some_of_it_while_the_clock_was_not_synced() {
    for source in [EnergySource::Register, EnergySource::Power] {
        let mut quarters = Quarters::default();
        let mut told = Vec::new();
        for n in (1..=100).chain(300..=900) {
            let mut window = window(1, n, Some(36.0), Some((10_000, source)));
            if n >= 300 {
                window.boot = NEXT_BOOT;
            }
            if (300..310).contains(&n) {
                window.end.trust = ClockTrust::Unsynced;
            }
            quarters.complete(&mut window);
            told.extend(window.site_intervals);
        }
        let mean = (source == EnergySource::Power).then_some((36.0, 0.0));
        assert_eq!(rows(told)[0].means(), mean, "{source:?}");
    }
}

/// As on a machine whose kernel is told nothing of the clock's being right. A start of the agent is no start of the box.
#[test]
fn a_boot_before_which_nobody_has_counted_has_quarter_hours_though_its_clock_is_never_synced() {
    let (mut quarters, mut site) = (Quarters::default(), SiteProgress::default());
    let mut told = Vec::new();
    for n in 1..=900 {
        if n == 450 {
            quarters = Quarters::default();
            quarters.resume(&site);
        }
        let mut window = window(1, n, Some(36.0), Some((10_000, EnergySource::Register)));
        window.end.trust = ClockTrust::Unsynced;
        quarters.complete(&mut window);
        window.advance_site(&mut site);
        told.extend(window.site_intervals);
    }
    let row = rows(told)[0];
    assert_eq!((row.is_complete, row.means()), (true, Some((36.0, 0.0))));
}

/// Of ten chargers one is silent for ten minutes: what the others tell meanwhile is no energy of the five in which all are known.
#[test]
fn a_mean_of_power_is_of_the_windows_in_which_all_of_it_is_known() {
    let mut quarters = Quarters::default();
    let mut told = Vec::new();
    for n in 1..=900 {
        let (kw, mwh) = if n <= 300 { (Some(36.0), 10_000) } else { (None, 9_000) };
        let mut window = window(1, n, kw, Some((mwh, EnergySource::Power)));
        quarters.complete(&mut window);
        told.extend(window.site_intervals);
    }
    let whole = rows(told)[0];
    assert_eq!(whole.energy.import.map(EnergyDelta::kwh), Some(3.0 + 5.4));
    assert_eq!((whole.means(), whole.energy.known), (Some((36.0, 0.0)), Some(Duration::from_secs(300))));
}

#[test]
fn a_quarter_hour_that_is_told_once_more_in_a_window_that_is_not_kept_is_told_again() {
    let mut deriver = Deriver::new(&[], Duration::from_secs(1), 0.05, BOOT);
    let mut quarters = Quarters::default();
    let told = |deriver: &mut Deriver, quarters: &mut Quarters, at: i64, has_backlog: bool| {
        let mut window = window(1, at, Some(36.0), power(36.0, 1));
        quarters.complete(&mut window);
        window.site_intervals.retain(|told| told.is_complete);
        deriver.tell_after_backlog(&mut window, has_backlog);
        window
    };
    let noon = |window: &Window| window.site_intervals.iter().map(|told| told.start.0 / S - NOON).collect::<Vec<_>>();
    assert_eq!(noon(&told(&mut deriver, &mut quarters, 900, true)), [0]);
    let lost = told(&mut deriver, &mut quarters, 901, false);
    assert_eq!(noon(&lost), [0], "the backlog has gone");
    deriver.take_back(&lost);
    for (at, expected) in [(902, vec![0]), (903, vec![])] {
        let mut window = window(1, at, None, None);
        deriver.tell_after_backlog(&mut window, false);
        assert_eq!(noon(&window), expected, "{at}");
    }
}

#[test]
fn a_quarter_hour_that_ends_in_a_window_that_is_not_kept_is_told_once_behind_a_backlog() {
    let mut deriver = Deriver::new(&[], Duration::from_secs(1), 0.05, BOOT);
    let mut quarters = Quarters::default();
    let mut end = window(1, 900, Some(36.0), power(36.0, 1));
    quarters.complete(&mut end);
    end.site_intervals.retain(|told| told.is_complete);
    let mut told = Vec::new();
    for (at, has_backlog, is_kept) in [(900, true, false), (901, true, true), (902, false, true)] {
        let is_of_end = at < 902;
        let mut window = window(1, at, None, None);
        window.site_intervals.extend(end.site_intervals.iter().copied().filter(|_| is_of_end));
        deriver.tell_after_backlog(&mut window, has_backlog);
        if is_kept {
            told.push(window.site_intervals.len());
        } else {
            deriver.take_back(&window);
        }
    }
    assert_eq!(told, [1, 1]);
}

/// A depot whose grid connection is a meter of power.
fn metered() -> Deriver {
    let group = PollGroup { name: "slow".to_owned(), interval: Duration::from_secs(60), blocks: vec![] };
    let meter = DeviceSpec { groups: vec![group], ..meter("grid") };
    let site = SiteSpec { meter: Some(DeviceIx(0)), ..SiteSpec::default() };
    Deriver::new(&[meter], Duration::from_secs(1), 0.05, BOOT).with_site(site)
}

/// A window of `metered` that ends so many seconds after noon, with what is read of the meter at its end.
fn read(deriver: &mut Deriver, seconds: u64, end_s: i64, outcome: Outcome) -> Window {
    let mut window = window(seconds, end_s, None, None);
    let at = window.end;
    deriver.add(&Reading { device: DeviceIx(0), point: PointIx(0), at, outcome, count: None });
    window.intervals.push(Interval {
        device: DeviceIx(0),
        direction: None,
        vehicle: None,
        session: None,
        points: vec![],
        energy: Energy::default(),
    });
    deriver.complete(&mut window, false);
    window
}

#[test]
fn for_how_long_power_was_known_in_a_window_that_is_not_kept_is_told_with_its_energy_in_the_next() {
    let mut depot = metered();
    let reads = [(10, 36.0), (20, 36.0), (30, 36.0)];
    let [_, lost, lost_too] = reads.map(|(at, kw)| {
        let window = read(&mut depot, 10, at, Outcome::Good(Value::Float(kw)));
        if at > 10 {
            depot.take_back(&window);
        }
        window
    });
    let energy =
        |window: &Window| window.site.as_ref().map(|site| (site.energy.import.map(|of| of.mwh), site.energy.known));
    let known = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(
        (energy(&lost), energy(&lost_too)),
        (Some((Some(100_000), known(10))), Some((Some(200_000), known(20))))
    );
    let next = read(&mut depot, 10, 40, Outcome::Missing(Missing::Decode));
    assert_eq!(energy(&next), Some((Some(200_000), known(20))));
    let last = read(&mut depot, 10, 50, Outcome::Missing(Missing::Decode));
    assert_eq!(energy(&last).and_then(|(_, known)| known), None);
}

proptest! {
    /// Whatever the windows, whenever the agent is killed, and whatever of them the journal does not take: as if it had taken all.
    #[test]
    fn the_energy_of_the_quarter_hours_is_that_of_the_windows(
        windows in prop::collection::vec((1_u64..60, 0_u32..1_000, any::<bool>(), 0_u8..20), 1..200)
    ) {
        let (mut deriver, mut checkpoint, mut with_all) = (metered(), Checkpoint::default(), metered());
        let schema = crate::measure::Schema::new(
            "gw".try_into().expect("a name"), "depot".try_into().expect("a name"), &[]);
        let (mut at, mut told, mut sum) = (0, Vec::new(), Energy::default());
        // The last two are taken.
        for (seconds, kw, is_known, fate) in windows.into_iter().chain([(1, 0, false, 2), (2_000, 0, false, 2)]) {
            at += i64::try_from(seconds).expect("small");
            let missing = Outcome::Missing(Missing::Decode);
            let outcome = if is_known { Outcome::Good(Value::Float(f64::from(kw))) } else { missing };
            let all = read(&mut with_all, seconds, at, outcome.clone());
            sum.add(all.site.map_or_else(Energy::default, |site| site.energy));
            let window = read(&mut deriver, seconds, at, outcome);
            if fate == 0 {
                // Not taken: its energy is told again with the next.
                deriver.take_back(&window);
                continue;
            }
            window.advance(&mut checkpoint, &schema);
            told.extend(window.site_intervals);
            if fate == 1 {
                (deriver, with_all) = (metered(), metered());
                deriver.resume(&checkpoint, window.end);
            }
        }
        let newest = checkpoint.site.newest.filter(|newest| !newest.is_complete);
        let rows = rows(told.into_iter().chain(newest));
        let is_of_newest = |row: &SiteInterval| newest.is_some_and(|newest| newest.start == row.start);
        prop_assert!(rows.iter().all(|row| row.is_complete || is_of_newest(row)), "{rows:?}");
        let mut counted = Energy::default();
        rows.iter().for_each(|row| counted.add(row.energy));
        prop_assert_eq!((counted.import, counted.known), (sum.import, sum.known));
        let while_known: u64 = rows.iter().map(|row| row.while_known.0).sum();
        prop_assert_eq!(Some(while_known).filter(|mwh| *mwh > 0), counted.import.map(|import| import.mwh));
    }
}
