use super::*;
use crate::measure::{
    ClockTrust, Energy, EnergyDelta, EnergySource, GridConnection, GridKnownBy, Interval, IntervalValue, Missing, Mono,
    Outcome, PointInterval, SitePower, SiteRollup, Utc, V2gEnergy, Value,
};
use crate::spec::{
    Aggregation, DeviceKind, Origin, PointIx, PointSpec, PollGroup, Scaling, SessionPoint, SessionValue, SunSpecPoint,
    Unit, ValueType,
};

const WINDOW: Duration = Duration::from_millis(250);
const BOOT: BootId = BootId([7; 16]);
const POWER: u16 = 0;
const SOC: u16 = 1;
const STATE: u16 = 2;
const CAPACITY: u16 = 3;

fn point(field: &str, unit: Unit, value_type: ValueType, origin: Origin) -> PointSpec {
    PointSpec {
        field: field.try_into().expect("a field"),
        unit,
        value_type,
        aggregation: Aggregation::usual(value_type, unit),
        valid: None,
        frozen_after: None,
        scaling: Scaling::default(),
        origin,
    }
}

fn polled() -> Origin {
    Origin::SunSpec(SunSpecPoint { from: vec![] })
}

/// Power, SoC, state and capacity, polled each 500 ms.
fn device(id: &str, kind: DeviceKind) -> DeviceSpec {
    let float = |field, unit| point(field, unit, ValueType::Float, polled());
    DeviceSpec {
        id: id.try_into().expect("a name"),
        kind,
        profile: "test".to_owned(),
        points: vec![
            float("power_flow", Unit::Kilowatt),
            float("soc", Unit::Percent),
            point("state", Unit::One, ValueType::Text, polled()),
            float("battery_capacity", Unit::KilowattHour),
        ]
        .into(),
        groups: vec![PollGroup { name: "fast".to_owned(), interval: 2 * WINDOW, blocks: vec![] }],
    }
}

/// A charge point whose sessions are heard: power, SoC, state.
fn heard(id: &str) -> DeviceSpec {
    let of = |field, value_type, value| point(field, Unit::One, value_type, Origin::Session(SessionPoint { value }));
    DeviceSpec {
        points: vec![
            of("power_flow", ValueType::Float, SessionValue::PowerFlow),
            of("soc", ValueType::Float, SessionValue::Soc),
            of("state", ValueType::Text, SessionValue::State),
        ]
        .into(),
        groups: vec![],
        ..device(id, DeviceKind::Evse)
    }
}

/// The meter of a grid connection: power, and the current of each phase.
pub(super) fn meter(id: &str) -> DeviceSpec {
    let fields = ["power_flow", "current_l1", "current_l2", "current_l3"];
    let points = fields.map(|field| point(field, Unit::Kilowatt, ValueType::Float, polled()));
    DeviceSpec { points: points.to_vec().into(), ..device(id, DeviceKind::Meter) }
}

struct Depot {
    deriver: Deriver,
    devices: u16,
}

fn stamp(ms: u64) -> Stamp {
    let ns = ms * 1_000_000;
    Stamp { mono: Mono(ns), utc: Utc(1_764_000_000_000_000_000 + ns.cast_signed()), trust: ClockTrust::Synced }
}

fn good(x: f64) -> Outcome {
    Outcome::Good(Value::Float(x))
}

fn is(state: &str) -> Outcome {
    Outcome::Good(Value::Text(state.into()))
}

impl Depot {
    fn of(devices: &[DeviceSpec]) -> Self {
        let count = u16::try_from(devices.len()).expect("few");
        Self { deriver: Deriver::new(devices, WINDOW, 0.05, BOOT), devices: count }
    }

    fn with_site(self, site: SiteSpec) -> Self {
        Self { deriver: self.deriver.with_site(site), ..self }
    }

    fn read(&mut self, device: u16, point: u16, ms: u64, outcome: Outcome) {
        let reading = Reading { device: DeviceIx(device), point: PointIx(point), at: stamp(ms), outcome, count: None };
        self.deriver.add(&reading);
    }

    fn vehicle(&mut self, device: u16, id: &str) {
        self.deriver.set_vehicle(DeviceIx(device), Some(id.try_into().expect("a name")));
    }

