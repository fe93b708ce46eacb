//! The agent's side: one small task per caller.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::{Report, Request, Response};
use crate::journal::JournalHandle;
use crate::live::{Live, News};

/// A technician, a scraper and a few scripts; more than that is a loop gone wild.
const CALLERS_MAX: usize = 8;
/// Of those, who stays: half of the seats are left for questions.
const SUBSCRIBERS_MAX: usize = 4;
/// The longest request is far below; bounds what a caller can make us hold.
const REQUEST_BYTES_MAX: u64 = 4 * 1024;
/// Silence after which a caller is hung up on.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// After a failed look at who calls.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// The caller waits 3 s; the journal's thread may wait for its disk for longer.
const BUSY_MAX: Duration = Duration::from_secs(2);
const CROWDED: &str = "4 callers have subscribed already; one of them must hang up";
const BUSY: &str = "the journal is busy with its disk; ask again";
/// What was ordered cannot be taken back.
const ORDERED: &str = "the journal is busy with its disk; what is older is given up as soon as it is back: look with \
                       `v2g-edge journal stats`";

/// The socket cannot be listened on. The agent runs on without it.
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
pub struct ApiServer {
    listener: UnixListener,
    path: PathBuf,
}

impl ApiServer {
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
    pub async fn serve<F>(self, report: F, (journal, live): (JournalHandle, Arc<Live>), mut stop: watch::Receiver<bool>)
    where
        F: Fn() -> Report + Send + Sync + 'static,
    {
        // The socket is the agent's: so is whoever else has its owner.
        let owner = fs::metadata(&self.path).map_or(0, |metadata| metadata.uid());
        let subscribers = Semaphore::new(SUBSCRIBERS_MAX);
        let driver = Arc::new(Driver { report, journal, live, owner, subscribers, stop: stop.clone() });
        let seats = Arc::new(Semaphore::new(CALLERS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let caller = match accepted {
                Ok((caller, _)) => caller,
                Err(error) => {
                    // Who waits stays in the queue, so that the next look would be at once.
                    tracing::debug!(%error, "no local caller can be taken");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
                continue; // Too many callers: this one sees its line closed.
            };
            let driver = Arc::clone(&driver);
            tokio::spawn(async move {
                let _seat = seat;
                if let Err(error) = answer(caller, &driver).await {
                    tracing::debug!(%error, "local caller hung up");
                }
            });
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // Nothing to do about a failure: the next start replaces the dead socket.
        let _ = fs::remove_file(&self.path);
    }
}

struct Driver<F> {
    report: F,
    journal: JournalHandle,
    live: Arc<Live>,
    subscribers: Semaphore,
    /// The plan has changed, or the agent ends.
    stop: watch::Receiver<bool>,
    /// The user who, beside root, may order something.
    owner: u32,
}

impl<F: Fn() -> Report + Sync> Driver<F> {
    async fn answer(&self, request: Request, caller: Option<u32>) -> Response {
        match request {
            Request::Status => Response::Status(Box::new((self.report)())),
            // Who stays is answered elsewhere.
            Request::Subscribe => Response::Refused { why: CROWDED.to_owned() },
            Request::Journal => match timeout(BUSY_MAX, self.journal.inventory()).await {
                Ok(Some(inventory)) => Response::Journal(Box::new(inventory)),
                _ => Response::Refused { why: BUSY.to_owned() },
            },
            Request::Forget { .. } if caller.is_none_or(|uid| uid != 0 && uid != self.owner) => {
                Response::Refused { why: "only root and the agent's own user may give up entries; use sudo".to_owned() }
            }
            Request::Forget { older_than_s } => {
                match timeout(BUSY_MAX, self.journal.purge(Duration::from_secs(older_than_s))).await {
                    Ok(Some(purged)) => Response::Forgotten(purged),
                    Ok(None) => Response::Refused { why: BUSY.to_owned() },
                    Err(_) => Response::Refused { why: ORDERED.to_owned() },
                }
            }
        }
    }
}

async fn answer<F: Fn() -> Report + Sync>(mut caller: UnixStream, driver: &Driver<F>) -> io::Result<()> {
    let uid = caller.peer_cred().ok().map(|who| who.uid());
    let (reading, mut writing) = caller.split();
    let mut reading = BufReader::new(reading);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reading).take(REQUEST_BYTES_MAX);
        if timeout(SILENCE_MAX, bounded.read_until(b'\n', &mut line)).await?? == 0 {
            return Ok(());
        }
        let response = match serde_json::from_slice(&line) {
            Ok(Request::Subscribe) => match driver.subscribers.try_acquire() {
                Ok(_seat) => return stream(driver, &mut reading, &mut writing).await,
                Err(_) => driver.answer(Request::Subscribe, uid).await,
            },
            Ok(request) => driver.answer(request, uid).await,
            Err(error) => Response::Refused { why: format!("{error}; ask for example {{\"ask\":\"status\"}}") },
        };
        write(&mut writing, &response).await?;
    }
}

/// A line for each window, until the caller says something, hangs up or does not read.
async fn stream<F: Fn() -> Report + Sync>(
    driver: &Driver<F>,
    reading: &mut BufReader<ReadHalf<'_>>,
    writing: &mut WriteHalf<'_>,
) -> io::Result<()> {
    let (mut windows, mut stop) = (driver.live.listen(), driver.stop.clone());
    loop {
        let news = tokio::select! {
            news = windows.next() => news,
            _ = reading.read_u8() => return Ok(()),
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let response = match news {
            News::Window(window) => Response::Window(Box::new((*window).clone())),
            News::Missed(windows) => Response::Missed { windows },
            News::Over => return Ok(()),
        };
        write(writing, &response).await?;
    }
}

async fn write(writing: &mut WriteHalf<'_>, response: &Response) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(response)?;
    bytes.push(b'\n');
    timeout(SILENCE_MAX, writing.write_all(&bytes)).await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::{HangingJournal, small_journal};
    use crate::measure::{BootId, ClockTrust, Mono, Stamp, Utc, Window};

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
        let server = ApiServer::open(&path).expect("a server");
        assert!(matches!(ApiServer::open(&path), Err(DoorError::Taken(_))));
        let (_stop, stopped) = watch::channel(false);
        let journal = small_journal(&dir.path().join("journal"));
        tokio::spawn(server.serve(report, (journal.handle(), Arc::new(Live::default())), stopped));

        let asked = path.clone();
        let response = tokio::task::spawn_blocking(move || super::super::ask(&asked, Request::Status)).await;
        assert_eq!(response.expect("joined").expect("answered"), Response::Status(Box::new(report())));

        let asked = path.clone();
        let response = tokio::task::spawn_blocking(move || super::super::ask(&asked, Request::Journal)).await;
        let response = response.expect("joined").expect("answered");
        assert!(matches!(response, Response::Journal(inventory) if inventory.waiting == 0 && inventory.next.is_some()));

        let mut caller = BufReader::new(UnixStream::connect(&path).await.expect("connected"));
        caller.write_all(b"{\"ask\":\"reboot\"}\n").await.expect("written");
        let mut line = String::new();
        caller.read_line(&mut line).await.expect("read");
        assert!(line.contains("refused") && line.contains("status"), "{line}");
    }

    #[tokio::test]
    async fn a_subscriber_hears_each_window_in_its_order_and_leaves_seats_for_those_who_ask() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("api.sock");
        let server = ApiServer::open(&path).expect("a server");
        let (stop, stopped) = watch::channel(false);
        let (journal, live) = (HangingJournal::with_history(0), Arc::new(Live::default()));
        tokio::spawn(server.serve(report, (journal.handle(), Arc::clone(&live)), stopped));
        let mut callers = Vec::new();
        for _ in 0..SUBSCRIBERS_MAX {
            let mut caller = BufReader::new(UnixStream::connect(&path).await.expect("connected"));
            // Who has an answer is being served: the next request is taken at once.
            caller.write_all(b"{\"ask\":\"status\"}\n{\"ask\":\"subscribe\"}\n").await.expect("written");
            let mut line = String::new();
            caller.read_line(&mut line).await.expect("read");
            callers.push(caller);
        }
        let mut one_more = BufReader::new(UnixStream::connect(&path).await.expect("connected"));
        let mut line = String::new();
        while !line.contains("4 callers") {
            line.clear();
            one_more.write_all(b"{\"ask\":\"subscribe\"}\n").await.expect("written");
            one_more.read_line(&mut line).await.expect("read");
        }
        for n in 1..=3 {
            let end = Stamp { mono: Mono(1), utc: Utc(n), trust: ClockTrust::Synced };
            live.tell(&Window::empty(BootId([1; 16]), end, Duration::from_millis(250)));
        }
        for caller in &mut callers {
            for n in 1..=3 {
                let mut line = String::new();
                caller.read_line(&mut line).await.expect("read");
                let expected = format!(
                    "{{\"answer\":\"window\",\"version\":1,\"time_ns\":{n},\"clock\":\"synced\",\"length_ms\":250,\"site\":null}}\n"
                );
                assert_eq!(line, expected);
            }
        }
        stop.send_replace(true);
        let mut rest = String::new();
        assert_eq!(callers[0].read_line(&mut rest).await.expect("read"), 0, "{rest}");
    }

