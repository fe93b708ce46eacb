//! `[device.*]`: a meter or a charger, joined with its bus and its profile.

use std::ops::RangeInclusive;
use std::time::Duration;

use hal::UnitId;

use super::bus::TIMEOUT;
use super::document::{Entry, Table, Value};
use super::fault::{Fault, Place};
use super::plan::{BusKind, BusPlan, DeviceAddress, DevicePlan};
use super::profile::{INTERVAL, KINDS, Medium, Node, Profile, RuleDraft};
use super::profiles::{Found, Library};
use super::section::{
    Form, Scope, Section, Taken, Wrong, duration_within, energy_within, integer, nearest, one_of, text,
};
use super::uplink::io_reason;
use crate::net::{Endpoint, SessionSource};
use crate::spec::{BusId, DeviceKind, DeviceSpec};

pub(super) const DEVICE: Form = Form {
    table: "device.*",
    keys: &[
        ("kind", "\"meter\""),
        ("bus", "\"lan\""),
        ("address", "\"10.0.0.17:502\""),
        ("unit", "1"),
        ("node", "3"),
        ("connector", "2"),
        ("profile", "\"eastron-sdm630\""),
        ("poll", "\"500ms\""),
        ("timeout", "\"1s\""),
        ("pause", "\"50ms\""),
        ("battery_capacity", "\"77kWh\""),
        ("plausibility", ""),
    ],
};

/// Between a reply and the next request. A device that needs more wants a longer poll.
pub(super) const PAUSE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);
/// Wh. Below, nothing drives; above, no vehicle.
const BATTERY_CAPACITY: RangeInclusive<u64> = 1_000..=10_000_000;
/// Registered for Modbus TCP.
const MODBUS_PORT: u16 = 502;

/// What devices may refer to.
#[derive(Debug)]
pub(super) struct Surrounding<'a> {
    pub buses: &'a [BusPlan],
    /// Every bus that the file names, also those with mistakes.
    pub bus_names: &'a [String],
    pub library: &'a Library<'a>,
}

/// One device; `None` after reporting what is wrong with it.
pub(super) fn device(scope: Scope<'_>, around: &Surrounding<'_>, entry: &Entry, table: &Table) -> Option<DevicePlan> {
    let section = Section::new(scope, &DEVICE, format!("device.{}", entry.key), table);
    let id = super::child_name(scope, &section.title, entry);
    let kind = section.required("kind", one_of(&KINDS));
    let bus_id = section.required("bus", |value| bus_name(value, around.bus_names));
    let bus = bus_id.as_ref().and_then(|id| around.buses.iter().find(|bus| bus.id == *id));
    let poll = section.optional("poll", duration_within(INTERVAL));
    let own_timeout = section.optional("timeout", duration_within(TIMEOUT));
    let own_pause = section.optional("pause", duration_within(PAUSE));
    let battery_capacity_kwh = battery_capacity(&section, kind);
    let addressed = addressed(&section, bus);
    let rules = RuleDraft::read_all(scope, &section);
    let profile_name = section.required("profile", text);
    let profile = profile_name.as_ref().and_then(|name| match around.library.find(name) {
        Found::Profile(profile) => Some(profile),
        Found::Broken => None,
        Found::Unknown(instead) => {
            section.blame("profile", format!("there is no profile \"{name}\""), instead);
            None
        }
        Found::Unreadable(error) => {
            let problem = format!("the profile \"{name}\" cannot be read: {}", io_reason(&error));
            section.blame("profile", problem, format!("a readable text devices/{name}.toml"));
            None
        }
    });
    if let (Some(kind), Some(profile), Some(name)) = (kind, &profile, &profile_name)
        && kind != profile.kind
    {
        blame_kind(&section, kind, profile.kind, name);
    }
    let (profile, profile_name) = (profile?, profile_name?);
    if let Some(bus) = bus {
        check_medium(&section, bus, profile.medium, &profile_name)?;
    }
    let (connector, points) = match profile.medium {
        Medium::Modbus => {
            let connector = connector(&section, &profile, &profile_name);
            (connector, profile.points(connector.unwrap_or(1)))
        }
        Medium::Can(place) => (None, profile.points_of(numbered(&section, place, &profile_name)?)),
        // The connector of a session is its address.
        Medium::Session => (None, profile.points(1)),
    };
    let points = RuleDraft::applied(&rules, points, profile.kind, scope.faults);
    let first = connector.unwrap_or(1);
    let spec = DeviceSpec {
        id: id?,
        kind: kind?,
        profile: profile_name,
        groups: profile.groups(first, poll.unwrap_or(profile.poll)),
        points,
    };
    let Addressed { address, bus_timeout } = addressed?;
    let timeout = own_timeout.unwrap_or(bus_timeout);
    let pause = own_pause.unwrap_or(profile.pause);
    let (bus, line) = (bus_id?, section.header().line());
    Some(DevicePlan { spec, bus, address, connector, battery_capacity_kwh, timeout, pause, line })
}

