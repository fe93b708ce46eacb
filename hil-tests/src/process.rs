//! A child process that dies with the test, however that ends, and whose output can be read after the fact.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{TimedOut, wait_for};

/// How much of a log a failure shows.
const TAIL_LINES: usize = 60;

/// What can go wrong with a child process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started; nothing runs.
    #[error("{name} does not start (is it installed? tests/run installs what the tests need)")]
    Start {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its log could not be opened; nothing runs.
    #[error("{path:?} cannot be written")]
    Log {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A signal could not be sent, or its end not be waited for. Dropping it kills it.
    #[error("{name} (pid {pid}) cannot be signalled or waited for")]
    Signal {
        /// Its name.
        name: String,
        /// Its id.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not end. It still runs; dropping it kills it.
    #[error("{name} (pid {pid}) did not end; its log:\n{log}")]
    Deaf {
        /// Its name.
        name: String,
        /// Its id.
        pid: u32,
        /// Its last lines.
        log: String,
        /// How long it had.
        #[source]
        source: TimedOut,
    },
}

/// A running child. Dropping it kills it with SIGKILL and reaps it. The kernel kills it when the thread that has started it ends: a
/// test that is killed drops nothing.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` without stdin, with stderr (and stdout, unless the caller has piped it by
    /// [`Process::start_with_stdout`]) appended to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, ProcessError> {
        let stdout = append(log)?;
        Self::start_with_stdout(name, command, log, Stdio::from(stdout))
    }

    /// The same, with stdout somewhere else.
    pub fn start_with_stdout(
        name: &str,
        command: &mut Command,
        log: &Path,
        stdout: Stdio,
    ) -> Result<Self, ProcessError> {
        let stderr = append(log)?;
        let child = killed_with_this_thread(command)
            .and_then(|mut command| command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn())
            .map_err(|source| ProcessError::Start { name: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its stdout, if it was started with a pipe there, once.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// How it ended; `None` if it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        let (name, pid) = (&self.name, self.child.id());
        self.child.try_wait().map_err(|source| ProcessError::Signal { name: name.clone(), pid, source })
    }

    /// Sends a signal. To one that has ended: nothing happens.
    pub fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        // Not reaped yet, so the number still belongs to it.
        let sent = Pid::from_raw(self.child.id().cast_signed()).map_or(Ok(()), |pid| kill_process(pid, signal));
        sent.map_err(|source| self.signal_error(source.into()))
    }

    /// SIGKILL, and waits until the kernel has taken it away.
    pub fn kill9(&mut self) -> Result<(), ProcessError> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(|source| self.signal_error(source))
    }

    /// SIGTERM, and waits at most `within` for the end.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::TERM)?;
        let what = format!("{} to end after SIGTERM", self.name);
        let end = wait_for(within, &what, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(Ok(status)),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Ok(Err(error)),
        });
        match end {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(source)) => Err(self.signal_error(source)),
            Err(source) => {
                Err(ProcessError::Deaf { name: self.name.clone(), pid: self.id(), log: self.log_tail(), source })
            }
        }
    }

    /// Memory in RAM now (`VmRSS`), bytes; `None` if it does not run.
    #[must_use]
    pub fn rss_bytes(&self) -> Option<u64> {
        self.memory("VmRSS:")
    }

    /// The most it ever had in RAM (`VmHWM`), bytes; `None` if it does not run.
    #[must_use]
    pub fn rss_peak_bytes(&self) -> Option<u64> {
        self.memory("VmHWM:")
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    fn memory(&self, key: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    fn signal_error(&self, source: io::Error) -> ProcessError {
        ProcessError::Signal { name: self.name.clone(), pid: self.child.id(), source }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to tell; the pid is ours until it is reaped, so no stranger can be hit.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A test that fails shows what its peers said. nextest prints it only then.
        if std::thread::panicking() {
            eprintln!("--- {} (pid {}), last lines of its log:\n{}", self.name, self.child.id(), self.log_tail());
        }
    }
}

/// The last lines of a log.
#[must_use]
pub fn tail(log: &Path) -> String {
    let Ok(bytes) = fs::read(log) else { return "(no log)".to_owned() };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// The program of this name in `PATH`, or in the places that Debian keeps out of a user's `PATH`.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(extra).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| PathBuf::from(OsStr::new(name)))
}

/// The same command, as a process that the kernel kills when this thread has ended (PR_SET_PDEATHSIG): a call between fork and exec,
/// which `setpriv` (util-linux) makes as a program. What becomes another user on its way is spared.
fn killed_with_this_thread(command: &Command) -> io::Result<Command> {
    // `setpriv` starts in any case.
    let file = program(&command.get_program().to_string_lossy());
    if !file.is_file() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", file.display())));
    }
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(file).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        bound.current_dir(dir);
    }
    Ok(bound)
}

fn append(log: &Path) -> Result<File, ProcessError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(|source| ProcessError::Log { path: log.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn sleeper(dir: &Path, script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("sleeper", &mut command, &dir.join("log")).expect("sh is everywhere")
    }

    #[test]
    fn a_dropped_process_is_dead() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let process = sleeper(dir.path(), "sleep 600");
        let status = PathBuf::from(format!("/proc/{}/status", process.id()));
        assert!(process.rss_bytes().is_some_and(|bytes| bytes > 0));
        drop(process);
        assert!(!status.exists());
    }

    /// A rig whose test was killed left QEMU and its peers behind.
    #[test]
    fn a_process_whose_test_is_gone_without_dropping_it_is_killed_by_the_kernel() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().to_owned();
        let test = std::thread::spawn(move || {
            let process = sleeper(&path, "echo up; sleep 600");
            let up = || process.log_tail().find("up").ok_or_else(|| "no log".to_owned());
            wait_for(Duration::from_secs(5), "the program itself", up).map(|_| process)
        });
        let mut left = test.join().expect("it has started something").expect("it runs");
        let end = wait_for(Duration::from_secs(5), "its end", || match left.ended() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(end.expect("it is killed").signal(), Some(Signal::KILL.as_raw()));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let error = Process::start("nobody", &mut Command::new("/nonexistent/nobody"), &dir.path().join("log"));
        assert!(
            matches!(error, Err(ProcessError::Start { name, source }) if name == "nobody" && source.kind() == io::ErrorKind::NotFound)
        );
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_told_with_its_log() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut deaf = sleeper(dir.path(), "trap '' TERM; echo not listening >&2; while :; do sleep 0.05; done");
        wait_for(Duration::from_secs(5), "the trap", || deaf.log_tail().find("not").ok_or_else(|| "no log".into()))
            .expect("it says so at once");
        let error = deaf.terminate(Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("not listening"), "{error}");
        deaf.kill9().expect("nothing outlives SIGKILL");
        assert!(deaf.ended().expect("it was ours").is_some());
    }
}
