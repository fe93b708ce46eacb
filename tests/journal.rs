//! `v2g-edge journal` on real directories, with the agent stopped and beside a running one.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hil_tests::wait::wait_for;
use serde_json::Value;
use v2g_edge::journal::{Appended, Journal, Settings, WhenFull};
use v2g_edge::measure::{
    BootId, ChargingSession, ClockTrust, Energy, EnergyDelta, EnergySource, Interval, IntervalValue, Mono, PointColumn,
    PointInterval, Schema, SeriesSpec, SessionKnownBy, SessionState, SessionTime, Stamp, Statistic, Utc, Window,
};
use v2g_edge::spec::{DeviceId, DeviceIx, DeviceKind, FieldName, PointIx, Unit, ValueType};

const POINTS: u16 = 250;
const DAY_NS: i64 = 86_400_000_000_000;

/// A state directory with its configuration.
struct Place {
    dir: tempfile::TempDir,
}

/// What a command said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {} {}", self.out, self.err))
    }
}

fn now_ns() -> i64 {
    hil_tests::wait::unix_ns()
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().expect("a directory") };
        let config = format!(
            "[gateway]\nid = \"gw-01\"\nsite = \"depot-a\"\nstate_dir = \"{0}\"\n[uplink]\nbrokers = \
             [\"mqtt://127.0.0.1:1\"]\n[api]\nsocket = \"{0}/api.sock\"\n[bus.lan]\nmodbus-tcp = {{}}\n\
             [device.grid-main]\nkind = \"meter\"\nbus = \"lan\"\naddress = \"127.0.0.1:1\"\nunit = 1\n\
             profile = \"eastron-sdm630\"\n",
            place.dir.path().display()
        );
        fs::write(place.config(), config).expect("written");
        place
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("gateway.toml")
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// A life of the journal that appends windows, each a second after the other; values that nothing makes short.
    fn fill(&self, windows: u64, first_ns: i64) {
        self.fill_with(windows, first_ns, |_| Vec::new());
    }

    /// The same, with news of charging sessions.
    fn fill_with(&self, windows: u64, first_ns: i64, sessions: impl Fn(u64) -> Vec<ChargingSession>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let settings = Settings {
                dir: self.journal(),
                bytes_max: 8 << 20,
                free_min: 0,
                age_max: Duration::from_secs(3650 * 86_400),
                commit_interval: Duration::from_millis(20),
                bytes_per_day_max: None,
                runtime_dir: None,
                time_wait: Duration::ZERO,
                when_full: WhenFull::DropOldest,
            };
            let at = |n: u64| Stamp {
                mono: Mono(n * 1_000_000_000),
                utc: Utc(first_ns + i64::try_from(n).expect("few") * 1_000_000_000),
                trust: ClockTrust::Synced,
            };
            let journal = Journal::open(settings, schema(), BootId([7; 16]), at(0), Arc::default()).expect("a journal");
            for n in 0..windows {
                let mut window = Some(Window { sessions: sessions(n), ..window(n, at(n)) });
                while let Some(next) = window.take() {
                    match journal.handle().append(next) {
                        Appended::Queued => {}
                        Appended::Stalled(back) => {
                            journal.handle().commit().await;
                            window = Some(back);
                        }
                        Appended::Closed => panic!("it has ended"),
                    }
                }
            }
            journal.close().await.expect("it ends in order");
        });
    }

    fn ask(&self, arguments: &[&str]) -> Said {
        let config = self.config();
        let mut command = Command::new(env!("CARGO_BIN_EXE_v2g-edge"));
        command.arg("journal").args(arguments).arg("-c").arg(config);
        let output = command.output().expect("it runs");
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    fn start(&self) -> Agent {
        let mut command = Command::new(env!("CARGO_BIN_EXE_v2g-edge"));
        command.arg("run").arg("-c").arg(self.config()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        Agent(command.spawn().expect("it starts"))
    }

    /// Asks again until the answer is as wanted.
    fn ask_until(&self, arguments: &[&str], wanted: impl Fn(&Said) -> bool) -> Said {
        let answer = wait_for(Duration::from_secs(20), "the answer", || {
            let said = self.ask(arguments);
            if wanted(&said) { Ok(said) } else { Err(format!("{} {} {}", said.code, said.out, said.err)) }
        });
        answer.unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// Every file with its content.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn collect(dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    collect(&path, files);
                } else {
                    files.insert(path.clone(), fs::read(&path).expect("a file"));
                }
            }
        }
        let mut files = BTreeMap::new();
        collect(&self.journal(), &mut files);
        files
    }

    /// Changes a byte in the midst of the second frame of entries of this segment.
    fn damage(&self, segment: &str) {
        let path = self.journal().join(segment).join("db");
        let mut bytes = fs::read(&path).expect("a segment");
        let frames = bytes.windows(4).enumerate().filter(|(at, magic)| *magic == b"V2GJ" && bytes[at + 52] == 0);
        let (at, _) = frames.clone().nth(1).expect("two frames of entries");
        bytes[at + 200] ^= 0x10;
        fs::write(&path, bytes).expect("written");
    }

    /// The header of this segment gets a flag that no program of today knows.
    fn mark_as_newer(&self, segment: &str) {
        let path = self.journal().join(segment).join("ready");
        let mut bytes = fs::read(&path).expect("a marker");
        let mut at = 0;
        while at < bytes.len() {
            let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four bytes"));
            let frame = &mut bytes[at..at + 56 + usize::try_from(length).expect("short")];
            frame[53] |= 4;
            let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[4..8]), &frame[12..]);
            frame[8..12].copy_from_slice(&crc.to_le_bytes());
            at += frame.len();
        }
        fs::write(path, bytes).expect("written");
    }

    /// What `status` says.
    fn status(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_v2g-edge"));
        let socket = self.dir.path().join("api.sock");
        let output = command.arg("status").arg("--socket").arg(socket).output().expect("it runs");
        String::from_utf8(output.stdout).expect("text")
    }

    fn segments(&self) -> Vec<String> {
        let names = fs::read_dir(self.journal()).expect("a journal");
        let names = names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.len() == 16).collect();
        names.sort();
        names
    }
}

