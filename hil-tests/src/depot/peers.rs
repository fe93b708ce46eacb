//! The devices of the depot on their wires.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::messages::{self, Act, Does, Played};
use super::script::{Calm, METERS, Script, Source};
use super::truth::{DeviceTruth, Power, VisitTruth};
use crate::registers::Registers;
use crate::seed::Seed;
use crate::wait::{let_pass, unix_ns};

/// How often each device is read.
const POLL: &str = "1s";
/// Of a device on the CAN bus.
const FRAME_EVERY: Duration = Duration::from_millis(250);
/// The first connector of the mirror feed is this charge point's.
const FIRST_HEARD: u16 = 40;
/// What of the registers of `sim-bidirectional-dc` a simpler device has.
const STATES: &str = r#"state = { register = 0, type = "u16", texts = { 0 = "available", 1 = "preparing", 2 = "charging", 3 = "discharging", 4 = "finishing" }, group = "fast" }
"#;
const POWER: &str = r#"power_flow = { register = 2, type = "i32", scale = 0.001, unit = "kW", sign = "import-positive", valid = [-1000, 1000], group = "fast" }
"#;
const SOC: &str = r#"soc = { register = 6, type = "u16", scale = 0.1, unit = "%", valid = [0, 100], not_available = [0xFFFF], fold = "last", group = "fast" }
"#;
const ENERGY: &str = r#"energy_import = { register = 10, type = "u64", unit = "Wh", group = "fast" }
energy_export = { register = 14, type = "u64", unit = "Wh", group = "fast" }
"#;
const MODBUS: &str = "[modbus]\naddress_base = 0\ntable = \"input\"\nword_order = \"msw-first\"\npoll = \"1s\"\n[group.fast]\ninterval = \"poll\"\n[point]\n";

/// What the agent needs of these devices: files beside its configuration, and what is in them.
#[must_use]
pub fn profiles() -> Vec<(String, String)> {
    let profiles = [
        ("depot-state.toml", profile("evse", &[MODBUS, STATES, POWER, SOC])),
        ("depot-power.toml", profile("evse", &[MODBUS, POWER])),
        ("depot-meter.toml", profile("meter", &[MODBUS, POWER, ENERGY])),
        ("depot-power-meter.toml", profile("meter", &[MODBUS, POWER])),
        ("depot-bus.toml", profile("evse", &[BUS])),
        ("depot-bus.dbc", DBC.to_owned()),
    ];
    profiles.map(|(name, text)| (format!("devices/{name}"), text)).to_vec()
}

const BUS: &str = r#"[can]
dbc = "depot-bus.dbc"
protocol = "none"
node = { shift = 0, bits = 8 }
stale_after = "2s"
[point]
state = { signal = "State", shape = "text" }
power_flow = { signal = "Power", sign = "import-positive" }
soc = { signal = "Soc", fold = "last" }
"#;
const DBC: &str = r#"VERSION ""

NS_ :

BS_:

BU_: Evse

BO_ 768 EvseNow: 8 Evse
 SG_ Power : 0|32@1- (0.001,0) [-1000|1000] "kW" Evse
 SG_ Soc : 32|16@1+ (0.1,0) [0|100] "%" Evse
 SG_ State : 48|8@1+ (1,0) [0|5] "" Evse

VAL_ 768 State 0 "available" 1 "preparing" 2 "charging" 3 "discharging" 4 "finishing" ;
"#;

fn profile(kind: &str, parts: &[&str]) -> String {
    let head = format!(
        "[profile]\nvendor = \"depot\"\nmodel = \"scripted {kind}\"\nkind = \"{kind}\"\nsources = [\"the test\"]\n"
    );
    head + &parts.concat()
}

/// A connection to the agent's mirror feed.
pub type Feed = Box<dyn Write + Send>;

/// The depot, running.
#[derive(Debug)]
pub struct Depot {
    shared: Arc<Shared>,
    /// Of each device; a meter has the one of all meters.
    ports: Vec<u16>,
}

