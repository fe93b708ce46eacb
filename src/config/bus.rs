//! `[bus.*]`: the buses of the gateway.

use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hal::{Parity, SerialLine, StopBits};

use super::Surroundings;
use super::document::{Entry, Kind, Table, Value};
use super::fault::{Fault, Place};
use super::gateway::absolute_path;
use super::plan::{BusKind, BusPlan, CanBus, CanSource, Framing};
use super::section::{
    Form, Scope, Section, Taken, Wrong, boolean, duration_within, integer, nearest, number, one_of, text,
};
use super::uplink::{file, secret};
use crate::net::{Endpoint, Mirror, OwnFiles, ServerFiles, SessionSource};

pub(super) const BUS: Form = Form {
    table: "bus.*",
    keys: &[
        ("modbus-tcp", "{}"),
        ("modbus-rtu", "{ port = \"/dev/ttyS1\", baud = 19200, parity = \"even\", stop_bits = 1 }"),
        ("can", "{ interface = \"can0\", bitrate = 250000 }"),
        ("iso15118", "{ tap = \"eth1\" }"),
    ],
};
pub(super) const MODBUS_TCP: Form = Form {
    table: "bus.*.modbus-tcp",
    keys: &[("timeout", "\"1s\""), ("byte_timeout", "\"500ms\""), ("framing", "\"rtu\"")],
};
pub(super) const MODBUS_RTU: Form = Form {
    table: "bus.*.modbus-rtu",
    keys: &[
        ("port", "\"/dev/ttyS1\""),
        ("baud", "19200"),
        ("data_bits", "8"),
        ("parity", "\"even\""),
        ("stop_bits", "1"),
        ("rs485", "true"),
        ("timeout", "\"1s\""),
        ("byte_timeout", "\"500ms\""),
    ],
};
pub(super) const CAN: Form = Form {
    table: "bus.*.can",
    keys: &[
        ("interface", "\"can0\""),
        ("bitrate", "500000"),
        ("sample_point", "0.875"),
        ("fd", "true"),
        ("data_bitrate", "2000000"),
        ("restart", "\"1s\""),
        ("listen_only", "true"),
        ("log", "\"/var/lib/v2g-edge/bus.log\""),
        ("speed", "\"recorded\""),
    ],
};
pub(super) const ISO15118: Form = Form {
    table: "bus.*.iso15118",
    keys: &[
        ("mirror", "\"unix:/run/v2g-edge/iso15118.sock\""),
        ("ca", "\"/etc/v2g-edge/tls/stations-ca.pem\""),
        ("certificate", "\"/etc/v2g-edge/tls/mirror.pem\""),
        ("key", "\"/etc/v2g-edge/tls/mirror.key\""),
        ("tap", "\"eth1\""),
        ("files", "[\"a.ev.bin\", \"a.se.bin\"]"),
    ],
};

/// How long to wait for a reply. Below, a healthy serial gateway is given up; above, one silent device owns the bus.
pub(super) const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(30);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
/// Of a silence within an answer. Below, an adapter's lumps are taken apart; above, what breaks off holds up the bus.
const BYTE_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(5);
/// What devices are set to, and some that only old ones and radio modems are. The kernel takes any (`BOTHER`).
const BAUDS: [u32; 20] = [
    300, 600, 1200, 1800, 2400, 4800, 7200, 9600, 14_400, 19_200, 28_800, 38_400, 56_000, 57_600, 76_800, 115_200,
    187_500, 230_400, 460_800, 921_600,
];
/// CiA 301 names these; 33,333 and 83,333 are of cars and trucks.
const BITRATES: [u32; 11] =
    [10_000, 20_000, 33_333, 50_000, 83_333, 100_000, 125_000, 250_000, 500_000, 800_000, 1_000_000];
/// Usual in the data phase of CAN FD (CiA 601-3).
const DATA_BITRATES: [u32; 8] = [500_000, 800_000, 1_000_000, 2_000_000, 2_500_000, 4_000_000, 5_000_000, 8_000_000];
/// Of `restart-ms`; zero leaves the controller off the bus until somebody restarts it.
const RESTART: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const RESTART_DEFAULT: Duration = Duration::from_secs(1);
/// `IFNAMSIZ` less its final NUL.
const INTERFACE_BYTES_MAX: usize = 15;
const FILES_MAX: usize = 64;
/// What a mirror feed needs for `tls:`.
const TLS_KEYS: [&str; 3] = ["ca", "certificate", "key"];
/// `sun_path` less its end.
const SOCKET_BYTES_MAX: usize = 107;

