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
//! - Bounds: a file has at most 1 MiB; 32 buses, 1,000 devices, 512 points each. Every key's own bounds are beside its
//!   reader and in `configs/gateway.toml`, which is the manual.
//! - Only certificates are looked at beside the text: that they are there, and that nobody else can read the key.
//!   Whether a port, a host or a broker is there is not asked: the agent starts without them.
//!
//! It runs at start, at a reload and in `check`; nothing here is kept, and nothing runs in the background.

mod built_in;
mod bus;
mod dbc;
mod dbc_files;
mod dbc_text;
mod device;
mod document;
mod fault;
mod gateway;
mod plan;
mod profile;
mod profiles;
mod section;
mod site;
mod statements;
mod summary;
mod units;
mod uplink;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::spec::{InvalidName, SiteSpec};
use document::{Entry, Table};
use fault::{Collector, Place, Source};
use profiles::Library;
use section::{Form, Scope, Section};

pub use built_in::built_in_dbc;
pub use dbc::{Dbc, DbcMessage, DbcSignal};
pub use dbc_text::DbcFault;
pub use fault::{Fault, Faults, OtherLine};
pub use plan::{
    AggregatePlan, ApiPlan, BusKind, BusPlan, CanBus, CanSource, DeviceAddress, DevicePlan, Framing, GatewayPlan,
    JournalPlan, LogPlan, Plan, PrivacyPlan, UpdatePlan, UplinkPlan, VehicleIdPolicy, WatchdogPlan,
};
pub use profiles::{ProfileSource, ProfileView, profile_views};
pub use summary::{BusSummary, DepotSummary, DerivedSummary, DeviceSummary, Summary};

/// 1,000 devices with a paragraph of remarks each are 780 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
const BUSES_MAX: usize = 32;
/// One gateway serves one depot; the most that a window of 250 ms can carry in one message.
const DEVICES_MAX: usize = 1_000;

const ROOT: Form = Form {
    table: "",
    keys: &[
        ("gateway", "[gateway]"),
        ("aggregate", "[aggregate]"),
        ("site", "[site]"),
        ("journal", "[journal]"),
        ("uplink", "[uplink]"),
        ("privacy", "[privacy]"),
        ("api", "[api]"),
        ("log", "[log]"),
        ("watchdog", "[watchdog]"),
        ("update", "[update]"),
        ("bus", "[bus.lan]"),
        ("device", "[device.meter-1]"),
    ],
};

