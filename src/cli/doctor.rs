//! `v2g-edge doctor`: what would keep this gateway from working, each with its cure. Changes nothing but one probe file
//! that it takes away again; the running agent is not disturbed.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use hal::Clock as _;
use serde::Serialize;

use super::doctor_ports::{self, Found};
use super::show::{Paint, note, print_line};
use super::{ConfigPath, Exit};
use crate::agent::wiring;
use crate::api::{self, Report, Request, Response};
use crate::config::{self, BusPlan, Faults, GatewayPlan, SoundParts, UplinkPlan};
use crate::health::{Finding, Severity};
use crate::measure::{ClockTrust, Stamp};
use crate::net::{BrokerUrl, Link};
use crate::{tls, uplink};

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 0: nothing is wrong, though something may be worth a look. 1: something is wrong. \
    2: the configuration has mistakes; what is right in it was looked at all the same.")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigPath,
    /// The checks as one JSON object
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum CheckResult {
    Good,
    /// It works, and will not for ever; or not all of it could be looked at.
    Watch,
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    #[serde(rename = "verdict")]
    result: CheckResult,
    found: String,
}

impl Check {
    fn new(what: impl Into<String>, result: CheckResult, found: impl Into<String>) -> Self {
        Self { what: what.into(), result, found: found.into() }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    let path = &arguments.config.config;
    let SoundParts { faults, gateway, uplink, buses, api, .. } = config::load_sound_parts(path);
    let now: Stamp = hal::LinuxClock::new().now().into();
    let mut checks = vec![configuration(path, faults.as_ref())];
    checks.push(clock(now));
    let running = api.and_then(|api| match api::ask(&api.socket, Request::Status) {
        Ok(Response::Status(report)) => Some(report),
        _ => None,
    });
    checks.extend(running.as_deref().into_iter().flat_map(agent));
    checks.extend(gateway.as_ref().map(journal));
    checks.extend(ports(&buses, running.as_ref().map(|report| report.pid)));
    checks.extend(certificates(uplink.as_ref(), &buses, now));
    checks.extend(uplink.as_ref().and_then(|uplink| bearer(uplink, gateway.as_ref()?.id.as_str())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    if let Some(uplink) = &uplink {
        checks.extend(runtime.block_on(brokers(uplink)));
    }

    let worst = checks.iter().map(|check| check.result).find(|result| *result == CheckResult::Bad);
    if arguments.json {
        let faults = faults.as_ref().map_or(&[][..], Faults::as_slice);
        print_line(serde_json::json!({ "healthy": worst.is_none(), "checks": checks, "faults": faults }));
    } else {
        let paint = Paint::for_stdout();
        for Check { what, result, found } in &checks {
            let mark = match result {
                CheckResult::Good => paint.good("good "),
                CheckResult::Watch => paint.odd("watch"),
                CheckResult::Bad => paint.bad("BAD  "),
            };
            print_line(format_args!("{mark} {}: {found}", paint.bold(what)));
        }
    }
    if let Some(faults) = &faults {
        if !arguments.json {
            note(format_args!("\n{faults}"));
        }
        return Ok(Exit::Usage);
    }
    Ok(if worst.is_some() { Exit::Wrong } else { Exit::Fine })
}

/// Its mistakes hide nothing else: what is right in it is looked at all the same.
fn configuration(path: &Path, faults: Option<&Faults>) -> Check {
    let what = format!("configuration {}", path.display());
    let Some(faults) = faults else { return Check::new(what, CheckResult::Good, "no mistake") };
    let count = if faults.len() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", faults.len()) };
    let first = faults.iter().next().map_or_else(String::new, |fault| format!(", the first in line {}", fault.line));
    Check::new(what, CheckResult::Bad, format!("{count}{first}; v2g-edge check shows them and what to write"))
}

fn clock(now: Stamp) -> Check {
    let shown = now.utc.rfc3339();
    let (result, found) = match now.trust {
        ClockTrust::Unsynced => (
            CheckResult::Watch,
            format!(
                "{shown}, never synced in this boot: data goes out with estimated times; check NTP (`timedatectl`)"
            ),
        ),
        trust => (CheckResult::Good, format!("{shown}, {}", trust.as_str())),
    };
    Check::new("clock", result, found)
}

/// What the running agent finds itself: much of it nobody else can see.
fn agent(report: &Report) -> Vec<Check> {
    let what = || format!("running agent (process {})", report.pid);
    let findings = report.findings();
    if findings.is_empty() {
        return vec![Check::new(what(), CheckResult::Good, "finds nothing to look at")];
    }
    let told = |finding: &Finding| {
        let result = if finding.severity == Severity::Bad { CheckResult::Bad } else { CheckResult::Watch };
        Check::new(what(), result, finding.to_string())
    };
    findings.iter().map(told).collect()
}

/// Whether what the buses need can be had.
fn ports(buses: &[BusPlan], agent: Option<u32>) -> Vec<Check> {
    let told = |(what, found)| match found {
        Found::Right(found) => Check::new(what, CheckResult::Good, found),
        Found::Unclear(found) => Check::new(what, CheckResult::Watch, found),
        Found::Wrong(found) => Check::new(what, CheckResult::Bad, found),
    };
    doctor_ports::examine(buses, agent).into_iter().map(told).collect()
}

/// Whether a file can be made where the record is to be kept.
fn journal(gateway: &GatewayPlan) -> Check {
    let state = &gateway.state_dir;
    let what = format!("journal below {}", state.display());
    match writable(state) {
        Ok(()) => Check::new(what, CheckResult::Good, "can be written"),
        Err(error) => Check::new(what, CheckResult::Bad, format!("{error}; {}", cure_of(&error))),
    }
}

/// What to do about a directory in which no file can be made.
fn cure_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "make the directory, and give it to the agent's user (StateDirectory= under systemd)"
        }
        io::ErrorKind::PermissionDenied => {
            "give the directory to the agent's user (StateDirectory= under systemd), and ask as that user"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on that file system: until then the newest readings are in memory only"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount the file system for writing; if it was, its disk may be failing: look into the kernel's log (dmesg)"
        }
        io::ErrorKind::NotADirectory => "correct [gateway] state_dir: a part of that path is a file",
        _ => "look into the kernel's log (dmesg): the disk may be failing",
    }
}

