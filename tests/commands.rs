//! Commands as a shell uses them: a reader that goes, a signal, a terminal of 80 columns.

#![cfg(feature = "demo")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hil_tests::certs::{Authority, Validity};
use hil_tests::process::program;
use hil_tests::wait::wait_for;

const SOON: Duration = Duration::from_secs(60);
const SIGPIPE: u32 = 13;

fn binary() -> String {
    std::env::var("V2G_EDGE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_v2g-edge").to_owned())
}

fn configuration(dir: &Path) -> String {
    let path = dir.join("gateway.toml");
    let text = format!(
        "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"{}\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1:1\"]\n\
         [bus.lan]\nmodbus-tcp = {{}}\n[device.meter]\nkind = \"meter\"\nbus = \"lan\"\naddress = \"127.0.0.1:1\"\nunit = 1\n\
         profile = \"eastron-sdm630\"\n",
        dir.join("state").display()
    );
    fs::write(&path, text).expect("written");
    path.to_str().expect("plain").to_owned()
}

#[test]
fn a_command_whose_reader_has_gone_ends_without_a_word() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = configuration(dir.path());
    let log = dir.path().join("bus.log");
    fs::write(&log, "(1.0) can0 109#00\n".repeat(20_000)).expect("written");
    let log = log.to_str().expect("plain");
    let dbc = "chademo.dbc";
    let commands: &[&[&str]] = &[
        &["check", "--config", &config],
        &["check", "--config", &config, "--json"],
        &["check", "--config", "/nowhere.toml", "--json"],
        &["doctor", "--config", &config],
        &["doctor", "--config", &config, "--json"],
        &["probe", "can", "--log", log, "--dbc", dbc],
        &["probe", "can", "--log", log, "--dbc", dbc, "--frames"],
        &["probe", "can", "--log", log, "--dbc", dbc, "--frames", "--json"],
        &["demo"],
        &["demo", "--json"],
        &["--help"],
    ];
    for arguments in commands {
        let (reader, writer) = pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(binary());
        command.args(*arguments).env("TMPDIR", dir.path()).stdout(writer);
        let output = command.output().expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked") && !stderr.contains("stdout"), "{arguments:?}: {stderr}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {:?} {stderr}", output.status);
    }
    assert_eq!(left_in(dir.path()), Vec::<String>::new(), "the demo's directory has gone");
}

#[test]
fn a_command_whose_stderr_nobody_reads_does_what_it_is_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("bus.log");
    fs::write(&log, "nothing that can be read\n").expect("written");
    let log = log.to_str().expect("plain");
    let commands: [(&[&str], i32); 3] = [
        (&["check", "--config", "/nowhere.toml"], 2),
        (&["probe", "can", "--log", log, "--dbc", "/nowhere.dbc"], 2),
        (&["audit", "--broker", "mqtt://127.0.0.1:1", "--for", "soon"], 2),
    ];
    for (arguments, code) in commands {
        let (reader, writer) = pipe().expect("a pipe");
        drop(reader);
        let output = Command::new(binary()).args(arguments).stderr(writer).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {:?}", output.status);
    }
}

/// A packet of MQTT.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short");
    assert!((128..16_384).contains(&length) || length < 128);
    let [low, high] = [(length % 128).to_le_bytes()[0], (length / 128).to_le_bytes()[0]];
    let mut packet = if high == 0 { vec![first, low] } else { vec![first, low | 128, high] };
    packet.extend_from_slice(body);
    packet
}

/// Takes a consumer, sends it what it has to answer, and has gone before the answers come: the first is met by a reset.
fn send_and_go(mut consumer: TcpStream) {
    let mut head = [0; 2];
    consumer.read_exact(&mut head).expect("CONNECT");
    consumer.read_exact(&mut vec![0; head[1].into()]).expect("the rest of it");
    consumer.write_all(&packet(0x20, &[0, 0, 0])).expect("CONNACK");
    for _ in 0..3 {
        consumer.read_exact(&mut head).expect("SUBSCRIBE");
        let mut body = vec![0; head[1].into()];
        consumer.read_exact(&mut body).expect("the rest of it");
        consumer.write_all(&packet(0x90, &[body[0], body[1], 0, 1])).expect("SUBACK");
    }
    let publish = |id: u8| {
        let mut body = [&[0, 1, b't', 0, id, 0][..], &[b'x'; 8000]].concat();
        body.truncate(8000);
        packet(0x32, &body)
    };
    let all: Vec<u8> = (1..=16).flat_map(publish).collect();
    let _ = consumer.write_all(&all);
}

