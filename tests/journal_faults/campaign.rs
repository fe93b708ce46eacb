//! Kills in lives that begin with a disk that is full, read-only, or fails for a moment, with the broker there or away. The consumer is
//! the audit: what was read and did not come is told, and the audit does not call it complete.
//!
//! 24 kills; with `V2G_KILLS=500` as many.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use v2g_edge::journal::{JournalHandle, Lane, Lease, Settings, WhenFull};
use v2g_edge::measure::Entry;
use v2g_edge::uplink::audit::{GatewayReport, Judge, Message};
use v2g_edge::uplink::wire::payload_of;

use super::{depot, full, stage};

const NAME: &str = "campaign::what_goes_with_a_life_that_begins_without_a_disk_is_told";
const KILLS: u64 = 24;
/// Windows from the first of one life to that of the next: none is given twice, and all are younger than `age_max`.
const WINDOWS_OF_A_LIFE: u64 = 500;
/// Set in the child only: where it writes, its first window, and what it has: a broker, none, or one and nothing to read.
const CHILD_DIR: &str = "V2G_JOURNAL_FAULTS_CAMPAIGN_DIR";
const CHILD_FROM: &str = "V2G_JOURNAL_FAULTS_CAMPAIGN_FROM";
const CHILD_WITH: &str = "V2G_JOURNAL_FAULTS_CAMPAIGN_WITH";
/// Stands for the line breaks of a payload on the way to the parent.
const BREAK: &str = "\u{1}";
/// For whatever should come at once, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(60);

fn settings(dir: &Path) -> Settings {
    let runtime_dir = dir.parent().and_then(Path::parent).map(|place| place.join("run"));
    Settings { runtime_dir, ..depot::settings(dir, 1 << 30, WhenFull::Thin) }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// To the broker, which is the parent; what it has is acknowledged.
fn deliver(lease: Lease) {
    let entry: &Entry = lease.entry();
    let lane = if lease.lane() == Lane::Live { "telemetry" } else { "history" };
    let (identity, points) = (entry.identity, entry.window.points());
    let payload = payload_of(entry).replace('\n', BREAK);
    say(&format!("entry {} {} {lane} {points} {payload}", identity.epoch, identity.seq));
    lease.acknowledge();
}

async fn deliver_all(handle: &JournalHandle) {
    for lane in [Lane::Live, Lane::History] {
        handle.lease(lane, 8).await.into_iter().for_each(deliver);
    }
}

/// One reading after the other until it is killed; or what waits is delivered, and it ends in order.
fn live(dir: &Path, from: u64, with: With) {
    depot::block_on(async {
        let (journal, facts) = depot::open(settings(dir), from);
        let handle = journal.handle();
        say(&format!("life {}", journal.epoch()));
        if with != With::Nothing {
            handle.go_live();
        }
        if with == With::BrokerAlone {
            for n in 0..4 {
                depot::append(&handle, depot::empty(from + n)).await;
                handle.commit().await;
                while handle.progress().borrow().unacknowledged > 0 {
                    deliver_all(&handle).await;
                    handle.commit().await;
                }
            }
            return journal.close().await.expect("it closes");
        }
        let mut n = from;
        loop {
            let mut window = depot::window(n);
            window.intervals.truncate(1);
            say(&format!("read {n}"));
            depot::append(&handle, window).await;
            handle.commit().await;
            let status = facts.status().journal;
            say(&format!("{} {n}", if status.trouble.is_none() { "safe" } else { "held" }));
            if with == With::Broker {
                deliver_all(&handle).await;
            }
            n += 1;
            if n == from + WINDOWS_OF_A_LIFE {
                // What follows is the next one's. On a busy machine the kill may come late.
                std::future::pending::<()>().await;
            }
        }
    });
}

/// What a life has beside its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    Nothing,
    Broker,
    BrokerAlone,
}

impl With {
    const ALL: [Self; 3] = [Self::Nothing, Self::Broker, Self::BrokerAlone];
}