/// Killed when it goes.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn schema() -> Schema {
    let column = |n: u16| PointColumn {
        field: FieldName::try_from(format!("power_flow_l{n}")).expect("a field"),
        unit: Unit::Kilowatt,
        value_type: ValueType::Float,
        aggregation: v2g_edge::spec::Aggregation::Mean,
    };
    let series = SeriesSpec {
        device: DeviceId::try_from("grid-main").expect("a device"),
        kind: DeviceKind::Meter,
        points: (0..POINTS).map(column).collect(),
    };
    let (gateway, site) = ("gw-01".try_into().expect("a gateway"), "depot-a".try_into().expect("a site"));
    Schema { gateway, site, series: vec![series] }
}

fn window(n: u64, end: Stamp) -> Window {
    let point = |ix: u16| {
        let noise = (n.wrapping_mul(POINTS.into()) + u64::from(ix) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        #[allow(clippy::cast_precision_loss, reason = "any number will do")]
        let value = (noise ^ noise >> 29) as f64 / 1e15;
        let value = IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 });
        PointInterval { point: PointIx(ix), value, questionable: None }
    };
    let points = (0..POINTS).map(point).collect();
    let interval = Interval {
        device: DeviceIx(0),
        direction: None,
        vehicle: None,
        session: None,
        points,
        energy: Energy::default(),
    };
    let (boot, length) = (BootId([7; 16]), Duration::from_secs(1));
    Window {
        boot,
        end,
        length,
        intervals: vec![interval],
        site: None,
        events: Vec::new(),
        sessions: Vec::new(),
        site_intervals: Vec::new(),
        checkpoint: None,
    }
}

const FILES: &str = "as the files are; no agent runs";