/// One bus; `None` after reporting what is wrong with it.
pub(super) fn bus(scope: Scope<'_>, entry: &Entry, table: &Table, surroundings: &Surroundings) -> Option<BusPlan> {
    let section = Section::new(scope, &BUS, format!("bus.{}", entry.key), table);
    let id = super::child_name(scope, &section.title, entry);
    let kinds = section.present(&["modbus-tcp", "modbus-rtu", "can", "iso15118"]);
    let kind = match kinds.as_slice() {
        ["modbus-tcp"] => section.section("modbus-tcp", &MODBUS_TCP).map(|s| modbus_tcp(&s)),
        ["modbus-rtu"] => section.section("modbus-rtu", &MODBUS_RTU).and_then(|s| modbus_rtu(&s)),
        ["can"] => section.section("can", &CAN).and_then(|s| can(&s)),
        [_iso15118] => section.section("iso15118", &ISO15118).and_then(|s| iso15118(&s, surroundings)),
        [] => {
            let remedy = "modbus-tcp = {}   (or modbus-rtu, can, iso15118)";
            section.blame_header(format!("the bus {} does not say what it is", entry.key), remedy);
            None
        }
        [_, second, ..] => {
            let problem = format!("the bus {} is of two kinds, {}", entry.key, kinds.join(" and "));
            section.blame(second, problem, "one kind here, and a bus of its own for the other");
            None
        }
    };
    Some(BusPlan { id: id?, kind: kind?, line: section.header().line() })
}

/// One port is one bus: two that send on it would talk over each other.
pub(super) fn same_port(buses: &[(BusPlan, Place)]) -> Vec<Fault> {
    let port = |bus: &BusPlan| match &bus.kind {
        BusKind::ModbusRtu { line, .. } => Some(line.path.clone()),
        BusKind::Can(CanBus { source: CanSource::Interface(interface), .. }) => Some(PathBuf::from(interface)),
        BusKind::ModbusTcp { .. } | BusKind::Can(_) | BusKind::Iso15118(_) => None,
    };
    let mut faults = Vec::new();
    for (n, (bus, place)) in buses.iter().enumerate() {
        let Some(own) = port(bus) else { continue };
        let Some((first, first_place)) = buses[..n].iter().find(|(other, _)| port(other).as_ref() == Some(&own)) else {
            continue;
        };
        let (id, first_id, own) = (&bus.id, &first.id, own.display());
        let problem =
            format!("the bus {id} has the same port as {first_id}, {own}, here and at line {}", first_place.line());
        let remedy = format!("a port of its own for {id}, or bus = \"{first_id}\" for its devices and no [bus.{id}]");
        faults.push(place.fault(format!("bus.{id}"), problem, remedy).also(first_place));
    }
    faults
}

fn modbus_tcp(section: &Section<'_>) -> BusKind {
    let timeout = section.optional("timeout", duration_within(TIMEOUT));
    let framing = section.optional("framing", one_of(&[("tcp", Framing::Tcp), ("rtu", Framing::Rtu)]));
    let (timeout, framing) = (timeout.unwrap_or(TIMEOUT_DEFAULT), framing.unwrap_or(Framing::Tcp));
    BusKind::ModbusTcp { timeout, byte_timeout: byte_timeout(section), framing }
}

fn modbus_rtu(section: &Section<'_>) -> Option<BusKind> {
    let parities = Parity::ALL.map(|parity| (parity.as_str(), parity));
    let port = section.required("port", absolute_path);
    let baud = section.required("baud", |value| listed(value, &BAUDS));
    section.optional("data_bits", data_bits);
    let parity = section.required("parity", one_of(&parities));
    let stop_bits = match section.optional("stop_bits", integer(1..=2_u8)) {
        Some(2) => StopBits::Two,
        _ => StopBits::One,
    };
    let timeout = section.optional("timeout", duration_within(TIMEOUT)).unwrap_or(TIMEOUT_DEFAULT);
    let byte_timeout = byte_timeout(section);
    let rs485 = section.optional("rs485", boolean).unwrap_or(false);
    let line = SerialLine { path: port?, baud: baud?, parity: parity?, stop_bits, rs485 };
    Some(BusKind::ModbusRtu { line, timeout, byte_timeout })
}

/// RTU carries whole bytes: a line of 7 data bits is one of Modbus ASCII (Modbus over Serial Line 1.02, 2.5.2.1).
fn data_bits(value: &Value) -> Taken<u8> {
    match integer(5..=8_u8)(value)? {
        8 => Ok(8),
        bits => {
            let problem = format!("= {bits}: with {bits} data bits a device speaks Modbus ASCII, which is not read");
            Err(Wrong::noted(problem, "8, and the device's mode set to RTU"))
        }
    }
}

