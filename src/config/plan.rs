//! The configuration as it runs: every value is there, checked, and within its bounds.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hal::{SerialLine, UnitId};

use crate::measure::{Schema, WhenFull};
use crate::net::{BrokerUrl, Endpoint, Link, Login, SessionSource, TlsFiles};
use crate::spec::{BusId, DeviceSpec, GatewayId, SiteId, SiteSpec};

/// All that the agent does, as decided before it starts. Two equal plans do the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Who we are and where the record is kept.
    pub gateway: GatewayPlan,
    /// How readings become windows.
    pub aggregate: AggregatePlan,
    /// The depot as a whole.
    pub site: SiteSpec,
    /// Where data waits, and what gives when there is no more room.
    pub journal: JournalPlan,
    /// Towards the broker.
    pub uplink: UplinkPlan,
    /// What is told of people.
    pub privacy: PrivacyPlan,
    /// The local socket.
    pub api: ApiPlan,
    /// The log.
    pub log: LogPlan,
    /// The kernel's watchdog.
    pub watchdog: WatchdogPlan,
    /// Updates of the whole box.
    pub update: UpdatePlan,
    /// In the order of the file.
    pub buses: Vec<BusPlan>,
    /// In the order of the file: the place in this list is the device's [`crate::spec::DeviceIx`].
    pub devices: Vec<DevicePlan>,
}

impl Plan {
    /// The dictionary of everything this plan measures.
    #[must_use]
    pub fn schema(&self) -> Schema {
        let specs: Vec<DeviceSpec> = self.devices.iter().map(|device| device.spec.clone()).collect();
        Schema::new(self.gateway.id.clone(), self.gateway.site.clone(), &specs)
    }

    /// The bus of this name.
    #[must_use]
    pub fn bus(&self, id: &BusId) -> Option<&BusPlan> {
        self.buses.iter().find(|bus| bus.id == *id)
    }

    /// The devices on a bus, with their place in the plan's list.
    pub fn devices_on<'p>(&'p self, bus: &'p BusId) -> impl Iterator<Item = (usize, &'p DevicePlan)> {
        self.devices.iter().enumerate().filter(move |(_, device)| device.bus == *bus)
    }
}

/// `[gateway]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayPlan {
    /// Unique in the fleet.
    pub id: GatewayId,
    /// The depot.
    pub site: SiteId,
    /// Absolute.
    pub state_dir: PathBuf,
}

/// `[aggregate]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregatePlan {
    /// 50 ms to 60 s.
    pub window: Duration,
    /// Less power than this, either way, is `idle`. kW, 0 to 1000.
    pub dead_band_kw: f64,
}

/// `[journal]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalPlan {
    /// 16 MiB to 16 TiB.
    pub bytes_max: u64,
    /// What stays free on the file system: up to 16 TiB.
    pub free_min: u64,
    /// 1 h to 3650 d.
    pub age_max: Duration,
    /// What a power cut can take: 20 ms to 10 s.
    pub commit_interval: Duration,
    /// What the agent may write in a day before its commits come rarer: 64 MiB to 16 TiB.
    pub bytes_per_day_max: Option<u64>,
    /// What gives when a bound is reached.
    pub when_full: WhenFull,
    /// How long after the first connection entries wait for a clock that cannot be right: 0 s to 1 h.
    pub time_wait: Duration,
}

impl JournalPlan {
    /// `free_min` by default.
    pub const FREE_MIN: u64 = 64 << 20;
}

