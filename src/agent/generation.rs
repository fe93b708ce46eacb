//! One generation of tasks: a plan becomes tasks, and the tasks end in order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hal::{Clock, LinuxClock};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::pipeline::{self, Pipeline};
use crate::config::{
    BrokerUrl, BusKind, BusPlan, CanBus, CanSource, DeviceAddress, DevicePlan, Endpoint, Framing, LinkPlan, LoginPlan,
    Mirror, OwnTlsPlan, Parity, Plan, SessionSource, TlsPlan, VehicleIdPolicy, WhenFull,
};
use crate::health::{Heartbeat, Heartbeats, StatusBoard};
use crate::journal::{self, Journal, JournalHandle};
use crate::measure::{BootId, Event, EventKind, Mono, Sample, Stamp};
use crate::source::{can, iso15118 as sessions, modbus};
use crate::spec::DeviceIx;
use crate::{tls, uplink};

/// Samples between the sources and the pipeline: 4 s of 50 devices at 4 blocks and 5 polls a second.
const SAMPLES_MAX: usize = 4096;
/// Events of the uplink on their way into a window: troubles are told once each, so a window has a few.
const NOTICES_MAX: usize = 64;
/// A source waits at most for its slowest device before it shows its next sign of life. On a serial line that is
/// three exchanges (two to tell a late answer from the one that is asked for), each of one and a half times the
/// longest timeout of 30 s and four times the 2.4 s of the longest frame at 1200 baud, and 1 s of babble before
/// each: 167 s.
const SOURCE_ALLOWANCE: Duration = Duration::from_secs(180);
/// The pipeline wakes at every window; the longest is 60 s.
const PIPELINE_ALLOWANCE: Duration = Duration::from_secs(150);
/// The uplink wakes at least every few seconds.
const UPLINK_ALLOWANCE: Duration = Duration::from_secs(60);
/// What the uplink may take to send the last entries and disconnect; well inside systemd's 90 s.
const DRAIN: Duration = Duration::from_secs(3);

/// What all generations of a process share.
pub(super) struct ProcessContext {
    pub(super) clock: Arc<LinuxClock>,
    pub(super) boot: BootId,
    pub(super) facts: Arc<StatusBoard>,
    pub(super) heartbeats: Arc<Heartbeats>,
    pub(super) since: Stamp,
}

impl ProcessContext {
    pub(super) fn now(&self) -> Stamp {
        self.clock.now().into()
    }
}

/// Which task ended, and why, if it was not told to.
pub(super) struct FailedTask {
    pub(super) task: String,
    pub(super) why: String,
}

/// Each task answers with its name when it ends.
type Tasks = JoinSet<&'static str>;

/// The tasks of one plan.
pub(super) struct Generation {
    journal: Journal,
    sources: Tasks,
    /// The pipeline ends by itself once its sources have.
    pipeline: Tasks,
    uplink: Tasks,
    stop_sources: watch::Sender<bool>,
    stop_uplink: watch::Sender<bool>,
}

impl Generation {
    /// Opens the journal and starts every task of the plan.
    pub(super) fn begin(plan: &Plan, context: &ProcessContext) -> Result<Self, journal::OpenError> {
        context.facts.clear_devices();
        context.heartbeats.clear();
        let now = context.now();
        let journal =
            Journal::open(journal_settings(plan), plan.schema(), context.boot, now, Arc::clone(&context.facts))?;
        let (stop_sources, sources_stopped) = watch::channel(false);
        let (stop_uplink, uplink_stopped) = watch::channel(false);
        let (samples, sampled) = mpsc::channel(SAMPLES_MAX);
        let (notices, noticed) = mpsc::channel(NOTICES_MAX);
        let mono = now.mono;
        let started =
            EventKind::Started { version: env!("CARGO_PKG_VERSION").to_owned(), clean: journal.previous_ended_clean() };
        let stages = Pipeline::new(plan, context, now, Event { device: None, kind: started });

        let mut sources = Tasks::new();
        for source in sources_of(plan, stages.next_end()) {
            let heartbeat = context.heartbeats.watch("source", SOURCE_ALLOWANCE, mono);
            let (clock, facts) = (Arc::clone(&context.clock), Arc::clone(&context.facts));
            let (samples, stopped) = (samples.clone(), sources_stopped.clone());
            sources.spawn(async move {
                source.run(clock, samples, facts, heartbeat, stopped).await;
                "source"
            });
        }
        drop(samples);

        let mut pipeline = Tasks::new();
        let heartbeat = context.heartbeats.watch("pipeline", PIPELINE_ALLOWANCE, mono);
        let (clock, handle) = (Arc::clone(&context.clock), journal.handle());
        pipeline.spawn(async move {
            pipeline::run(stages, clock, (sampled, noticed), handle, heartbeat).await;
            "pipeline"
        });

        let mut uplink = Tasks::new();
        let heartbeat = context.heartbeats.watch("uplink", UPLINK_ALLOWANCE, mono);
        let settings = uplink_settings(plan, &journal, context.since);
        let (handle, facts, clock) = (journal.handle(), Arc::clone(&context.facts), Arc::clone(&context.clock));
        uplink.spawn(async move {
            let surroundings = uplink::Surroundings { facts, heartbeat, notices };
            uplink::run(settings, handle, surroundings, move || clock.now().into(), uplink_stopped).await;
            "uplink"
        });
        Ok(Self { journal, sources, pipeline, uplink, stop_sources, stop_uplink })
    }