#[test]
fn what_is_there_is_told_without_changing_a_byte() {
    let place = Place::new();
    place.fill(3_000, now_ns() - 3_000_000_000_000);
    let before = place.files();

    let stats = place.ask(&["stats", "--json"]);
    let told = stats.json();
    assert_eq!((stats.code, told["view"].as_str()), (0, Some(FILES)), "{}", stats.err);
    assert_eq!((told["waiting"].as_u64(), told["settled"].as_u64()), (Some(3_000), Some(0)));
    assert_eq!(told["epochs"][0]["last"].as_u64(), Some(3_000));
    assert!(told["segments"].as_u64() > Some(2) && told["bytes"].as_u64() > Some(5_000_000), "{told}");
    // 6 MB in 50 minutes are 180 MB a day; the plan has room for 4 GiB and 72 h.
    let growth = told["growth_bytes_per_day"].as_u64().expect("there is enough to tell");
    assert!((100_000_000..300_000_000).contains(&growth), "{growth}");
    let hours = told["outage_hours_bridged"].as_f64().expect("there is enough to tell");
    assert!((70.0..72.0).contains(&hours), "age bounds it: {hours}");
    assert!(place.ask(&["stats"]).out.contains(FILES));

    let list = place.ask(&["list", "--json"]).json();
    let segments = list["segments"].as_array().expect("a list");
    assert_eq!(segments.len(), place.segments().len());
    assert!(segments.iter().all(|segment| segment["sealed"] == true && segment["waiting"].as_u64() > Some(0)));
    assert!(place.ask(&["list"]).out.contains("complete"));

    let verify = place.ask(&["verify", "--json"]);
    let told = verify.json();
    assert_eq!((verify.code, told["entries"].as_u64(), told["view"].as_str()), (0, Some(3_000), Some(FILES)), "{told}");
    assert_eq!(told["points"].as_u64(), Some(3_000 * u64::from(POINTS)));
    assert!(place.ask(&["verify"]).out.ends_with("good\n"));

    assert_eq!(place.files(), before);
}

/// As it stands `n` seconds after its begin.
fn session(id: &str, n: u64, state: SessionState) -> ChargingSession {
    let at = |n: u64| SessionTime::At(Utc(1_780_315_200_000_000_000 + i64::try_from(n).expect("few") * 1_000_000_000));
    let import = Some(EnergyDelta { mwh: n * 10_000, source: EnergySource::Register });
    ChargingSession {
        device: DeviceIx(0),
        id: id.try_into().expect("a name"),
        vehicle: None,
        is_of_vehicle: false,
        source: SessionKnownBy::State,
        start: at(0),
        is_joined: false,
        until: at(n),
        state,
        phase: "charging, slowly".into(),
        reason: "".into(),
        energy: Energy { import, export: None, known: Some(Duration::from_secs(n)) },
        charging: Duration::from_secs(n),
        discharging: Duration::ZERO,
        idle: Duration::ZERO,
        import_max_kw: 36.0,
        export_max_kw: 0.0,
        soc: Some((20.0, 21.5)),
        meter_import: None,
        meter_export: None,
    }
}

#[test]
fn charging_sessions_are_exported_once_each_with_their_newest_news() {
    let place = Place::new();
    place.fill_with(20, 1_780_315_200_000_000_000, |n| {
        let state = if n < 15 { SessionState::Running } else { SessionState::Ended };
        [("6f1c", n)].into_iter().filter(|(_, n)| n % 5 == 0).map(|(id, n)| session(id, n, state)).collect()
    });
    let csv = place.ask(&["export", "--sessions"]);
    assert!(csv.code == 0 && csv.err.contains("20 entries") && csv.err.contains("1 charging sessions"), "{}", csv.err);
    let lines: Vec<&str> = csv.out.lines().collect();
    let expected = "2026-06-01T12:00:00.000Z,2026-06-01T12:00:15.000Z,grid-main,6f1c,,ended,\"charging, slowly\",,state,false,\
                    15.0,0.15,0.0,register,15.0,15.0,0.0,0.0,36.0,0.0,20.0,21.5,,,,,synced";
    assert_eq!(lines[1..], [expected]);
    assert!(lines[0].starts_with("start,end,device,session_id,vehicle,state,"), "{}", lines[0]);
    let json = place.ask(&["export", "--sessions", "--json"]);
    let told: Value = serde_json::from_str(json.out.trim_end()).expect("one line of JSON");
    assert_eq!(
        (&told["session_id"], &told["energy_import_kwh"], &told["vehicle"]),
        (&"6f1c".into(), &0.15.into(), &Value::Null)
    );
    // What the broker gets of them is there as well.
    let lp = place.ask(&["export"]);
    let of_session = lp.out.lines().filter(|line| line.starts_with("charging_session,"));
    assert!(of_session.clone().all(|line| line.ends_with(" 1780315200000000000")));
    assert_eq!(of_session.count(), 4);
}

