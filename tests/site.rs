//! The depot as one, end to end: two chargers on Modbus TCP, a limit of the connection, an agent that is killed in the midst of a quarter-hour,
//! a subscriber at the local socket, and what comes to the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hil_tests::agent::{Agent, Setup, Status};
use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Authority, Validity};
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::oracle::{Line, Message, Value};
use hil_tests::wait::wait_for;

const SOON: Duration = Duration::from_secs(60);
const QUARTER_NS: i64 = 900_000_000_000;

/// The two chargers: units 1 and 2.
type Chargers = Arc<Mutex<[Charger; 2]>>;

#[derive(Debug, Default)]
struct Charger {
    state: u16,
    power_w: i32,
    /// A Wh is counted each time that it is asked for, while it charges.
    import_wh: u64,
}

impl Charger {
    /// The input registers of the profile `sim-bidirectional-dc`.
    fn registers(&mut self) -> [u16; 18] {
        self.import_wh += u64::from(self.power_w > 0);
        let mut words = [0; 18];
        let mut put = |at: usize, bytes: &[u8]| {
            let pairs = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            words[at..].iter_mut().zip(pairs).for_each(|(word, value)| *word = value);
        };
        put(0, &self.state.to_be_bytes());
        put(2, &self.power_w.to_be_bytes());
        put(4, &4_000_u16.to_be_bytes());
        put(6, &500_u16.to_be_bytes());
        put(10, &(1_000 + self.import_wh).to_be_bytes());
        put(14, &1_000_u64.to_be_bytes());
        words
    }
}

fn serve_all() -> (Chargers, String) {
    let chargers: Chargers = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let served = Arc::clone(&chargers);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let served = Arc::clone(&served);
            std::thread::spawn(move || serve(stream, &served));
        }
    });
    (chargers, address)
}

/// Answers reads of the input registers of `sim-bidirectional-dc` until the connection ends (Modbus Messaging on TCP/IP 1.0b, 3.1.3).
fn serve(mut stream: TcpStream, chargers: &Chargers) {
    let mut request = [0; 12];
    while stream.read_exact(&mut request).is_ok() {
        let charger = usize::from(request[6]).saturating_sub(1).min(1);
        let words = chargers.lock().unwrap_or_else(PoisonError::into_inner)[charger].registers();
        let (start, count) =
            (usize::from(u16::from_be_bytes([request[8], request[9]])), u16::from_be_bytes([request[10], request[11]]));
        let Some(words) = words.get(start..start + usize::from(count)).filter(|_| request[7] == 4) else { return };
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let body = [&[request[6], 4, u8::try_from(bytes.len()).expect("36 at most")], &bytes[..]].concat();
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        if stream.write_all(&[&request[..4], &length, &body].concat()).is_err() {
            return;
        }
    }
}

/// The batches that came, each once.
fn batches(messages: &[Message]) -> Vec<Vec<Line>> {
    let is_batch = |message: &&Message| message.topic.ends_with("/telemetry") || message.topic.ends_with("/history");
    let mut seen = BTreeSet::new();
    let mut batches = Vec::new();
    for message in messages.iter().filter(is_batch) {
        let text = String::from_utf8_lossy(&message.payload);
        let lines: Vec<Line> = text.lines().map(|line| Line::parse(line).expect("line protocol")).collect();
        if seen.insert((lines[0].count("epoch").expect("a number"), lines[0].count("seq").expect("a number"))) {
            batches.push(lines);
        }
    }
    batches.sort_by_key(|lines| lines[0].time_ns);
    batches
}

fn of<'l>(batches: &'l [Vec<Line>], measurement: &'l str) -> impl Iterator<Item = (i64, &'l Line)> + 'l {
    let of = move |lines: &'l Vec<Line>| {
        let time = lines[0].time_ns;
        lines.iter().filter(move |line| line.measurement == measurement).map(move |line| (time, line))
    };
    batches.iter().flat_map(of)
}

fn number(line: &Line, field: &str) -> f64 {
    line.field(field).and_then(Value::number).unwrap_or(0.0)
}

/// Events of the limit, in their order.
fn limits(messages: &[Message]) -> Vec<String> {
    let batches = batches(messages);
    let kinds = of(&batches, "event").filter_map(|(_, line)| line.tag("kind").map(str::to_owned));
    kinds.filter(|kind| kind.starts_with("site_limit_")).collect()
}

struct Stage {
    _dir: tempfile::TempDir,
    _broker: Broker,
    consumer: Consumer,
    agent: Agent,
    chargers: Chargers,
}

