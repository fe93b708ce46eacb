//! From the plan to what each room takes: the only place in which a value of one room becomes one of another. Pure.

use std::path::Path;
use std::time::Duration;

use hal::UnitId;

use crate::config::{BusKind, BusPlan, CanBus, CanSource, DeviceAddress, DevicePlan, Framing, Plan, VehicleIdPolicy};
use crate::journal;
use crate::measure::{BootId, Epoch, Mono, Stamp};
use crate::net::{Mirror, ServerFiles, SessionSource};
use crate::source::{can, iso15118 as sessions, modbus};
use crate::spec::{BusId, DeviceIx};
use crate::uplink;

/// What the uplink may take to send the last entries and disconnect; well inside systemd's 90 s.
pub(super) const DRAIN: Duration = Duration::from_secs(3);

/// A port of any kind, with all that is on it.
pub(super) enum Source {
    Modbus(modbus::Port),
    Can(can::Bus),
    Sessions(sessions::Port),
}

/// What a plan says of the journal: where it is, and its bounds.
#[must_use]
pub fn journal_settings(plan: &Plan) -> journal::Settings {
    let journal = &plan.journal;
    journal::Settings {
        dir: plan.gateway.state_dir.join("journal"),
        bytes_max: journal.bytes_max,
        free_min: journal.free_min,
        age_max: journal.age_max,
        commit_interval: journal.commit_interval,
        bytes_per_day_max: journal.bytes_per_day_max,
        runtime_dir: plan.api.socket.parent().map(Path::to_owned),
        time_wait: journal.time_wait,
        when_full: journal.when_full,
    }
}

/// What a plan says of the TLS of its mirror feeds, each with its bus.
pub fn feed_files(buses: &[BusPlan]) -> impl Iterator<Item = (&BusId, &ServerFiles)> {
    buses.iter().filter_map(|bus| match &bus.kind {
        BusKind::Iso15118(SessionSource::Mirror(Mirror::Tls { files, .. })) => Some((&bus.id, files)),
        _ => None,
    })
}

/// Every port of the plan; `window_end` is the end of the window that is open.
pub(super) fn sources(plan: &Plan, window_end: Mono) -> Vec<Source> {
    let modbus = modbus_ports(plan, window_end).into_iter().map(Source::Modbus);
    let can = plan.buses.iter().filter_map(|bus| can_bus(plan, bus)).map(Source::Can);
    let sessions = session_ports(plan, &vehicle_ids(plan)).into_iter().map(Source::Sessions);
    modbus.chain(can).chain(sessions).collect()
}

/// A CAN bus with its devices; `None` if it is another kind of bus, or has none.
fn can_bus(plan: &Plan, bus: &BusPlan) -> Option<can::Bus> {
    let BusKind::Can(settings) = &bus.kind else { return None };
    let here = (0..).map(DeviceIx).zip(&plan.devices).filter(|(_, device)| device.bus == bus.id);
    let devices: Vec<_> = here.map(|(ix, device)| can::Target { ix, spec: device.spec.clone() }).collect();
    let speeds = can::Speeds { bitrate: settings.bitrate, data_bitrate: settings.data_bitrate };
    (!devices.is_empty()).then(|| can::Bus { bus: bus.id.clone(), port: can_port(settings), speeds, devices })
}

/// Where the plan has its frames from.
fn can_port(settings: &CanBus) -> can::Port {
    let CanBus { source, bitrate, sample_point, fd, data_bitrate, restart, listen_only } = settings;
    let timing = |bitrate: u32, sample_point| hal::can::Timing { bitrate, sample_point };
    match source {
        CanSource::Interface(interface) => can::Port::Interface(hal::can::LinkSettings {
            interface: interface.clone(),
            timing: bitrate.map(|bitrate| timing(bitrate, *sample_point)),
            data_timing: data_bitrate.map(|bitrate| timing(bitrate, None)),
            restart: Some(*restart),
            fd: *fd,
            listen_only: *listen_only,
        }),
        CanSource::Log { path, fast, interface } => can::Port::Log {
            path: path.clone(),
            pace: if *fast { hal::can::LogPace::Fast } else { hal::can::LogPace::Recorded },
            interface: interface.clone(),
        },
    }
}

/// What the plan says of vehicles' ids. The key of the hashes is the gateway's own, made at its first use; if it can be neither read nor
/// kept, one of this life is used: then a vehicle's hash changes at the next start, and its id is still not told.
fn vehicle_ids(plan: &Plan) -> sessions::VehicleIds {
    let key = || {
        let path = plan.gateway.state_dir.join("vehicle-key");
        let (key, kept) = super::key_file::read_or_make(&path);
        if let Err(error) = kept {
            tracing::warn!(%error, path = %path.display(), "vehicles' hashes are of this start only: their key cannot be kept");
        }
        key
    };
    match plan.privacy.vehicle_id {
        VehicleIdPolicy::Send => sessions::VehicleIds::Send,
        // Their sessions are hashed.
        VehicleIdPolicy::Omit => sessions::VehicleIds::Omit(key()),
        VehicleIdPolicy::Hash => sessions::VehicleIds::Hash(key()),
    }
}

