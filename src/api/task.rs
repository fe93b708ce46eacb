//! The agent's side: one small task per caller.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::{Report, Request, Response};

/// A technician, a scraper and a few scripts; more than that is a loop gone wild.
const CALLERS_MAX: usize = 8;
/// The longest request is far below; bounds what a caller can make us hold.
const REQUEST_BYTES_MAX: u64 = 4 * 1024;
/// Silence after which a caller is hung up on.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The door could not be opened. The agent runs on without it.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Another agent answers there.
    #[error("another agent already answers at {0}; stop it, or give this one its own [api] socket")]
    Taken(PathBuf),
    /// The socket cannot be made there.
    #[error("cannot listen at {path}; the directory must exist and be writable ([api] socket)")]
    Bind {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The open socket. Removed from the file system when dropped.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Listens at `path`, in place of a socket that a dead agent left there. Makes the directory if only that is missing.
    ///
    /// # Errors
    /// See [`DoorError`].
    pub fn open(path: &Path) -> Result<Self, DoorError> {
        let bind = |source| DoorError::Bind { path: path.to_owned(), source };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(DoorError::Taken(path.to_owned()));
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(bind(e)),
            _ => {}
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(bind)?;
        }
        let listener = UnixListener::bind(path).map_err(bind)?;
        fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(bind)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers callers until `stop` turns true. `report` must be quick and must not block.
    pub async fn serve<F>(self, report: F, mut stop: watch::Receiver<bool>)
    where
        F: Fn() -> Report + Send + Sync + 'static,
    {
        let report = Arc::new(report);
        let seats = Arc::new(Semaphore::new(CALLERS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let (Ok((caller, _)), Ok(seat)) = (accepted, Arc::clone(&seats).try_acquire_owned()) else {
                continue; // Too many callers: this one sees its line closed.
            };
            let report = Arc::clone(&report);
            tokio::spawn(async move {
                let _seat = seat;
                if let Err(error) = answer(caller, report.as_ref()).await {
                    tracing::debug!(%error, "local caller hung up");
                }
            });
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Nothing to do about a failure: the next start replaces the dead socket.
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(mut caller: UnixStream, report: &(impl Fn() -> Report + Sync)) -> io::Result<()> {
    let (reading, mut writing) = caller.split();
    let mut reading = BufReader::new(reading);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reading).take(REQUEST_BYTES_MAX);
        if timeout(SILENCE_MAX, bounded.read_until(b'\n', &mut line)).await?? == 0 {
            return Ok(());
        }
        let response = match serde_json::from_slice(&line) {
            Ok(Request::Status) => Response::Status(Box::new(report())),
            Err(error) => Response::Refused { why: format!("{error}; ask for example {{\"ask\":\"status\"}}") },
        };
        let mut bytes = serde_json::to_vec(&response)?;
        bytes.push(b'\n');
        timeout(SILENCE_MAX, writing.write_all(&bytes)).await??;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::ClockTrust;

    fn report() -> Report {
        Report {
            version: "0.1.0".to_owned(),
            gateway: "gw-01".try_into().expect("a name"),
            site: "depot-a".try_into().expect("a name"),
            pid: 7,
            uptime_s: 3,
            rss_bytes: Some(9),
            wall_clock: "2026-01-01T00:00:00Z".to_owned(),
            clock: ClockTrust::Synced,
            hung: vec![],
            status: crate::health::Status::default(),
        }
    }

    #[tokio::test]
    async fn a_caller_gets_the_report_and_a_plain_word_when_the_question_is_wrong() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("run/api.sock");
        let door = Door::open(&path).expect("a door");
        assert!(matches!(Door::open(&path), Err(DoorError::Taken(_))));
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(door.serve(report, stopped));

        let asked = path.clone();
        let response = tokio::task::spawn_blocking(move || super::super::ask(&asked, Request::Status)).await;
        assert_eq!(response.expect("joined").expect("answered"), Response::Status(Box::new(report())));

        let mut caller = BufReader::new(UnixStream::connect(&path).await.expect("connected"));
        caller.write_all(b"{\"ask\":\"reboot\"}\n").await.expect("written");
        let mut line = String::new();
        caller.read_line(&mut line).await.expect("read");
        assert!(line.contains("refused") && line.contains("status"), "{line}");
    }

    #[tokio::test]
    async fn a_socket_that_a_dead_agent_left_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("api.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        let door = Door::open(&path).expect("replaced");
        drop(door);
        assert!(!path.exists());
    }
}