#[test]
fn entries_are_exported_as_the_wire_has_them_as_json_and_as_csv() {
    let place = Place::new();
    place.fill(20, 1_780_315_200_000_000_000);
    let lp = place.ask(&["export"]);
    assert_eq!((lp.code, lp.out.lines().count()), (0, 40), "{}", lp.err);
    assert!(lp.err.contains(FILES) && lp.err.contains("20 entries"), "{}", lp.err);
    let own = "gateway,site=depot-a,gateway=gw-01 epoch=";
    assert!(
        lp.out.starts_with(own)
            && lp.out.contains("seq=20i,points=250i,time_trust=\"synced\",version=2i 1780315219000000000\n")
    );

    let json = place.ask(&["export", "--format", "json", "--from", "3", "--to", "5"]);
    let lines: Vec<Value> = json.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["view"].as_str(), Some(FILES));
    let seqs: Vec<_> = lines[1..].iter().map(|line| line["seq"].as_u64()).collect();
    assert_eq!(seqs, [Some(3), Some(4), Some(5)]);
    assert_eq!(lines[1]["devices"][0]["points"].as_array().map(Vec::len), Some(250));
    assert_eq!((&lines[1]["waiting"], &lines[1]["devices"][0]["device"]), (&true.into(), &"grid-main".into()));

    let csv = place.ask(&["export", "--format", "csv", "--to", "1", "--waiting"]);
    let lines: Vec<&str> = csv.out.lines().collect();
    assert_eq!(lines.len(), 251);
    assert!(lines.iter().all(|line| line.split(',').count() == 14), "{}", lines[1]);
    assert!(lines[0].ends_with(",quality,session"), "{}", lines[0]);
    assert!(lines[1].contains(",1,2026-06-01T12:00:00.000Z,synced,grid-main,,power_flow_l0,kW,"), "{}", lines[1]);
}

#[test]
fn damage_is_named_with_file_and_range_and_repaired_with_a_gap() {
    let place = Place::new();
    place.fill(3_000, now_ns() - 3_000_000_000_000);
    let before = place.ask(&["export"]).out;
    let segment = place.segments()[1].clone();
    place.damage(&segment);

    let verify = place.ask(&["verify", "--json"]);
    let told = verify.json();
    let finding = &told["findings"][0];
    assert_eq!((verify.code, told["findings"].as_array().map(Vec::len)), (1, Some(1)), "{told}");
    assert!(finding["file"].as_str().is_some_and(|file| file.ends_with(&format!("{segment}/db"))), "{finding}");
    let (from, to) = (finding["range"][0].as_u64().expect("a number"), finding["range"][1].as_u64().expect("a number"));
    assert_eq!(finding["waiting"].as_u64(), Some(to - from + 1));
    let export = place.ask(&["export"]);
    assert_eq!(export.code, 1);
    assert!(export.err.contains(&format!("{from} to {to} are damaged or missing")), "{}", export.err);

    let repair = place.ask(&["repair", "--json"]);
    let told = repair.json();
    assert_eq!((repair.code, told["entries_lost"].as_u64()), (1, Some(to - from + 1)), "{told} {}", repair.err);
    assert_eq!(told["rewritten"].as_array().map(Vec::len), Some(1));
    assert!(place.journal().join("quarantine").join(&segment).exists());

    let verify = place.ask(&["verify"]);
    assert_eq!(verify.code, 0, "{}", verify.out);
    let after = place.ask(&["export"]);
    assert_eq!(after.code, 0, "{}", after.err);
    let gap = format!("from_seq={from}i,to_seq={to}i,reason=\"corrupt\"");
    assert!(after.out.contains(&gap), "no gap event says {gap}");
    // Everything outside of the damage is there, to the byte.
    let lost = |line: &&str| {
        let seq = line.split("seq=").nth(1).and_then(|rest| rest.split('i').next()?.parse::<u64>().ok());
        seq.is_some_and(|seq| (from..=to).contains(&seq))
    };
    let there: HashSet<&str> = after.out.lines().collect();
    let mut kept = before.lines().filter(|line| line.starts_with("gateway,") && !lost(line));
    assert!(kept.all(|line| there.contains(line)));
    assert_eq!(place.ask(&["repair"]).out.lines().last(), Some("nothing is damaged; nothing was changed"));
}

