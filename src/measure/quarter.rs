//! The quarter-hours of the depot's grid connection, and which of its limits are exceeded.

use std::time::Duration;

use super::energy::{Energy, EnergyDelta, EnergySource};
use super::event::{Event, EventKind};
use super::limit::SiteLimitTold;
use super::site::{GridConnection, GridKnownBy, SiteRollup};
use super::time::{BootId, ClockTrust, Stamp, Utc};

const S: i64 = 1_000_000_000;
/// What energy is billed by.
const QUARTER: i64 = 900 * S;
/// 2026-01-01 UTC: this agent did not exist before, so a clock that says so is wrong.
const CLOCK_MIN: i64 = 1_767_225_600 * S;
/// Energy that was counted while nobody looked, and of so much time before a quarter-hour, makes its mean another one: 1 %.
const BEFORE_MAX: i64 = 9 * S;

/// A quarter-hour of the grid connection, as far as it is known. Quarter-hours are those of UTC (:00, :15, :30, :45); a window is in the one in
/// which it ends. Each later one of the same start takes the place of the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SiteInterval {
    /// Its beginning.
    pub start: Utc,
    /// From when on it was counted.
    pub from: Utc,
    /// The end of the newest window in it.
    pub until: Utc,
    /// Nothing more comes.
    pub is_complete: bool,
    /// The sum of what its windows know.
    pub energy: Energy,
    /// Of that what was told in windows of which the power is known, taken and given, mWh.
    pub while_known: (u64, u64),
    /// The highest power that was taken in a window, kW, not negative.
    pub import_max_kw: f64,
    /// The highest power that was given, kW, not negative.
    pub export_max_kw: f64,
    /// By what it is known.
    pub known_by: GridKnownBy,
    /// Until when the power was known.
    pub known_until: Option<Utc>,
    /// A register has told what passed in a time that is not in it, or some of what passed in it in a window that is in no quarter-hour.
    pub is_after_gap: bool,
    /// The means at its end, if all goes on as it does: taken and given, kW.
    pub forecast: Option<(f64, f64)>,
}

impl SiteInterval {
    /// The beginning of the quarter-hour in which a window is that ends then.
    #[must_use]
    pub fn start_of(end: Utc) -> Utc {
        Utc(end.0.saturating_sub(1).div_euclid(QUARTER).saturating_mul(QUARTER))
    }

    /// Its end.
    #[must_use]
    pub fn end(&self) -> Utc {
        Utc(self.start.0.saturating_add(QUARTER))
    }

    fn new(start: Utc, known_until: Option<Utc>) -> Self {
        Self {
            start,
            from: Utc(start.0.saturating_add(QUARTER)),
            until: start,
            is_complete: false,
            energy: Energy::default(),
            while_known: (0, 0),
            import_max_kw: 0.0,
            export_max_kw: 0.0,
            known_by: GridKnownBy::Devices,
            known_until,
            is_after_gap: false,
            forecast: None,
        }
    }

    /// Whether a window of the quarter-hour that begins then is in it: also what a step of the clock has put a little before it.
    fn holds(&self, start: Utc) -> bool {
        start <= self.start && self.start.0 - start.0 <= QUARTER
    }

    fn add(&mut self, end: Utc, length: Duration, site: &SiteRollup) {
        let length = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
        let begin = Utc(end.0.saturating_sub(length).max(self.start.0));
        (self.from, self.until) = (self.from.min(begin), self.until.max(end));
        self.energy.add(site.energy);
        let Energy { import, export, known } = site.energy;
        if known.is_some() {
            let mwh = |delta: Option<EnergyDelta>| delta.map_or(0, |delta| delta.mwh);
            let (taken, given) = self.while_known;
            self.while_known = (taken.saturating_add(mwh(import)), given.saturating_add(mwh(export)));
        }
        if let Some(GridConnection { known_by, import_kw, export_kw, .. }) = site.grid {
            let before = self.start.0 - BEFORE_MAX;
            self.is_after_gap |= self.known_until.is_some_and(|until| until.0 < before);
            self.known_until = Some(end);
            self.known_by = known_by;
            (self.import_max_kw, self.export_max_kw) =
                (self.import_max_kw.max(import_kw), self.export_max_kw.max(export_kw));
        }
    }