#[derive(Debug)]
struct Shared {
    script: Script,
    /// 0: not yet.
    began_ns: AtomicI64,
    /// When the power of each device was read or sent.
    heard: Vec<Mutex<Vec<i64>>>,
    /// The sessions that are heard, by their connector.
    played: Vec<Played>,
    sent: Mutex<Vec<Vec<(i64, messages::Said)>>>,
    bus: Mutex<Option<Bus>>,
}

/// The end of the CAN adapter.
struct Bus(Box<dyn Write + Send>);

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bus")
    }
}

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn second(&self, ns: i64) -> f64 {
        match self.began_ns.load(Ordering::Relaxed) {
            0 => 0.0,
            began => (ns - began) as f64 / 1e9,
        }
    }

    fn words(&self, place: usize, reads_power: bool) -> Option<Vec<u16>> {
        let device = self.script.devices.get(place)?;
        let now = unix_ns();
        let words = device.is_now(self.second(now)).words();
        if reads_power {
            open(&self.heard[place]).push(now);
        }
        Some(words)
    }
}

impl Depot {
    /// Everything stands still and can be read.
    pub fn start(seed: &mut Seed, calms: &[Calm], has_bus: bool) -> io::Result<Self> {
        let script = Script::new(seed, calms, has_bus);
        let recordings = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/iso15118");
        let of_messages = script.devices.iter().filter(|device| device.source == Source::Messages);
        let played: Vec<Played> = (1..)
            .zip(of_messages)
            .map(|(connector, device)| messages::play(&recordings, connector, &device.visits[0], calms))
            .collect();
        let shared = Arc::new(Shared {
            began_ns: AtomicI64::new(0),
            heard: script.devices.iter().map(|_| Mutex::default()).collect(),
            sent: Mutex::new(played.iter().map(|_| Vec::new()).collect()),
            played,
            bus: Mutex::new(None),
            script,
        });
        let first_meter = shared.script.devices.len() - METERS;
        let of_meters = Arc::clone(&shared);
        let meters = Registers::start(move |asked| {
            let place = usize::from(asked.unit).checked_sub(1).filter(|number| *number < METERS)?;
            of_meters.words(first_meter + place, asked.has(2))
        })?;
        let mut depot = Self { shared, ports: Vec::new() };
        for place in 0..first_meter {
            let shared = Arc::clone(&depot.shared);
            let server = Registers::start(move |asked| shared.words(place, asked.has(2)))?;
            depot.ports.push(server.port());
        }
        depot.ports.extend([meters.port()].repeat(METERS));
        if has_bus {
            let shared = Arc::clone(&depot.shared);
            std::thread::spawn(move || speak_on_bus(&shared));
        }
        Ok(depot)
    }

    /// Buses and devices for the agent's configuration, which finds this machine at `host`, its mirror feed at `feed` and its CAN
    /// interface under `interface`. The bus `lan` is there.
    ///
    /// # Panics
    /// Never: a text takes everything.
    #[must_use]
    pub fn tables(&self, host: &str, feed: &str, interface: &str) -> String {
        let mut toml = format!("[bus.plc]\niso15118 = {{ mirror = {feed:?} }}\n");
        let devices = &self.shared.script.devices;
        if devices.iter().any(|device| device.source == Source::Bus) {
            toml += &format!("[bus.can]\ncan = {{ interface = {interface:?} }}\n");
        }
        let (mut node, mut connector, mut unit) = (0, 0, 0);
        for (device, port) in devices.iter().zip(&self.ports) {
            let lan = |profile: &str, unit: u32| {
                format!(
                    "bus = \"lan\"\naddress = \"{host}:{port}\"\nunit = {unit}\nprofile = \"{profile}\"\npoll = \"{POLL}\"\n"
                )
            };
            let next = |number: &mut u32| {
                *number += 1;
                *number
            };
            let table = match device.source {
                Source::Registers => lan("sim-bidirectional-dc", 1),
                Source::State => lan("depot-state", 1),
                Source::Power => lan("depot-power", 1),
                Source::Bus => format!("bus = \"can\"\nprofile = \"depot-bus\"\nnode = {}\n", next(&mut node)),
                Source::Messages => {
                    format!("bus = \"plc\"\nprofile = \"iso15118\"\nconnector = {}\n", next(&mut connector))
                }
                Source::Meter => lan("depot-meter", next(&mut unit)),
                Source::PowerMeter => lan("depot-power-meter", next(&mut unit)),
            };
            let kind = if matches!(device.source, Source::Meter | Source::PowerMeter) { "meter" } else { "evse" };
            write!(toml, "[device.{}]\nkind = \"{kind}\"\n{table}", device.id).expect("a String takes everything");
        }
        toml
    }