/// Every table that a configuration may have.
const FORMS: [&Form; 20] = [
    &ROOT,
    &gateway::GATEWAY,
    &gateway::AGGREGATE,
    &site::SITE,
    &gateway::JOURNAL,
    &uplink::UPLINK,
    &uplink::TLS,
    &uplink::SECOND,
    &gateway::PRIVACY,
    &gateway::API,
    &gateway::LOG,
    &gateway::WATCHDOG,
    &gateway::UPDATE,
    &bus::BUS,
    &bus::MODBUS_TCP,
    &bus::MODBUS_RTU,
    &bus::CAN,
    &bus::ISO15118,
    &device::DEVICE,
    &profile::RULE,
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

    /// For what is to run.
    fn for_running(self) -> Self {
        Self { profiles: self.profiles.for_running(), ..self }
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
/// without them, says so in `status`, and hears the feed when they are. Nor does a mistake in a part of a DBC file that no
/// profile uses count; see [`unused_mistakes`].
///
/// # Errors
/// All mistakes in it, or the one that it cannot be read.
pub fn load_to_run(path: &Path) -> Result<Plan, Faults> {
    read(path, |directory| Surroundings { checks_feeds: false, ..Surroundings::of(directory) }.for_running())
}

/// Reads a configuration file that is to take the place of one that runs: as [`load`], but for DBC files as [`load_to_run`].
///
/// # Errors
/// All mistakes in it, or the one that it cannot be read.
pub fn load_to_reload(path: &Path) -> Result<Plan, Faults> {
    read(path, |directory| Surroundings::of(directory).for_running())
}

/// The mistakes in DBC files of a configuration that runs: none of them is in what it uses.
#[must_use]
pub fn unused_mistakes(path: &Path) -> Vec<String> {
    let told = load(path).err();
    let of_dbc = told.iter().flat_map(Faults::iter).filter(|fault| fault.key == "can.dbc");
    of_dbc.map(|fault| fault.problem.clone()).collect()
}

/// What of a configuration file can be relied on, whatever is wrong with the rest of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SoundParts {
    /// All mistakes, or the one that it cannot be read; `None` if there are none.
    pub faults: Option<Faults>,
    /// `None` if something in it is wrong or missing.
    pub gateway: Option<GatewayPlan>,
    /// `None` if something in it is wrong or missing.
    pub uplink: Option<UplinkPlan>,
    /// `None` if something in it is wrong.
    pub api: Option<ApiPlan>,
    /// `None` if something in it is wrong.
    pub journal: Option<JournalPlan>,
    /// `None` if something in it is wrong.
    pub update: Option<UpdatePlan>,
    /// Those in which nothing is wrong.
    pub buses: Vec<BusPlan>,
}

/// Reads a configuration file, as [`load`], for who wants to look around also when it has mistakes.
#[must_use]
pub fn load_sound_parts(path: &Path) -> SoundParts {
    let name = path.display().to_string();
    let (parts, faults, text) = match read_with_directory(path) {
        Ok((text, directory)) => {
            let (parts, faults) = parse_parts(&text, &name, &Surroundings::of(directory));
            (Some(parts), faults, text)
        }
        Err(faults) => (None, faults, String::new()),
    };
    let is_sound = |table: &str| {
        let inside = |key: &str| key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        // What is no TOML has no key: it is of the table that it stands in.
        let is_torn =
            |fault: &Fault| fault.key.is_empty() && fault.file == name && inside(&table_at(&text, fault.line));
        !faults.iter().any(|fault| inside(&fault.key) || is_torn(fault))
    };
    let Parts { gateway, uplink, api, journal, update, buses, .. } = parts.unwrap_or_default();
    SoundParts {
        gateway: gateway.filter(|_| is_sound("gateway")),
        uplink: uplink.filter(|_| is_sound("uplink") && is_sound("gateway")),
        api: api.filter(|_| is_sound("api")),
        journal: journal.filter(|_| is_sound("journal")),
        update: update.filter(|_| is_sound("update")),
        buses,
        faults: Some(faults).filter(|faults| !faults.is_empty()),
    }
}

fn read(path: &Path, surroundings: impl FnOnce(PathBuf) -> Surroundings) -> Result<Plan, Faults> {
    let (text, directory) = read_with_directory(path)?;
    parse(&text, &path.display().to_string(), &surroundings(directory))
}

/// The name of the table that a line stands in, or that it tries to open.
fn table_at(text: &str, line: usize) -> String {
    let headers = statements::statements(text).into_iter().filter(|statement| statement.is_header);
    let is_before = |at: usize| text[..at].matches('\n').count() < line;
    let header = headers.take_while(|header| is_before(header.span.start)).last();
    let name = header.map_or("", |header| &text[header.span]);
    let name = name.split('#').next().unwrap_or_default();
    name.chars().filter(|c| !c.is_whitespace() && !matches!(c, '[' | ']' | '"' | '\'')).collect()
}

/// The text of a file, and the directory from which its relative paths count.
fn read_with_directory(path: &Path) -> Result<(String, PathBuf), Faults> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    read_text(path).map(|text| (text, absolute)).map_err(|error| {
        let name = path.display().to_string();
        let faults = Collector::default();
        let place = Place::new(&Source::new(&*name, ""), 0..0);
        let problem = format!("the file cannot be read: {}", uplink::io_reason(&error));
        faults.push(place.fault(
            "",
            problem,
            "the path of a configuration file; configs/gateway.toml is one to begin with",
        ));
        faults.into_faults(&name)
    })
}

/// Reads a configuration text. `source` is what to call it in messages.
///
/// # Errors
/// All mistakes in it and in the profiles that it names.
pub fn parse(text: &str, source: &str, surroundings: &Surroundings) -> Result<Plan, Faults> {
    let (parts, faults) = parse_parts(text, source, surroundings);
    match parts.plan() {
        Some(plan) if faults.is_empty() => Ok(plan),
        _ => {
            debug_assert!(!faults.is_empty(), "a reader gave up without a word");
            Err(faults)
        }
    }
}

/// What could be read, and all mistakes.
fn parse_parts(text: &str, source: &str, surroundings: &Surroundings) -> (Parts, Faults) {
    let faults = Collector::default();
    // Windows editors put it there; TOML allows it at the very beginning only.
    let file = Source::new(source, text.strip_prefix('\u{feff}').unwrap_or(text));
    let scope = Scope { source: &file, faults: &faults };
    let root = document::read(&file, &["bus", "device"], &faults);
    let library = Library::new(&surroundings.profiles, &faults);
    let parts = read_parts(scope, &root, &library, surroundings);
    (parts, faults.into_faults(source))
}

