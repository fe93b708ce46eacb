use proptest::prelude::*;

use super::quarters::Quarters;
use super::*;
use crate::measure::{
    ClockTrust, Energy, EnergyDelta, EnergySource, GridConnection, GridKnownBy, Mono, SiteRollup, Utc,
};

const S: i64 = 1_000_000_000;
/// 2026-06-01 12:00 UTC.
const NOON: i64 = 1_780_315_200;
const BOOT: BootId = BootId([1; 16]);

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

#[test]
fn before_the_clock_is_set_nothing_is_counted_in_a_quarter_hour() {
    let mut quarters = Quarters::default();
    let mut unset = window(1, 10, Some(36.0), power(36.0, 1));
    (unset.end.trust, unset.end.utc) = (ClockTrust::Unsynced, Utc(978_307_200 * S));
    quarters.complete(&mut unset);
    assert_eq!(unset.site_intervals, []);
}

proptest! {
    /// Whatever the windows, whenever the agent is killed, and whatever of them the journal does not take.
    #[test]
    fn the_energy_of_the_quarter_hours_is_that_of_the_windows(
        windows in prop::collection::vec((1_u64..60, 0_u64..1_000_000, any::<bool>(), 0_u8..20), 1..200)
    ) {
        let (mut quarters, mut checkpoint) = (Quarters::default(), Checkpoint::default());
        let schema = crate::measure::Schema::new(
            "gw".try_into().expect("a name"), "depot".try_into().expect("a name"), &[]);
        let (mut at, mut told, mut sum, mut again) = (0, Vec::new(), Energy::default(), 0);
        for (seconds, mwh, is_known, fate) in windows {
            at += i64::try_from(seconds).expect("small");
            let mwh = is_known.then(|| (mwh + std::mem::take(&mut again), EnergySource::Power));
            let mut window = window(seconds, at, is_known.then_some(1.0), mwh);
            quarters.complete(&mut window);
            if fate == 0 {
                // Not taken: its energy is told again with the next.
                quarters.take_back();
                again += mwh.map_or(0, |(mwh, _)| mwh);
                continue;
            }
            window.advance(&mut checkpoint, &schema);
            sum.add(window.site.as_ref().map_or_else(Energy::default, |site| site.energy));
            told.extend(window.site_intervals);
            if fate == 1 {
                quarters = Quarters::default();
                quarters.resume(&checkpoint.site);
            }
        }
        // One that is far later ends the last.
        let mut last = window(1, at + 2_000, None, None);
        quarters.complete(&mut last);
        told.extend(last.site_intervals);
        let rows = rows(told);
        prop_assert!(rows.iter().all(|row| row.is_complete), "{rows:?}");
        let mut counted = Energy::default();
        rows.iter().for_each(|row| counted.add(row.energy));
        prop_assert_eq!((counted.import, counted.known), (sum.import, sum.known));
    }
}
