//! The depot as one: charge points, vehicles, stationary batteries, inverters, and the meter of the grid connection.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::measure::{
    Direction, Energy, GridConnection, GridKnownBy, Interval, Mono, Outcome, Reading, SitePower, SiteRollup, V2gEnergy,
    Value, Window,
};
use crate::spec::{
    Connector, DeviceIx, DeviceKind, DeviceSpec, FieldName, Origin, PointIx, Roles, SessionPoint, SessionValue,
    SiteSpec, VehicleId,
};

/// States of a connector whose sessions are heard, in which there is none. Not among them are those after which one may go on unheard.
const WITHOUT_SESSION: [&str; 6] = ["idle", "discovery", "handshake", "terminated", "failed", "paused"];

/// A charging loop turns every 0.25 s (DC) to some seconds (AC). The source says itself when what it heard is of the moment no more: after
/// 10 s of silence, which it looks for once a second.
const SESSION_HOLD: Duration = Duration::from_secs(12);
const PHASES: [&str; 3] = ["current_l1", "current_l2", "current_l3"];

/// What is known of every device that has a part in the depot, now.
///
/// A device is read less often than windows close, so a sum needs the newest value of each; but only while it
/// can still be true: for two polls and a window, or until its source says that it is not. After that the charge point is counted as unknown,
/// never summed. One that is free, or whose sessions are heard and that has none, has no power that could be unknown.
#[derive(Debug)]
pub(super) struct Rollup {
    dead_band_kw: f64,
    site: SiteSpec,
    /// Indexed by device.
    members: Vec<Member>,
    /// Whether anything of a charge point or of the connection was read in the open window.
    heard: bool,
    /// For how long the power of the connection was known in windows that were not kept: their energy comes again in the next.
    known_before: Option<Duration>,
}

/// What a device is in the depot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    ChargePoint,
    /// Its power is that of its charge point once more; its state of charge counts.
    Vehicle,
    Battery,
    Inverter,
    /// The meter of the grid connection.
    Grid,
    /// What another meter measures may be that of the others once more.
    Meter,
}

/// A value and when it was read.
type Newest = Option<(f64, Mono)>;

#[derive(Debug)]
struct Member {
    part: Part,
    /// Of a vehicle that is heard by itself, where nobody tells another one.
    name: String,
    vehicle: Option<VehicleId>,
    roles: Roles,
    currents_ix: [Option<PointIx>; 3],
    capacity_ix: Option<PointIx>,
    state: Option<State>,
    power_hold: Duration,
    soc_hold: Duration,
    power: Newest,
    soc: Newest,
    currents: [Newest; 3],
    /// kWh, of the vehicle that stands there.
    capacity: Option<f64>,
    /// Where nobody tells it.
    planned_capacity: Option<f64>,
}

/// The state of a connector.
#[derive(Debug)]
struct State {
    ix: PointIx,
    /// How long it stands; `None`: until its source says that it does not.
    hold: Option<Duration>,
    said: Option<(Said, Mono)>,
}

/// What a state says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// No vehicle is there.
    Free,
    /// A vehicle may be there, and no energy flows.
    AtRest,
}

impl Rollup {
    pub(super) fn new(devices: &[DeviceSpec], window: Duration, dead_band_kw: f64) -> Self {
        let members = devices.iter().map(|device| Member::of(device, window)).collect();
        Self { dead_band_kw, site: SiteSpec::default(), members, heard: false, known_before: None }
    }

    pub(super) fn set_site(&mut self, site: SiteSpec) {
        if let Some(meter) = site.meter.and_then(|ix| self.member(ix)) {
            meter.part = Part::Grid;
        }
        for (device, capacity) in &site.battery_capacities {
            if let Some(member) = self.member(*device) {
                member.planned_capacity = Some(*capacity);
            }
        }
        self.site = site;
    }

    fn member(&mut self, device: DeviceIx) -> Option<&mut Member> {
        self.members.get_mut(usize::from(device.0))
    }