impl Stage {
    fn begin() -> Self {
        let (chargers, address) = serve_all();
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
        let server = authority.server(Validity::Good).expect("a server certificate");
        let broker = Broker::start(&dir.path().join("broker"), &server, Options::default()).expect("a broker");
        let endpoint = Endpoint::Plain(broker.plain_port());
        let consumer = Consumer::start(dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
        let charger = |unit: u8| {
            format!(
                "[device.dc-{unit}]\nkind = \"evse\"\nbus = \"dc\"\naddress = \"{address}\"\nunit = {unit}\n\
                 profile = \"sim-bidirectional-dc\"\npoll = \"200ms\"\nbattery_capacity = \"80kWh\"\n"
            )
        };
        let site = "[site]\nimport_max = \"30kW\"\nhold = \"1s\"\nhysteresis = 10\n";
        let setup = Setup {
            gateway: "gw-01".to_owned(),
            site: "depot-a".to_owned(),
            brokers: vec![broker.url()],
            tls: authority.client("gw-01", Validity::Good).expect("a client certificate"),
            meters: vec![],
            line: None,
            keep_alive: "5s",
            uplink: String::new(),
            extra: format!("{site}[bus.dc]\nmodbus-tcp = {{}}\n{}{}", charger(1), charger(2)),
        };
        let binary = std::env::var_os("V2G_EDGE_BIN")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_v2g-edge")), PathBuf::from);
        let mut agent = Agent::new(Path::new(&binary), dir.path(), &setup).expect("a configuration");
        agent.start().expect("it starts");
        Self { _dir: dir, _broker: broker, consumer, agent, chargers }
    }

    fn set(&self, charger: usize, state: u16, power_w: i32) {
        let charger = &mut self.chargers.lock().unwrap_or_else(PoisonError::into_inner)[charger];
        (charger.state, charger.power_w) = (state, power_w);
    }

    /// Waits until a `site` line of a batch that was not there yet is like this.
    fn site(&self, what: &str, is_it: impl Fn(&Line) -> bool) {
        let before = self.consumer.look(batches).last().map_or(0, |lines| lines[0].time_ns);
        let look = || {
            let batches = self.consumer.look(batches);
            let newer: Vec<&Line> = of(&batches, "site").filter(|(time, _)| *time > before).map(|(_, l)| l).collect();
            if newer.iter().any(|line| is_it(line)) { Ok(()) } else { Err(format!("{:?}", newer.last())) }
        };
        wait_for(SOON, what, look).unwrap_or_else(|late| panic!("{late}"));
    }

    /// Waits until so many events of the limit have come.
    fn limits(&self, count: usize) -> Vec<String> {
        let look = || match self.consumer.look(limits) {
            told if told.len() >= count => Ok(told),
            told => Err(format!("{told:?}")),
        };
        wait_for(SOON, "events of the limit", look).unwrap_or_else(|late| panic!("{late}"))
    }
}

#[test]
fn a_depot_tells_who_is_free_what_exceeds_its_limit_and_each_quarter_hour_over_a_kill() {
    let mut stage = Stage::begin();
    stage.site("two free connectors", |line| {
        number(line, "free") == 2.0 && line.field("unknown").is_none() && number(line, "headroom_import") == 30.0
    });

    // At the socket, as it ends.
    let socket = UnixStream::connect(stage.agent.socket()).expect("the socket");
    (&socket).write_all(b"{\"ask\":\"subscribe\"}\n").expect("written");
    let mut heard = BufReader::new(socket);
    let mut times = Vec::new();
    for _ in 0..4 {
        let mut line = String::new();
        heard.read_line(&mut line).expect("a line");
        let told: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((told["answer"].as_str(), told["site"]["free"].as_i64()), (Some("window"), Some(2)), "{line}");
        times.push(told["time_ns"].as_i64().expect("a time"));
    }
    assert!(times.windows(2).all(|pair| pair[1] > pair[0]), "{times:?}");

    stage.set(0, 2, 36_000);
    assert_eq!(stage.limits(1), ["site_limit_exceeded"]);
    let status = stage.agent.status().expect("it answers");
    assert_eq!(status.number("/depot/exceeded/0/max_w"), Some(30_000), "{status:?}");

    // Killed in the midst; the life after goes on with what was told.
    stage.agent.kill9().expect("it runs");
    stage.agent.start().expect("it starts again");
    stage.site("the power after the kill", |line| number(line, "power_flow") == 36.0);
    // Below the limit, but not by the hysteresis.
    stage.set(0, 2, 29_000);
    stage.site("a power in between", |line| number(line, "power_flow") == 29.0);
    stage.set(1, 3, -12_000);
    stage.site("one gives, one takes", |line| {
        number(line, "grid_power") == 17.0 && line.tag("direction") == Some("G2V")
    });
    assert_eq!(stage.limits(2), ["site_limit_exceeded", "site_limit_kept"]);

    let is_delivered = || match stage.agent.status() {
        Ok(status) if Status::waiting(&status) == Some(0) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(SOON, "that all is delivered", is_delivered).unwrap_or_else(|late| panic!("{late}"));
    let batches = stage.consumer.look(batches);
    let told: Vec<(i64, &Line)> = of(&batches, "site_interval").collect();
    assert!(told.len() >= 2, "each life tells the quarter-hour that goes on: {told:?}");
    let mwh = |kwh: f64| (kwh * 1e6).round();
    let mut rows: BTreeMap<i64, f64> = BTreeMap::new();
    for (time, line) in &told {
        let start = line.time_ns;
        assert_eq!(start % QUARTER_NS, 0, "{line:?}");
        let in_it = of(&batches, "site").filter(|(at, _)| *at > start && at <= time);
        let sum: f64 = in_it.map(|(_, line)| mwh(number(line, "energy_import_delta"))).sum();
        assert_eq!(mwh(number(line, "energy_import")), sum, "{line:?}");
        rows.insert(start, number(line, "energy_import"));
    }
    assert!(rows.values().sum::<f64>() > 0.0, "{rows:?}");
    let status = stage.agent.terminate(Duration::from_secs(15)).expect("it ends");
    assert!(status.success(), "{}", stage.agent.log_tail());
}