/// A line of a life: its word, and what follows. The runner of the tests may have begun the line.
fn said(line: &str) -> Option<(&str, &str)> {
    let at = ["life ", "read ", "safe ", "held ", "entry "].iter().filter_map(|word| line.find(word)).min()?;
    line[at..].split_once(' ')
}

struct Life {
    child: Child,
    lines: Receiver<String>,
}

impl Life {
    fn begin(dir: &Path, from: u64, with: With, failing_sync: Option<(&Path, u64)>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("the test's own program"));
        command.args(["--exact", NAME, "--nocapture"]).env(CHILD_DIR, dir);
        command.env(CHILD_FROM, from.to_string()).env(CHILD_WITH, format!("{with:?}"));
        if let Some((shim, number)) = failing_sync {
            command.env("LD_PRELOAD", shim).env("V2G_FAILING_SYNC", number.to_string());
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the child starts");
        let (tell, lines) = channel();
        let told = BufReader::new(child.stdout.take().expect("its output")).lines();
        std::thread::spawn(move || told.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, lines }
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it is gone");
    }
}

/// What the parent knows.
#[derive(Default)]
struct Truth {
    judge: Judge,
    /// Readings, by the life that took them.
    read: BTreeMap<u64, u64>,
    /// On disk, as the life said when nothing was wrong.
    safe: BTreeSet<u64>,
    came: BTreeSet<u64>,
    life: u64,
}

impl Truth {
    fn hear(&mut self, line: &str) {
        let Some((word, rest)) = said(line) else { return };
        let mut words = rest.splitn(5, ' ');
        let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { return };
        match word {
            "life" => self.life = number,
            "read" => drop(self.read.insert(number, self.life)),
            "safe" => drop(self.safe.insert(number)),
            "entry" => {
                let (Some(seq), Some(lane), Some(points), Some(payload)) =
                    (words.next(), words.next(), words.next(), words.next())
                else {
                    return;
                };
                self.take(&number.to_string(), seq, lane, points, &payload.replace(BREAK, "\n"));
            }
            _ => {}
        }
    }

    fn take(&mut self, epoch: &str, seq: &str, lane: &str, points: &str, payload: &str) {
        let property = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut properties = vec![
            property("gateway", "gw-01"),
            property("epoch", epoch),
            property("seq", seq),
            property("points", points),
        ];
        if lane == "history" {
            properties.push(property("historical", "true"));
        }
        let time_ns =
            payload.lines().next().and_then(|own| own.rsplit(' ').next()?.parse::<i64>().ok()).expect("a time");
        if payload.contains("\nevse,") {
            self.came.insert(depot::number_at(time_ns));
        }
        let topic = format!("v2g/depot-a/gw-01/{lane}");
        self.judge.take(&Message { topic, payload: payload.as_bytes().to_vec(), properties, received_ns: time_ns });
    }
}

/// What is wrong with the disk when a life begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    None,
    Full,
    ReadOnly,
    /// The same, until the first reading was taken.
    FullAtFirst,
    ReadOnlyAtFirst,
    /// One call of fdatasync or fsync fails, the first to the tenth.
    OneSync,
}

impl Fault {
    fn of(round: u64) -> Self {
        let all = [Self::Full, Self::ReadOnly, Self::OneSync, Self::None, Self::FullAtFirst, Self::ReadOnlyAtFirst];
        all[usize::try_from(round % 6).expect("small")]
    }

    fn begin(self, disk: &Path) {
        match self {
            Self::None | Self::OneSync => {}
            Self::Full | Self::FullAtFirst => assert!(full::fill(&disk.join("other")) > 0, "it is full already"),
            Self::ReadOnly | Self::ReadOnlyAtFirst => stage::remount_read_only(disk),
        }
    }

    fn passes(self) -> bool {
        matches!(self, Self::FullAtFirst | Self::ReadOnlyAtFirst)
    }

    fn end(self, disk: &Path) {
        match self {
            Self::None | Self::OneSync => {}
            Self::Full | Self::FullAtFirst => fs::remove_file(disk.join("other")).expect("it is removed"),
            Self::ReadOnly | Self::ReadOnlyAtFirst => stage::remount_writable(disk),
        }
    }
}

