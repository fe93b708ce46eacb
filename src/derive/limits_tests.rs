use super::limits::Limits;
use super::*;
use crate::measure::{
    ClockTrust, GridConnection, GridKnownBy, Mono, SiteLimit, SiteLimitTold, SiteProgress, SiteRollup, Utc,
};

fn site() -> SiteSpec {
    SiteSpec { import_max_kw: Some(250.0), export_max_kw: Some(100.0), hysteresis: 4.0, ..SiteSpec::default() }
}

struct Room {
    limits: Limits,
    seconds: u64,
}

impl Room {
    fn of(site: &SiteSpec) -> Self {
        Self { limits: Limits::new(site), seconds: 0 }
    }

    /// A window of a second in which the connection has this power: what it tells, by name, limit and power in kW.
    fn window(&mut self, kw: Option<f64>) -> Vec<(&'static str, SiteLimit, i64)> {
        self.seconds += 1;
        let end = Stamp { mono: Mono(self.seconds * 1_000_000_000), utc: Utc(0), trust: ClockTrust::Synced };
        let grid = kw.map(|kw| GridConnection {
            known_by: GridKnownBy::Meter,
            import_kw: kw.max(0.0),
            export_kw: (-kw).max(0.0),
            currents: None,
            headroom_import_kw: None,
            headroom_export_kw: None,
        });
        let site = Some(Box::new(SiteRollup { grid, ..SiteRollup::default() }));
        let mut window = Window { site, ..Window::empty(BootId([1; 16]), end, Duration::from_secs(1)) };
        self.limits.complete(&mut window);
        let told = |kind: &EventKind| match kind {
            EventKind::SiteLimitExceeded(told) | EventKind::SiteLimitKept(told) => {
                (kind.name(), told.limit, told.power_w / 1000)
            }
            other => panic!("{other:?}"),
        };
        window.events.iter().map(|event| told(&event.kind)).collect()
    }

    fn windows(&mut self, count: usize, kw: Option<f64>) -> Vec<(&'static str, SiteLimit, i64)> {
        (0..count).flat_map(|_| self.window(kw)).collect()
    }
}

const EXCEEDED: &str = "site_limit_exceeded";
const KEPT: &str = "site_limit_kept";

#[test]
fn a_limit_is_exceeded_after_its_hold_time_and_kept_below_it_by_the_hysteresis() {
    let mut room = Room::of(&site());
    assert_eq!(room.windows(5, Some(251.0)), []);
    assert_eq!(room.window(Some(262.0)), [(EXCEEDED, SiteLimit::Import, 262)]);
    // Told once; and below the limit is not far enough below it.
    assert_eq!(room.windows(60, Some(300.0)), []);
    assert_eq!(room.windows(60, Some(241.0)), []);
    assert_eq!(room.windows(5, Some(240.0)), []);
    assert_eq!(room.window(Some(200.0)), [(KEPT, SiteLimit::Import, 200)]);
    assert_eq!(room.windows(6, Some(-101.0)), [(EXCEEDED, SiteLimit::Export, 101)]);
}

#[test]
fn noise_at_a_limit_and_a_power_that_is_not_known_are_told_neither_way() {
    let mut room = Room::of(&site());
    for _ in 0..100 {
        assert_eq!(room.windows(5, Some(255.0)), []);
        assert_eq!(room.window(Some(249.0)), []);
    }
    assert_eq!(room.windows(4, Some(255.0)), []);
    assert_eq!(room.window(None), [], "nobody knows whether it stayed");
    assert_eq!(room.windows(5, Some(255.0)), []);
    assert_eq!(room.windows(1, Some(255.0)).len(), 1);
    assert_eq!(room.windows(100, None), []);
}

#[test]
fn a_restart_goes_on_with_what_was_told_and_a_limit_that_is_none_any_more_is_kept() {
    let told = SiteLimitTold { limit: SiteLimit::Import, max_w: 250_000, power_w: 262_000 };
    let progress = SiteProgress { exceeded: vec![told], ..SiteProgress::default() };
    let mut room = Room::of(&site());
    room.limits.resume(&progress);
    assert_eq!(room.windows(60, Some(300.0)), [], "it was told by the life before");
    assert_eq!(room.windows(6, Some(10.0)), [(KEPT, SiteLimit::Import, 10)]);

    let mut room = Room::of(&SiteSpec::default());
    room.limits.resume(&progress);
    assert_eq!(room.window(None), [(KEPT, SiteLimit::Import, 262)]);
    assert_eq!(room.windows(60, Some(300.0)), []);
}
