//! The depot as one, as a line.

use super::energy::energy;
use super::line::Line;
use crate::measure::{EnergyDelta, GridConnection, SiteInterval, SiteRollup};

const S: i64 = 1_000_000_000;

/// All that a window knows of the depot. What is not known has no field.
pub(super) fn site(line: Line, rollup: &SiteRollup) -> Line {
    let SiteRollup {
        power,
        charging,
        discharging,
        idle,
        free,
        unknown,
        soc,
        soc_max,
        v2g,
        battery_power_kw,
        inverter_power_kw,
        grid,
        energy: passed,
    } = rollup;
    let mut line = match power {
        Some(power) => line.tag("direction", power.direction.as_str()),
        None => line,
    };
    if let Some(power) = power {
        line.float("power_flow", "", power.flow_kw);
        line.float("power_import", "", power.import_kw);
        line.float("power_export", "", power.export_kw);
    }
    line.count("charging", (*charging).into());
    line.count("discharging", (*discharging).into());
    for (key, count) in [("idle", *idle), ("free", *free), ("unknown", (*unknown > 0).then_some(*unknown))] {
        if let Some(count) = count {
            line.count(key, count.into());
        }
    }
    if let Some((min, mean)) = soc {
        line.float("soc", "_min", *min);
        line.float("soc", "_mean", *mean);
    }
    if let Some(max) = soc_max {
        line.float("soc", "_max", *max);
    }
    if let Some(v2g) = v2g {
        line.float("energy_v2g_available", "", v2g.kwh);
        line.count("energy_v2g_vehicles", v2g.vehicles.into());
    }
    for (key, kw) in [("battery_power", battery_power_kw), ("inverter_power", inverter_power_kw)] {
        if let Some(kw) = kw {
            line.float(key, "", *kw);
        }
    }
    if let Some(grid) = grid {
        connection(&mut line, grid);
    }
    energy(&mut line, *passed);
    line
}

/// A quarter-hour of the grid connection. Its time stamp is its beginning, so that a database keeps one row for each.
pub(super) fn site_interval(mut line: Line, told: &SiteInterval) -> Line {
    line.text("state", if told.is_complete { "complete" } else { "open" });
    line.integer("start", told.start.0.div_euclid(S));
    line.integer("end", told.until.0.div_euclid(S));
    line.text("known_by", told.known_by.as_str());
    let kwh = |delta: Option<EnergyDelta>| delta.map_or(0.0, EnergyDelta::kwh);
    line.float("energy_import", "", kwh(told.energy.import));
    line.float("energy_export", "", kwh(told.energy.export));
    line.float("known_s", "", told.energy.known.unwrap_or_default().as_secs_f64());
    for (of, means) in [("_mean", told.means()), ("_forecast", told.forecast)] {
        if let Some((import_kw, export_kw)) = means {
            line.float("power_import", of, import_kw);
            line.float("power_export", of, export_kw);
        }
    }
    line.float("power_import", "_peak", told.import_max_kw);
    line.float("power_export", "_peak", told.export_max_kw);
    line
}

fn connection(line: &mut Line, grid: &GridConnection) {
    line.float("grid_power", "", grid.power_kw());
    line.text("grid_known_by", grid.known_by.as_str());
    for (key, ampere) in ["current_l1", "current_l2", "current_l3"].into_iter().zip(grid.currents.into_iter().flatten())
    {
        line.float(key, "", ampere);
    }
    if let Some(percent) = grid.imbalance() {
        line.float("imbalance", "", percent);
    }
    for (key, kw) in [("headroom_import", grid.headroom_import_kw), ("headroom_export", grid.headroom_export_kw)] {
        if let Some(kw) = kw {
            line.float(key, "", kw);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure::{Direction, Energy, EnergyDelta, EnergySource, GridKnownBy, SitePower, V2gEnergy};
    use crate::uplink::wire::line::Lines;

    fn told(rollup: &SiteRollup) -> String {
        let mut lines = Lines::default();
        lines.push(site(Line::new("site"), rollup), 5);
        lines.finish()
    }

    #[test]
    fn what_is_known_of_the_depot_is_told_and_nothing_is_made_up() {
        let nothing = SiteRollup { unknown: 2, idle: Some(0), free: Some(0), ..SiteRollup::default() };
        assert_eq!(told(&nothing), "site charging=0i,discharging=0i,idle=0i,free=0i,unknown=2i 5");
        let import = Some(EnergyDelta { mwh: 7_800, source: EnergySource::Register });
        let all = SiteRollup {
            power: Some(SitePower { direction: Direction::Idle, flow_kw: 0.0, import_kw: 11.0, export_kw: -11.0 }),
            charging: 1,
            discharging: 1,
            idle: Some(0),
            free: Some(3),
            unknown: 0,
            soc: Some((12.0, 54.5)),
            soc_max: Some(97.0),
            v2g: Some(V2gEnergy { kwh: 30.25, vehicles: 2 }),
            battery_power_kw: Some(-20.0),
            inverter_power_kw: Some(-5.5),
            grid: Some(GridConnection {
                known_by: GridKnownBy::Meter,
                import_kw: 112.5,
                export_kw: 0.0,
                currents: Some([150.0, 180.0, 150.0]),
                headroom_import_kw: Some(137.5),
                headroom_export_kw: Some(212.5),
            }),
            energy: Energy { import, export: None, known: Some(Duration::from_millis(250)) },
        };
        let expected = "site,direction=idle power_flow=0,power_import=11,power_export=-11,charging=1i,discharging=1i,idle=0i,\
            free=3i,soc_min=12,soc_mean=54.5,soc_max=97,energy_v2g_available=30.25,energy_v2g_vehicles=2i,battery_power=-20,\
            inverter_power=-5.5,grid_power=112.5,grid_known_by=\"meter\",current_l1=150,current_l2=180,current_l3=150,\
            imbalance=12.5,headroom_import=137.5,headroom_export=212.5,energy_import_delta=0.0078,known_s=0.25 5";
        assert_eq!(told(&all), expected);
    }
}
