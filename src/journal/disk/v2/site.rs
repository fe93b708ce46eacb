//! What a window knows of the depot: version 1 has words for the charge points' powers and counts only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::energy::{source_code, source_of};
use crate::journal::disk::chunk::Damage;
use crate::journal::disk::v1::{bytes, number};
use crate::measure::{Energy, EnergyDelta, GridConnection, GridKnownBy, SiteRollup, V2gEnergy};

/// The roll-up beside that of version 1. The order is what is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Site<'a> {
    /// If not, the powers of version 1 are none.
    is_power_known: bool,
    /// Charge points that are idle, and that are free.
    idle_and_free: Option<(u32, u32)>,
    /// In the energy available for V2G; 0: nothing of it is known.
    v2g_vehicles: u32,
    known_by: Option<KnownBy>,
    /// Which numbers are there, the first in the lowest bit (see `Columns`).
    there: u16,
    /// Their codes.
    #[serde(serialize_with = "bytes")]
    codes: &'a [u8],
    #[serde(serialize_with = "bytes")]
    numbers: &'a [u8],
    /// mWh, and the code of their source (see `energy`).
    import: Option<(u64, u8)>,
    export: Option<(u64, u8)>,
    /// ms.
    known: Option<u64>,
}

/// The order is what is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum KnownBy {
    Meter,
    Devices,
}

/// The numbers while they are written: soc_max, v2g, battery, inverter, grid import and export, L1 to L3, headroom of import and export.
#[derive(Debug, Default)]
pub(super) struct Columns {
    there: u16,
    codes: Vec<u8>,
    numbers: Vec<u8>,
}

const NUMBERS: usize = 11;

impl Columns {
    pub(super) fn of(rollup: &SiteRollup) -> Self {
        let grid = rollup.grid;
        let current = |phase: usize| grid.and_then(|grid| grid.currents).map(|currents| currents[phase]);
        let all: [Option<f64>; NUMBERS] = [
            rollup.soc_max,
            rollup.v2g.map(|v2g| v2g.kwh),
            rollup.battery_power_kw,
            rollup.inverter_power_kw,
            grid.map(|grid| grid.import_kw),
            grid.map(|grid| grid.export_kw),
            current(0),
            current(1),
            current(2),
            grid.and_then(|grid| grid.headroom_import_kw),
            grid.and_then(|grid| grid.headroom_export_kw),
        ];
        let mut columns = Self::default();
        for (bit, value) in all.into_iter().enumerate() {
            if let Some(value) = value {
                columns.there |= 1 << bit;
                columns.codes.push(number::write(value, &mut columns.numbers));
            }
        }
        columns
    }

