//! The limits of the grid connection.

use std::time::Duration;

use crate::measure::{Event, EventKind, Mono, SiteLimit, SiteLimitTold, SiteProgress, Window};
use crate::spec::SiteSpec;

/// Both limits. One is exceeded when the power has been above it for the hold time, and kept when it has been below it by the hysteresis for
/// as long: noise at a limit is told neither way. Where the power is not known, neither begins nor ends.
#[derive(Debug)]
pub(super) struct Limits {
    hysteresis: f64,
    hold: Duration,
    both: [Limit; 2],
}

#[derive(Debug)]
struct Limit {
    limit: SiteLimit,
    /// kW; `None`: there is none.
    max_kw: Option<f64>,
    /// As it was told.
    exceeded: Option<SiteLimitTold>,
    /// Since when the power is on the other side.
    turned: Option<Mono>,
}

impl Limits {
    pub(super) fn new(site: &SiteSpec) -> Self {
        let limit = |limit, max_kw| Limit { limit, max_kw, exceeded: None, turned: None };
        let both = [limit(SiteLimit::Import, site.import_max_kw), limit(SiteLimit::Export, site.export_max_kw)];
        Self { hysteresis: site.hysteresis / 100.0, hold: site.hold, both }
    }

    pub(super) fn resume(&mut self, progress: &SiteProgress) {
        for limit in &mut self.both {
            limit.exceeded = progress.exceeded.iter().find(|told| told.limit == limit.limit).copied();
        }
    }

    /// Completes a window whose roll-up is known.
    pub(super) fn complete(&mut self, window: &mut Window) {
        let power_kw = window.site.as_ref().and_then(|site| site.grid).map(|grid| grid.power_kw());
        for limit in &mut self.both {
            let kw = power_kw.map(|kw| if limit.limit == SiteLimit::Import { kw } else { -kw });
            let news = limit.read(kw, window.end.mono, (self.hysteresis, self.hold));
            window.events.extend(news.map(|kind| Event { device: None, kind }));
        }
    }
}

impl Limit {
    fn read(&mut self, kw: Option<f64>, now: Mono, (hysteresis, hold): (f64, Duration)) -> Option<EventKind> {
        let Some(max_kw) = self.max_kw else {
            // It was exceeded, and the configuration has none any more.
            return self.exceeded.take().map(EventKind::SiteLimitKept);
        };
        let is_turned = |kw: &f64| match self.exceeded {
            None => *kw > max_kw,
            Some(_) => *kw <= max_kw * (1.0 - hysteresis),
        };
        let Some(kw) = kw.filter(is_turned) else {
            self.turned = None;
            return None;
        };
        if now.since(*self.turned.get_or_insert(now)) < hold {
            return None;
        }
        self.turned = None;
        let told = SiteLimitTold { limit: self.limit, max_w: watts(max_kw).unsigned_abs(), power_w: watts(kw) };
        if self.exceeded.take().is_some() {
            return Some(EventKind::SiteLimitKept(told));
        }
        self.exceeded = Some(told);
        Some(EventKind::SiteLimitExceeded(told))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "saturates; a power that makes sense is far below")]
fn watts(kw: f64) -> i64 {
    (kw * 1000.0).round() as i64
}
