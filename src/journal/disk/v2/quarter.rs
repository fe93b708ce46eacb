//! The quarter-hours and the limits of the grid connection: version 1 has no words for them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::energy::{source_code, source_of};
use crate::journal::disk::chunk::Damage;
use crate::measure::{
    self, BootId, Energy, EnergyDelta, GridKnownBy, SiteInterval, SiteLimit as DomainLimit, SiteLimitTold, Utc,
};

/// A quarter-hour. The order is what is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Quarter {
    /// UTC, ns.
    start: i64,
    from: i64,
    until: i64,
    is_complete: bool,
    /// mWh, and the code of their source (see `energy`).
    import: Option<(u64, u8)>,
    export: Option<(u64, u8)>,
    /// ms.
    known: Option<u64>,
    import_max_kw: f64,
    export_max_kw: f64,
    known_by: KnownBy,
    known_until: Option<i64>,
    is_after_gap: bool,
    forecast: Option<(f64, f64)>,
    /// mWh.
    while_known: (u64, u64),
}

/// The order is what is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum KnownBy {
    Meter,
    Devices,
}

impl From<&SiteInterval> for Quarter {
    fn from(told: &SiteInterval) -> Self {
        let Energy { import, export, known } = told.energy;
        let delta = |delta: Option<EnergyDelta>| delta.map(|delta| (delta.mwh, source_code(delta.source)));
        Self {
            start: told.start.0,
            from: told.from.0,
            until: told.until.0,
            is_complete: told.is_complete,
            import: delta(import),
            export: delta(export),
            known: known.map(|known| u64::try_from(known.as_millis()).unwrap_or(u64::MAX)),
            import_max_kw: told.import_max_kw,
            export_max_kw: told.export_max_kw,
            known_by: match told.known_by {
                GridKnownBy::Meter => KnownBy::Meter,
                GridKnownBy::Devices => KnownBy::Devices,
            },
            known_until: told.known_until.map(|until| until.0),
            is_after_gap: told.is_after_gap,
            forecast: told.forecast,
            while_known: told.while_known,
        }
    }
}

impl Quarter {
    pub(super) fn read(&self) -> Result<SiteInterval, Damage> {
        let delta = |told: Option<(u64, u8)>| {
            let delta = |(mwh, code)| source_of(code).map(|source| EnergyDelta { mwh, source }).ok_or(Damage::Content);
            told.map(delta).transpose()
        };
        let known = self.known.map(Duration::from_millis);
        Ok(SiteInterval {
            start: Utc(self.start),
            from: Utc(self.from),
            until: Utc(self.until),
            is_complete: self.is_complete,
            energy: Energy { import: delta(self.import)?, export: delta(self.export)?, known },
            while_known: self.while_known,
            import_max_kw: self.import_max_kw,
            export_max_kw: self.export_max_kw,
            known_by: match self.known_by {
                KnownBy::Meter => GridKnownBy::Meter,
                KnownBy::Devices => GridKnownBy::Devices,
            },
            known_until: self.known_until.map(Utc),
            is_after_gap: self.is_after_gap,
            forecast: self.forecast,
        })
    }
}

/// A limit that is exceeded, or kept again. The order is what is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Limit {
    limit: Which,
    max_w: u64,
    power_w: i64,
}

/// The order is what is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Which {
    Import,
    Export,
}

impl From<SiteLimitTold> for Limit {
    fn from(SiteLimitTold { limit, max_w, power_w }: SiteLimitTold) -> Self {
        let limit = match limit {
            DomainLimit::Import => Which::Import,
            DomainLimit::Export => Which::Export,
        };
        Self { limit, max_w, power_w }
    }
}

impl From<Limit> for SiteLimitTold {
    fn from(Limit { limit, max_w, power_w }: Limit) -> Self {
        let limit = match limit {
            Which::Import => DomainLimit::Import,
            Which::Export => DomainLimit::Export,
        };
        Self { limit, max_w, power_w }
    }
}

/// How the grid connection stands. The order is what is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SiteProgress {
    newest: Option<Quarter>,
    exceeded: Vec<Limit>,
    has_unplaced: bool,
    boot: Option<[u8; 16]>,
}