/// One for each bus that has a device.
fn session_ports(plan: &Plan, vehicle_ids: &sessions::VehicleIds) -> Vec<sessions::Port> {
    let port = |bus: &BusPlan| {
        let BusKind::Iso15118(source) = &bus.kind else { return None };
        let target = |(ix, device): (DeviceIx, &DevicePlan)| match device.address {
            DeviceAddress::Session { connector } if device.bus == bus.id => {
                Some(sessions::Target { ix, connector, spec: device.spec.clone() })
            }
            _ => None,
        };
        let devices: Vec<_> = (0..).map(DeviceIx).zip(&plan.devices).filter_map(target).collect();
        let window = plan.aggregate.window;
        (!devices.is_empty()).then(|| sessions::Port {
            bus: bus.id.clone(),
            source: source.clone(),
            devices,
            window,
            vehicle_ids: vehicle_ids.clone(),
        })
    };
    plan.buses.iter().filter_map(port).collect()
}

/// One port for each address and for each serial line: a dead device never delays one on another port.
fn modbus_ports(plan: &Plan, window_end: Mono) -> Vec<modbus::Port> {
    let mut ports: Vec<modbus::Port> = Vec::new();
    for (ix, device) in (0..).map(DeviceIx).zip(&plan.devices) {
        let Some((address, unit)) = modbus_place(plan, device) else { continue };
        let target =
            modbus::Target { ix, unit, spec: device.spec.clone(), timeout: device.timeout, pause: device.pause };
        match ports.iter_mut().find(|port| port.address == address) {
            Some(port) => port.devices.push(target),
            None => ports.push(modbus::Port {
                bus: device.bus.clone(),
                address,
                devices: vec![target],
                window: plan.aggregate.window,
                window_end,
                byte_timeout: byte_timeout(plan, device),
                learned: Some(plan.gateway.state_dir.join("learned")),
            }),
        }
    }
    ports
}

fn byte_timeout(plan: &Plan, device: &DevicePlan) -> Duration {
    match plan.buses.iter().find(|bus| bus.id == device.bus).map(|bus| &bus.kind) {
        Some(BusKind::ModbusTcp { byte_timeout, .. } | BusKind::ModbusRtu { byte_timeout, .. }) => *byte_timeout,
        _ => hal::BYTE_TIMEOUT,
    }
}

fn modbus_place(plan: &Plan, device: &DevicePlan) -> Option<(modbus::Address, UnitId)> {
    match &device.address {
        DeviceAddress::Tcp { endpoint, unit } => {
            let bus = plan.buses.iter().find(|bus| bus.id == device.bus);
            let address = match bus.map(|bus| &bus.kind) {
                Some(BusKind::ModbusTcp { framing: Framing::Rtu, .. }) => modbus::Address::RtuOverTcp(endpoint.clone()),
                _ => modbus::Address::Tcp(endpoint.clone()),
            };
            Some((address, *unit))
        }
        DeviceAddress::Serial { line, unit } => Some((modbus::Address::Serial(line.clone()), *unit)),
        DeviceAddress::Can { .. } | DeviceAddress::Session { .. } => None,
    }
}

