//! A charging session end to end: a charger on Modbus TCP, the agent that is killed, mosquitto that goes away, and the one row that is
//! left of it in a database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hil_tests::agent::Status;
use hil_tests::oracle::{Line, Message, Value};
use hil_tests::registers::{DcCharger, Registers};
use hil_tests::stage::{Play, Stage};
use hil_tests::wait::{let_pass, wait_for};

const SOON: Duration = Duration::from_secs(60);
/// What the charger's registers show before.
const IMPORT_WH: u64 = 1_234_567;
const EXPORT_WH: u64 = 76_543;

/// The charger on a port of its own, with its own time: 100 ms a step.
struct Stand {
    charger: Arc<Mutex<DcCharger>>,
    registers: Registers,
}

impl Stand {
    fn start() -> Self {
        let idle = DcCharger { state: 0, power_w: 0, soc: 0xFFFF, import_wh: IMPORT_WH, export_wh: EXPORT_WH };
        let charger = Arc::new(Mutex::new(idle));
        let served = Arc::clone(&charger);
        let words = move |_| Some(served.lock().unwrap_or_else(PoisonError::into_inner).words());
        Self { charger, registers: Registers::start(words).expect("a port") }
    }

    fn change(&self, change: impl FnOnce(&mut DcCharger)) {
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
    let binary =
        std::env::var_os("V2G_EDGE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_v2g-edge")), PathBuf::from);
    let mut stage = Stage::start(Play {
        binary: Path::new(&binary),
        window: "250ms",
        tables: format!(
            "[device.dc-1]\nkind = \"evse\"\nbus = \"lan\"\naddress = \"127.0.0.1:{}\"\nunit = 1\n\
             profile = \"sim-bidirectional-dc\"\npoll = \"200ms\"\n",
            stand.registers.port()
        ),
        files: vec![],
        soon: SOON,
    });
    stand.run(0, 0, 15);

    stand.change(|charger| charger.soc = 200);
    stand.run(1, 0, 15);
    stand.run(2, 36_000, 40);
    stage.agent.kill9().expect("it runs");
    stand.run(2, 36_000, 10);
    stage.agent.start().expect("it starts again");
    stand.run(2, 36_000, 30);
    stage.broker.stop().expect("it ends");
    stand.run(3, -20_000, 30);
    stage.agent.kill9().expect("it runs");
    stand.run(3, -20_000, 10);
    stage.agent.start().expect("it starts again");
    stand.run(3, -20_000, 30);
    stage.broker.start_again().expect("it comes back");
    // The register of energy is read once a second.
    stand.run(4, 0, 25);
    stand.run(0, 0, 10);

    let over = || {
        let rows = stage.consumer.look(rows);
        let is_over = rows.iter().any(|row| row.get("state") == Some(&Value::Text("ended".to_owned())));
        let waits = stage.agent.status().ok().as_ref().and_then(Status::waiting);
        if is_over && waits == Some(0) { Ok(rows) } else { Err(format!("{waits:?} wait, {rows:?}")) }
    };
    wait_for(SOON, "the end of the session", over).unwrap_or_else(|late| panic!("{late}"));
    let status = stage.agent.terminate(Duration::from_secs(15)).expect("it ends");
    assert!(status.success(), "{}", stage.agent.log_tail());
    let rows = stage.consumer.look(rows);
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

    let told = stage.consumer.look(batches);
    let of_session = told.iter().flatten().filter(|line| line.measurement == "evse");
    let of_session = of_session.filter(|line| line.field("session_id") == row.get("session_id"));
    let sum = |field: &str| -> f64 { of_session.clone().filter_map(|line| line.field(field)?.number()).map(mwh).sum() };
    let sums = (sum("energy_import_delta"), sum("energy_export_delta"));
    assert_eq!(sums, (80_000.0, 70_000.0), "the windows of the session");
}