    /// From now on it lives. `connect`: to the agent's mirror feed, once for each station; what cannot be sent is not sent. Ends
    /// with the script.
    pub fn begin(&self, connect: impl Fn() -> io::Result<Feed> + Send + 'static) -> JoinHandle<()> {
        self.shared.began_ns.store(unix_ns(), Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || speak_of_sessions(&shared, connect))
    }

    /// The adapter at whose other end the CAN interface is (slcan); another one after each start of the box.
    pub fn plug_adapter(&self, adapter: impl Write + Send + 'static) {
        *open(&self.shared.bus) = Some(Bus(Box::new(adapter)));
    }

    /// The adapter is gone.
    pub fn unplug_adapter(&self) {
        *open(&self.shared.bus) = None;
    }

    /// Lets it run until then.
    pub fn run_until(&self, second: f64) {
        let left = second - self.second();
        let_pass(Duration::from_secs_f64(left.max(0.0)));
    }

    /// Where it stands, s.
    #[must_use]
    pub fn second(&self) -> f64 {
        self.shared.second(unix_ns())
    }

    /// What was so.
    pub(super) fn truths(&self) -> Vec<DeviceTruth<'_>> {
        let began = self.shared.began_ns.load(Ordering::Relaxed);
        let length_s = self.shared.script.length_s;
        #[allow(clippy::cast_possible_truncation, reason = "minutes")]
        let ns = |second: f64| began + (second * 1e9) as i64;
        let mut truths = Vec::new();
        for (place, device) in self.shared.script.devices.iter().enumerate() {
            if device.source == Source::Messages {
                truths.push(self.truth_of_sessions(place));
                continue;
            }
            let has_registers = matches!(device.source, Source::Registers | Source::Meter);
            let counted = |from: f64, to: f64| {
                let (before, then) = (device.counted(from), device.counted(to));
                let mwh = |wh: u64| i64::try_from(wh).unwrap_or(0) * 1_000;
                has_registers.then(|| (mwh(then.0 - before.0), mwh(then.1 - before.1)))
            };
            let visits = device.visits.iter().map(|visit| VisitTruth {
                from_ns: ns(visit.from),
                to_ns: ns(visit.to),
                soc: (f64::from(device.soc(visit, visit.from)) / 10.0, f64::from(device.soc(visit, visit.to)) / 10.0),
                counted: counted(visit.from, visit.to),
                session_id: None,
                vehicle: None,
            });
            truths.push(DeviceTruth {
                id: &device.id,
                source: device.source,
                power: Power::Course(&device.course, began),
                heard: open(&self.shared.heard[place]).clone(),
                counted: counted(0.0, length_s),
                visits: visits.collect(),
                readings: Vec::new(),
                last_turn: None,
                mute: Vec::new(),
            });
        }
        truths
    }

    fn truth_of_sessions(&self, place: usize) -> DeviceTruth<'_> {
        let device = &self.shared.script.devices[place];
        let connector = place - usize::from(FIRST_HEARD);
        let played = &self.shared.played[connector];
        let sent = open(&self.shared.sent)[connector].clone();
        let powers: Vec<(i64, f64)> = sent.iter().filter_map(|(at, said)| Some((*at, said.kw?))).collect();
        let socs: Vec<f64> = sent.iter().filter_map(|(_, said)| said.soc).collect();
        let mwh = |wh: u64| i64::try_from(wh).unwrap_or(0) * 1_000;
        let readings: Vec<(i64, (i64, i64))> = sent
            .iter()
            .filter_map(|(at, said)| Some((*at, said.meter?)))
            .map(|(at, (import, export))| (at, (mwh(import), mwh(export))))
            .collect();
        let counted = readings.first().zip(readings.last());
        let counted = counted.map(|((_, first), (_, last))| (last.0 - first.0, last.1 - first.1));
        let began = self.shared.began_ns.load(Ordering::Relaxed);
        #[allow(clippy::cast_possible_truncation, reason = "minutes")]
        let ns = |second: f64| began + (second * 1e9) as i64;
        let ends = |at: fn(&[Act]) -> Option<&Act>| at(&played.acts).map_or(0, |act| ns(act.at));
        let visit = VisitTruth {
            from_ns: ends(<[Act]>::first),
            to_ns: ends(<[Act]>::last),
            soc: (socs.first().copied().unwrap_or(0.0), socs.last().copied().unwrap_or(0.0)),
            counted,
            session_id: Some(played.session_id.clone()),
            vehicle: Some(played.vehicle.clone()),
        };
        // Outside of the loop no message tells a power.
        let quiet =
            powers.windows(2).map(|pair| (pair[0].0, pair[1].0)).filter(|(one, next)| next - one > 1_500_000_000);
        let last_kwh = powers.last().map(|(_, kw)| kw * messages::TURN_S / 3_600.0);
        DeviceTruth {
            last_turn: last_kwh.map(|kwh| (played.session_id.clone(), kwh)),
            id: &device.id,
            source: device.source,
            heard: powers.iter().map(|(at, _)| *at).collect(),
            mute: quiet.chain(played.lost.map(|(from, to)| (ns(from), ns(to)))).collect(),
            power: Power::Sent(powers),
            counted,
            readings,
            visits: vec![visit],
        }
    }
}