    pub(super) fn set_vehicle(&mut self, device: DeviceIx, vehicle: Option<&VehicleId>) {
        if let Some(member) = self.member(device).filter(|member| member.vehicle.as_ref() != vehicle) {
            (member.vehicle, member.capacity) = (vehicle.cloned(), None);
        }
    }

    /// Takes a reading of the moment.
    pub(super) fn add(&mut self, reading: &Reading) {
        // What came late is of another time.
        if reading.at.trust.is_of_source() {
            return;
        }
        let Some(member) = self.member(reading.device) else { return };
        let is_power = Some(reading.point) == member.roles.power;
        let part = member.part;
        member.add(reading);
        self.heard |= is_power && matches!(part, Part::ChargePoint | Part::Grid);
    }

    /// Completes a window whose intervals know their energies.
    pub(super) fn complete(&mut self, window: &mut Window) {
        let heard = std::mem::take(&mut self.heard);
        let end = window.end.mono;
        let mut rollup = self.charge_points(end);
        self.charge_levels(end, &mut rollup);
        rollup.battery_power_kw = self.sum(Part::Battery, end).map(|(import, export)| import - export);
        rollup.inverter_power_kw = self.sum(Part::Inverter, end).map(|(import, export)| import - export);
        rollup.grid = self.grid(&rollup, end);
        rollup.energy = self.energy(&window.intervals);
        for known in [rollup.grid.map(|_| window.length), self.known_before.take()] {
            rollup.energy.add(Energy { known, ..Energy::default() });
        }
        let is_known = rollup.power.is_some() || rollup.soc.is_some() || !rollup.energy.is_empty();
        window.site = (heard || is_known).then(|| Box::new(rollup));
    }

    /// A window is not kept: for how long it knew the power is told with its energy in the next one.
    pub(super) fn take_back(&mut self, window: &Window) {
        if let Some(known) = window.site.as_ref().and_then(|site| site.energy.known) {
            self.known_before = Some(self.known_before.unwrap_or_default() + known);
        }
    }