    /// The window that ends here, with a line for each device.
    fn window(&mut self, ms: u64) -> Window {
        let told = PointInterval { point: PointIx(0), value: IntervalValue::Integer(0), questionable: None };
        let interval = |device| Interval {
            device: DeviceIx(device),
            direction: None,
            vehicle: None,
            session: None,
            points: vec![told.clone()],
            energy: Energy::default(),
        };
        let intervals = (0..self.devices).map(interval).collect();
        let mut window = Window { intervals, ..Window::empty(BOOT, stamp(ms), WINDOW) };
        self.deriver.complete(&mut window, false);
        window
    }

    fn close(&mut self, ms: u64) -> SiteRollup {
        *self.window(ms).site.expect("something is known")
    }
}

fn power(site: &SiteRollup) -> (f64, f64, f64) {
    let SitePower { flow_kw, import_kw, export_kw, .. } = site.power.expect("it is known");
    (flow_kw, import_kw, export_kw)
}

#[test]
fn a_vehicle_a_battery_and_an_inverter_have_places_of_their_own_beside_the_charge_points() {
    let kinds = [DeviceKind::Evse, DeviceKind::Vehicle, DeviceKind::Battery, DeviceKind::Inverter, DeviceKind::Meter];
    let devices: Vec<DeviceSpec> = kinds.iter().map(|kind| device(kind.as_str(), *kind)).collect();
    let mut depot = Depot::of(&devices);
    for (ix, kw, soc) in [(0, 11.0, 40.0), (1, 11.0, 41.0), (2, -50.0, 70.0), (3, -20.0, 0.0), (4, -59.0, 0.0)] {
        depot.read(ix, POWER, 50, good(kw));
        depot.read(ix, SOC, 50, good(soc));
    }
    let site = depot.close(250);
    assert_eq!((power(&site), site.charging, site.unknown), ((11.0, 11.0, 0.0), 1, 0));
    assert_eq!((site.battery_power_kw, site.inverter_power_kw), (Some(-50.0), Some(-20.0)));
    assert_eq!((site.soc, site.soc_max), (Some((40.0, 40.5)), Some(41.0)));
    // Without a meter that is named, what is read stands for the connection.
    let grid = site.grid.expect("all is known");
    assert_eq!((grid.known_by, grid.power_kw()), (GridKnownBy::Devices, -59.0));
    // A battery that is not heard: nobody knows what passes the connection.
    depot.read(0, POWER, 2_050, good(11.0));
    depot.read(3, POWER, 2_050, good(-20.0));
    let site = depot.close(2_250);
    assert_eq!((site.battery_power_kw, site.inverter_power_kw, site.grid), (None, Some(-20.0), None));
}

#[test]
fn the_site_sums_what_is_known_and_says_what_is_not() {
    let mut depot = Depot::of(&[device("dc-1", DeviceKind::Evse), device("dc-2", DeviceKind::Evse)]);
    depot.read(0, POWER, 10, good(30.0));
    depot.read(0, SOC, 10, good(60.0));
    depot.read(1, POWER, 10, good(-12.5));
    depot.read(1, SOC, 10, good(80.0));
    let site = depot.close(250);
    assert_eq!(power(&site), (17.5, 30.0, -12.5));
    assert_eq!((site.charging, site.discharging, site.idle, site.unknown), (1, 1, Some(0), 0));
    assert_eq!((site.soc, site.soc_max), (Some((60.0, 70.0)), Some(80.0)));
    // dc-2 falls silent: its last value is not summed for ever.
    for (end, unknown) in [(500, 0), (750, 0), (1_000, 0), (1_250, 0), (1_500, 1), (1_750, 1)] {
        depot.read(0, POWER, end - 100, good(30.0));
        assert_eq!(depot.close(end).unknown, unknown, "at {end}");
    }
}

#[test]
fn of_a_depot_that_is_silent_no_power_is_told() {
    let mut depot = Depot::of(&[device("dc-1", DeviceKind::Evse), device("dc-2", DeviceKind::Evse)]);
    for device in [0, 1] {
        depot.read(device, POWER, 10, Outcome::Missing(Missing::Timeout));
    }
    let site = depot.close(250);
    assert_eq!((site.power, site.grid, site.energy, site.unknown), (None, None, Energy::default(), 2));
    assert_eq!(depot.window(500).site, None, "nothing was heard");
}

