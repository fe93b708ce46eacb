//! `[device.*]`: a meter or a charger, joined with its bus and its profile.

use super::bus::TIMEOUT;
use super::document::{Entry, Table, Value};
use super::draft::{INTERVAL, KINDS};
use super::fault::{Fault, Place};
use super::plan::{BusPlan, DevicePlan, Endpoint, UnitId, Wire};
use super::profiles::{Found, Library};
use super::section::{Form, Scope, Section, Taken, Wrong, duration_within, integer, nearest, one_of, text};
use super::uplink::io_reason;
use crate::measure::{BusId, DeviceKind, DeviceSpec};

pub(super) const DEVICE: Form = Form {
    table: "device.*",
    keys: &[
        ("kind", "\"meter\""),
        ("bus", "\"lan\""),
        ("address", "\"10.0.0.17:502\""),
        ("unit", "1"),
        ("profile", "\"eastron-sdm630\""),
        ("poll", "\"500ms\""),
        ("timeout", "\"1s\""),
    ],
};

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
    let unit = section.required("unit", unit);
    let bus_timeout = match bus.map(|bus| &bus.wire) {
        Some(Wire::ModbusTcp { timeout }) => Some(*timeout),
        Some(other) => {
            let problem =
                format!("this version reads Modbus TCP only; the bus {} is {}", entry_text(bus), other.kind());
            section.blame(
                "bus",
                problem,
                "bus = a bus with modbus-tcp = {}   (a serial gateway can be its address), or delete the device",
            );
            return None;
        }
        None => None,
    };
    let address = section.required("address", address);
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
    let profile = profile?;
    let spec = DeviceSpec {
        id: id?,
        kind: kind?,
        profile: profile_name?,
        groups: profile.groups(poll.unwrap_or(profile.poll)),
        points: profile.points.clone(),
    };
    let timeout = own_timeout.or(bus_timeout)?;
    Some(DevicePlan { spec, bus: bus_id?, address: address?, unit: unit?, timeout, line: section.header().line() })
}

/// Two devices with the same unit at the same address are one device under two names.
pub(super) fn same_place(devices: &[(DevicePlan, Place)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (n, (device, place)) in devices.iter().enumerate() {
        let is_same = |(other, _): &&(DevicePlan, Place)| {
            let same_host = other.address.host.eq_ignore_ascii_case(&device.address.host);
            other.bus == device.bus
                && same_host
                && other.address.port == device.address.port
                && other.unit == device.unit
        };
        let Some((first, first_place)) = devices[..n].iter().find(is_same) else { continue };
        let (id, first_id) = (&device.spec.id, &first.spec.id);
        let problem = format!(
            "{id} is the same device as {first_id} at line {}: bus {}, address {}, unit {}",
            first_place.line(),
            device.bus,
            device.address,
            device.unit
        );
        let remedy = format!("its own address or unit for {id}, or delete one of the two");
        faults.push(place.fault(format!("device.{id}"), problem, remedy).also(first_place));
    }
    faults
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

fn entry_text(bus: Option<&BusPlan>) -> &str {
    bus.map_or("", |bus| bus.id.as_str())
}