fn writable(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".doctor-{}", std::process::id()));
    let written = fs::File::create_new(&probe).and_then(|mut file| {
        file.write_all(b"v2g-edge doctor")?;
        file.sync_all()
    });
    match written {
        Ok(()) => fs::remove_file(&probe),
        Err(error) => {
            // Half-made, as on a full disk.
            let _ = fs::remove_file(&probe);
            Err(error)
        }
    }
}

/// Those of the uplink and of the mirror feeds.
fn certificates(uplink: Option<&UplinkPlan>, buses: &[BusPlan], now: Stamp) -> Vec<Check> {
    let ours = uplink.and_then(|uplink| uplink.tls.as_ref()).into_iter().map(|files| {
        let paths: Vec<_> = files.certificates().collect();
        ("[uplink.tls]".to_owned(), tls::examine(files), paths)
    });
    let of_feeds = wiring::feed_files(buses).map(|(bus, files)| {
        let paths: Vec<_> = files.certificates().collect();
        (format!("[bus.{bus}] iso15118"), tls::examine_server(files), paths)
    });
    let mut checks = Vec::new();
    for (table, examined, paths) in ours.chain(of_feeds) {
        match examined {
            Err(error) => checks.push(Check::new(table, CheckResult::Bad, error.to_string())),
            Ok(()) => checks.extend(tls::days(paths).into_iter().map(|days| validity(&days, now))),
        }
    }
    checks
}

