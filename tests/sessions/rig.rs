//! An agent that hears charging sessions, a mosquitto, and a consumer that knows the wire contract only.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hil_tests::agent::{Agent, Setup, Status};
use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Authority, Validity};
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::oracle::{Line, Message, Value};
use hil_tests::wait::{unix_ns, wait_for};

const GATEWAY: &str = "gw-01";
/// For whatever should come at once, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(20);

/// In one directory that goes with the test.
pub(crate) struct Rig {
    // Dropped in this order: the agent first, its directory last.
    pub(crate) agent: Agent,
    pub(crate) consumer: Consumer,
    _broker: Broker,
    /// In `{dir}/tls`.
    pub(crate) authority: Authority,
    dir: tempfile::TempDir,
}

impl Rig {
    /// `tables`: buses and devices; `{dir}` stands for the rig's directory.
    pub(crate) fn start(tables: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
        let server = authority.server(Validity::Good).expect("a server certificate");
        let broker = Broker::start(&dir.path().join("broker"), &server, Options::default()).expect("a broker");
        let endpoint = Endpoint::Plain(broker.plain_port());
        let consumer = Consumer::start(dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
        let setup = Setup {
            gateway: GATEWAY.to_owned(),
            site: "depot-a".to_owned(),
            brokers: vec![broker.url()],
            tls: authority.client(GATEWAY, Validity::Good).expect("a client certificate"),
            meters: vec![],
            line: None,
            keep_alive: "5s",
            uplink: String::new(),
            extra: tables.replace("{dir}", &dir.path().display().to_string()),
        };
        let binary = std::env::var_os("V2G_EDGE_BIN")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_v2g-edge")), PathBuf::from);
        let mut agent = Agent::new(&binary, dir.path(), &setup).expect("a configuration");
        // The shortest window: a test looks at one message after the other.
        let file = dir.path().join("gateway.toml");
        let text = std::fs::read_to_string(&file).expect("the configuration");
        std::fs::write(&file, text.replace("window = \"250ms\"", "window = \"50ms\"")).expect("it is ours");
        agent.start().expect("the agent starts");
        let mut rig = Self { agent, consumer, _broker: broker, authority, dir };
        rig.wait_for_status("that it is online", Status::is_online);
        rig
    }

    /// Below the rig's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[track_caller]
    pub(crate) fn wait_for_status(&mut self, what: &str, holds: impl Fn(&Status) -> bool) {
        let look = || match self.agent.status() {
            Ok(status) if holds(&status) => Ok(()),
            Ok(status) => Err(format!("{status:?}")),
            Err(error) => Err(format!("{error:#?}")),
        };
        wait_for(SOON, what, look).unwrap_or_else(|late| panic!("{late}"));
    }

    /// Waits until the events and lines so far satisfy.
    #[track_caller]
    pub(crate) fn wait_for<T>(&self, what: &str, look: impl Fn(&Heard) -> Option<T>) -> T {
        let look = || {
            let heard = self.heard();
            look(&heard).ok_or_else(|| format!("{:?}", heard.events.iter().rev().take(8).collect::<Vec<_>>()))
        };
        wait_for(SOON, what, look).unwrap_or_else(|late| panic!("{late}\n{}", self.agent.log_tail()))
    }

    pub(crate) fn heard(&self) -> Heard {
        self.consumer.look(Heard::of)
    }
}

/// What has come, in order.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) events: Vec<Line>,
    pub(crate) lines: Vec<Line>,
    /// News of charging sessions.
    pub(crate) sessions: Vec<Line>,
}

impl Heard {
    fn of(messages: &[Message]) -> Self {
        let mut heard = Self::default();
        for message in messages.iter().filter(|m| m.topic.ends_with("/telemetry") || m.topic.ends_with("/history")) {
            let text = String::from_utf8_lossy(&message.payload);
            for line in text.lines().map(|line| Line::parse(line).expect("line protocol")) {
                match line.measurement.as_str() {
                    "event" => heard.events.push(line),
                    "evse" => heard.lines.push(line),
                    "charging_session" => heard.sessions.push(line),
                    _ => {}
                }
            }
        }
        heard
    }

    /// The last value of each field of a device.
    pub(crate) fn last(&self, device: &str) -> BTreeMap<String, Value> {
        let of_device = self.lines.iter().filter(|line| line.tag("device") == Some(device));
        of_device.flat_map(|line| line.fields.iter().cloned()).collect()
    }

    /// What a database keeps of the charging sessions of a device: one row for each series and time, of each field the last.
    pub(crate) fn rows_of(&self, device: &str) -> Vec<BTreeMap<String, Value>> {
        let mut rows: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for line in self.sessions.iter().filter(|line| line.tag("device") == Some(device)) {
            rows.entry(line.series_at_time()).or_default().extend(line.fields.iter().cloned());
        }
        rows.into_values().collect()
    }

    /// The energies of the windows of a session, kWh, import and export.
    pub(crate) fn sums_of(&self, device: &str, session: &str) -> (Option<f64>, Option<f64>) {
        let of_session = self.lines.iter().filter(|line| line.tag("device") == Some(device));
        let of_session = of_session.filter(|line| text(line, "session_id") == session);
        let mwh = |field: &str| -> f64 {
            let deltas = of_session.clone().filter_map(|line| line.field(field).and_then(Value::number));
            deltas.map(|kwh| (kwh * 1e6).round()).sum()
        };
        (Some(mwh("energy_import_delta") / 1e6), Some(mwh("energy_export_delta") / 1e6))
    }

    pub(crate) fn events_of(&self, device: &str, kind: &str) -> Vec<&Line> {
        let is_it = |line: &&Line| line.tag("device") == Some(device) && line.tag("kind") == Some(kind);
        self.events.iter().filter(is_it).collect()
    }
}

/// What a field of a line says, as text.
pub(crate) fn text<'l>(line: &'l Line, field: &str) -> &'l str {
    match line.field(field) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

/// A station's side of the mirror feed: what docs/mirror-feed.md shows as the ten-line sender.
pub(crate) struct Mirror(Box<dyn std::io::Write>);

impl Mirror {
    pub(crate) fn connect(socket: &Path) -> Self {
        let connected =
            wait_for(SOON, "the mirror's socket", || UnixStream::connect(socket).map_err(|e| e.to_string()));
        Self(Box::new(connected.unwrap_or_else(|late| panic!("{late}"))))
    }

    pub(crate) fn connect_tcp(port: u16) -> Self {
        let look = || std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string());
        let connected = wait_for(SOON, "the mirror's port", look);
        Self(Box::new(connected.unwrap_or_else(|late| panic!("{late}"))))
    }

    /// Over any connection that stands.
    pub(crate) fn over(stream: impl std::io::Write + 'static) -> Self {
        Self(Box::new(stream))
    }

    pub(crate) fn send(&mut self, kind: u8, connector: u16, bytes: &[u8]) {
        let mut record = vec![1, kind];
        record.extend(connector.to_be_bytes());
        record.extend(u64::try_from(unix_ns() / 1000).expect("after 1970").to_be_bytes());
        record.extend(u32::try_from(bytes.len()).expect("short").to_be_bytes());
        record.extend(bytes);
        self.raw(&record);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the agent reads");
    }
}

/// The frames of one side of a recorded session, headers and all.
pub(crate) fn recorded(name: &str, side: &str) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(data(&format!("{name}.{side}.bin"))).expect("a recording");
    let (mut frames, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some(length) = rest.get(4..8) {
        let length = 8 + u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let (frame, later) = rest.split_at(length);
        frames.push(frame.to_vec());
        rest = later;
    }
    frames
}

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/iso15118").join(name)
}
