//! A charging session end to end: a charger on Modbus TCP, the agent that is killed, mosquitto that goes away, and the one row that is
//! left of it in a database.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hil_tests::agent::{Agent, Setup, Status};
use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Authority, Validity};
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::oracle::{Line, Message, Value};
use hil_tests::wait::{let_pass, wait_for};

const SOON: Duration = Duration::from_secs(60);
/// What the charger's registers show before.
const IMPORT_WH: u64 = 1_234_567;
const EXPORT_WH: u64 = 76_543;

/// What the charger does.
#[derive(Debug, Clone, Copy)]
struct Charger {
    state: u16,
    power_w: i32,
    /// 0.1 %.
    soc: u16,
    import_wh: u64,
    export_wh: u64,
}

impl Charger {
    /// The input registers of the profile `sim-bidirectional-dc`.
    fn registers(&self) -> [u16; 18] {
        let mut words = [0; 18];
        let mut put = |at: usize, bytes: &[u8]| {
            let pairs = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            words[at..].iter_mut().zip(pairs).for_each(|(word, value)| *word = value);
        };
        put(0, &self.state.to_be_bytes());
        put(2, &self.power_w.to_be_bytes());
        put(4, &4_000_u16.to_be_bytes());
        put(6, &self.soc.to_be_bytes());
        put(10, &self.import_wh.to_be_bytes());
        put(14, &self.export_wh.to_be_bytes());
        words
    }
}

/// The charger on a port of its own, with its own time: 100 ms a step.
struct Stand {
    charger: Arc<Mutex<Charger>>,
    address: String,
}