/// Of a vehicle, or of the one that always stands there.
fn battery_capacity(section: &Section<'_>, kind: Option<DeviceKind>) -> Option<f64> {
    let watt_hours = section.optional("battery_capacity", energy_within(BATTERY_CAPACITY))?;
    if let Some(kind) = kind.filter(|kind| !matches!(kind, DeviceKind::Evse | DeviceKind::Vehicle)) {
        let problem = format!("no vehicle is at a device of kind {}", kind.as_str());
        section.blame("battery_capacity", problem, "delete this line; it is of an evse or a vehicle");
    }
    #[allow(clippy::cast_precision_loss, reason = "bounded by 10 MWh")]
    let kwh = watt_hours as f64 / 1000.0;
    Some(kwh)
}

/// Which of a station's connectors; the first unless it is said. `None` where the profile has one only.
fn connector(section: &Section<'_>, profile: &Profile, name: &str) -> Option<u16> {
    let Some(connectors) = profile.connectors else {
        if section.has("connector") {
            let problem = format!("the profile {name} has one connector only");
            section.blame("connector", problem, "delete this line; each device has its own address or unit");
        }
        return None;
    };
    Some(section.optional("connector", integer(1..=connectors.count)).unwrap_or(1))
}

/// The number of a device on a CAN bus: `None` after reporting that it must have one and has none, or the other way round.
fn numbered(section: &Section<'_>, place: Option<Node>, profile: &str) -> Option<Option<u32>> {
    match (place, section.has("node")) {
        (None, false) => Some(None),
        (None, true) => {
            let problem = format!("the devices of the profile {profile} have no number of their own on the bus");
            section.blame("node", problem, "delete this line");
            None
        }
        (Some(Node { bits, .. }), _) => {
            let most = (1_u32 << bits) - 1;
            section.required("node", integer(0..=most)).map(Some)
        }
    }
}

struct Addressed {
    address: DeviceAddress,
    bus_timeout: Duration,
}

/// How the device is addressed, by the rules of its bus; `None` after reporting what is wrong with it.
fn addressed(section: &Section<'_>, bus: Option<&BusPlan>) -> Option<Addressed> {
    let Some(BusPlan { id, kind, .. }) = bus else {
        // The bus has been reported; what it would ask of the device is not known.
        section.optional("address", address);
        section.optional("unit", unit);
        return None;
    };
    match kind {
        BusKind::ModbusTcp { timeout, .. } => {
            let unit = section.required("unit", unit);
            let endpoint = section.required("address", address)?;
            Some(Addressed { address: DeviceAddress::Tcp { endpoint, unit: unit? }, bus_timeout: *timeout })
        }
        BusKind::ModbusRtu { line, timeout, .. } => {
            let unit = section.required("unit", serial_unit);
            if section.has("address") {
                let problem = format!("the bus {id} is a serial line, on which a device has a unit and no address");
                section.blame("address", problem, "delete this line");
                return None;
            }
            Some(Addressed {
                address: DeviceAddress::Serial { line: line.clone(), unit: unit? },
                bus_timeout: *timeout,
            })
        }
        BusKind::Can(can) => {
            for key in section.present(&["address", "unit", "poll", "timeout"]) {
                let problem =
                    format!("a device on the CAN bus {id} speaks by itself: it is neither addressed nor asked");
                section.blame(key, problem, "delete this line");
            }
            let node = section.optional("node", integer(0..=0xffff_u32));
            Some(Addressed {
                address: DeviceAddress::Can { source: can.source.clone(), node },
                bus_timeout: *TIMEOUT.end(),
            })
        }
        BusKind::Iso15118(source) => {
            for key in ["address", "unit", "poll", "timeout"] {
                if section.has(key) {
                    let problem = format!("the bus {id} carries charging sessions, which are heard and never asked");
                    section.blame(key, problem, "delete this line");
                }
            }
            let connector = section.optional("connector", integer(0..=u16::MAX));
            if section.has("connector") && !matches!(source, SessionSource::Mirror(_)) {
                let problem = format!("the bus {id} is one connector by itself");
                section.blame("connector", problem, "delete this line");
                return None;
            }
            if section.has("connector") && connector.is_none() {
                return None;
            }
            Some(Addressed {
                address: DeviceAddress::Session { connector: connector.unwrap_or(1) },
                bus_timeout: SESSION_TIMEOUT,
            })
        }
    }
}

/// Nobody is asked on such a bus.
const SESSION_TIMEOUT: Duration = Duration::from_secs(1);

