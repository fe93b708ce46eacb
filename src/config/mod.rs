//! The configuration: as typed → as run.
//!
//! In: `gateway.toml`, and the profiles that its devices name (built in, or in `devices/` beside it). Out: a
//! [`Plan`], in which everything is filled in, cross-checked and within its bounds; or [`Faults`], **all** mistakes
//! at once, each with file, line, the line itself, what is wrong and what to write instead.
//!
//! - An unknown key is a mistake. A duration or a size without a unit is a mistake. Nothing is guessed.
//! - A mistake hides no other: a broken statement, a repeated key, a table or an id written twice is reported, and
//!   the rest is read on. The one exception: what stands inside a statement that cannot be parsed.
//! - Paths of certificates may be relative; they count from the directory of the configuration file. `state_dir`
//!   and the socket are absolute.
//! - Bounds: a file has at most 1 MiB; 32 buses, 256 devices, 512 points each. Every key's own bounds are beside its
//!   reader and in `configs/gateway.toml`, which is the manual.
//! - Only certificates are looked at beside the text: that they are there, and that nobody else can read the key.
//!   Whether a port, a host or a broker is there is not asked: the agent starts without them.
//!
//! It runs at start, at a reload and in `check`; nothing here is kept, and nothing runs in the background.

mod bus;
mod dbc;
mod dbc_files;
mod device;
mod document;
mod fault;
mod gateway;
mod plan;
mod profile;
mod profiles;
mod section;
mod statements;
mod summary;
mod units;
mod uplink;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::spec::InvalidName;
use document::{Entry, Table};
use fault::{Collector, Place, Source};
use profiles::Library;
use section::{Form, Scope, Section};

pub use dbc::{Dbc, DbcFault, DbcMessage, DbcSignal};
pub use dbc_files::built_in_dbc;
pub use fault::{Fault, Faults, OtherLine};
pub use plan::{
    AggregatePlan, ApiPlan, BusKind, BusPlan, CanBus, CanSource, DeviceAddress, DevicePlan, Framing, GatewayPlan,
    JournalPlan, LogPlan, Plan, PrivacyPlan, UplinkPlan, VehicleIdPolicy, WatchdogPlan,
};
pub use profiles::{ProfileSource, ProfileView, profile_views};
pub use summary::{BusSummary, DeviceSummary, Summary};

/// 256 devices with a paragraph of remarks each are 200 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
const BUSES_MAX: usize = 32;
/// One gateway serves one depot; the most that a window of 250 ms can carry in one message.
const DEVICES_MAX: usize = 256;

const ROOT: Form = Form {
    table: "",
    keys: &[
        ("gateway", "[gateway]"),
        ("aggregate", "[aggregate]"),
        ("journal", "[journal]"),
        ("uplink", "[uplink]"),
        ("privacy", "[privacy]"),
        ("api", "[api]"),
        ("log", "[log]"),
        ("watchdog", "[watchdog]"),
        ("bus", "[bus.lan]"),
        ("device", "[device.meter-1]"),
    ],
};

/// Every table that a configuration may have.
const FORMS: [&Form; 17] = [
    &ROOT,
    &gateway::GATEWAY,
    &gateway::AGGREGATE,
    &gateway::JOURNAL,
    &uplink::UPLINK,
    &uplink::TLS,
    &uplink::SECOND,
    &gateway::PRIVACY,
    &gateway::API,
    &gateway::LOG,
    &gateway::WATCHDOG,
    &bus::BUS,
    &bus::MODBUS_TCP,
    &bus::MODBUS_RTU,
    &bus::CAN,
    &bus::ISO15118,
    &device::DEVICE,
];

/// What a configuration is read beside: other files.
#[derive(Debug, Clone)]
pub struct Surroundings {
    directory: PathBuf,
    profiles: ProfileSource,
    /// Whether files that the uplink needs are looked at.
    checks_files: bool,
    /// Whether those of a mirror feed are, without which all else goes on.
    checks_feeds: bool,
}

impl Surroundings {
    /// Those of a file in this directory: its `devices/`, and certificates that must be there.
    #[must_use]
    pub fn of(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let profiles = ProfileSource::built_in().and_directory(directory.join("devices"));
        Self { directory, profiles, checks_files: true, checks_feeds: true }
    }

    /// None: built-in profiles only, and no file is looked at. For a text that is to run elsewhere.
    #[must_use]
    pub fn none() -> Self {
        Self {
            directory: PathBuf::from("/"),
            profiles: ProfileSource::built_in(),
            checks_files: false,
            checks_feeds: false,
        }
    }