/// Ten frames four times a second, as an adapter that speaks slcan would hand them on.
fn speak_on_bus(shared: &Shared) {
    loop {
        let mut text = String::new();
        let now = unix_ns();
        let second = shared.second(now);
        let on_bus = shared.script.devices.iter().enumerate().filter(|(_, device)| device.source == Source::Bus);
        let mut told = Vec::new();
        for (node, (place, device)) in (1..).zip(on_bus) {
            let charger = device.is_now(second);
            let soc = if charger.soc == 0xFFFF { 0 } else { charger.soc };
            let state = u8::try_from(charger.state).unwrap_or(0);
            let bytes = [&charger.power_w.to_le_bytes()[..], &soc.to_le_bytes(), &[state, 0]].concat();
            text += &format!("t{:03X}8", 0x300 + node);
            bytes.iter().for_each(|byte| text += &format!("{byte:02X}"));
            text.push('\r');
            told.push(place);
        }
        if let Some(Bus(adapter)) = &mut *open(&shared.bus)
            && adapter.write_all(text.as_bytes()).is_ok()
        {
            told.into_iter().for_each(|place| open(&shared.heard[place]).push(now));
        }
        let_pass(FRAME_EVERY);
    }
}

fn speak_of_sessions(shared: &Shared, connect: impl Fn() -> io::Result<Feed>) {
    let mut acts: Vec<&Act> = shared.played.iter().flat_map(|played| &played.acts).collect();
    acts.sort_by(|one, other| one.at.total_cmp(&other.at));
    let mut feeds: HashMap<u16, Feed> = HashMap::new();
    for act in acts {
        let_pass(Duration::from_secs_f64((act.at - shared.second(unix_ns())).max(0.0)));
        let Does::Send(kind, said) = &act.does else {
            feeds.remove(&act.connector);
            continue;
        };
        if !feeds.contains_key(&act.connector)
            && let Ok(feed) = connect()
        {
            feeds.insert(act.connector, feed);
        }
        let Some(feed) = feeds.get_mut(&act.connector) else { continue };
        let now = unix_ns();
        if messages::send(feed, *kind, act.connector, &said.frame).is_err() {
            feeds.remove(&act.connector);
        } else if let Some(sent) = open(&shared.sent).get_mut(usize::from(act.connector) - 1) {
            sent.push((now, said.clone()));
        }
    }
}