/// `[uplink]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkPlan {
    /// In order of preference; 1 to 8, all different.
    pub brokers: Vec<BrokerUrl>,
    /// Whether `mqtt://` and `ws://` may leave the machine.
    pub allow_plaintext: bool,
    /// Placeholders are filled in; no wildcards, no empty level; at most 150 bytes.
    pub topic_prefix: String,
    /// The MQTT client identifier; 1 to 128 bytes.
    pub client_id: String,
    /// Whole seconds, 5 s to 18 h.
    pub keep_alive: Duration,
    /// Unacknowledged messages at a time, 1 to 1000.
    pub in_flight_max: u16,
    /// The way out that is preferred.
    pub link: Link,
    /// `[uplink.second]`: the way out when the first has none; its interface is named.
    pub second: Option<Link>,
    /// Between two looks for a better broker or link, 1 s to 24 h.
    pub fail_back: Duration,
    /// Entries that nobody at the broker subscribes to are kept and offered again.
    pub holds_unheard: bool,
    /// For brokers that want a name and a password. The path is absolute; the file was there, and private, when the plan
    /// was made.
    pub login: Option<Login>,
    /// There if any broker is `mqtts://` or `wss://`; without an `own` only beside a login. All absolute; the files were
    /// there, and the key private, when the plan was made.
    pub tls: Option<TlsFiles>,
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPlan {
    /// Absolute; at most 107 bytes (`sun_path` less its end).
    pub socket: PathBuf,
}

impl Default for ApiPlan {
    /// Where an agent answers as it is installed.
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/v2g-edge/api.sock") }
    }
}

/// `[privacy]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrivacyPlan {
    /// What is told of a vehicle's id, wherever it would be told.
    pub vehicle_id: VehicleIdPolicy,
}

/// What is told of a vehicle's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VehicleIdPolicy {
    /// The id.
    #[default]
    Send,
    /// A hash of it: the same for the same vehicle at this gateway.
    Hash,
    /// Nothing.
    Omit,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlan {
    /// In the syntax of `RUST_LOG`.
    pub filter: String,
}

/// `[watchdog]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchdogPlan {
    /// Absolute; `None` leaves the kernel's watchdog to others.
    pub device: Option<PathBuf>,
    /// How long the agent may be silent, 5 s to 10 min.
    pub timeout: Duration,
}

/// `[update]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdatePlan {
    /// What a new version has to show that it delivers, 1 min to 6 h, and by a minute at least longer than
    /// `journal.time_wait`: an entry that waits for the clock is acknowledged by nobody.
    pub confirm_within: Duration,
}

impl UpdatePlan {
    /// By default: what the clock is waited for, and 10 min for a modem that dials, a broker that is down, and buses that wake; at
    /// least 15 min.
    #[must_use]
    pub fn after(time_wait: Duration) -> Self {
        Self { confirm_within: (time_wait + Duration::from_secs(10 * 60)).max(Duration::from_secs(15 * 60)) }
    }
}

impl Default for UpdatePlan {
    /// With the default of `journal.time_wait`.
    fn default() -> Self {
        Self::after(Duration::from_secs(5 * 60))
    }
}

/// `[bus.*]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusPlan {
    /// Its name.
    pub id: BusId,
    /// What it is made of.
    pub kind: BusKind,
    /// The line of its header in the file.
    pub line: usize,
}

/// The kinds of bus, each with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusKind {
    /// A network; each device has its own address.
    ModbusTcp {
        /// How long to wait for a reply. 50 ms to 30 s. A device may have its own.
        timeout: Duration,
        /// How long a silence within a reply may be. 20 ms to 5 s.
        byte_timeout: Duration,
        /// What the bytes on the connection look like.
        framing: Framing,
    },
    /// A serial line; its devices are told apart by their unit alone.
    ModbusRtu {
        /// No other bus has the same port.
        line: SerialLine,
        /// How long to wait for a reply. 50 ms to 30 s. A device may have its own.
        timeout: Duration,
        /// How long a silence within a reply may be. 20 ms to 5 s.
        byte_timeout: Duration,
    },
    /// A CAN bus.
    Can(CanBus),
    /// ISO 15118 sessions, heard.
    Iso15118(SessionSource),
}

/// What the bytes on a TCP connection look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Modbus TCP.
    Tcp,
    /// Serial frames: a gateway that hands them through as they are.
    Rtu,
}

impl BusKind {
    /// The key by which the file names this kind.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ModbusTcp { .. } => "modbus-tcp",
            Self::ModbusRtu { .. } => "modbus-rtu",
            Self::Can(_) => "can",
            Self::Iso15118(_) => "iso15118",
        }
    }
}