fn byte_timeout(section: &Section<'_>) -> Duration {
    section.optional("byte_timeout", duration_within(BYTE_TIMEOUT)).unwrap_or(hal::BYTE_TIMEOUT)
}

fn can(section: &Section<'_>) -> Option<BusKind> {
    let interface = section.optional("interface", interface);
    let bitrate = section.optional("bitrate", |value| listed(value, &BITRATES));
    let log = section.optional("log", text).map(PathBuf::from);
    let fast = section.optional("speed", one_of(&[("recorded", false), ("fast", true)]));
    let fd = section.optional("fd", boolean);
    let data_bitrate = section.optional("data_bitrate", |value| listed(value, &DATA_BITRATES));
    let (source, of_the_other) = if section.has("log") {
        let only = ["sample_point", "restart", "listen_only"];
        let source = log.map(|path| CanSource::Log { path, fast: fast.unwrap_or(false), interface });
        (source, ("a recording has no controller", section.present(&only)))
    } else {
        if !section.has("interface") {
            section.missing("interface");
        }
        (interface.map(CanSource::Interface), ("only a recording has a speed", section.present(&["speed"])))
    };
    for key in of_the_other.1 {
        section.blame(key, of_the_other.0, "delete this key");
    }
    if section.has("data_bitrate") && fd != Some(true) {
        section.blame("data_bitrate", "only CAN FD has a data phase of its own", "fd = true, or delete this key");
    }
    if fd == Some(true) && bitrate.is_some() && !section.has("data_bitrate") && !section.has("log") {
        section.blame("fd", "a CAN FD link that is set up here needs its data_bitrate", "data_bitrate = 2000000");
    }
    let point = section.optional("sample_point", number(0.5..=0.95));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "500 to 950")]
    let sample_point = point.map(|point| (point * 1000.0).round() as u32);
    let restart = section.optional("restart", duration_within(RESTART)).unwrap_or(RESTART_DEFAULT);
    let listen_only = section.optional("listen_only", boolean).unwrap_or(true);
    let fd = fd.unwrap_or(false);
    Some(BusKind::Can(CanBus { source: source?, bitrate, sample_point, fd, data_bitrate, restart, listen_only }))
}

fn iso15118(section: &Section<'_>, surroundings: &Surroundings) -> Option<BusKind> {
    if !section.has("mirror") {
        for key in section.present(&TLS_KEYS) {
            section.blame(key, "only a mirror feed has TLS", "delete this key");
        }
    }
    match section.present(&["mirror", "tap", "files"]).as_slice() {
        ["mirror"] => mirror(section, surroundings).map(SessionSource::Mirror),
        ["tap"] => section.optional("tap", interface).map(SessionSource::Interface),
        ["files"] => recordings(section, surroundings).map(SessionSource::Files),
        _ => {
            let remedy =
                "iso15118 = { mirror = \"unix:/run/v2g-edge/iso15118.sock\" }   (or tap = \"eth1\", or files = […])";
            let problem = "exactly one of mirror, tap and files says where the sessions are seen";
            section.blame_header(problem, remedy);
            None
        }
    }
    .map(BusKind::Iso15118)
}

/// Where a mirror feed comes in, as the file has it.
enum Given {
    Unix(PathBuf),
    Tcp(Endpoint),
    Tls(Endpoint),
}

fn mirror(section: &Section<'_>, surroundings: &Surroundings) -> Option<Mirror> {
    let given = section.optional("mirror", given);
    if !matches!(given, Some(Given::Tls(_)) | None) {
        for key in section.present(&TLS_KEYS) {
            let remedy = "mirror = \"tls:0.0.0.0:15119\", or delete this key";
            section.blame(key, format!("{key} is for a mirror feed over TLS, which this one is not"), remedy);
        }
    }
    match given? {
        Given::Unix(path) => Some(Mirror::Unix(path)),
        Given::Tcp(endpoint) => Some(Mirror::Tcp(endpoint)),
        Given::Tls(endpoint) => {
            let around = surroundings.of_feeds();
            let ca = section.required("ca", |value| file(value, &around));
            let certificate = section.required("certificate", |value| file(value, &around));
            let key = section.required("key", |value| secret(value, &around));
            let own = OwnFiles { certificate: certificate?, key: key? };
            Some(Mirror::Tls { endpoint, files: ServerFiles { ca: ca?, own } })
        }
    }
}

