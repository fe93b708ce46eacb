//! Whether this version of the box may stay: what is waited for after an update, and what is told of it.
//!
//! In: the record of the newest update ([`UpdateRecord`], written by `v2g-edge update` as root) and the agent's own facts. Out: what is
//! still waited for, in [`UpdateFacts`] of the status, and the events of the update, each once.
//!
//! - The agent decides and acts on nothing: it is unprivileged, and a version that crashes or hangs decides nothing. `v2g-edge update
//!   confirm`, a unit of its own, asks the running agent over its socket, marks the slot good, or lets the box be rebooted. An answer is that
//!   of a process that lives in this boot: nothing of an earlier boot can confirm.
//! - Waited for is: an acknowledgement (PUBACK) of an entry that was recorded in this boot; something read from every bus that answered
//!   before the update and still has a device; and [`STEADY`] without a restart of the agent.
//! - A bus is read when, by its kind, a Modbus device has answered; a CAN interface is up and a frame that is read came, unless
//!   nobody talks on it at all (a charger without a vehicle is silent); a feed or tap of charging sessions can be heard.
//! - Survives a power cut: the record and what was told (`told`), in two small files; which root
//!   file systems have been good before, in a third. What is in any of a newer program's form is left
//!   alone and named in the status.
//!
//! [`UpdateFacts`]: crate::health::UpdateFacts

mod files;
mod good;
mod record;
mod task;
mod told;

pub use good::KnownGood;
pub use record::{Found, Side, UpdateRecord, UpdateState};
pub(super) use task::{Surroundings, find_told, run};

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::config::{BusKind, BusPlan, Plan};
use crate::health::{BusFacts, DeviceFacts, DeviceState, Status};
use crate::spec::{BusId, DeviceId};

/// A version that crashes within this long again and again is not confirmed in between.
pub const STEADY: Duration = Duration::from_secs(20);

/// What is read of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Devices are asked, and answer.
    Modbus,
    /// Frames come by themselves.
    Can,
    /// Sessions, heard when there are any.
    Sessions,
}

/// A bus of the plan with its devices.
#[derive(Debug, Clone)]
pub(super) struct WatchedBus {
    id: BusId,
    kind: Kind,
    devices: Vec<DeviceId>,
}

/// Something without which this version is not confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Awaited {
    /// A while without a restart.
    Steadiness,
    /// The broker's acknowledgement of something that was recorded in this boot.
    Acknowledgement,
    /// Something read from a bus.
    Bus(BusId),
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steadiness => write!(f, "{} s without a restart of the gateway", STEADY.as_secs()),
            Self::Acknowledgement => f.write_str("the broker's acknowledgement of something recorded since this boot"),
            Self::Bus(bus) => write!(f, "something read from bus {bus}"),
        }
    }
}

/// The buses of which something answers now.
#[must_use]
pub fn answering(status: &Status) -> Vec<BusId> {
    let answers = |facts: &&DeviceFacts| matches!(facts.state, DeviceState::Answering | DeviceState::Partly { .. });
    let buses: BTreeSet<_> = status.devices.values().filter(answers).filter_map(|facts| facts.bus.clone()).collect();
    buses.into_iter().collect()
}

/// The buses of a plan that have a device.
pub(super) fn watched(plan: &Plan) -> Vec<WatchedBus> {
    let of = |bus: &BusPlan| {
        let kind = match bus.kind {
            BusKind::ModbusTcp { .. } | BusKind::ModbusRtu { .. } => Kind::Modbus,
            BusKind::Can(_) => Kind::Can,
            BusKind::Iso15118(_) => Kind::Sessions,
        };
        let devices = plan.devices_on(&bus.id).map(|(_, device)| device.spec.id.clone()).collect();
        WatchedBus { id: bus.id.clone(), kind, devices }
    };
    plan.buses.iter().map(of).filter(|bus| !bus.devices.is_empty()).collect()
}

/// What is still waited for, `up` after the start of this process; `before` are the buses that answered before the update.
fn waits_for(before: &[BusId], buses: &[WatchedBus], status: &Status, up: Duration) -> Vec<Awaited> {
    let mut awaited = Vec::new();
    if up < STEADY {
        awaited.push(Awaited::Steadiness);
    }
    if status.uplink.acknowledged_of_this_boot == 0 {
        awaited.push(Awaited::Acknowledgement);
    }
    let unread = |bus: &&WatchedBus| before.contains(&bus.id) && !bus.is_read(status);
    awaited.extend(buses.iter().filter(unread).map(|bus| Awaited::Bus(bus.id.clone())));
    awaited
}

impl WatchedBus {
    fn is_read(&self, status: &Status) -> bool {
        let mut devices = self.devices.iter().filter_map(|id| status.devices.get(id));
        match self.kind {
            Kind::Modbus => devices.any(|facts| facts.answers > 0),
            Kind::Can => devices.any(|facts| facts.answers > 0) || self.is_quiet(status),
            Kind::Sessions => {
                let mut heard = devices.map(|facts| !matches!(facts.state, DeviceState::Silent(_))).peekable();
                heard.peek().is_some() && heard.all(|is_heard| is_heard)
            }
        }
    }