    fn of(&self, part: Part) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.part == part)
    }

    /// Their powers and what they do.
    fn charge_points(&self, end: Mono) -> SiteRollup {
        let mut rollup = SiteRollup::default();
        let (mut import_kw, mut export_kw) = (0.0, 0.0);
        let (mut idle, mut free, mut known) = (0, 0, 0);
        for point in self.of(Part::ChargePoint).filter(|point| point.roles.power.is_some() || point.state.is_some()) {
            let (power, said) = (point.power(end), point.said(end));
            free += u32::from(said == Some(Said::Free));
            let Some(kw) = power.or(said.map(|_| 0.0)) else {
                rollup.unknown += 1;
                continue;
            };
            known += 1;
            match Direction::of(kw, self.dead_band_kw) {
                Direction::GridToVehicle => rollup.charging += 1,
                Direction::VehicleToGrid => rollup.discharging += 1,
                Direction::Idle => idle += u32::from(said != Some(Said::Free)),
            }
            import_kw += kw.max(0.0);
            export_kw += kw.min(0.0);
        }
        let flow_kw = import_kw + export_kw;
        let direction = Direction::of(flow_kw, self.dead_band_kw);
        rollup.power = (known > 0).then_some(SitePower { direction, flow_kw, import_kw, export_kw });
        (rollup.idle, rollup.free) = (Some(idle), Some(free));
        rollup
    }

    /// The vehicles at charge points, and those that are heard by themselves, each once: it is known by its id, or by the name of its device.
    fn charge_levels(&self, end: Mono, rollup: &mut SiteRollup) {
        let mut seen = BTreeSet::new();
        let mut levels = Vec::new();
        for member in self.of(Part::ChargePoint).chain(self.of(Part::Vehicle)) {
            let Some(soc) = member.soc(end) else { continue };
            let own_name = (member.part == Part::Vehicle).then_some(member.name.as_str());
            let id = member.vehicle.as_ref().map(VehicleId::as_str).or(own_name);
            if id.is_none_or(|id| seen.insert(id)) {
                levels.push((soc, member.capacity.or(member.planned_capacity)));
            }
        }
        if levels.is_empty() {
            return;
        }
        let count = f64::from(u32::try_from(levels.len()).unwrap_or(u32::MAX));
        let sum: f64 = levels.iter().map(|(soc, _)| soc).sum();
        let (min, max) = levels.iter().fold((f64::INFINITY, 0.0_f64), |(a, b), (soc, _)| (a.min(*soc), b.max(*soc)));
        (rollup.soc, rollup.soc_max) = (Some((min, (sum / count).clamp(min, max))), Some(max));
        let floor = self.site.v2g_soc_floor;
        let known = levels.iter().filter_map(|(soc, capacity)| Some((soc - floor).max(0.0) / 100.0 * (*capacity)?));
        let (kwh, vehicles) = known.fold((0.0, 0), |(kwh, vehicles), more| (kwh + more, vehicles + 1));
        rollup.v2g = (vehicles > 0).then_some(V2gEnergy { kwh, vehicles });
    }

    /// The powers of all devices of a kind, taken and given; `None`: there are none, or one is not known.
    fn sum(&self, part: Part, end: Mono) -> Option<(f64, f64)> {
        let mut powers = self.of(part).filter(|member| member.roles.power.is_some()).peekable();
        powers.peek()?;
        let both = |kw: f64| (kw.max(0.0), (-kw).max(0.0));
        powers.try_fold((0.0, 0.0), |(import, export), member| {
            let (more_import, more_export) = both(member.power(end)?);
            Some((import + more_import, export + more_export))
        })
    }

    /// `rollup` knows the charge points, the batteries and the inverters.
    fn grid(&self, rollup: &SiteRollup, end: Mono) -> Option<GridConnection> {
        let SiteSpec { meter, import_max_kw, export_max_kw, .. } = &self.site;
        let (known_by, (import_kw, export_kw)) = match meter {
            Some(_) => (GridKnownBy::Meter, self.sum(Part::Grid, end)?),
            None => (GridKnownBy::Devices, self.all_devices(rollup, end)?),
        };
        let currents = || {
            let known = self.of(Part::Grid).next()?.currents(end);
            let [Some(l1), Some(l2), Some(l3)] = known else { return None };
            Some([l1, l2, l3])
        };
        let power_kw = import_kw - export_kw;
        Some(GridConnection {
            known_by,
            import_kw,
            export_kw,
            currents: currents(),
            headroom_import_kw: import_max_kw.map(|max| max - power_kw),
            headroom_export_kw: export_max_kw.map(|max| max + power_kw),
        })
    }

    /// All that is read of what takes and gives; `None`: of one of them it is not known.
    fn all_devices(&self, rollup: &SiteRollup, end: Mono) -> Option<(f64, f64)> {
        let SitePower { import_kw, export_kw, .. } = rollup.power.filter(|_| rollup.unknown == 0)?;
        let (mut import, mut export) = (import_kw, -export_kw);
        for part in [Part::Battery, Part::Inverter] {
            if self.of(part).any(|member| member.roles.power.is_some()) {
                let (more_import, more_export) = self.sum(part, end)?;
                (import, export) = (import + more_import, export + more_export);
            }
        }
        Some((import, export))
    }

    /// What the devices that stand for the connection know.
    fn energy(&self, intervals: &[Interval]) -> Energy {
        let stands_for_it = |interval: &&Interval| {
            let member = self.members.get(usize::from(interval.device.0));
            member.is_some_and(|member| match self.site.meter {
                Some(_) => member.part == Part::Grid,
                None => matches!(member.part, Part::ChargePoint | Part::Battery | Part::Inverter),
            })
        };
        let mut energy = Energy::default();
        for interval in intervals.iter().filter(stands_for_it) {
            energy.add(Energy { known: None, ..interval.energy });
        }
        energy
    }
}

