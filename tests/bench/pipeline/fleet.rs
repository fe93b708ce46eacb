//! Chargers with vehicles, as Modbus registers of 4 quantities: state, power, state of charge and a register of energy.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use v2g_edge::config::{self, Plan, ProfileSource, Surroundings};
use v2g_edge::measure::{Payload, Sample, Stamp};
use v2g_edge::spec::{DeviceIx, RegisterBlock, VehicleId};

/// Each charger is read so often.
pub(super) const POLL: Duration = Duration::from_millis(500);
pub(super) const QUANTITIES: u64 = 4;
/// Devices that one text may have.
const DEVICES_MAX: usize = 1_000;
/// A vehicle stays so many polls: a minute …
const STAYS: u64 = 120;
/// … and its place is free for so many.
const FREE: u64 = 4;

const PROFILE: &str = "[profile]\nvendor = \"v2g-edge\"\nmodel = \"charger of a measurement\"\nkind = \"evse\"\nsources = [\"none\"]\n\
    [modbus]\naddress_base = 0\ntable = \"input\"\nword_order = \"msw-first\"\npoll = \"500ms\"\n[group.fast]\ninterval = \"poll\"\n\
    [point]\n\
    state = { register = 0, type = \"u16\", group = \"fast\", texts = { 0 = \"available\", 1 = \"charging\" } }\n\
    power_flow = { register = 1, type = \"i32\", scale = 0.001, unit = \"kW\", sign = \"import-positive\", valid = [-500, 500], group = \"fast\" }\n\
    soc = { register = 3, type = \"u16\", scale = 0.1, unit = \"%\", valid = [0, 100], fold = \"last\", group = \"fast\" }\n\
    energy_import = { register = 4, type = \"u32\", unit = \"Wh\", group = \"fast\" }\n";

/// The plan of a gateway with so many chargers; more than a plan may have are put together of several.
pub(super) fn plan(gateway: usize, vehicles: usize, port: u16, dir: &Path) -> Plan {
    let dir = dir.join(format!("gw-{gateway:02}"));
    std::fs::create_dir_all(&dir).expect("ours");
    let chunks = (0..vehicles).step_by(DEVICES_MAX).map(|from| {
        let to = vehicles.min(from + DEVICES_MAX);
        let surroundings =
            Surroundings::none().with_profiles(ProfileSource::built_in().and_text("charger", "charger.toml", PROFILE));
        config::parse(&text(gateway, from..to, port, &dir), "gateway.toml", &surroundings).expect("a plan")
    });
    chunks
        .reduce(|mut plan, more| {
            plan.devices.extend(more.devices);
            plan
        })
        .expect("vehicles")
}

fn text(gateway: usize, vehicles: std::ops::Range<usize>, port: u16, dir: &Path) -> String {
    let mut text = format!(
        "[gateway]\nid = \"gw-{gateway:02}\"\nsite = \"depot\"\nstate_dir = {dir:?}\n[api]\nsocket = {:?}\n\
         [uplink]\nbrokers = [\"mqtt://127.0.0.1:{port}\"]\n[bus.lan]\nmodbus-tcp = {{}}\n",
        dir.join("api.sock")
    );
    for n in vehicles {
        let (third, fourth) = (n / 250, n % 250 + 1);
        writeln!(
            text,
            "[device.evse-{n:05}]\nkind = \"evse\"\nbus = \"lan\"\naddress = \"10.0.{third}.{fourth}\"\nunit = 1\nprofile = \"charger\""
        )
        .expect("a String takes everything");
    }
    text
}

/// The chargers of a gateway, read one after the other.
pub(super) struct Fleet {
    block: RegisterBlock,
    chargers: Vec<Charger>,
    random: u64,
}

struct Charger {
    polls: u64,
    energy_wh: f64,
    soc: f64,
    kw: f64,
    vehicle: u64,
}

impl Fleet {
    pub(super) fn new(plan: &Plan) -> Self {
        let block = plan.devices[0].spec.groups[0].blocks[0];
        let charger = |n: u64| {
            let share = n as f64 * 0.618 % 1.0;
            // One in four gives energy.
            let kw = if n % 4 == 3 { -10.0 } else { 11.0 + 100.0 * share };
            // They come one after the other, not all at once.
            Charger {
                polls: n * 7 % (STAYS + FREE),
                energy_wh: 1e6 * (1.0 + share),
                soc: 20.0 + 50.0 * share,
                kw,
                vehicle: 0,
            }
        };
        Self { block, chargers: (0..plan.devices.len() as u64).map(charger).collect(), random: 88_172_645_463_325_252 }
    }

    pub(super) fn len(&self) -> usize {
        self.chargers.len()
    }

    /// Reads a charger: the vehicle, if that has changed, and the registers.
    pub(super) fn read(&mut self, n: usize, at: Stamp, out: &mut Vec<Sample>) {
        // xorshift64 (Marsaglia 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let noise = (self.random >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
        let device = DeviceIx(u16::try_from(n).expect("a device"));
        let charger = &mut self.chargers[n];
        charger.polls += 1;
        let is_there = charger.polls % (STAYS + FREE) < STAYS;
        let begins = charger.polls.is_multiple_of(STAYS + FREE);
        if begins || !is_there && charger.polls % (STAYS + FREE) == STAYS {
            charger.vehicle += u64::from(begins);
            let id = || VehicleId::try_from(format!("EV{n:05}-{}", charger.vehicle)).expect("a name");
            out.push(Sample { device, at, payload: Payload::Vehicle(begins.then(id)) });
        }
        let watts = if is_there { (charger.kw + noise * 0.5) * 1e3 } else { 0.0 };
        charger.energy_wh += watts.max(0.0) * POLL.as_secs_f64() / 3600.0;
        charger.soc = (charger.soc + watts / 3e9).clamp(0.0, 100.0);
        let (power, energy) = ((watts as i32).cast_unsigned(), charger.energy_wh as u32);
        let words = vec![
            u16::from(is_there),
            (power >> 16) as u16,
            power as u16,
            (charger.soc * 10.0) as u16,
            (energy >> 16) as u16,
            energy as u16,
        ];
        out.push(Sample { device, at, payload: Payload::Registers { block: self.block, words: Ok(words) } });
    }
}