    /// A handle of its journal.
    pub(super) fn journal(&self) -> JournalHandle {
        self.journal.handle()
    }

    /// Waits until a task ends that was not told to. Cancel-safe.
    pub(super) async fn failed(&mut self) -> FailedTask {
        let ended = tokio::select! {
            Some(ended) = self.sources.join_next() => ended,
            Some(ended) = self.pipeline.join_next() => ended,
            Some(ended) = self.uplink.join_next() => ended,
            else => std::future::pending().await,
        };
        match ended {
            Ok(task) => FailedTask { task: task.to_owned(), why: "it ended by itself".to_owned() },
            Err(error) => FailedTask { task: "a task".to_owned(), why: error.to_string() },
        }
    }

    /// Ends in the order in which data flows, so that what was read is kept, and what was kept and can be sent
    /// is sent. Takes at most about [`DRAIN`] and one device timeout.
    pub(super) async fn end(mut self) {
        self.stop_sources.send_replace(true);
        while self.sources.join_next().await.is_some() {}
        while self.pipeline.join_next().await.is_some() {}
        self.journal.handle().commit().await;
        self.stop_uplink.send_replace(true);
        while self.uplink.join_next().await.is_some() {}
        if let Err(error) = self.journal.close().await {
            tracing::error!(%error, "the journal did not close in order; its next start repairs what is left");
        }
    }
}

/// What the plan says of the journal.
pub(super) fn journal_settings(plan: &Plan) -> journal::Settings {
    let journal = &plan.journal;
    journal::Settings {
        dir: plan.gateway.state_dir.join("journal"),
        bytes_max: journal.bytes_max,
        free_min: journal.free_min,
        age_max: journal.age_max,
        commit_interval: journal.commit_interval,
        bytes_per_day_max: journal.bytes_per_day_max,
        time_wait: journal.time_wait,
        when_full: match journal.when_full {
            WhenFull::Thin => journal::WhenFull::Thin,
            WhenFull::DropOldest => journal::WhenFull::DropOldest,
            WhenFull::RefuseNewest => journal::WhenFull::RefuseNewest,
        },
    }
}

/// A port of any kind, with all that is on it.
enum Source {
    Modbus(modbus::Port),
    Can(can::Bus),
    Sessions(sessions::Port),
}

impl Source {
    async fn run<C: Clock>(
        self,
        clock: Arc<C>,
        samples: mpsc::Sender<Sample>,
        facts: Arc<StatusBoard>,
        heartbeat: Heartbeat,
        stop: watch::Receiver<bool>,
    ) {
        match self {
            Self::Modbus(port) => modbus::run(port, clock, samples, facts, heartbeat, stop).await,
            Self::Can(bus) => can::run(bus, clock, samples, facts, heartbeat, stop).await,
            Self::Sessions(port) => sessions::run(port, clock, samples, facts, heartbeat, stop).await,
        }
    }
}

fn sources_of(plan: &Plan, window_end: Mono) -> Vec<Source> {
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
pub(crate) fn can_port(settings: &CanBus) -> can::Port {
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

/// What the plan says of vehicles' ids. The key of the hash is the gateway's own, made at its first use; if it can be neither read nor
/// kept, one of this life is used: then a vehicle's hash changes at the next start, and its id is still not told.
fn vehicle_ids(plan: &Plan) -> sessions::VehicleIds {
    match plan.privacy.vehicle_id {
        VehicleIdPolicy::Send => sessions::VehicleIds::Send,
        VehicleIdPolicy::Omit => sessions::VehicleIds::Omit,
        VehicleIdPolicy::Hash => {
            let path = plan.gateway.state_dir.join("vehicle-key");
            let (key, kept) = super::key_file::read_or_make(&path);
            if let Err(error) = kept {
                tracing::warn!(%error, path = %path.display(), "vehicles' hashes are of this start only: their key cannot be kept");
            }
            sessions::VehicleIds::Hash(key)
        }
    }
}

/// One for each bus that has a device.
fn session_ports(plan: &Plan, vehicle_ids: &sessions::VehicleIds) -> Vec<sessions::Port> {
    let port = |bus: &BusPlan| {
        let BusKind::Iso15118(source) = &bus.kind else { return None };
        let feed = match source.clone() {
            SessionSource::Mirror(Mirror::Unix(path)) => sessions::Feed::MirrorUnix(path),
            SessionSource::Mirror(Mirror::Tcp(Endpoint { host, port })) => sessions::Feed::MirrorTcp { host, port },
            SessionSource::Mirror(Mirror::Tls { endpoint: Endpoint { host, port }, ca, own }) => {
                sessions::Feed::MirrorTls { host, port, files: server_files(&ca, &own) }
            }
            SessionSource::Interface(interface) => sessions::Feed::Tap(interface),
            SessionSource::Files(pairs) => sessions::Feed::Files(pairs),
        };
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
            feed,
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
                learned: Some(plan.gateway.state_dir.join("learned")),
            }),
        }
    }
    ports
}