    /// All is well with the bus, and nobody sends anything.
    fn is_quiet(&self, status: &Status) -> bool {
        let is_quiet = |bus: &BusFacts| bus.state == "active" && bus.bus_errors == 0 && bus.frames_per_second == 0.0;
        status.buses.get(&self.id).is_some_and(is_quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Missing;

    fn bus(id: &str, kind: Kind, devices: &[&str]) -> WatchedBus {
        let devices = devices.iter().map(|id| DeviceId::try_from(*id).expect("a name")).collect();
        WatchedBus { id: id.try_into().expect("a name"), kind, devices }
    }

    fn before(ids: &[&str]) -> Vec<BusId> {
        ids.iter().map(|id| BusId::try_from(*id).expect("a name")).collect()
    }

    fn device(bus: &str, state: DeviceState, answers: u64) -> DeviceFacts {
        DeviceFacts { bus: Some(bus.try_into().expect("a name")), state, answers, ..DeviceFacts::default() }
    }

    /// One that delivers.
    fn status(devices: &[(&str, DeviceFacts)]) -> Status {
        let mut status = Status::default();
        status.uplink.acknowledged_of_this_boot = 1;
        let named = |(id, facts): &(&str, DeviceFacts)| (DeviceId::try_from(*id).expect("a name"), facts.clone());
        status.devices.extend(devices.iter().map(named));
        status
    }

    fn told(before: &[BusId], buses: &[WatchedBus], status: &Status) -> Vec<String> {
        waits_for(before, buses, status, STEADY).iter().map(ToString::to_string).collect()
    }

    const SILENT: DeviceState = DeviceState::Silent(Missing::Timeout);
    const HEARD: DeviceState = DeviceState::Answering;

    #[test]
    fn a_gateway_without_devices_waits_for_an_acknowledgement_of_this_boot_and_nothing_else() {
        let mut status = status(&[]);
        assert_eq!(told(&[], &[], &status), Vec::<String>::new());
        status.uplink.acknowledged_of_this_boot = 0;
        // What an earlier boot left was acknowledged: that says nothing of this one.
        status.uplink.history.acknowledged = 10_000;
        let awaited = [Awaited::Steadiness, Awaited::Acknowledgement];
        assert_eq!(waits_for(&[], &[], &status, Duration::from_secs(19)), awaited);
        assert_eq!(told(&[], &[], &status), ["the broker's acknowledgement of something recorded since this boot"]);
    }

    #[test]
    fn every_modbus_bus_that_answered_before_must_have_answered_by_one_device_at_least() {
        let buses = [bus("lan", Kind::Modbus, &["a", "b"]), bus("line", Kind::Modbus, &["c"])];
        let silent = || device("lan", SILENT, 0);
        let of = |c: DeviceFacts| status(&[("a", silent()), ("b", device("lan", HEARD, 3)), ("c", c)]);
        let mute = of(device("line", SILENT, 0));
        assert_eq!(told(&before(&["lan", "line"]), &buses, &mute), ["something read from bus line"]);
        assert_eq!(told(&before(&["lan"]), &buses, &mute), Vec::<String>::new(), "it was silent before");
        assert_eq!(told(&before(&["lan", "gone"]), &buses, &mute), Vec::<String>::new(), "a bus was removed");
        let late = of(device("line", SILENT, 1));
        assert_eq!(told(&before(&["lan", "line"]), &buses, &late), Vec::<String>::new(), "it has answered once");
        assert_eq!(told(&before(&["lan", "line"]), &buses, &status(&[])).len(), 2, "nothing was asked yet");
    }

    #[test]
    fn a_can_bus_must_be_up_and_what_is_read_must_have_come_unless_nobody_talks() {
        let buses = [bus("can-a", Kind::Can, &["dc"])];
        let of = |state: &str, frames_per_second: f64, answers: u64| {
            let mut status = status(&[("dc", device("can-a", SILENT, answers))]);
            let facts = BusFacts { state: state.to_owned(), frames_per_second, ..BusFacts::default() };
            status.buses.insert("can-a".try_into().expect("a name"), facts);
            told(&before(&["can-a"]), &buses, &status).len()
        };
        assert_eq!(of("active", 0.0, 0), 0, "no vehicle is there");
        assert_eq!(of("warning", 100.0, 5), 0);
        assert_eq!(of("active", 100.0, 0), 1, "frames pass, and none is read");
        let states = ["absent", "down", "bus_off", "", "warning", "passive"];
        assert_eq!(states.map(|state| of(state, 0.0, 0)), [1; 6]);
    }

    #[test]
    fn charging_sessions_must_be_heard_if_there_were_any() {
        let buses = [bus("plc", Kind::Sessions, &["e1", "e2"])];
        let of = |state| told(&before(&["plc"]), &buses, &status(&[("e1", device("plc", state, 0))])).len();
        assert_eq!([of(DeviceState::Unknown), of(HEARD), of(DeviceState::Silent(Missing::BusOff))], [0, 0, 1]);
        assert_eq!(told(&before(&["plc"]), &buses, &status(&[])).len(), 1, "nothing was opened yet");
    }

    #[test]
    fn what_answers_at_all_is_noted_before_an_update() {
        let status = status(&[
            ("a", device("lan", SILENT, 9)),
            ("b", device("lan", DeviceState::Partly { answering: 1, blocks: 2 }, 3)),
            ("c", device("line", SILENT, 7)),
            ("d", device("can-a", HEARD, 7)),
            ("e", device("plc", DeviceState::Unknown, 0)),
        ]);
        assert_eq!(answering(&status), before(&["can-a", "lan"]));
    }
}
