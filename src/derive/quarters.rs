//! When the quarter-hours of the grid connection are told.

use std::time::Duration;

use crate::measure::{Mono, SiteInterval, SiteProgress, Window};

/// The quarter-hour that goes on is told again after so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The quarter-hours: the one that goes on, and when it was told.
#[derive(Debug, Default)]
pub(super) struct Quarters {
    progress: SiteProgress,
    /// Before the newest window.
    before: SiteProgress,
    last_told: Option<Mono>,
    /// Since then: powers (taken, given) times seconds, and seconds.
    lately: (f64, f64, f64),
}

impl Quarters {
    pub(super) fn resume(&mut self, progress: &SiteProgress) {
        self.progress = progress.clone();
    }

    /// Completes a window whose roll-up is known.
    pub(super) fn complete(&mut self, window: &mut Window) {
        self.before.clone_from(&self.progress);
        let is_placed = self.progress.places(window.boot, window.end);
        let over = window.advance_site(&mut self.progress);
        if !is_placed {
            return;
        }
        if let Some(grid) = window.site.as_ref().and_then(|site| site.grid) {
            let seconds = window.length.as_secs_f64();
            let (import, export, time) = self.lately;
            self.lately = (import + grid.import_kw * seconds, export + grid.export_kw * seconds, time + seconds);
        }
        if !over.is_empty() {
            self.last_told = None;
        }
        let known = over.into_iter().filter(SiteInterval::is_known);
        window.site_intervals.extend(known.map(|over| SiteInterval { forecast: over.means(), ..over }));
        let now = window.end.mono;
        let is_due = self.last_told.is_none_or(|at| now.since(at) >= TOLD_EVERY);
        let open = self.progress.newest.filter(|newest| is_due && !newest.is_complete && newest.is_known());
        if let Some(open) = open {
            let (import, export, seconds) = std::mem::take(&mut self.lately);
            let lately = (seconds > 0.0).then(|| (import / seconds, export / seconds)).or_else(|| open.means());
            let forecast = lately.and_then(|lately| open.expected(lately));
            window.site_intervals.push(SiteInterval { forecast, ..open });
            self.last_told = Some(now);
        }
    }

    /// A window is not kept: its energy comes again, and what it told is told again.
    pub(super) fn take_back(&mut self) {
        self.progress.clone_from(&self.before);
        self.last_told = None;
    }
}