/// What a plan says of the uplink; `epoch` is that of the journal, `since` the start of the process.
pub(super) fn uplink_settings(plan: &Plan, epoch: Epoch, boot: BootId, since: Stamp) -> uplink::Settings {
    let uplink = &plan.uplink;
    uplink::Settings {
        brokers: uplink.brokers.clone(),
        client_id: uplink.client_id.clone(),
        prefix: uplink.topic_prefix.clone(),
        keep_alive: uplink.keep_alive,
        in_flight_max: uplink.in_flight_max,
        links: std::iter::once(&uplink.link).chain(&uplink.second).cloned().collect(),
        fail_back: uplink.fail_back,
        holds_unheard: uplink.holds_unheard,
        tls: uplink.tls.clone(),
        login: uplink.login.clone(),
        drain: DRAIN,
        boot,
        birth: uplink::Birth {
            gateway: plan.gateway.id.clone(),
            site: plan.gateway.site.clone(),
            epoch,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since,
            window: plan.aggregate.window,
            devices: plan.devices.iter().map(|device| (&device.spec).into()).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hal::LinuxClock;
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::config::{self, Surroundings};
    use crate::health::{Heartbeats, StatusBoard};
    use crate::measure::Outcome;
    use crate::net::Endpoint;

    fn meter(name: &str, place: &str) -> String {
        format!("[device.{name}]\nkind = \"meter\"\nprofile = \"eastron-sdm630\"\n{place}\n")
    }

    #[test]
    fn a_port_is_one_address_or_one_serial_line() {
        let head = "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"/var\"\n\
            [uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n[bus.lan]\nmodbus-tcp = {}\n\
            [bus.a]\nmodbus-rtu = { port = \"/dev/ttyS1\", baud = 9600, parity = \"odd\", stop_bits = 2 }\n\
            [bus.b]\nmodbus-rtu = { port = \"/dev/ttyS2\", baud = 9600, parity = \"none\" }\n";
        let text = [
            head.to_owned(),
            meter("a1", "bus = \"a\"\nunit = 1"),
            meter("lan1", "bus = \"lan\"\naddress = \"10.0.0.1\"\nunit = 1"),
            meter("a2", "bus = \"a\"\nunit = 2"),
            meter("b1", "bus = \"b\"\nunit = 1"),
            meter("lan2", "bus = \"lan\"\naddress = \"10.0.0.2\"\nunit = 1"),
        ]
        .concat();
        let plan = config::parse(&text, "gateway.toml", &Surroundings::none()).expect("a plan");
        let ports = modbus_ports(&plan, Mono(0));
        let devices = |port: &modbus::Port| port.devices.iter().map(|target| target.ix.0).collect::<Vec<_>>();
        assert_eq!(ports.iter().map(devices).collect::<Vec<_>>(), [vec![0, 2], vec![1], vec![3], vec![4]]);
        let line = hal::SerialLine {
            path: "/dev/ttyS1".into(),
            baud: 9600,
            parity: hal::Parity::Odd,
            stop_bits: hal::StopBits::Two,
            rs485: false,
        };
        assert_eq!(ports[0].address, modbus::Address::Serial(line));
    }

    #[test]
    fn a_gateway_that_hands_frames_through_and_a_transceiver_that_the_driver_switches_are_set_up_as_written() {
        let text = "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"/var\"\n\
            [uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n[bus.lan]\nmodbus-tcp = { framing = \"rtu\" }\n\
            [bus.a]\nmodbus-rtu = { port = \"/dev/ttyS1\", baud = 9600, parity = \"none\", rs485 = true }\n"
            .to_owned()
            + &meter("lan1", "bus = \"lan\"\naddress = \"10.0.0.1:4001\"\nunit = 1\npause = \"50ms\"")
            + &meter("a1", "bus = \"a\"\nunit = 1");
        let plan = config::parse(&text, "gateway.toml", &Surroundings::none()).expect("a plan");
        let ports = modbus_ports(&plan, Mono(0));
        assert_eq!(ports[0].address, modbus::Address::RtuOverTcp(Endpoint { host: "10.0.0.1".to_owned(), port: 4001 }));
        assert_eq!(ports[0].devices[0].pause, Duration::from_millis(50));
        assert_eq!(ports[0].learned.as_deref(), Some(Path::new("/var/learned")));
        assert!(matches!(&ports[1].address, modbus::Address::Serial(line) if line.rs485));
    }

    /// Every state of charge that the chademo profile makes of a recording.
    async fn soc_in(recording: &str) -> Vec<Outcome> {
        let path = format!("{}/tests/data/can/{recording}", env!("CARGO_MANIFEST_DIR"));
        let text = format!(
            "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"/var\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n\
             [bus.a]\ncan = {{ log = \"{path}\", speed = \"fast\" }}\n\
             [device.dc]\nkind = \"evse\"\nbus = \"a\"\nprofile = \"chademo\"\n"
        );
        let plan = config::parse(&text, "gateway.toml", &Surroundings::none()).expect("a plan");
        let specs: Vec<_> = plan.devices.iter().map(|device| device.spec.clone()).collect();
        let soc = specs[0].points.iter().position(|point| point.field.as_str() == "soc").expect("a point");
        let bus = can_bus(&plan, &plan.buses[0]).expect("a bus");
        let (samples, mut queue) = mpsc::channel(4096);
        let (_stop, stopped) = watch::channel(false);
        let facts = Arc::new(StatusBoard::default());
        let heartbeat = Heartbeats::default().watch("source", Duration::from_secs(60), Mono(0));
        let clock = Arc::new(LinuxClock::new());
        let source = tokio::spawn(can::run(bus, clock, samples, Arc::clone(&facts), heartbeat, stopped));
        let mut normaliser = crate::normalise::Normaliser::new(&specs);
        let mut told = Vec::new();
        while let Some(sample) = queue.recv().await {
            normaliser.readings(&sample, |reading| {
                if usize::from(reading.point.0) == soc {
                    told.push(reading.outcome);
                }
            });
            let is_over = facts.status().buses.values().any(|bus| bus.detail == "the recording is over");
            if is_over && queue.is_empty() {
                break;
            }
        }
        source.abort();
        told
    }

    #[tokio::test]
    async fn the_charged_rate_is_relative_to_its_reference() {
        let told = soc_in("soc-reference.log").await;
        let is_right = |outcome: &Outcome| matches!(outcome, Outcome::Good(crate::measure::Value::Float(soc)) if (soc - 56.078).abs() < 0.001);
        let known: Vec<_> = told.iter().filter(|outcome| !matches!(outcome, Outcome::Missing(_))).collect();
        assert!(known.len() > 50 && known.iter().all(|outcome| is_right(outcome)), "{told:?}");
    }
}