/// Whether a broker takes our certificate as one, and for whom.
fn bearer(uplink: &UplinkPlan, id: &str) -> Option<Check> {
    let bearer = tls::bearer(uplink.tls.as_ref()?.own.as_ref()?)?;
    let what = format!("certificate {} as a client's", bearer.path.display());
    if let Some(problem) = bearer.problem() {
        return Some(Check::new(what, CheckResult::Bad, problem));
    }
    // Who says a name of its own is known by that.
    let name = bearer.other_name(id).filter(|_| uplink.login.is_none())?;
    let found = format!(
        "its common name is {name} and this gateway is {id}: a broker that takes names from certificates gives it the \
         rights of {name}; issue it for {id}, or allow {name} below this gateway's topics"
    );
    Some(Check::new(what, CheckResult::Watch, found))
}

fn validity(days: &tls::Days, now: Stamp) -> Check {
    let what = format!("certificate {}", days.path.display());
    let until = days.until.rfc3339();
    match (days.problem(now.utc), days.warning(now.utc)) {
        (Some(problem), _) => Check::new(what, CheckResult::Bad, problem),
        (None, Some(left)) => {
            Check::new(what, CheckResult::Watch, format!("expires within {left} days, on {until}: renew it"))
        }
        (None, None) => Check::new(what, CheckResult::Good, format!("valid until {until}")),
    }
}

/// Asks every broker by every link, under a client id that is not the gateway's.
async fn brokers(uplink: &UplinkPlan) -> Vec<Check> {
    let (tls, login) = (uplink.tls.as_ref(), uplink.login.as_ref());
    let client_id = format!("{}-doctor-{}", uplink.client_id, std::process::id());
    let mut checks = Vec::new();
    for link in std::iter::once(&uplink.link).chain(&uplink.second) {
        for url in &uplink.brokers {
            let answer = uplink::probe_broker(url, link, tls, login, &client_id).await;
            checks.push(answered(url, link, answer));
        }
    }
    checks
}

fn answered(url: &BrokerUrl, link: &Link, answer: Result<uplink::Granted, uplink::Refused>) -> Check {
    let by = link.interface.as_ref().map_or_else(String::new, |interface| format!(" by {interface}"));
    let what = format!("broker {url}{by}");
    match answer {
        Ok(granted) => {
            let bytes = granted.packet_bytes_max.map_or("any size".to_owned(), |max| format!("up to {max} bytes"));
            let found = format!("takes us: {} messages in flight, packets of {bytes}", granted.receive_maximum);
            let result = if granted.retains { CheckResult::Good } else { CheckResult::Watch };
            let retains =
                if granted.retains { "" } else { "; it retains nothing: `state` and `catalog` are seen live only" };
            Check::new(what, result, found + retains)
        }
        Err(refused) => Check::new(what, CheckResult::Bad, refused.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_is_told_and_one_that_is_is_left_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        writable(dir.path()).expect("it can be written");
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 0);
        assert!(writable(&dir.path().join("none")).is_err());
    }

    #[test]
    fn what_keeps_a_file_from_being_made_has_its_own_cure() {
        let dir = tempfile::tempdir().expect("a directory");
        let none = writable(&dir.path().join("none")).expect_err("it is not there");
        assert!(cure_of(&none).starts_with("make the directory"), "{none}");
        fs::write(dir.path().join("file"), "").expect("ours");
        let file = writable(&dir.path().join("file")).expect_err("it is a file");
        assert!(cure_of(&file).starts_with("correct [gateway] state_dir"), "{file}");
        let of = |errno: i32| cure_of(&io::Error::from_raw_os_error(errno));
        let [eacces, enospc, erofs, edquot, eio] = [13, 28, 30, 122, 5];
        assert!(of(eacces).starts_with("give the directory"));
        assert!([enospc, edquot].into_iter().all(|errno| of(errno).starts_with("make room")));
        assert!(of(erofs).starts_with("mount"));
        assert!(of(eio).contains("dmesg"));
    }
}