#[test]
fn what_a_newer_program_wrote_is_named_by_every_command_and_left_alone() {
    let place = Place::new();
    place.fill(3_000, now_ns() - 40 * DAY_NS);
    place.fill(10, now_ns() - 10_000_000_000);
    let segment = place.segments()[1].clone();
    place.mark_as_newer(&segment);
    let (path, before) = (place.journal().join(&segment), place.files());
    let there = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        files
            .iter()
            .filter(|(file, _)| file.starts_with(&path))
            .map(|(f, b)| (f.clone(), b.clone()))
            .collect::<Vec<_>>()
    };

    let list = place.ask(&["list", "--json"]).json();
    let newer: Vec<_> = list["segments"].as_array().expect("a list").iter().map(|s| s["newer"].as_u64()).collect();
    assert_eq!((newer[0], newer[1], newer.len()), (None, Some(3), place.segments().len()));
    assert!(place.ask(&["list"]).out.contains("newer: version 3, left alone"));

    let verify = place.ask(&["verify", "--json"]);
    let told = verify.json();
    let left = &told["left_alone"][0];
    assert_eq!(
        (verify.code, told["ok"].as_bool(), told["findings"].as_array().map(Vec::len)),
        (0, Some(true), Some(0))
    );
    assert!(left["file"].as_str().is_some_and(|file| file.ends_with(&segment)), "{left}");
    let (from, to) = (left["range"][0].as_u64().expect("a number"), left["range"][1].as_u64().expect("a number"));
    assert_eq!(told["newer"].as_u64(), Some(to - from + 1));
    assert!(place.ask(&["verify"]).out.contains("newer: written in version 3"));

    let export = place.ask(&["export", "--format", "json"]);
    let line = format!("{{\"newer\":{from},\"to\":{to},\"version\":3}}");
    assert!(export.code == 0 && export.out.lines().any(|told| told == line), "{} {line}", export.err);
    let repair = place.ask(&["repair"]);
    assert!(repair.code == 0 && repair.out.contains("newer: written in version 3"), "{}", repair.out);
    assert!(repair.out.ends_with("nothing is damaged; nothing was changed\n"), "{}", repair.out);
    assert_eq!(place.files(), before, "nothing of all that changes a byte");

    let forgot = place.ask(&["forget", "--older-than", "30d", "--json"]).json();
    assert_eq!(
        (forgot["newer"].as_u64(), forgot["entries"].as_u64()),
        (Some(1), Some(3_000 - (to - from + 1))),
        "{forgot}"
    );
    assert_eq!(there(&place.files()), there(&before));
    let mut agent = place.start();
    place.ask_until(&["stats"], |said| said.out.contains("as the running agent says"));
    let told = wait_for(Duration::from_secs(20), "status", || {
        let status = place.status();
        if status.contains("a newer program has written 1 segments") { Ok(()) } else { Err(status) }
    });
    told.unwrap_or_else(|error| panic!("{error}"));
    agent.0.kill().expect("killed");
    agent.0.wait().expect("it ends");
    assert_eq!(there(&place.files()), there(&before));
}

