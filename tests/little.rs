//! A gateway that has little or is given much: no device yet, few files, a broker that floods.

#[path = "little/many.rs"]
mod many;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hil_tests::scripted::{Script, ScriptedBroker};
use hil_tests::wait::wait_for;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    std::env::var_os("V2G_EDGE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_v2g-edge")), PathBuf::from)
}

/// An agent with its directory.
struct Agent {
    process: Child,
    dir: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Agent {
    /// With at most so many files, if that is said.
    fn start(port: u16, tables: &str, files: Option<u32>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        configure(dir.path(), port, tables);
        let log = fs::File::create(dir.path().join("log")).expect("a file");
        let mut command = match files {
            None => Command::new(binary()),
            Some(files) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &files.to_string()]).arg(binary());
                shell
            }
        };
        command.args(["run", "--config"]).arg(dir.path().join("gateway.toml")).stdout(Stdio::null()).stderr(log);
        Self { process: command.spawn().expect("the agent starts"), dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).expect("it is there")
    }

    fn ask(&self, more: &[&str]) -> Output {
        Command::new(binary()).args(["status", "--socket"]).arg(self.socket()).args(more).output().expect("it starts")
    }

    #[track_caller]
    fn wait_for_status(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let look = || {
            let output = self.ask(&["--json"]);
            let told = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
            if holds(&told) { Ok(told) } else { Err(format!("{told}\n{output:?}\n{}", self.log())) }
        };
        wait_for(SOON, what, look).unwrap_or_else(|late| panic!("{late}"))
    }

    fn signal(&self, signal: &str) {
        let told = Command::new("kill").args([signal, &self.process.id().to_string()]).status().expect("kill");
        assert!(told.success());
    }

    /// Of its processor, s.
    fn busy_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        fields[11..13].iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
    }
}

/// How long the machine has been up, s.
fn machine_s() -> f64 {
    let text = fs::read_to_string("/proc/uptime").expect("Linux");
    text.split_whitespace().next().and_then(|word| word.parse().ok()).expect("seconds")
}

fn configure(dir: &Path, port: u16, tables: &str) {
    let shown = dir.display();
    let text = format!(
        "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"{shown}/state\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1:{port}\"]\n\
         [api]\nsocket = \"{shown}/api.sock\"\n{tables}"
    );
    fs::write(dir.join("gateway.toml"), text).expect("written");
}

const METER: &str = "[bus.lan]\nmodbus-tcp = {}\n[device.meter]\nkind = \"meter\"\nbus = \"lan\"\naddress = \"127.0.0.1:1\"\n\
    unit = 1\nprofile = \"eastron-sdm630\"\n";

#[test]
fn a_first_boot_without_a_device_runs_says_so_and_takes_devices_at_a_reload() {
    let broker = ScriptedBroker::start(Script::default());
    let mut agent = Agent::start(broker.port(), "", None);
    let config = agent.dir.path().join("gateway.toml");
    let checked = Command::new(binary()).args(["check", "--config"]).arg(&config).output().expect("it starts");
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let is_online = |told: &Value| told["uplink"]["state"] == "online";
    let acknowledged = |told: &Value| told["uplink"]["live"]["acknowledged"].as_u64() > Some(0);
    let told = agent.wait_for_status("a connection", |told| is_online(told) && acknowledged(told));
    assert_eq!(told["without_devices"], true);
    let shown = agent.ask(&[]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("no devices") && text.contains("[device.NAME]"), "{text}");
    let log = agent.log();
    assert!(!log.contains("a task failed"), "{log}");

    configure(agent.dir.path(), broker.port(), METER);
    agent.signal("-HUP");
    let has_it = |told: &Value| told["devices"]["meter"]["state"]["silent"] == "timeout";
    let told = agent.wait_for_status("its device", has_it);
    assert!(told["without_devices"].is_null(), "{told}");
    configure(agent.dir.path(), broker.port(), "");
    agent.signal("-HUP");
    agent.wait_for_status("no device", |told| told["without_devices"] == true && is_online(told));
    agent.signal("-TERM");
    assert!(agent.process.wait().expect("it ends").success(), "{}", agent.log());
}