/// A plan as far as it could be read. Nothing is here that has been reported as wrong in itself, but for parts in which
/// only some optional key is.
#[derive(Debug, Default)]
struct Parts {
    gateway: Option<GatewayPlan>,
    aggregate: Option<AggregatePlan>,
    site: Option<SiteSpec>,
    journal: Option<JournalPlan>,
    uplink: Option<UplinkPlan>,
    privacy: Option<PrivacyPlan>,
    api: Option<ApiPlan>,
    log: Option<LogPlan>,
    watchdog: Option<WatchdogPlan>,
    update: Option<UpdatePlan>,
    buses: Vec<BusPlan>,
    /// `None` if one of them, or a bus, could not be read.
    devices: Option<Vec<DevicePlan>>,
}

impl Parts {
    fn plan(self) -> Option<Plan> {
        Some(Plan {
            gateway: self.gateway?,
            aggregate: self.aggregate?,
            site: self.site?,
            journal: self.journal?,
            uplink: self.uplink?,
            privacy: self.privacy?,
            api: self.api?,
            log: self.log?,
            watchdog: self.watchdog?,
            update: self.update?,
            buses: self.buses,
            devices: self.devices?,
        })
    }
}

fn read_parts(scope: Scope<'_>, root: &Table, library: &Library<'_>, surroundings: &Surroundings) -> Parts {
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
    let update = gateway::update(&table("update", &gateway::UPDATE), journal.time_wait);

    let Family { tables: bus_tables, torn } = named_family(scope, &file, &bus::BUS, BUSES_MAX);
    let read_bus = |(entry, table): &(&Entry, &Table)| {
        let plan = bus::bus(scope, entry, table, surroundings)?;
        Some((plan, Place::new(scope.source, entry.key_span.clone())))
    };
    let placed_buses: Vec<(BusPlan, Place)> = bus_tables.iter().filter_map(read_bus).collect();
    bus::same_port(&placed_buses).into_iter().for_each(|fault| scope.faults.push(fault));
    let buses: Vec<BusPlan> = placed_buses.into_iter().map(|(plan, _)| plan).collect();
    let bus_names: Vec<String> = bus_tables.iter().map(|(entry, _)| entry.key.clone()).chain(torn).collect();

    let around = device::Surrounding { buses: &buses, bus_names: &bus_names, library };
    let Family { tables: device_tables, torn: _ } = named_family(scope, &file, &device::DEVICE, DEVICES_MAX);
    let read_device = |(entry, table): &(&Entry, &Table)| {
        let plan = device::device(scope, &around, entry, table)?;
        Some((plan, Place::new(scope.source, entry.key_span.clone())))
    };
    let placed: Vec<(DevicePlan, Place)> = device_tables.iter().filter_map(read_device).collect();
    device::same_place(&placed).into_iter().for_each(|fault| scope.faults.push(fault));
    let is_whole = buses.len() == bus_tables.len() && placed.len() == device_tables.len();
    let devices: Option<Vec<DevicePlan>> = is_whole.then(|| placed.into_iter().map(|(plan, _)| plan).collect());
    let device_names: Vec<&str> = device_tables.iter().map(|(entry, _)| entry.key.as_str()).collect();
    let site = site::site(&table("site", &site::SITE), devices.as_deref(), &device_names);
    Parts {
        gateway,
        aggregate: Some(aggregate),
        site: Some(site),
        journal: Some(journal),
        uplink,
        privacy: Some(privacy),
        api: Some(api),
        log: Some(log),
        watchdog: Some(watchdog),
        update: Some(update),
        buses,
        devices,
    }
}

/// A table that must be there; when it is not, the answer shows it with all that it must hold.
fn required_table<'a>(file: &Section<'a>, key: &str, form: &'static Form, required: &[&str]) -> Option<Section<'a>> {
    if !file.has(key) {
        let lines: String = required.iter().map(|key| format!("\n{key} = {}", form.example(key))).collect();
        file.blame(key, format!("the table [{key}] is missing"), format!("[{key}]{lines}"));
    }
    file.section(key, form)
}

/// The tables of a family and the names of those that have been reported already.
struct Family<'a> {
    tables: Vec<(&'a Entry, &'a Table)>,
    /// Names with a dot and without quotation marks.
    torn: Vec<String>,
}

/// The tables of a family, each under a name of its own; two that differ only in case are not told apart by people.
fn named_family<'a>(scope: Scope<'a>, file: &Section<'a>, form: &'static Form, at_most: usize) -> Family<'a> {
    let family = form.table.trim_end_matches(".*");
    let mut children = file.family(family);
    let mut torn = Vec::new();
    // That all keys of a part of a name are missing is no news.
    children.retain(|(entry, table)| {
        let names = Section::torn_names(scope, form, family, entry, table);
        let is_whole = names.is_empty();
        torn.extend(names);
        is_whole
    });
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
    Family { tables: children, torn }
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

#[cfg(test)]
mod can_tests;