    /// With these profiles instead.
    #[must_use]
    pub fn with_profiles(self, profiles: ProfileSource) -> Self {
        Self { profiles, ..self }
    }

    /// For what a mirror feed needs.
    fn of_feeds(&self) -> Self {
        Self { checks_files: self.checks_feeds, ..self.clone() }
    }
}

/// Every key that a configuration may have, with its table: `("uplink.tls", "ca")`, `("device.*", "poll")`. The
/// tables themselves are keys of the table `""`.
pub fn known_keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    FORMS.iter().flat_map(|form| form.keys.iter().map(|(key, _)| (form.table, *key)))
}

/// Reads a duration as the configuration writes it: `250ms`, `15s`, `2m`, `72h`, `7d`.
///
/// # Errors
/// What is wrong with the text, and the units.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    units::duration(text).map_err(|wrong| format!("\"{text}\" {}; {}", wrong.problem, units::TIME_UNITS))
}

/// Reads a configuration file.
///
/// # Errors
/// All mistakes in it, or the one that it cannot be read.
pub fn load(path: &Path) -> Result<Plan, Faults> {
    read(path, Surroundings::of)
}

/// Reads a configuration file to run it: as [`load`], but the certificates of a mirror feed need not be there. The agent starts
/// without them, says so in `status`, and hears the feed when they are.
///
/// # Errors
/// All mistakes in it, or the one that it cannot be read.
pub fn load_to_run(path: &Path) -> Result<Plan, Faults> {
    read(path, |directory| Surroundings { checks_feeds: false, ..Surroundings::of(directory) })
}

fn read(path: &Path, surroundings: impl FnOnce(PathBuf) -> Surroundings) -> Result<Plan, Faults> {
    let name = path.display().to_string();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) => {
            let faults = Collector::default();
            let place = Place::new(&Source::new(&*name, ""), 0..0);
            let problem = format!("the file cannot be read: {}", uplink::io_reason(&error));
            faults.push(place.fault(
                "",
                problem,
                "the path of a configuration file; configs/gateway.toml is one to begin with",
            ));
            return Err(faults.into_faults(&name));
        }
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    parse(&text, &name, &surroundings(absolute))
}

/// Reads a configuration text. `source` is what to call it in messages.
///
/// # Errors
/// All mistakes in it and in the profiles that it names.
pub fn parse(text: &str, source: &str, surroundings: &Surroundings) -> Result<Plan, Faults> {
    let faults = Collector::default();
    // Windows editors put it there; TOML allows it at the very beginning only.
    let file = Source::new(source, text.strip_prefix('\u{feff}').unwrap_or(text));
    let scope = Scope { source: &file, faults: &faults };
    let root = document::read(&file, &["bus", "device"], &faults);
    let library = Library::new(&surroundings.profiles, &faults);
    match read_plan(scope, &root, &library, surroundings) {
        Some(plan) if faults.is_empty() => Ok(plan),
        _ => {
            debug_assert!(!faults.is_empty(), "a reader gave up without a word");
            Err(faults.into_faults(source))
        }
    }
}

fn read_plan(scope: Scope<'_>, root: &Table, library: &Library<'_>, surroundings: &Surroundings) -> Option<Plan> {
    let file = Section::new(scope, &ROOT, "", root);
    let empty = Table::empty();
    let table = |key: &str, form| file.section(key, form).unwrap_or_else(|| Section::new(scope, form, key, &empty));
    let gateway = required_table(&file, "gateway", &gateway::GATEWAY, &["id", "site", "state_dir"])
        .and_then(|section| gateway::gateway(&section));
    let aggregate = gateway::aggregate(&table("aggregate", &gateway::AGGREGATE));
    let journal = gateway::journal(&table("journal", &gateway::JOURNAL));
    let uplink = required_table(&file, "uplink", &uplink::UPLINK, &["brokers"])
        .and_then(|section| uplink::uplink(&section, gateway.as_ref(), surroundings));
    let privacy = gateway::privacy(&table("privacy", &gateway::PRIVACY));
    let api = gateway::api(&table("api", &gateway::API));
    let log = gateway::log(&table("log", &gateway::LOG));
    let watchdog = gateway::watchdog(&table("watchdog", &gateway::WATCHDOG));

    let bus_tables = named_family(scope, &file, "bus", BUSES_MAX);
    let read_bus = |(entry, table): &(&Entry, &Table)| {
        let plan = bus::bus(scope, entry, table, surroundings)?;
        Some((plan, Place::new(scope.source, entry.key_span.clone())))
    };
    let placed_buses: Vec<(BusPlan, Place)> = bus_tables.iter().filter_map(read_bus).collect();
    bus::same_port(&placed_buses).into_iter().for_each(|fault| scope.faults.push(fault));
    let buses: Vec<BusPlan> = placed_buses.into_iter().map(|(plan, _)| plan).collect();
    let bus_names: Vec<String> = bus_tables.iter().map(|(entry, _)| entry.key.clone()).collect();

    let around = device::Surrounding { buses: &buses, bus_names: &bus_names, library };
    let device_tables = named_family(scope, &file, "device", DEVICES_MAX);
    let read_device = |(entry, table): &(&Entry, &Table)| {
        let plan = device::device(scope, &around, entry, table)?;
        Some((plan, Place::new(scope.source, entry.key_span.clone())))
    };
    let placed: Vec<(DevicePlan, Place)> = device_tables.iter().filter_map(read_device).collect();
    device::same_place(&placed).into_iter().for_each(|fault| scope.faults.push(fault));
    if buses.len() < bus_tables.len() || placed.len() < device_tables.len() {
        return None;
    }
    let devices = placed.into_iter().map(|(plan, _)| plan).collect();
    Some(Plan { gateway: gateway?, aggregate, journal, uplink: uplink?, privacy, api, log, watchdog, buses, devices })
}