/// A profile of registers is of no use on a bus of charging sessions, and so on.
fn check_medium(section: &Section<'_>, bus: &BusPlan, medium: Medium, profile: &str) -> Option<()> {
    let (of, fits) = match medium {
        Medium::Modbus => ("Modbus", matches!(bus.kind, BusKind::ModbusTcp { .. } | BusKind::ModbusRtu { .. })),
        Medium::Can(_) => ("a CAN bus", matches!(bus.kind, BusKind::Can(_))),
        Medium::Session => ("charging sessions", matches!(bus.kind, BusKind::Iso15118(_))),
    };
    if fits {
        return Some(());
    }
    let remedy = match bus.kind {
        BusKind::Iso15118(_) => "profile = \"iso15118\"",
        _ => "a profile and a bus of the same kind",
    };
    section.blame(
        "profile",
        format!("the profile {profile} is for {of}; the bus {} is {}", bus.id, bus.kind.as_str()),
        remedy,
    );
    None
}

/// Two devices with the same unit at the same address, or on the same line, are one device under two names.
pub(super) fn same_place(devices: &[(DevicePlan, Place)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (n, (device, place)) in devices.iter().enumerate() {
        let is_same = |(other, _): &&(DevicePlan, Place)| other.bus == device.bus && is_same_device(other, device);
        let Some((first, first_place)) = devices[..n].iter().find(is_same) else { continue };
        let (id, first_id) = (&device.spec.id, &first.spec.id);
        let (at, own) = match &device.address {
            DeviceAddress::Tcp { endpoint, unit } => (format!(", address {endpoint}, unit {unit}"), "address or unit"),
            DeviceAddress::Serial { unit, .. } => (format!(", unit {unit}"), "unit"),
            DeviceAddress::Can { node: Some(node), .. } => (format!(", node {node}"), "node"),
            DeviceAddress::Can { node: None, .. } => (format!(", profile {}", device.spec.profile), "bus or profile"),
            DeviceAddress::Session { connector } => (format!(", connector {connector}"), "connector"),
        };
        let (at, own) = match device.connector {
            Some(connector) => (format!("{at}, connector {connector}"), "address, unit or connector"),
            None => (at, own),
        };
        let problem =
            format!("{id} is the same device as {first_id} at line {}: bus {}{at}", first_place.line(), device.bus);
        let remedy = format!("its own {own} for {id}, or delete one of the two");
        faults.push(place.fault(format!("device.{id}"), problem, remedy).also(first_place));
    }
    faults
}

/// On a CAN bus it takes the same frames, which is to say the same profile.
fn is_same_device(one: &DevicePlan, other: &DevicePlan) -> bool {
    let is_can = matches!(one.address, DeviceAddress::Can { .. });
    one.address.is_same_as(&other.address)
        && one.connector == other.connector
        && (!is_can || one.spec.profile == other.spec.profile)
}

fn blame_kind(section: &Section<'_>, kind: DeviceKind, of_profile: DeviceKind, profile: &str) {
    let problem = format!("the profile {profile} is of kind {}, not {}", of_profile.as_str(), kind.as_str());
    let (ours, theirs) = (kind.as_str(), of_profile.as_str());
    let own = format!("[profile]\nextends = \"{profile}\"\nkind = \"{ours}\"");
    let remedy = format!(
        "kind = \"{theirs}\"\nor, if it really serves as {ours}, a profile of your own, devices/NAME.toml, with\n{own}"
    );
    section.blame("kind", problem, remedy);
}

fn bus_name(value: &Value, known: &[String]) -> Taken<BusId> {
    let given = text(value)?;
    if known.contains(&given) {
        // A bus with a name that is none has been reported where it is.
        return BusId::try_from(given.as_str()).map_err(|invalid| Wrong::new(format!("= {invalid}")));
    }
    let problem = format!("= \"{given}\" is a bus that is not in this file");
    Err(match nearest(&given, known.iter().map(String::as_str)) {
        Some(near) => Wrong::instead(problem, format!("\"{near}\""), String::new()),
        None if known.is_empty() => Wrong::action(problem, format!("[bus.{given}]\nmodbus-tcp = {{}}")),
        None => Wrong::action(problem, format!("bus = one of {}; or add [bus.{given}]", known.join(", "))),
    })
}

fn address(value: &Value) -> Taken<Endpoint> {
    let given = text(value)?;
    Endpoint::parse(&given, MODBUS_PORT).map_err(|invalid| Wrong::new(format!("= \"{given}\" {invalid}")))
}

fn unit(value: &Value) -> Taken<UnitId> {
    let number = integer(0..=255_u8)(value)?;
    UnitId::try_from(number).map_err(|invalid| Wrong::noted(format!("= {invalid}"), "1 to 247; over TCP also 0 or 255"))
}

/// On a serial line 0 is everybody, and above 247 nobody (Modbus over Serial Line 1.02, 2.2).
fn serial_unit(value: &Value) -> Taken<UnitId> {
    let number = integer(1..=247_u8)(value)?;
    UnitId::try_from(number).map_err(|invalid| Wrong::noted(format!("= {invalid}"), "1 to 247"))
}