    /// An order waited for the journal's disk for as long as that hung, and kept its place: eight of them, and nobody was told
    /// how the agent is.
    #[tokio::test]
    async fn while_the_journal_hangs_every_caller_is_told_so_and_the_status_is_answered() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("api.sock");
        let server = ApiServer::open(&path).expect("a server");
        let (_stop, stopped) = watch::channel(false);
        let journal = HangingJournal::with_history(0);
        tokio::spawn(server.serve(report, (journal.handle(), Arc::new(Live::default())), stopped));

        let mut callers = Vec::new();
        for n in 0..CALLERS_MAX {
            let mut caller = BufReader::new(UnixStream::connect(&path).await.expect("connected"));
            let ask: &[u8] =
                if n % 2 == 0 { b"{\"ask\":\"forget\",\"older_than_s\":60}\n" } else { b"{\"ask\":\"journal\"}\n" };
            // Each asks again and again without waiting for an answer.
            for _ in 0..3 {
                caller.write_all(ask).await.expect("written");
            }
            caller.write_all(b"{\"ask\":\"status\"}\n").await.expect("written");
            callers.push(caller);
        }
        for caller in &mut callers {
            for n in 0..4 {
                let mut line = String::new();
                let read = timeout(SILENCE_MAX, caller.read_line(&mut line)).await;
                read.expect("a caller waits for the journal's disk").expect("read");
                assert!(line.contains(if n < 3 { "busy with its disk" } else { "gw-01" }), "{line}");
            }
        }
    }

    #[tokio::test]
    async fn a_socket_that_a_dead_agent_left_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("api.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        let server = ApiServer::open(&path).expect("replaced");
        drop(server);
        assert!(!path.exists());
    }
}
