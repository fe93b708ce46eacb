//! The depot in several windows.

use std::time::Duration;

use crate::measure::{Direction, Energy, GridConnection, SitePower, SiteRollup};

/// The depot in several windows: powers, currents are means by time, a headroom is the least, energies are added up, and the newest counts.
#[derive(Debug, Default)]
pub(super) struct Site {
    directions: Vec<Direction>,
    flow: Mean,
    import: Mean,
    export: Mean,
    battery: Mean,
    inverter: Mean,
    grid: Option<Grid>,
    soc: Option<(f64, f64, u32)>,
    soc_max: Option<f64>,
    energy: Energy,
    newest: Option<SiteRollup>,
}

/// By time.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    /// Values times seconds.
    sum: f64,
    seconds: f64,
}

#[derive(Debug)]
struct Grid {
    import: Mean,
    export: Mean,
    currents: [Mean; 3],
    headroom_import: Option<f64>,
    headroom_export: Option<f64>,
    newest: GridConnection,
}

impl Mean {
    fn add(&mut self, value: f64, seconds: f64) {
        *self = Self { sum: self.sum + value * seconds, seconds: self.seconds + seconds };
    }

    fn value(self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.sum / self.seconds)
    }
}

impl Site {
    pub(super) fn add(&mut self, rollup: SiteRollup, length: Duration) {
        let seconds = length.as_secs_f64().max(1e-9);
        if let Some(SitePower { direction, flow_kw, import_kw, export_kw }) = rollup.power {
            self.directions.push(direction);
            self.flow.add(flow_kw, seconds);
            self.import.add(import_kw, seconds);
            self.export.add(export_kw, seconds);
        }
        for (mean, kw) in [(&mut self.battery, rollup.battery_power_kw), (&mut self.inverter, rollup.inverter_power_kw)]
        {
            kw.into_iter().for_each(|kw| mean.add(kw, seconds));
        }
        if let Some(grid) = rollup.grid {
            self.grid.get_or_insert_with(|| Grid::of(grid)).add(grid, seconds);
        }
        if let Some((min, mean)) = rollup.soc {
            let (low, sum, count) = self.soc.unwrap_or((f64::INFINITY, 0.0, 0));
            self.soc = Some((low.min(min), sum + mean, count + 1));
        }
        self.soc_max = [self.soc_max, rollup.soc_max].into_iter().flatten().reduce(f64::max);
        self.energy.add(rollup.energy);
        self.newest = Some(rollup);
    }

    pub(super) fn rollup(self) -> Option<SiteRollup> {
        let newest = self.newest?;
        let power = |newest: SitePower| {
            let (flow_kw, import_kw, export_kw) = (self.flow.value()?, self.import.value()?, self.export.value()?);
            let direction = direction(&self.directions, Some(flow_kw)).unwrap_or(newest.direction);
            Some(SitePower { direction, flow_kw, import_kw, export_kw })
        };
        let direction_of_newest = self.directions.last().copied().unwrap_or(Direction::Idle);
        let nothing = SitePower { direction: direction_of_newest, flow_kw: 0.0, import_kw: 0.0, export_kw: 0.0 };
        Some(SiteRollup {
            power: power(newest.power.unwrap_or(nothing)),
            soc: self.soc.map(|(low, sum, count)| (low, sum / f64::from(count))),
            soc_max: self.soc_max,
            battery_power_kw: self.battery.value(),
            inverter_power_kw: self.inverter.value(),
            grid: self.grid.map(Grid::connection),
            energy: self.energy,
            ..newest
        })
    }
}

impl Grid {
    fn of(newest: GridConnection) -> Self {
        let (import, export, currents) = (Mean::default(), Mean::default(), [Mean::default(); 3]);
        Self { import, export, currents, headroom_import: None, headroom_export: None, newest }
    }

    fn add(&mut self, grid: GridConnection, seconds: f64) {
        self.import.add(grid.import_kw, seconds);
        self.export.add(grid.export_kw, seconds);
        for (mean, ampere) in self.currents.iter_mut().zip(grid.currents.into_iter().flatten()) {
            mean.add(ampere, seconds);
        }
        let least = |one: Option<f64>, other: Option<f64>| [one, other].into_iter().flatten().reduce(f64::min);
        self.headroom_import = least(self.headroom_import, grid.headroom_import_kw);
        self.headroom_export = least(self.headroom_export, grid.headroom_export_kw);
        self.newest = grid;
    }

    fn connection(self) -> GridConnection {
        let Self { import, export, currents, headroom_import, headroom_export, newest } = self;
        let [l1, l2, l3] = currents.map(Mean::value);
        GridConnection {
            known_by: newest.known_by,
            import_kw: import.value().unwrap_or(newest.import_kw),
            export_kw: export.value().unwrap_or(newest.export_kw),
            currents: l1.zip(l2).zip(l3).map(|((l1, l2), l3)| [l1, l2, l3]),
            headroom_import_kw: headroom_import,
            headroom_export_kw: headroom_export,
        }
    }
}

/// Of the directions that were seen, the one in which the mean power goes; the dead band is not known here.
pub(super) fn direction(seen: &[Direction], power: Option<f64>) -> Option<Direction> {
    let newest = *seen.last()?;
    let by_power = power.map(|kw| if kw > 0.0 { Direction::GridToVehicle } else { Direction::VehicleToGrid });
    let fits = [by_power, Some(Direction::Idle)].into_iter().flatten().find(|direction| seen.contains(direction));
    Some(if seen.iter().all(|direction| *direction == newest) { newest } else { fits.unwrap_or(newest) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{EnergyDelta, EnergySource, GridKnownBy};

    #[test]
    fn energies_of_the_depot_stay_exact_and_a_headroom_is_the_least_of_its_windows() {
        let mut site = Site::default();
        for (import_kw, mwh) in [(100.0, 7), (240.0, 11), (110.0, 13)] {
            let grid = GridConnection {
                known_by: GridKnownBy::Meter,
                import_kw,
                export_kw: 0.0,
                currents: Some([import_kw, 0.0, 30.0]),
                headroom_import_kw: Some(250.0 - import_kw),
                headroom_export_kw: None,
            };
            let import = Some(EnergyDelta { mwh, source: EnergySource::Register });
            let energy = Energy { import, export: None, known: Some(Duration::from_millis(250)) };
            site.add(
                SiteRollup { grid: Some(grid), energy, free: Some(4), ..SiteRollup::default() },
                Duration::from_millis(250),
            );
        }
        let told = site.rollup().expect("a roll-up");
        let grid = told.grid.expect("a connection");
        assert_eq!((grid.import_kw, grid.headroom_import_kw, grid.headroom_export_kw), (150.0, Some(10.0), None));
        assert_eq!(grid.currents, Some([150.0, 0.0, 30.0]));
        assert_eq!((told.energy.import.map(|delta| delta.mwh), told.free, told.power), (Some(31), Some(4), None));
        assert_eq!(told.energy.known, Some(Duration::from_millis(750)));
    }
}