impl Stand {
    fn start() -> Self {
        let idle = Charger { state: 0, power_w: 0, soc: 0xFFFF, import_wh: IMPORT_WH, export_wh: EXPORT_WH };
        let charger = Arc::new(Mutex::new(idle));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let served = Arc::clone(&charger);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                std::thread::spawn(move || serve(stream, &served));
            }
        });
        Self { charger, address }
    }

    fn change(&self, change: impl FnOnce(&mut Charger)) {
        change(&mut self.charger.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// So many steps at this power: 1 Wh flows in each.
    fn run(&self, state: u16, power_w: i32, steps: u64) {
        for _ in 0..steps {
            self.change(|charger| {
                (charger.state, charger.power_w) = (state, power_w);
                match power_w.signum() {
                    1 => (charger.import_wh, charger.soc) = (charger.import_wh + 1, charger.soc + 1),
                    -1 => (charger.export_wh, charger.soc) = (charger.export_wh + 1, charger.soc - 1),
                    _ => {}
                }
            });
            let_pass(Duration::from_millis(100));
        }
    }
}

/// Answers reads of input registers (Modbus Messaging on TCP/IP 1.0b, 3.1.3) until the connection ends.
fn serve(mut stream: TcpStream, charger: &Mutex<Charger>) {
    let mut request = [0; 12];
    while stream.read_exact(&mut request).is_ok() {
        let (start, count) =
            (usize::from(u16::from_be_bytes([request[8], request[9]])), u16::from_be_bytes([request[10], request[11]]));
        let words = charger.lock().unwrap_or_else(PoisonError::into_inner).registers();
        let words = words.get(start..start + usize::from(count));
        let body: Vec<u8> = match words.filter(|_| request[7] == 4) {
            Some(words) => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
                [&[request[6], 4, u8::try_from(bytes.len()).expect("36 at most")], &bytes[..]].concat()
            }
            None => vec![request[6], request[7] | 0x80, 2],
        };
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        let answer = [&request[..4], &length, &body].concat();
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// The batches that came, each once, in the order in which they came first.
fn batches(messages: &[Message]) -> Vec<Vec<Line>> {
    let is_batch = |message: &&Message| message.topic.ends_with("/telemetry") || message.topic.ends_with("/history");
    let mut seen = BTreeSet::new();
    let mut batches = Vec::new();
    for message in messages.iter().filter(is_batch) {
        let text = String::from_utf8_lossy(&message.payload);
        let lines: Vec<Line> = text.lines().map(|line| Line::parse(line).expect("line protocol")).collect();
        let identity = (lines[0].count("epoch").expect("a number"), lines[0].count("seq").expect("a number"));
        if seen.insert(identity) {
            batches.push(lines);
        }
    }
    batches
}

/// What a database keeps of the charging sessions: a row for each series and time, of each field the last that came.
fn rows(messages: &[Message]) -> Vec<BTreeMap<String, Value>> {
    let mut rows: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for line in batches(messages).iter().flatten().filter(|line| line.measurement == "charging_session") {
        rows.entry(line.series_at_time()).or_default().extend(line.fields.iter().cloned());
    }
    rows.into_values().collect()
}

fn mwh(kwh: f64) -> f64 {
    (kwh * 1e6).round()
}

#[test]
fn a_session_over_two_kills_and_an_outage_is_one_row_with_the_energy_that_its_registers_counted() {
    let stand = Stand::start();
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
    let server = authority.server(Validity::Good).expect("a server certificate");
    let mut broker = Broker::start(&dir.path().join("broker"), &server, Options::default()).expect("a broker");
    let endpoint = Endpoint::Plain(broker.plain_port());
    let consumer = Consumer::start(dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
    let setup = Setup {
        gateway: "gw-01".to_owned(),
        site: "depot-a".to_owned(),
        brokers: vec![broker.url()],
        tls: authority.client("gw-01", Validity::Good).expect("a client certificate"),
        meters: vec![],
        line: None,
        keep_alive: "5s",
        uplink: String::new(),
        extra: format!(
            "[bus.dc]\nmodbus-tcp = {{}}\n[device.dc-1]\nkind = \"evse\"\nbus = \"dc\"\naddress = \"{}\"\nunit = 1\n\
             profile = \"sim-bidirectional-dc\"\npoll = \"200ms\"\n",
            stand.address
        ),
    };
    let binary =
        std::env::var_os("V2G_EDGE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_v2g-edge")), PathBuf::from);
    let mut agent = Agent::new(Path::new(&binary), dir.path(), &setup).expect("a configuration");
    agent.start().expect("it starts");
    let is_online = || match agent.status() {
        Ok(status) if status.is_online() => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(SOON, "that it is online", is_online).unwrap_or_else(|late| panic!("{late}"));
    stand.run(0, 0, 15);

    stand.change(|charger| charger.soc = 200);
    stand.run(1, 0, 15);
    stand.run(2, 36_000, 40);
    agent.kill9().expect("it runs");
    stand.run(2, 36_000, 10);
    agent.start().expect("it starts again");
    stand.run(2, 36_000, 30);
    broker.stop().expect("it ends");
    stand.run(3, -20_000, 30);
    agent.kill9().expect("it runs");
    stand.run(3, -20_000, 10);
    agent.start().expect("it starts again");
    stand.run(3, -20_000, 30);
    broker.start_again().expect("it comes back");
    // The register of energy is read once a second.
    stand.run(4, 0, 25);
    stand.run(0, 0, 10);

    let over = || {
        let rows = consumer.look(rows);
        let is_over = rows.iter().any(|row| row.get("state") == Some(&Value::Text("ended".to_owned())));
        let waits = agent.status().ok().as_ref().and_then(Status::waiting);
        if is_over && waits == Some(0) { Ok(rows) } else { Err(format!("{waits:?} wait, {rows:?}")) }
    };
    wait_for(SOON, "the end of the session", over).unwrap_or_else(|late| panic!("{late}"));
    let status = agent.terminate(Duration::from_secs(15)).expect("it ends");
    assert!(status.success(), "{}", agent.log_tail());
    let rows = consumer.look(rows);
    let [row] = &rows[..] else { panic!("one session: {rows:?}") };
    let word = |field: &str| match &row[field] {
        Value::Text(word) => word.clone(),
        other => panic!("{field} is {other:?}"),
    };
    let number = |field: &str| row[field].number().expect("a number");
    assert_eq!((word("state"), word("reason")), ("ended".to_owned(), "disconnected".to_owned()), "{row:?}");
    assert_eq!((word("known_by"), word("energy_source")), ("state".to_owned(), "register".to_owned()));
    assert_eq!((number("energy_import"), number("energy_export")), (0.080, 0.070), "{row:?}");
    assert_eq!((number("soc_start"), number("soc_end")), (20.0, 21.0));
    let meter = (number("meter_import_start"), number("meter_import_end"));
    assert_eq!(meter, (IMPORT_WH as f64 / 1e3, (IMPORT_WH + 80) as f64 / 1e3));
    assert!((10.0..60.0).contains(&number("duration_s")), "{row:?}");
    assert_eq!((number("power_import_peak"), number("power_export_peak")), (36.0, 20.0));

    let told = consumer.look(batches);
    let of_session = told.iter().flatten().filter(|line| line.measurement == "evse");
    let of_session = of_session.filter(|line| line.field("session_id") == row.get("session_id"));
    let sum = |field: &str| -> f64 { of_session.clone().filter_map(|line| line.field(field)?.number()).map(mwh).sum() };
    let sums = (sum("energy_import_delta"), sum("energy_export_delta"));
    assert_eq!(sums, (80_000.0, 70_000.0), "the windows of the session");
}