impl Member {
    fn of(device: &DeviceSpec, window: Duration) -> Self {
        let part = match device.kind {
            DeviceKind::Evse => Part::ChargePoint,
            DeviceKind::Vehicle => Part::Vehicle,
            DeviceKind::Battery => Part::Battery,
            DeviceKind::Inverter => Part::Inverter,
            DeviceKind::Meter => Part::Meter,
        };
        let place = |name: &str| device.points.place_of(&FieldName::try_from(name).ok()?);
        let roles = device.points.roles();
        let is_heard = |origin: &Origin| matches!(origin, Origin::Session(SessionPoint { value: SessionValue::State }));
        let state = place("state").filter(|_| part == Part::ChargePoint);
        let has_sessions = state.is_some_and(|ix| is_heard(&device.points[usize::from(ix.0)].origin));
        let hold = |point: Option<PointIx>| {
            let polled = point.and_then(|point| device.interval_of(point)).unwrap_or(window);
            if has_sessions { SESSION_HOLD } else { 2 * polled + window }
        };
        // Who speaks by himself tells a state less often than a power.
        let speaks = device.groups.is_empty();
        let state_hold = if speaks { SESSION_HOLD } else { hold(state) };
        Self {
            part,
            name: device.id.to_string(),
            vehicle: None,
            roles,
            currents_ix: PHASES.map(place),
            capacity_ix: place("battery_capacity"),
            state: state.map(|ix| State { ix, hold: (!has_sessions).then_some(state_hold), said: None }),
            power_hold: hold(roles.power),
            soc_hold: hold(roles.soc),
            power: None,
            soc: None,
            currents: [None; 3],
            capacity: None,
            planned_capacity: None,
        }
    }

    fn add(&mut self, reading: &Reading) {
        let at = reading.at.mono;
        if let Some(state) = self.state.as_mut().filter(|state| state.ix == reading.point) {
            let is_heard = state.hold.is_none();
            state.said = match &reading.outcome {
                Outcome::Good(Value::Text(word)) => Said::of(word, is_heard).map(|said| (said, at)),
                _ => None,
            };
            if matches!(state.said, Some((Said::Free, _))) {
                self.capacity = None;
            }
            return;
        }
        let known = match &reading.outcome {
            Outcome::Good(Value::Float(x)) => Some((*x, at)),
            _ => None,
        };
        let point = Some(reading.point);
        if point == self.roles.power {
            self.power = known;
        } else if point == self.roles.soc {
            self.soc = known;
        } else if point == self.capacity_ix {
            // It is told once in a while.
            self.capacity = known.map_or(self.capacity, |(kwh, _)| Some(kwh));
        } else if let Some(phase) = self.currents_ix.iter().position(|ix| *ix == point) {
            self.currents[phase] = known;
        }
    }

    fn power(&self, end: Mono) -> Option<f64> {
        fresh(self.power, end, self.power_hold)
    }

    fn soc(&self, end: Mono) -> Option<f64> {
        // A vehicle that has left has none.
        fresh(self.soc, end, self.soc_hold).filter(|_| self.said(end) != Some(Said::Free))
    }

    fn currents(&self, end: Mono) -> [Option<f64>; 3] {
        self.currents.map(|current| fresh(current, end, self.power_hold))
    }

    fn said(&self, end: Mono) -> Option<Said> {
        let State { hold, said, .. } = self.state.as_ref()?;
        let (said, at) = (*said)?;
        hold.is_none_or(|hold| end.since(at) <= hold).then_some(said)
    }
}

impl Said {
    /// `is_heard`: the word is of a session that is heard.
    fn of(word: &str, is_heard: bool) -> Option<Self> {
        match Connector::of_state(word) {
            Some(Connector::Free) => Some(Self::Free),
            _ if is_heard && WITHOUT_SESSION.contains(&word) => Some(Self::AtRest),
            _ => None,
        }
    }
}

fn fresh(value: Newest, end: Mono, hold: Duration) -> Option<f64> {
    value.filter(|(_, at)| end.since(*at) <= hold).map(|(value, _)| value)
}