/// A CAN bus and how it is set. Nothing is ever sent on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanBus {
    /// Where its frames come from.
    pub source: CanSource,
    /// Bits per second, 10,000 to 1,000,000. `None`: the interface is taken as somebody else has set it up.
    pub bitrate: Option<u32>,
    /// Tenths of a percent of a bit, 500 to 950; `None` leaves it to the kernel.
    pub sample_point: Option<u32>,
    /// CAN FD.
    pub fd: bool,
    /// Bits per second of the data phase of CAN FD, up to 8,000,000.
    pub data_bitrate: Option<u32>,
    /// After this the controller comes back from bus-off; zero: never.
    pub restart: Duration,
    /// Never acknowledge and never signal an error, where the controller can.
    pub listen_only: bool,
}

/// Where the frames of a CAN bus come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CanSource {
    /// An interface of the kernel: `can0`.
    Interface(String),
    /// A recording by `candump -L`.
    Log {
        /// The file.
        path: PathBuf,
        /// As fast as it is taken, not at its own pace.
        fast: bool,
        /// Only what was recorded on this interface.
        interface: Option<String>,
    },
}

impl fmt::Display for CanSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(interface) => interface.fmt(f),
            Self::Log { path, .. } => path.display().fmt(f),
        }
    }
}

/// `[device.*]`, with its profile worked in.
#[derive(Debug, Clone, PartialEq)]
pub struct DevicePlan {
    /// What it offers and when it is read.
    pub spec: DeviceSpec,
    /// The bus it is on; there is one of this name.
    pub bus: BusId,
    /// How it is addressed on its bus.
    pub address: DeviceAddress,
    /// Which of a station's connectors it is, from 1, if its profile has several in one map.
    pub connector: Option<u16>,
    /// Of the vehicle at it, where it does not tell it, kWh. 1 to 10,000.
    pub battery_capacity_kwh: Option<f64>,
    /// How long to wait for a reply, where it is asked. 50 ms to 30 s.
    pub timeout: Duration,
    /// What passes at least between a reply and the next request. 0 to 10 s.
    pub pause: Duration,
    /// The line of its header in the file.
    pub line: usize,
}

/// How a device is addressed on its bus.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DeviceAddress {
    /// At an address of its own, or of the gateway before it.
    Tcp {
        /// Where a server of Modbus TCP listens.
        endpoint: Endpoint,
        /// Its number there.
        unit: UnitId,
    },
    /// On the line of its bus.
    Serial {
        /// The line.
        line: SerialLine,
        /// Its number there, 1 to 247.
        unit: UnitId,
    },
    /// It speaks by itself on a CAN bus.
    Can {
        /// The bus's interface, or the file that it was recorded in.
        source: CanSource,
        /// Its own number in the ids of its frames: a J1939 source address, the number of a module.
        node: Option<u32>,
    },
    /// Sessions of one connector, seen on an ISO 15118 bus.
    Session {
        /// As the charger counts its connectors.
        connector: u16,
    },
}

impl DeviceAddress {
    /// Whether both are one device under two names, on the same bus. Names of hosts have no case.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp { endpoint: here, unit }, Self::Tcp { endpoint: there, unit: other }) => {
                here.host.eq_ignore_ascii_case(&there.host) && here.port == there.port && unit == other
            }
            (Self::Serial { line: here, unit }, Self::Serial { line: there, unit: other }) => {
                here.path == there.path && unit == other
            }
            (Self::Session { connector: here }, Self::Session { connector: there }) => here == there,
            // Several devices may speak on one CAN bus; that their profiles differ is seen elsewhere.
            (Self::Can { node: here, .. }, Self::Can { node: there, .. }) => here == there,
            _ => false,
        }
    }

    /// The Modbus unit, where there is one.
    #[must_use]
    pub fn unit(&self) -> Option<UnitId> {
        match self {
            Self::Tcp { unit, .. } | Self::Serial { unit, .. } => Some(*unit),
            Self::Can { .. } | Self::Session { .. } => None,
        }
    }
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { endpoint, .. } => endpoint.fmt(f),
            Self::Serial { line, .. } => line.fmt(f),
            Self::Can { source, node: None } => source.fmt(f),
            Self::Can { source, node: Some(node) } => write!(f, "{source}, node {node}"),
            Self::Session { connector } => write!(f, "connector {connector}"),
        }
    }
}