#[test]
fn what_is_forgotten_is_told_as_a_gap() {
    let place = Place::new();
    place.fill(2_000, now_ns() - 40 * DAY_NS);
    place.fill(10, now_ns() - 10_000_000_000);
    let untouched = place.ask(&["forget", "--older-than", "60d"]);
    assert!(untouched.code == 0 && untouched.out.contains("nothing is older"), "{} {}", untouched.out, untouched.err);

    let forgot = place.ask(&["forget", "--older-than", "30d", "--json"]);
    let told = forgot.json();
    assert_eq!((forgot.code, told["entries"].as_u64(), told["view"].as_str()), (0, Some(2_000), Some(FILES)), "{told}");
    let left = place.ask(&["export"]);
    assert!(left.out.contains("from_seq=1i,to_seq=2000i"), "{}", left.out);
    assert!(left.out.contains("reason=\"forgotten\"") && left.out.contains("seq=2001i"), "{}", left.out);
    assert!(!left.out.contains(",seq=2000i,points"));
    assert_eq!(place.ask(&["verify"]).code, 0);
}

#[test]
fn beside_a_running_agent_every_answer_says_whose_view_it_is() {
    let place = Place::new();
    place.fill(2_000, now_ns() - 40 * DAY_NS);
    place.fill(10, now_ns());
    let mut agent = place.start();
    let stats = place.ask_until(&["stats", "--json"], |said| said.out.contains("as the running agent says"));
    let told = stats.json();
    assert!((stats.code, told["waiting"].as_u64() >= Some(2_010)) == (0, true), "{told}");
    assert_eq!(told["bytes_max"].as_u64(), Some(4 << 30));
    let newest = || place.ask(&["stats", "--json"]).json()["next"].as_u64();
    let before = newest();
    place.ask_until(&["stats", "--json"], |said| said.json()["next"].as_u64() > before);

    let verify = place.ask(&["verify", "--json"]).json();
    assert_eq!(verify["view"].as_str(), Some("as the files are, beside a running agent"));
    assert_eq!((&verify["ok"], verify["entries"].as_u64()), (&true.into(), Some(2_010)));
    let export = place.ask(&["export", "--to", "5"]);
    assert!(export.code == 0 && export.err.contains("beside a running agent"), "{}", export.err);
    let repair = place.ask(&["repair"]);
    assert!(repair.code == 3 && repair.err.contains("running agent"), "{}", repair.err);

    let forgot = place.ask(&["forget", "--older-than", "30d", "--json"]);
    let told = forgot.json();
    assert_eq!((forgot.code, told["view"].as_str()), (0, Some("as the running agent says")), "{}", forgot.err);
    assert_eq!(told["entries"].as_u64(), Some(2_000));
    place.ask_until(&["list", "--json"], |said| {
        said.json()["segments"].as_array().is_some_and(|segments| segments[0]["first"].as_u64() >= Some(2_001))
    });

    agent.0.kill().expect("it runs");
    agent.0.wait().expect("it ends");
    let verify = place.ask(&["verify", "--json"]);
    let told = verify.json();
    assert_eq!((verify.code, told["view"].as_str()), (0, Some(FILES)), "{told}");
    assert!(told["incomplete"].as_u64() >= Some(2_011), "{told}");
    assert!(place.ask(&["export"]).out.contains("reason=\"forgotten\""), "the gap is durable");
    let repair = place.ask(&["repair", "--json"]);
    assert_eq!((repair.code, &repair.json()["completed"]), (0, &true.into()), "{}", repair.err);
    assert!(place.ask(&["verify", "--json"]).json()["incomplete"].is_null());
}

#[test]
fn a_call_that_cannot_work_says_why() {
    let place = Place::new();
    let absent = place.ask(&["stats"]);
    assert!(absent.code == 3 && absent.err.contains("is no journal"), "{}", absent.err);
    fs::remove_file(place.config()).expect("removed");
    let unplanned = place.ask(&["stats"]);
    assert!(unplanned.code == 2 && unplanned.err.contains("--dir"), "{}", unplanned.err);
    assert_eq!(place.ask(&["forget", "--older-than", "soon"]).code, 2);
}