/// `unix:/path`, `tcp:host:port` on loopback, or `tls:host:port`.
fn given(value: &Value) -> Taken<Given> {
    let given = text(value)?;
    let endpoint = |at: &str| Some(at).filter(|at| at.contains(':')).and_then(|at| Endpoint::parse(at, 1).ok());
    let found = match given.split_once(':') {
        Some(("unix", path)) if path.starts_with('/') && path.len() <= SOCKET_BYTES_MAX => {
            Some(Given::Unix(PathBuf::from(path)))
        }
        Some(("tcp", at)) => endpoint(at).map(Given::Tcp),
        Some(("tls", at)) => endpoint(at).map(Given::Tls),
        _ => None,
    };
    match found {
        Some(Given::Tcp(endpoint)) if !endpoint.is_loopback() => {
            let problem = format!("= \"{given}\" takes the vehicles' session data readable over the network");
            let tls: String = TLS_KEYS.iter().map(|key| format!(", {key} = {}", ISO15118.example(key))).collect();
            let port = endpoint.port;
            let action = format!(
                "mirror = \"tls:{endpoint}\"{tls}\nor, with a tunnel (stunnel, ssh) that ends on this \
                 machine, mirror = \"tcp:127.0.0.1:{port}\""
            );
            Err(Wrong::action(problem, action))
        }
        Some(found) => Ok(found),
        None => Err(Wrong::noted("is no socket", "unix:/path, tcp:host:port on loopback, or tls:host:port")),
    }
}

/// Pairs: what the vehicle said, what the station said.
fn recordings(section: &Section<'_>, surroundings: &Surroundings) -> Option<Vec<(PathBuf, PathBuf)>> {
    let files = section.list("files", FILES_MAX, |value| text(value).map(PathBuf::from))?;
    if files.len() % 2 != 0 {
        let problem =
            format!("{} files are no pairs: each session is two, the vehicle's side and the station's", files.len());
        section.blame("files", problem, "files = [\"a.ev.bin\", \"a.se.bin\"]");
        return None;
    }
    if surroundings.of_feeds().checks_files
        && let Some((path, begins)) = files.iter().find_map(|path| Some((path, other_beginning(path)?)))
    {
        let remedy = "one side of the TCP stream as it is after TLS (of a capture: Wireshark, Follow TCP Stream, Raw), or tap = \"eth1\"";
        section.blame("files", format!("{} is no recording of one side: {begins}", path.display()), remedy);
        return None;
    }
    Some(files.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

/// What a file begins with in place of a V2GTP frame. One that cannot be read, or is empty, is told when it is played.
fn other_beginning(path: &Path) -> Option<String> {
    let mut head = [0; 4];
    std::fs::File::open(path).ok()?.read_exact(&mut head).ok()?;
    match head {
        // ISO 15118-2, 7.8.3: version 1 and its inverse.
        [0x01, 0xfe, ..] => None,
        [0xd4, 0xc3, 0xb2, 0xa1] | [0xa1, 0xb2, 0xc3, 0xd4] | [0x4d, 0x3c, 0xb2, 0xa1] | [0xa1, 0xb2, 0x3c, 0x4d] => {
            Some("it is a capture of packets (pcap)".to_owned())
        }
        [0x0a, 0x0d, 0x0d, 0x0a] => Some("it is a capture of packets (pcapng)".to_owned()),
        [first, second, ..] => Some(format!("it begins with {first:02x} {second:02x}, and a V2GTP frame with 01 fe")),
    }
}

fn interface(value: &Value) -> Taken<String> {
    let given = text(value)?;
    let usable = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':');
    if given.is_empty() || given.len() > INTERFACE_BYTES_MAX || !given.bytes().all(usable) {
        return Err(Wrong::noted(format!("= \"{given}\" is not the name of an interface"), "see: ip link"));
    }
    Ok(given)
}

fn listed(value: &Value, allowed: &[u32]) -> Taken<u32> {
    let list = allowed.iter().map(u32::to_string).collect::<Vec<_>>();
    let Kind::Integer(given) = value.kind else {
        return Err(Wrong::noted(format!("is {}, not a whole number", value.kind.describe()), list.join(", ")));
    };
    if let Some(number) = allowed.iter().find(|number| i128::from(**number) == given) {
        return Ok(*number);
    }
    let problem = format!("is {given}, which is not usual");
    match nearest(&given.to_string(), list.iter().map(String::as_str)) {
        Some(near) => Err(Wrong::instead(problem, near, list.join(", "))),
        None => Err(Wrong::noted(problem, list.join(", "))),
    }
}