/// An AC loop turns every second or two, and the site's power had that of its charge point in every fourth window only.
#[test]
fn a_power_that_a_session_has_told_stands_in_the_sums_until_its_source_says_that_it_does_not() {
    let mut depot = Depot::of(&[heard("ac-1"), heard("dc-2")]);
    depot.read(0, POWER, 100, good(11.0));
    let mut site = |end: u64, outcome: Option<Outcome>| {
        outcome.into_iter().for_each(|outcome| depot.read(0, POWER, end - 100, outcome));
        depot.read(1, POWER, end - 100, good(30.0));
        let site = depot.close(end);
        (power(&site).0, site.unknown)
    };
    for window in 1..41 {
        assert_eq!(site(window * 250, None), (41.0, 0), "{window}");
    }
    let end = 41 * 250;
    assert_eq!(site(end, Some(Outcome::Missing(Missing::Stale))), (30.0, 1));
    // A source that says nothing at all.
    assert_eq!(site(end + 250, Some(good(11.0))), (41.0, 0));
    let later: Vec<_> = (2..54).map(|window| site(end + window * 250, None)).collect();
    assert_eq!((later[40], later[51]), ((41.0, 0), (30.0, 1)));
}

/// Every connector at which nobody charged was one whose power is not known.
#[test]
fn a_connector_without_a_session_is_not_unknown_and_one_that_is_not_heard_is() {
    let mut depot = Depot::of(&[heard("dc-1"), heard("dc-2")]);
    let lost = || Outcome::Missing(Missing::Timeout);
    for (n, outcome, unknown, free) in [
        (1, None, 1, 0),
        (2, Some(is("idle")), 0, 1),
        (3, None, 0, 1),
        (4, Some(is("charging")), 1, 0),
        (5, Some(is("terminated")), 0, 0),
        (6, Some(lost()), 1, 0),
        (7, Some(is("idle")), 0, 1),
        (8, Some(is("encrypted")), 1, 0),
        (9, Some(is("aborted")), 1, 0),
    ] {
        let end = n * 250;
        depot.read(0, POWER, end - 100, good(30.0));
        outcome.into_iter().for_each(|outcome| depot.read(1, STATE, end - 50, outcome));
        let site = depot.close(end);
        assert_eq!((site.charging, site.unknown, site.free), (1, unknown, Some(free)), "at {end}");
    }
}

#[test]
fn a_connector_is_free_as_long_as_its_station_says_so_whatever_the_wire() {
    let mut depot = Depot::of(&[device("ac-1", DeviceKind::Evse), device("ac-2", DeviceKind::Evse)]);
    depot.read(0, STATE, 10, is("available"));
    depot.read(1, STATE, 10, is("finishing"));
    depot.read(1, POWER, 10, good(0.0));
    let site = depot.close(250);
    assert_eq!((site.free, site.idle, site.unknown, power(&site).0), (Some(1), Some(1), 0, 0.0));
    // ac-1 is not heard any more: it may be that somebody has come.
    depot.read(1, POWER, 1_900, good(0.0));
    let site = depot.close(2_000);
    assert_eq!((site.free, site.idle, site.unknown, site.grid), (Some(0), Some(1), 1, None));
    // A word that says nothing of a vehicle.
    depot.read(0, STATE, 2_100, is("faulted"));
    assert_eq!(depot.close(2_250).unknown, 1);
}