/// With SIGPIPE at its default 3 of 8 audits ended by it: `writev` on a socket raises it, whatever `write` does.
#[test]
fn an_audit_whose_broker_goes_while_it_answers_gives_its_verdict() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let broker = format!("mqtt://{}", listener.local_addr().expect("it has one"));
    let mut command = Command::new(binary());
    command.args(["audit", "--json", "--broker", &broker]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let audit = command.spawn().expect("the program starts");
    // It comes again each time.
    for _ in 0..5 {
        send_and_go(listener.accept().expect("it connects").0);
    }
    // Which of its writes meets the reset is chance; that none of them can end it is not.
    let status = fs::read_to_string(format!("/proc/{}/status", audit.id())).expect("it still runs");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("Linux tells it");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a mask");
    assert_ne!(ignored & 1 << (SIGPIPE - 1), 0, "{ignored:x}");
    let pid = audit.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let output = audit.wait_with_output().expect("it ends");
    let verdict = String::from_utf8_lossy(&output.stdout);
    assert!(verdict.starts_with('{') && output.status.code().is_some(), "{:?} {verdict}", output.status);
}

/// It was good, and no broker of TLS 1.3 takes it.
#[test]
fn check_tells_a_certificate_of_version_1() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = configuration(dir.path());
    let certificate = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/gateway-v1.pem");
    let key = dir.path().join("gw.key");
    fs::write(&key, "").expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
    let tls = format!("[uplink.tls]\nca = {certificate:?}\ncertificate = {certificate:?}\nkey = {key:?}\n[bus.lan]");
    let text = fs::read_to_string(&config).expect("ours").replace("[bus.lan]", &tls).replace("mqtt:", "mqtts:");
    fs::write(&config, text).expect("written");
    for (arguments, is_json) in
        [(&["check", "--config", &config][..], false), (&["check", "--config", &config, "--json"], true)]
    {
        let output = Command::new(binary()).args(arguments).output().expect("the program starts");
        let told = if is_json { &output.stdout } else { &output.stderr };
        let told = String::from_utf8_lossy(told);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("gateway-v1.pem") && told.contains("is X.509 version 1"), "{told}");
        assert!(!is_json || told.contains("\"ok\":false"), "{told}");
    }
}

/// It was called good, and the agent had no connection.
#[test]
fn check_tells_files_with_which_no_connection_can_be_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = configuration(dir.path());
    let authority = Authority::new(&dir.path().join("ca"), "depot ca").expect("a ca");
    let (own, other) = (authority.client("gw-01", Validity::Good), authority.client("gw-02", Validity::Good));
    let (own, other) = (own.expect("a certificate"), other.expect("another"));
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "").expect("written");
    let text = fs::read_to_string(&config).expect("ours").replace("mqtt:", "mqtts:");
    for (certificate, key, code, part) in [
        (&own.certificate, &own.key, 0, ""),
        (&own.certificate, &other.key, 2, "do not make the certificate of a client"),
        (&empty, &own.key, 2, "holds no certificate in PEM form"),
    ] {
        let tls = format!("[uplink.tls]\nca = {:?}\ncertificate = {certificate:?}\nkey = {key:?}\n[bus.lan]", own.ca);
        fs::write(&config, text.replace("[bus.lan]", &tls)).expect("written");
        let output = Command::new(binary()).args(["check", "--config", &config]).output().expect("the program starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && told.contains(part), "{told}");
    }
}

#[test]
fn a_stdout_that_cannot_be_written_is_told_and_not_a_panic() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = configuration(dir.path());
    let full = fs::File::options().write(true).open("/dev/full").expect("every Linux has it");
    let output =
        Command::new(binary()).args(["check", "--config", &config]).stdout(full).output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("stdout cannot be written") && !stderr.contains("panicked"), "{stderr}");
    assert_eq!(output.status.code(), Some(3));
}

