//! A typical depot: one meter with 50 points, 20 charge points with 10, all read in every window of 250 ms. Values move
//! as they do: floats of a meter in all their bits, chargers in tenths, energy that counts, states that seldom change.

use std::time::Duration;

use v2g_edge::measure::{
    BootId, ClockTrust, Direction, Energy, Interval, IntervalValue, Mono, PointColumn, PointInterval, Schema,
    SeriesSpec, SitePower, SiteRollup, Stamp, Statistic, Utc, Window,
};
use v2g_edge::spec::{DeviceId, DeviceIx, DeviceKind, FieldName, PointIx, Unit, ValueType, VehicleId};

/// 2026-06-01 12:00 UTC.
const NOON_NS: i64 = 1_780_315_200_000_000_000;
const WINDOW_NS: u64 = 250_000_000;
const CHARGER_FIELDS: [&str; 10] = [
    "power_flow",
    "voltage_l1",
    "voltage_l2",
    "voltage_l3",
    "current_l1",
    "current_l2",
    "current_l3",
    "energy_import",
    "soc",
    "state",
];

/// Makes one window after the other.
pub(super) struct Depot {
    chargers: u16,
    meter_points: u16,
    n: u64,
    random: u64,
    energy_wh: Vec<f64>,
}

impl Depot {
    pub(super) fn typical() -> Self {
        Self::new(20, 50)
    }

    pub(super) fn new(chargers: u16, meter_points: u16) -> Self {
        let energy_wh = (0..=chargers).map(|i| 1e6 + f64::from(i) * 12_345.0).collect();
        Self { chargers, meter_points, n: 0, random: 88_172_645_463_325_252, energy_wh }
    }

    pub(super) fn schema(&self) -> Schema {
        let column = |field: String, value_type| PointColumn {
            field: FieldName::try_from(field).expect("a field"),
            unit: Unit::Kilowatt,
            value_type,
            aggregation: v2g_edge::spec::Aggregation::Mean,
        };
        let value_type = |field: &str| if field == "state" { ValueType::Text } else { ValueType::Float };
        let meter = SeriesSpec {
            device: DeviceId::try_from("grid-main").expect("a device"),
            kind: DeviceKind::Meter,
            points: (0..self.meter_points).map(|i| column(format!("voltage_l{i}"), ValueType::Float)).collect(),
        };
        let charger = |i: u16| SeriesSpec {
            device: DeviceId::try_from(format!("evse-{i:02}")).expect("a device"),
            kind: DeviceKind::Evse,
            points: CHARGER_FIELDS.iter().map(|field| column((*field).to_owned(), value_type(field))).collect(),
        };
        Schema {
            gateway: "gw-01".try_into().expect("a gateway"),
            site: "depot-a".try_into().expect("a site"),
            series: std::iter::once(meter).chain((0..self.chargers).map(charger)).collect(),
        }
    }

    pub(super) fn stamp(n: u64) -> Stamp {
        let mono = n * WINDOW_NS;
        Stamp { mono: Mono(mono), utc: Utc(NOON_NS + mono.cast_signed()), trust: ClockTrust::Synced }
    }

    /// xorshift64 (Marsaglia 2003), as -1.0 to 1.0.
    fn noise(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    pub(super) fn window(&mut self) -> Window {
        self.n += 1;
        let mut intervals = vec![self.meter()];
        intervals.extend((0..self.chargers).map(|i| self.charger(i)));
        let site = SiteRollup {
            power: Some(SitePower {
                direction: Direction::GridToVehicle,
                flow_kw: (f64::from(self.chargers) * 11e3 + self.noise() * 500.0).round() / 1e3,
                import_kw: f64::from(self.chargers) * 11.0,
                export_kw: 0.0,
            }),
            charging: self.chargers.into(),
            soc: Some((12.0, 54.1)),
            ..SiteRollup::default()
        };
        Window {
            boot: BootId([7; 16]),
            end: Self::stamp(self.n),
            length: Duration::from_nanos(WINDOW_NS),
            intervals,
            site: Some(Box::new(site)),
            events: Vec::new(),
            sessions: Vec::new(),
            site_intervals: Vec::new(),
            checkpoint: None,
        }
    }

    /// 32-bit floats, as an SDM630 has them: a third moves in all bits, a third in a few, a third (totals, demands) seldom.
    fn meter(&mut self) -> Interval {
        let values: Vec<f64> = (0..self.meter_points)
            .map(|i| {
                let base = 230.0 + f64::from(i) * 7.3;
                f64::from(match i % 3 {
                    0 => (base + self.noise() * 2.0) as f32,
                    1 => ((base + self.noise() * 0.5) * 64.0).round() as f32 / 64.0,
                    _ => (base + (self.n / 240) as f64 * 0.1) as f32,
                })
            })
            .collect();
        Interval {
            device: DeviceIx(0),
            direction: None,
            vehicle: None,
            session: None,
            points: points(&values, None),
            energy: Energy::default(),
        }
    }

    fn charger(&mut self, i: u16) -> Interval {
        // Every sixth is idle.
        let busy = i % 6 != 5;
        let set_w = if busy { 11_000.0 - f64::from(i) * 137.0 } else { 0.0 };
        let power_w = if busy { (set_w + self.noise() * 25.0).round() } else { 0.0 };
        let energy_wh = &mut self.energy_wh[usize::from(i)];
        *energy_wh += power_w / 3600.0 / 4.0;
        let energy = (*energy_wh / 10.0).round() / 100.0;
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let mut values = vec![power_w / 1e3];
        values.extend((0..3).map(|_| tenths(231.0 + self.noise() * 0.8)));
        values.extend((0..3).map(|_| if busy { tenths(set_w / 693.0 + self.noise() * 0.2) } else { 0.0 }));
        values.extend([energy, (20.0 + f64::from(i) + (self.n / 2_400) as f64).min(100.0)]);
        Interval {
            device: DeviceIx(i + 1),
            direction: Some(if busy { Direction::GridToVehicle } else { Direction::Idle }),
            vehicle: busy.then(|| VehicleId::try_from(format!("EV{i:03}")).expect("a vehicle")),
            session: None,
            energy: Energy::default(),
            points: points(&values, Some(if busy { "charging" } else { "available" })),
        }
    }
}

fn points(values: &[f64], state: Option<&str>) -> Vec<PointInterval> {
    let float = |&value: &f64| IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 });
    let values = values.iter().map(float).chain(state.map(|state| IntervalValue::Text(state.into())));
    values.zip(0..).map(|(value, ix)| PointInterval { point: PointIx(ix), value, questionable: None }).collect()
}