#[test]
fn energy_for_v2g_is_that_above_the_floor_of_each_vehicle_once() {
    let devices = [
        device("dc-1", DeviceKind::Evse),
        device("dc-2", DeviceKind::Evse),
        device("dc-3", DeviceKind::Evse),
        device("EV007", DeviceKind::Vehicle),
        device("EV008", DeviceKind::Vehicle),
    ];
    let battery_capacities = [(DeviceIx(1), 40.0)].into();
    let site = SiteSpec { v2g_soc_floor: 30.0, battery_capacities, ..SiteSpec::default() };
    let mut depot = Depot::of(&devices).with_site(site);
    // EV007 is heard twice; what its charge point says counts.
    depot.vehicle(0, "EV007");
    depot.read(0, CAPACITY, 5, good(60.0));
    for (device, soc) in [(0, 80.0), (1, 50.0), (2, 90.0), (3, 81.0), (4, 20.0)] {
        depot.read(device, SOC, 10, good(soc));
    }
    depot.read(4, CAPACITY, 10, good(100.0));
    let site = depot.close(250);
    assert_eq!(site.soc.map(|(min, _)| min), Some(20.0));
    assert_eq!(site.soc.map(|(_, mean)| mean), Some(60.0));
    // 30 kWh, 8 kWh, a capacity that nobody knows, and less than the floor.
    assert_eq!(site.v2g, Some(V2gEnergy { kwh: 38.0, vehicles: 3 }));
    // Another vehicle: what the one before could hold is not its own.
    depot.vehicle(0, "EV009");
    depot.read(0, SOC, 260, good(80.0));
    assert_eq!(depot.close(500).v2g, Some(V2gEnergy { kwh: 8.0 + 0.0, vehicles: 2 }));
}

#[test]
fn the_meter_of_the_connection_says_power_phases_and_headroom() {
    let site = SiteSpec {
        meter: Some(DeviceIx(1)),
        import_max_kw: Some(250.0),
        export_max_kw: Some(100.0),
        ..SiteSpec::default()
    };
    let mut depot = Depot::of(&[device("dc-1", DeviceKind::Evse), meter("grid-main")]).with_site(site);
    depot.read(0, POWER, 10, good(150.0));
    for (point, value) in [(0, 162.5), (1, 200.0), (2, 240.0), (3, 220.0)] {
        depot.read(1, point, 10, good(value));
    }
    let grid = |known_by, kw: f64, currents, headroom: (f64, f64)| GridConnection {
        known_by,
        import_kw: kw.max(0.0),
        export_kw: (-kw).max(0.0),
        currents,
        headroom_import_kw: Some(headroom.0),
        headroom_export_kw: Some(headroom.1),
    };
    let currents = Some([200.0, 240.0, 220.0]);
    let told = depot.close(250);
    assert_eq!(told.grid, Some(grid(GridKnownBy::Meter, 162.5, currents, (87.5, 262.5))));
    depot.read(1, 0, 260, good(-20.0));
    depot.read(1, 3, 260, Outcome::Missing(Missing::Timeout));
    let told = depot.close(500);
    assert_eq!(told.grid, Some(grid(GridKnownBy::Meter, -20.0, None, (270.0, 80.0))));
    // The meter is silent: the charge points are not taken for it.
    depot.read(0, POWER, 2_400, good(150.0));
    assert_eq!(depot.close(2_500).grid, None);
}

#[test]
fn the_energy_of_the_depot_is_that_of_its_meter_or_of_what_is_read_instead() {
    let polls = |depot: &mut Depot| {
        let mut sum = Energy::default();
        for n in 0..9 {
            depot.read(0, POWER, n * 250 + 10, good(36.0));
            depot.read(1, POWER, n * 250 + 10, good(-18.0));
            depot.read(2, POWER, n * 250 + 10, good(72.0));
            sum.add(depot.close((n + 1) * 250).energy);
        }
        let mwh = |delta: Option<EnergyDelta>| delta.map(|delta| (delta.mwh, delta.source));
        (mwh(sum.import), mwh(sum.export), sum.known)
    };
    let devices = [device("dc-1", DeviceKind::Evse), device("dc-2", DeviceKind::Evse), meter("grid-main")];
    let known = Some(Duration::from_millis(2_250));
    // 2 s between the first and the last reading.
    let by_power = |mwh| Some((mwh, EnergySource::Power));
    assert_eq!(polls(&mut Depot::of(&devices)), (by_power(20_000), by_power(10_000), known));
    let site = SiteSpec { meter: Some(DeviceIx(2)), ..SiteSpec::default() };
    assert_eq!(polls(&mut Depot::of(&devices).with_site(site)), (by_power(40_000), None, known));
}

#[test]
fn a_gateway_without_charge_points_and_without_a_meter_of_its_connection_tells_no_site() {
    let mut depot = Depot::of(&[device("grid", DeviceKind::Meter)]);
    depot.read(0, POWER, 10, good(1.0));
    assert_eq!(depot.window(250).site, None);
}