#[test]
fn few_files_are_named_at_the_start_and_where_they_run_out_and_nothing_spins() {
    let tables = "[bus.plc]\niso15118 = { mirror = \"unix:DIR/feed.sock\" }\n[device.evse]\nkind = \"evse\"\nbus = \"plc\"\n\
        profile = \"iso15118\"\n";
    // Nobody listens at port 1.
    let mut agent = Agent::start(1, METER, Some(24));
    agent.wait_for_status("an answer", |told| !told["files"].is_null());
    assert!(
        agent.log().contains("only 24 files may be open") && agent.log().contains("LimitNOFILE"),
        "{}",
        agent.log()
    );
    drop(agent);

    let dir = tempfile::tempdir().expect("a directory");
    let tables = tables.replace("DIR", dir.path().to_str().expect("plain"));
    let agent = Agent::start(1, &tables, Some(18));
    let feed = dir.path().join("feed.sock");
    let reach = || UnixStream::connect(&feed).map_err(|error| format!("{error} {}", agent.log()));
    let mut callers = vec![wait_for(SOON, "the feed's socket", reach).unwrap_or_else(|late| panic!("{late}"))];
    callers.extend((0..30).filter_map(|_| UnixStream::connect(&feed).ok()));
    callers.extend((0..8).filter_map(|_| UnixStream::connect(agent.socket()).ok()));
    let look = || {
        let log = agent.log();
        let is_told = log.contains("os error 24") && log.contains("LimitNOFILE= in its unit");
        if is_told { Ok(()) } else { Err(log) }
    };
    wait_for(SOON, "the cure", look).unwrap_or_else(|late| panic!("{late}"));
    let (before, since) = (agent.busy_s(), machine_s());
    let look = || if machine_s() >= since + 4.0 { Ok(()) } else { Err("not yet".to_owned()) };
    wait_for(SOON, "four seconds", look).unwrap_or_else(|late| panic!("{late}"));
    let busy = agent.busy_s() - before;
    assert!(busy < 1.0, "{busy} s of its processor in 4 s");
    assert!(agent.log().lines().count() < 40, "{}", agent.log());
    drop(callers);
    agent.signal("-TERM");
    let mut agent = agent;
    assert!(agent.process.wait().expect("it ends").success(), "{}", agent.log());
}

/// A broker that takes a client and then sends messages of this QoS to it, as fast as it can. Answers its port, and counts the
/// bytes.
fn flooding(qos: u8) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            std::thread::spawn(move || flood(stream, qos, &count));
        }
    });
    (port, sent)
}

fn flood(mut stream: TcpStream, qos: u8, sent: &AtomicU64) {
    let mut reader = stream.try_clone().expect("a second handle");
    let mut connect = [0; 512];
    if reader.read(&mut connect).is_err() {
        return;
    }
    std::thread::spawn(move || while reader.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {});
    // CONNACK: no session, success, no properties.
    let _ = stream.write_all(&[0x20, 3, 0, 0, 0]);
    // Topic "a", a packet id if it has one, no properties, 1,000 bytes.
    let id: &[u8] = if qos == 0 { &[] } else { &[0, 7] };
    let mut body = [&[0, 1, b'a'], id, &[0]].concat();
    body.extend([0; 1000]);
    let length = u16::try_from(body.len()).expect("short");
    let header = [
        0x30 | qos << 1,
        u8::try_from(length % 128).expect("a byte") | 128,
        u8::try_from(length / 128).expect("a byte"),
    ];
    let batch = [&header, &body[..]].concat().repeat(16);
    while stream.write_all(&batch).is_ok() {
        sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}

#[test]
fn a_broker_that_floods_is_read_slowly_named_and_left() {
    for qos in [0, 2] {
        let (port, sent) = flooding(qos);
        let mut agent = Agent::start(port, METER, None);
        let is_named = |told: &Value| {
            let what = told["uplink"]["trouble"]["what"].as_str().unwrap_or_default();
            what.contains("that nobody asked for") && told["uplink"]["unasked"].as_u64() > Some(1_000)
        };
        let told = agent.wait_for_status("its name", is_named);
        let sent = sent.load(Ordering::Relaxed);
        // 1 MiB a second for ten seconds, and what the sockets' buffers hold.
        assert!(sent < 64 << 20, "{sent} bytes of QoS {qos} were read");
        assert!(told["rss_bytes"].as_u64() < Some(150 << 20), "{told}");
        let text = String::from_utf8_lossy(&agent.ask(&[]).stdout).into_owned();
        assert!(text.contains("messages that nobody asked for") && text.contains("client id"), "{text}");
    }
}