/// The directories of demos that are still there.
fn left_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("it is there").filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("v2g-edge-demo-"))
        .collect()
}

/// Processes that were started with something in this directory.
fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().expect("plain");
    let entries = fs::read_dir("/proc").expect("Linux").filter_map(Result::ok);
    let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(dir)).collect()
}

fn demo(dir: &Path) -> Child {
    let mut command = Command::new(binary());
    command.args(["demo", "--json"]).env("TMPDIR", dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

#[test]
fn a_demo_that_a_signal_ends_leaves_neither_its_agent_nor_its_directory() {
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut demo = demo(dir.path());
        let mut lines = BufReader::new(demo.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("a line").expect("it can be read");
        assert!(first.contains("live"), "{first}");
        let runs = || if processes_of(dir.path()).is_empty() { Err("no agent".to_owned()) } else { Ok(()) };
        wait_for(SOON, "the agent", runs).unwrap_or_else(|late| panic!("{late}"));
        let pid = demo.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill").success());
        let status = demo.wait().expect("it ends");
        assert_eq!(status.code(), Some(128 + number), "{signal}");
        assert_eq!((left_in(dir.path()), processes_of(dir.path())), (vec![], vec![]), "{signal}");
    }
}

#[test]
fn a_demo_whose_reader_goes_in_the_midst_of_it_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut demo = demo(dir.path());
    let mut reader = BufReader::new(demo.stdout.take().expect("piped"));
    reader.read_line(&mut String::new()).expect("a line");
    drop(reader);
    assert_eq!(demo.wait().expect("it ends").code(), Some(0));
    assert_eq!((left_in(dir.path()), processes_of(dir.path())), (vec![], vec![]));
}

#[test]
fn a_demo_that_keeps_its_directory_tells_where_it_is_however_it_ends() {
    for ends in ["a signal", "its reader"] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(binary());
        command
            .args(["demo", "--json", "--keep"])
            .env("TMPDIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut demo = command.spawn().expect("the program starts");
        let mut reader = BufReader::new(demo.stdout.take().expect("piped"));
        reader.read_line(&mut String::new()).expect("a line");
        if ends == "a signal" {
            let pid = demo.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        } else {
            drop(reader);
        }
        let output = demo.wait_with_output().expect("it ends");
        let told = String::from_utf8_lossy(&output.stderr);
        let [kept] = &left_in(dir.path())[..] else { panic!("{ends}: {told}") };
        assert!(told.contains(&format!("kept: {}", dir.path().join(kept).display())), "{ends}: {told}");
        assert_eq!(processes_of(dir.path()), Vec::<String>::new(), "{ends}");
    }
}

/// Plays the demo on a pseudo terminal for as long as it takes to draw 30 pictures, then presses Ctrl-C. Prints the widest
/// line, the most lines that the cursor goes up, and the exit code.
const ON_A_TERMINAL: &str = r#"
import fcntl, os, pty, re, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], "demo"])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
seen = b""
while seen.count(b"v2g-edge demo") < 30:
    seen += os.read(terminal, 65536)
os.write(terminal, b"\x03")
try:
    while True:
        more = os.read(terminal, 65536)
        if not more:
            break
        seen += more
except OSError:
    pass
_, status = os.waitpid(pid, 0)
text = seen.decode()
ups = [int(up) for up in re.findall(r"\x1b\[(\d+)A", text)]
plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
print(max(len(line.rstrip("\r")) for line in plain.split("\n")), max(ups), min(ups), os.waitstatus_to_exitcode(status))
"#;

#[test]
fn the_demo_stays_in_place_on_a_terminal_of_80_columns() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(program("python3"));
    command.args(["-c", ON_A_TERMINAL, &binary()]).env("TMPDIR", dir.path());
    let output = command.output().expect("python3 starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<usize> = told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [widest, up_max, up_min, code] = numbers[..] else { panic!("{told} {output:?}") };
    assert!(widest <= 80, "{widest} columns");
    assert!(up_max < 24 && up_max == up_min, "{up_min} to {up_max} rows");
    assert_eq!(code, 130);
    assert_eq!((left_in(dir.path()), processes_of(dir.path())), (vec![], vec![]));
}