    /// Whether anything is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.energy.is_empty()
    }

    /// The mean powers that were taken and given, kW. A register has counted all of the time; power is known for some of it, and its mean is
    /// that of what was told while it was. `None`: it is not known for how long the energy has flowed.
    #[must_use]
    pub fn means(&self) -> Option<(f64, f64)> {
        let Energy { import, export, known } = self.energy;
        let is_of_register = [import, export].into_iter().flatten().any(|delta| delta.source != EnergySource::Power);
        if is_of_register && self.is_after_gap {
            return None;
        }
        let (time, taken, given) = if is_of_register {
            let counted = Duration::from_nanos(u64::try_from(self.until.0 - self.from.0).unwrap_or(0));
            (counted, import, export)
        } else {
            let by_power = |mwh| Some(EnergyDelta { mwh, source: EnergySource::Power });
            (known?, by_power(self.while_known.0), by_power(self.while_known.1))
        };
        let mean = |delta: Option<EnergyDelta>| delta.map_or(0.0, EnergyDelta::kwh) * 3600.0 / time.as_secs_f64();
        (!time.is_zero()).then(|| (mean(taken), mean(given)))
    }

    /// What the means will be at its end if these powers (kW, taken and given) go on.
    #[must_use]
    pub fn expected(&self, (import_kw, export_kw): (f64, f64)) -> Option<(f64, f64)> {
        let (import, export) = self.means()?;
        let rest = (self.end().0 - self.until.0).max(0);
        #[allow(clippy::cast_precision_loss, reason = "ns of a quarter-hour are exact")]
        let share = rest as f64 / QUARTER as f64;
        let at_end = |mean: f64, now: f64| mean * (1.0 - share) + now * share;
        Some((at_end(import, import_kw), at_end(export, export_kw)))
    }
}

/// How the grid connection stands after a window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SiteProgress {
    /// The newest quarter-hour.
    pub newest: Option<SiteInterval>,
    /// Limits that are exceeded.
    pub exceeded: Vec<SiteLimitTold>,
    /// Since the newest window that is in a quarter-hour a register has told energy in windows that are in none.
    pub has_unplaced: bool,
    /// The boot of the newest window that is in a quarter-hour.
    pub boot: Option<BootId>,
}

impl SiteProgress {
    /// Goes on by a window of this end and length. Answers the quarter-hours that are over with it: the one before, and its own.
    pub fn advance(
        &mut self,
        boot: BootId,
        at: Stamp,
        length: Duration,
        site: Option<&SiteRollup>,
        events: &[Event],
    ) -> Vec<SiteInterval> {
        events.iter().for_each(|event| self.hear(&event.kind));
        if !self.places(boot, at) {
            let is_of_register = site.is_some_and(|site| site.energy.is_of_register());
            self.has_unplaced |= is_of_register && !at.trust.is_of_source();
            return Vec::new();
        }
        self.boot = Some(boot);
        let (end, start) = (at.utc, SiteInterval::start_of(at.utc));
        let over = self.newest.take_if(|newest| !newest.holds(start));
        let known_until = over.and_then(|over| over.known_until);
        let before = over.filter(|over| !over.is_complete).map(|over| SiteInterval { is_complete: true, ..over });
        let mut ended: Vec<SiteInterval> = before.into_iter().collect();
        let told = site.filter(|site| site.grid.is_some() || !site.energy.is_empty());
        if over.is_some() || told.is_some() {
            let newest = self.newest.get_or_insert_with(|| SiteInterval::new(start, known_until));
            if let Some(site) = told {
                newest.is_after_gap |= std::mem::take(&mut self.has_unplaced);
                newest.add(end, length, site);
            }
            if !newest.is_complete && end >= newest.end() {
                newest.is_complete = true;
                ended.push(*newest);
            }
        }
        ended
    }

    /// Whether the wall clock of a window says in which quarter-hour it is. What comes late is in none. A clock that nobody has set is as good
    /// as another while the boot goes on, but one that has begun to count in an earlier boot stands in a quarter-hour that is long over.
    #[must_use]
    pub fn places(&self, boot: BootId, end: Stamp) -> bool {
        match end.trust {
            ClockTrust::Synced | ClockTrust::Holdover => true,
            ClockTrust::Unsynced => end.utc.0 >= CLOCK_MIN && self.boot.is_none_or(|own| own == boot),
            ClockTrust::Resolved | ClockTrust::Estimated => false,
        }
    }

    /// Whether it goes on by a window.
    #[must_use]
    pub fn is_progress(&self, site: Option<&SiteRollup>, events: &[Event]) -> bool {
        let is_limit = |kind: &EventKind| matches!(kind, EventKind::SiteLimitExceeded(_) | EventKind::SiteLimitKept(_));
        site.is_some() || self.newest.is_some() || events.iter().any(|event| is_limit(&event.kind))
    }

    fn hear(&mut self, kind: &EventKind) {
        if let EventKind::SiteLimitExceeded(told) | EventKind::SiteLimitKept(told) = kind {
            self.exceeded.retain(|exceeded| exceeded.limit != told.limit);
        }
        if let EventKind::SiteLimitExceeded(told) = kind {
            self.exceeded.push(*told);
        }
    }
}