/// A table that must be there; when it is not, the answer shows it with all that it must hold.
fn required_table<'a>(file: &Section<'a>, key: &str, form: &'static Form, required: &[&str]) -> Option<Section<'a>> {
    if !file.has(key) {
        let lines: String = required.iter().map(|key| format!("\n{key} = {}", form.example(key))).collect();
        file.blame(key, format!("the table [{key}] is missing"), format!("[{key}]{lines}"));
    }
    file.section(key, form)
}

/// The tables of a family, each under a name of its own; two that differ only in case are not told apart by people.
fn named_family<'a>(scope: Scope<'_>, file: &Section<'a>, family: &str, at_most: usize) -> Vec<(&'a Entry, &'a Table)> {
    let children = file.family(family);
    if let Some((entry, _)) = children.get(at_most) {
        let problem = format!("there are {} tables [{family}.…]; {at_most} are allowed", children.len());
        let place = Place::new(scope.source, entry.key_span.clone());
        scope.faults.push(place.fault(family, problem, "fewer of them, and a second gateway for the rest"));
    }
    for (n, (entry, _)) in children.iter().enumerate() {
        let is_same = |(other, _): &&(&Entry, &Table)| other.key.eq_ignore_ascii_case(&entry.key);
        let Some((first, _)) = children[..n].iter().find(is_same) else { continue };
        let first_place = Place::new(scope.source, first.key_span.clone());
        let (key, line) = (&entry.key, first_place.line());
        let problem = if first.key == *key {
            format!("the {family} id \"{key}\" is used twice, here and at line {line}")
        } else {
            format!("the {family} ids \"{key}\" and \"{}\" (line {line}) differ only in the case of letters", first.key)
        };
        let free = (2..=children.len() + 2)
            .map(|n| format!("{key}-{n}"))
            .find(|id| !children.iter().any(|(e, _)| e.key == *id));
        let remedy = format!("[{family}.{}], or delete one of the two", free.unwrap_or_default());
        let place = Place::new(scope.source, entry.key_span.clone());
        scope.faults.push(place.fault(format!("{family}.{key}"), problem, remedy).also(&first_place));
    }
    children
}

/// The name that the operator gave to a child of a family.
fn child_name<T>(scope: Scope<'_>, title: &str, entry: &Entry) -> Option<T>
where
    T: for<'t> TryFrom<&'t str, Error = InvalidName>,
{
    let name = T::try_from(&entry.key);
    let report = |invalid: InvalidName| {
        let place = Place::new(scope.source, entry.key_span.clone());
        let plain: String =
            entry.key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
        let family = title.split('.').next().unwrap_or(title);
        scope.faults.push(place.fault(title, format!("the name {invalid}"), format!("[{family}.{plain}]")));
    };
    name.map_err(report).ok()
}

/// A whole file of text, within its bound.
fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_bytes(path, FILE_BYTES_MAX)?).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        io::Error::other(format!("it is not UTF-8 text: see line {line}"))
    })
}

/// A whole file, within its bound.
fn read_bytes(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(at_most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > at_most {
        return Err(io::Error::other(format!("it is larger than {at_most} bytes")));
    }
    Ok(bytes)
}