impl SiteProgress {
    /// `None`: nothing of it is known.
    pub(super) fn of(progress: &measure::SiteProgress) -> Option<Self> {
        let measure::SiteProgress { newest, exceeded, has_unplaced, boot } = progress;
        let exceeded: Vec<Limit> = exceeded.iter().map(|told| (*told).into()).collect();
        (*progress != measure::SiteProgress::default()).then(|| Self {
            newest: newest.as_ref().map(Quarter::from),
            exceeded,
            has_unplaced: *has_unplaced,
            boot: boot.map(|BootId(id)| id),
        })
    }

    pub(super) fn read(&self) -> Result<measure::SiteProgress, Damage> {
        let newest = self.newest.as_ref().map(Quarter::read).transpose()?;
        let exceeded = self.exceeded.iter().map(|told| (*told).into()).collect();
        Ok(measure::SiteProgress { newest, exceeded, has_unplaced: self.has_unplaced, boot: self.boot.map(BootId) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journal::disk::v2;
    use crate::journal::testing::depot_window;
    use crate::measure::{Checkpoint, EnergySource, Event, EventKind, Window};

    const HOME: BootId = BootId([7; 16]);

    fn quarter() -> SiteInterval {
        let import = Some(EnergyDelta { mwh: 28_125_000, source: EnergySource::Register });
        SiteInterval {
            start: Utc(900),
            from: Utc(1_000),
            until: Utc(-2),
            is_complete: false,
            energy: Energy { import, export: None, known: Some(Duration::from_secs(600)) },
            while_known: (28_000_000, 3),
            import_max_kw: 130.5,
            export_max_kw: 0.0,
            known_by: GridKnownBy::Devices,
            known_until: Some(Utc(5)),
            is_after_gap: true,
            forecast: Some((112.5, 0.0)),
        }
    }

    fn progress() -> measure::SiteProgress {
        let exceeded = SiteLimitTold { limit: DomainLimit::Export, max_w: 100_000, power_w: 101_250 };
        let boot = Some(BootId([9; 16]));
        measure::SiteProgress { newest: Some(quarter()), exceeded: vec![exceeded], has_unplaced: true, boot }
    }

    fn window() -> Window {
        let told = progress().exceeded[0];
        let events = [EventKind::SiteLimitExceeded(told), EventKind::SiteLimitKept(told)];
        Window {
            events: events.into_iter().map(|kind| Event { device: None, kind }).collect(),
            site_intervals: vec![quarter(), SiteInterval { forecast: None, is_complete: true, ..quarter() }],
            checkpoint: Some(Arc::new(Checkpoint { site: progress(), ..Checkpoint::default() })),
            ..depot_window(1, 1, 1)
        }
    }

    #[test]
    fn quarter_hours_limits_and_how_they_stand_come_back_as_they_were() {
        let window = window();
        let bytes = v2::write(&window, HOME, Vec::new()).expect("it can be written");
        assert_eq!(v2::read(&bytes[1..], HOME), Ok(window));
        let noted = v2::CheckpointAtEnd { last: 7, registers: vec![], sessions: vec![], site: progress() };
        let bytes = v2::write_checkpoint(&noted).expect("it is short");
        assert_eq!(v2::read_checkpoint(&bytes), Some(noted));
    }

    /// As written on the day of its making.
    #[test]
    fn the_bytes_of_a_limit_and_of_a_quarter_hour_are_these() {
        let window = Window { checkpoint: None, ..window() };
        let bytes = v2::write(&window, HOME, Vec::new()).expect("it can be written");
        let limit = [1, 0xa0, 0x8d, 6, 0x84, 0xae, 12];
        let quarter = [0x88, 14, 0xd0, 15, 3, 0, 1, 0xc8, 0xce, 0xb4, 13, 2, 0, 1, 0xc0, 0xcf, 36];
        let own =
            [&[2, 3, 0, 0, 25][..], &limit, &[1, 0, 26], &limit, &[0, 0, 27, 2], &quarter, &130.5_f64.to_le_bytes()];
        let own = own.concat();
        assert_eq!(bytes[..own.len()], own);
    }
}