/// One life, from its beginning to its kill.
fn round(number: u64, disk: &Path, shim: &Path, truth: &mut Truth) {
    let n = 1 + number * WINDOWS_OF_A_LIFE;
    let (fault, with) = (Fault::of(number), if number % 3 == 1 { With::Nothing } else { With::Broker });
    fault.begin(disk);
    let mut life =
        Life::begin(&disk.join("journal"), n, with, (fault == Fault::OneSync).then_some((shim, number % 10 + 1)));
    let (mut ended, mut readings) = (!fault.passes(), 0);
    let wanted = 2 + number * 7_919 % 23;
    while readings < wanted {
        let line = life.lines.recv_timeout(SOON).expect("the life goes on");
        truth.hear(&line);
        readings += u64::from(said(&line).is_some_and(|(word, _)| word == "safe" || word == "held"));
        if readings > 0 && !ended {
            fault.end(disk);
            ended = true;
        }
    }
    life.kill();
    life.lines.iter().for_each(|line| truth.hear(&line));
    if !fault.passes() {
        fault.end(disk);
    }
}

#[test]
fn what_goes_with_a_life_that_begins_without_a_disk_is_told() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        let from = std::env::var(CHILD_FROM).expect("a first window").parse().expect("a number");
        let with = std::env::var(CHILD_WITH).expect("what it has");
        let with = With::ALL.into_iter().find(|known| format!("{known:?}") == with).expect("known");
        return live(&PathBuf::from(dir), from, with);
    }
    if !stage::inside(NAME, stage::own_mounts()) {
        return;
    }
    let kills = std::env::var("V2G_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let place = tempfile::tempdir().expect("a directory");
    let disk = place.path().join("disk");
    stage::mount_tmpfs(&disk, "64m");
    fs::create_dir(place.path().join("run")).expect("a directory");
    let (mut truth, shim) = (Truth::default(), place.path().join("failing_sync.so"));
    stage::compile(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/journal_faults/failing_sync.c")), &shim);
    for number in 0..kills {
        round(number, &disk, &shim, &mut truth);
    }
    let last = Life::begin(&disk.join("journal"), 1 + kills * WINDOWS_OF_A_LIFE, With::BrokerAlone, None);
    last.lines.iter().for_each(|line| truth.hear(&line));
    judge(&truth, kills);
}

fn judge(truth: &Truth, kills: u64) {
    let verdict = truth.judge.report();
    let report: &GatewayReport = &verdict.gateways["gw-01"];
    assert!(verdict.malformed.is_empty(), "{:?}", verdict.malformed);
    assert_eq!((report.changed, report.twins), (0, 0), "{report}");
    let told: BTreeSet<u64> = report.in_memory.iter().map(|life| life.epoch).collect();
    let missing: Vec<(&u64, &u64)> = truth.read.iter().filter(|(n, _)| !truth.came.contains(n)).collect();
    let untold: Vec<_> = missing.iter().filter(|(_, life)| !told.contains(life)).collect();
    let lost_safe: Vec<_> = missing.iter().filter(|(n, _)| truth.safe.contains(n)).collect();
    let lives: BTreeSet<u64> = missing.iter().map(|(_, life)| **life).collect();
    println!(
        "{kills} kills, {} readings: {} came, {} are missing, of {} lives, {} of them untold; the audit names {} lives, {} gaps",
        truth.read.len(),
        truth.came.len(),
        missing.len(),
        lives.len(),
        untold.len(),
        told.len(),
        report.gaps.len(),
    );
    assert_eq!(lost_safe, Vec::<&(&u64, &u64)>::new(), "these were on disk");
    // The last reading of a life may not have been taken by it when it was killed.
    let is_last = |n: u64| !truth.read.contains_key(&(n + 1));
    let untold: Vec<_> = untold.into_iter().filter(|(n, _)| !is_last(**n)).collect();
    assert_eq!(untold, Vec::<&(&u64, &u64)>::new(), "nobody tells what became of these");
    assert!(missing.is_empty() || !verdict.passes(), "the audit says complete");
    assert!(!missing.is_empty(), "the disk did not fail");
}