    /// `None`: version 1 has words for all of it.
    pub(super) fn written(&self, rollup: &SiteRollup) -> Option<Site<'_>> {
        let Energy { import, export, known } = rollup.energy;
        let delta = |delta: Option<EnergyDelta>| delta.map(|delta| (delta.mwh, source_code(delta.source)));
        let known_by = rollup.grid.map(|grid| match grid.known_by {
            GridKnownBy::Meter => KnownBy::Meter,
            GridKnownBy::Devices => KnownBy::Devices,
        });
        let idle_and_free = rollup.idle.zip(rollup.free);
        let is_more = rollup.power.is_none() || idle_and_free.is_some() || self.there != 0;
        (is_more || !rollup.energy.is_empty()).then(|| Site {
            is_power_known: rollup.power.is_some(),
            idle_and_free,
            v2g_vehicles: rollup.v2g.map_or(0, |v2g| v2g.vehicles),
            known_by,
            there: self.there,
            codes: &self.codes,
            numbers: &self.numbers,
            import: delta(import),
            export: delta(export),
            known: known.map(|known| u64::try_from(known.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

impl Site<'_> {
    /// Completes what version 1 has told.
    pub(super) fn put(&self, rollup: &mut SiteRollup) -> Result<(), Damage> {
        let (mut numbers, mut codes) = (self.numbers, self.codes.iter());
        let mut all = [None; NUMBERS];
        let is_there = |(bit, _): &(usize, &mut Option<f64>)| self.there >> bit & 1 == 1;
        for (_, value) in all.iter_mut().enumerate().filter(is_there) {
            *value = Some(number::read(*codes.next().ok_or(Damage::Content)?, &mut numbers)?);
        }
        let [soc_max, v2g, battery, inverter, import_kw, export_kw, l1, l2, l3, headroom_import, headroom_export] = all;
        let delta = |told: Option<(u64, u8)>| {
            let delta = |(mwh, code)| source_of(code).map(|source| EnergyDelta { mwh, source }).ok_or(Damage::Content);
            told.map(delta).transpose()
        };
        if !self.is_power_known {
            rollup.power = None;
        }
        (rollup.idle, rollup.free) = self.idle_and_free.unzip();
        rollup.soc_max = soc_max;
        rollup.v2g = v2g.map(|kwh| V2gEnergy { kwh, vehicles: self.v2g_vehicles });
        (rollup.battery_power_kw, rollup.inverter_power_kw) = (battery, inverter);
        rollup.grid = match (self.known_by, import_kw, export_kw) {
            (Some(known_by), Some(import_kw), Some(export_kw)) => Some(GridConnection {
                known_by: match known_by {
                    KnownBy::Meter => GridKnownBy::Meter,
                    KnownBy::Devices => GridKnownBy::Devices,
                },
                import_kw,
                export_kw,
                currents: l1.zip(l2).zip(l3).map(|((l1, l2), l3)| [l1, l2, l3]),
                headroom_import_kw: headroom_import,
                headroom_export_kw: headroom_export,
            }),
            _ => None,
        };
        let known = self.known.map(Duration::from_millis);
        rollup.energy = Energy { import: delta(self.import)?, export: delta(self.export)?, known };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::v2;
    use crate::journal::testing::depot_window;
    use crate::measure::{BootId, Direction, EnergySource, SitePower, Window};

    const HOME: BootId = BootId([7; 16]);

    fn window(site: SiteRollup) -> Window {
        Window { site: Some(site.into()), ..depot_window(1, 1, 1) }
    }

    fn all() -> SiteRollup {
        SiteRollup {
            power: Some(SitePower { direction: Direction::Idle, flow_kw: 0.5, import_kw: 0.5, export_kw: 0.0 }),
            charging: 1,
            idle: Some(2),
            free: Some(300),
            soc: Some((12.0, 54.1)),
            soc_max: Some(97.5),
            v2g: Some(V2gEnergy { kwh: 30.25, vehicles: 2 }),
            battery_power_kw: Some(-20.0),
            inverter_power_kw: Some(0.1 + 0.2),
            grid: Some(GridConnection {
                known_by: GridKnownBy::Devices,
                import_kw: 112.4,
                export_kw: 0.0,
                currents: Some([1.0, 2.0, 3.5]),
                headroom_import_kw: None,
                headroom_export_kw: Some(-7.0),
            }),
            energy: Energy {
                import: Some(EnergyDelta { mwh: 500, source: EnergySource::Mixed }),
                export: None,
                known: Some(Duration::from_millis(250)),
            },
            ..SiteRollup::default()
        }
    }

    #[test]
    fn what_is_known_of_a_depot_comes_back_as_it_was() {
        let meter = |grid: GridConnection| GridConnection { known_by: GridKnownBy::Meter, currents: None, ..grid };
        let nothing = SiteRollup { unknown: 3, idle: Some(0), free: Some(0), ..SiteRollup::default() };
        let of_meter = SiteRollup { grid: all().grid.map(meter), v2g: None, ..all() };
        for site in [all(), nothing, of_meter, SiteRollup { energy: Energy::default(), grid: None, ..all() }] {
            let window = window(site);
            let bytes = v2::write(&window, HOME, Vec::new()).expect("it can be written");
            assert_eq!(v2::read(&bytes[1..], HOME), Ok(window));
        }
    }

    #[test]
    fn what_version_1_can_say_takes_no_byte_more() {
        let site = SiteRollup { power: all().power, charging: 1, soc: all().soc, ..SiteRollup::default() };
        let bytes = v2::write(&window(site), HOME, Vec::new()).expect("it can be written");
        assert_eq!(bytes[..2], [v2::VERSION, 0]);
    }

    /// As written on the day of its making.
    #[test]
    fn the_bytes_of_a_depot_are_these() {
        let bytes = v2::write(&window(all()), HOME, Vec::new()).expect("it can be written");
        let head = [2, 1, 0, 0, 24, 1, 1, 2, 0xac, 2, 2, 1, 1, 0xff, 11, 10];
        assert_eq!(bytes[..head.len()], head);
    }

    #[test]
    fn a_depot_with_numbers_that_are_not_there_is_damage() {
        let columns = Columns::of(&all());
        let rollup = all();
        let mut site = columns.written(&rollup).expect("more than version 1 has");
        site.numbers = &site.numbers[..3];
        assert_eq!(site.put(&mut SiteRollup::default()), Err(Damage::Content));
    }
}
