//! `kill -9` under load, at random.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tokio::time::Instant;

use v2g_edge::journal::WhenFull;

use super::depot::{self, Oracle};

const KILLS: u64 = 200;
const NAME: &str = "kill::kill_9_at_random_under_load_loses_nothing_that_was_committed";
/// Where the child writes; set in the child only.
const CHILD_DIR: &str = "V2G_JOURNAL_FAULTS_KILL_DIR";
/// The first window of the child.
const CHILD_FROM: &str = "V2G_JOURNAL_FAULTS_KILL_FROM";

/// Appends as fast as group commit allows, and says what is durable, until it is killed.
fn load(dir: &Path, from: u64) {
    depot::block_on(async {
        let (journal, facts) = depot::open(depot::settings(dir, 1 << 30, WhenFull::Thin), from);
        let (handle, mut n) = (journal.handle(), from);
        loop {
            for _ in 0..16 {
                depot::append(&handle, depot::window(n)).await;
                n += 1;
            }
            handle.commit().await;
            let durable = handle.progress().borrow().durable.map_or(0, |seq| seq.0);
            let trouble = facts.status().journal.trouble;
            assert_eq!(trouble, None);
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "durable {durable} windows {n}").and_then(|()| out.flush());
        }
    });
}

fn spawn(dir: &Path, from: u64) -> (Child, Receiver<(u64, u64)>) {
    let program = std::env::current_exe().expect("the test's own program");
    let mut child = Command::new(program)
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_FROM, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the child starts");
    let (tell, told) = channel();
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let mut words = line.split(' ');
            let numbers = (words.nth(1), words.nth(1));
            if let (true, Some(Ok(durable)), Some(Ok(n))) =
                (line.starts_with("durable "), numbers.0.map(str::parse), numbers.1.map(str::parse))
            {
                let _ = tell.send((durable, n));
            }
        }
    });
    (child, told)
}

#[test]
fn kill_9_at_random_under_load_loses_nothing_that_was_committed() {
    if let (Ok(dir), Ok(from)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_FROM)) {
        return load(&PathBuf::from(dir), from.parse().expect("a number"));
    }
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("journal");
    let (mut n, mut committed, mut opens, mut oracle) = (1_u64, 0_u64, Vec::new(), Oracle::default());
    let mut entries = 0;
    for round in 0..KILLS {
        let (mut child, told) = spawn(&dir, n);
        let first = told.recv_timeout(Duration::from_secs(20)).expect("the child commits");
        let moment = Duration::from_micros(round * 7_919 % 40_000);
        depot::block_on(async { tokio::time::sleep(moment).await });
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
        let last = told.iter().last().unwrap_or(first);
        committed += last.0.saturating_sub(oracle.came.keys().next_back().copied().unwrap_or(0));
        // Windows that were on their way have been given numbers; none of them comes again.
        n = last.1 + 1_000;

        let begin = Instant::now();
        let (journal, facts) = depot::open(depot::settings(&dir, 1 << 30, WhenFull::Thin), n);
        opens.push(begin.elapsed());
        assert_eq!(facts.status().journal.trouble, None);
        depot::block_on(async {
            oracle.drain(&journal, &mut n).await;
            journal.close().await.expect("it closes");
        });
        n += 1;
        let newest = oracle.came.keys().next_back().copied().expect("entries");
        assert!(newest >= last.0, "number {} was committed, {newest} is the newest that came", last.0);
        let told = oracle.judge_numbers(newest);
        assert!(told.is_empty(), "after kill {round}: {told:?}");
        entries = oracle.came.len();
        // What is settled is not judged again; should it come again all the same, that is noticed.
        oracle = Oracle { came: judged_up_to(newest), ..Oracle::default() };
    }
    opens.sort_unstable();
    println!(
        "{KILLS} kills, {committed} entries committed by the killed, 0 lost, 0 corrupt; {entries} numbers; open: median \
         {:?}, max {:?} (target 100 ms)",
        opens[opens.len() / 2],
        opens[opens.len() - 1]
    );
    // A few may wait for what others have to write; that more are slow is not the machine's doing.
    let slow = opens[opens.len() * 95 / 100];
    assert!(slow < Duration::from_secs(2), "opening takes too long: {slow:?}");
}

/// Numbers that came in earlier rounds, without their content.
fn judged_up_to(newest: u64) -> std::collections::BTreeMap<u64, (u64, Option<(u64, u64)>)> {
    (1..=newest).map(|number| (number, (0, None))).collect()
}