fn modbus_place(plan: &Plan, device: &DevicePlan) -> Option<(modbus::Address, hal::UnitId)> {
    match &device.address {
        DeviceAddress::Tcp { endpoint, unit } => {
            let (host, port) = (endpoint.host.clone(), endpoint.port);
            let bus = plan.buses.iter().find(|bus| bus.id == device.bus);
            let address = match bus.map(|bus| &bus.kind) {
                Some(BusKind::ModbusTcp { framing: Framing::Rtu, .. }) => modbus::Address::RtuOverTcp { host, port },
                _ => modbus::Address::Tcp { host, port },
            };
            Some((address, unit_on_bus(*unit)))
        }
        DeviceAddress::Serial { line, unit } => {
            let line = hal::SerialLine {
                path: line.port.clone(),
                baud: line.baud,
                parity: match line.parity {
                    Parity::None => hal::Parity::None,
                    Parity::Even => hal::Parity::Even,
                    Parity::Odd => hal::Parity::Odd,
                },
                stop_bits: if line.stop_bits == 2 { hal::StopBits::Two } else { hal::StopBits::One },
                rs485: line.rs485,
            };
            Some((modbus::Address::Serial(line), unit_on_bus(*unit)))
        }
        DeviceAddress::Can { .. } | DeviceAddress::Session { .. } => None,
    }
}

/// What the plan says of a way out.
pub(super) fn link(link: &LinkPlan) -> uplink::Link {
    uplink::Link {
        interface: link.interface.clone(),
        history_rate_max: link.history_rate_max,
        history_bytes_per_day: link.history_per_day_max,
    }
}

/// What the plan says of TLS.
pub(super) fn tls_files(plan: &TlsPlan) -> tls::TlsFiles {
    tls::TlsFiles { ca: plan.ca.clone(), own: plan.own.as_ref().map(own_files) }
}

/// What the plan says of a mirror feed's TLS.
pub(super) fn server_files(ca: &Path, own: &OwnTlsPlan) -> tls::ServerFiles {
    tls::ServerFiles { ca: ca.to_owned(), own: own_files(own) }
}

fn own_files(own: &OwnTlsPlan) -> tls::OwnFiles {
    tls::OwnFiles { certificate: own.certificate.clone(), key: own.key.clone() }
}

/// What the plan says of name and password.
pub(super) fn login(login: &LoginPlan) -> uplink::Login {
    uplink::Login { username: login.username.clone(), password_file: login.password_file.clone() }
}

/// What the plan says of a broker.
pub(super) fn broker(url: &BrokerUrl) -> uplink::Broker {
    uplink::Broker { host: url.host.clone(), port: url.port, tls: url.tls, websocket: url.websocket.clone() }
}

fn uplink_settings(plan: &Plan, journal: &Journal, since: Stamp) -> uplink::Settings {
    let uplink = &plan.uplink;
    uplink::Settings {
        brokers: uplink.brokers.iter().map(broker).collect(),
        client_id: uplink.client_id.clone(),
        prefix: uplink.topic_prefix.clone(),
        keep_alive: uplink.keep_alive,
        in_flight_max: uplink.in_flight_max,
        links: std::iter::once(&uplink.link).chain(&uplink.second).map(link).collect(),
        fail_back: uplink.fail_back,
        tls: uplink.tls.as_ref().map(tls_files),
        login: uplink.login.as_ref().map(login),
        drain: DRAIN,
        birth: uplink::Birth {
            gateway: plan.gateway.id.clone(),
            site: plan.gateway.site.clone(),
            epoch: journal.epoch(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since,
            window: plan.aggregate.window,
            devices: plan.devices.iter().map(|device| (&device.spec).into()).collect(),
        },
    }
}

/// The plan's unit ids obey the same rule as the bus's.
fn unit_on_bus(unit: crate::config::UnitId) -> hal::UnitId {
    hal::UnitId::try_from(unit.get()).expect("config::UnitId has no value that hal::UnitId refuses")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Surroundings};

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
        assert_eq!(ports[0].address, modbus::Address::RtuOverTcp { host: "10.0.0.1".to_owned(), port: 4001 });
        assert_eq!(ports[0].devices[0].pause, Duration::from_millis(50));
        assert_eq!(ports[0].learned.as_deref(), Some(Path::new("/var/learned")));
        assert!(matches!(&ports[1].address, modbus::Address::Serial(line) if line.rs485));
    }

    #[test]
    fn every_unit_of_a_plan_can_be_asked_on_a_bus() {
        for id in (0..=255).filter_map(|id| config::UnitId::try_from(id).ok()) {
            assert_eq!(unit_on_bus(id).get(), id.get());
        }
    }
}
