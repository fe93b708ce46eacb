//! QEMU's monitor: commands and events, one JSON object a line.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde_json::{Value, json};

/// QEMU answers at once, also while the guest hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A monitor. Dropping it leaves QEMU alone.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: UnixStream,
    answers: mpsc::Receiver<Value>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Qmp {
    /// Connects and shakes hands.
    pub(super) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        let (answered, answers) = mpsc::channel();
        let events = Arc::new(Mutex::new(Vec::new()));
        let reader = BufReader::new(stream.try_clone()?);
        let heard = Arc::clone(&events);
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
                if let Some(event) = message["event"].as_str() {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push(event.to_owned());
                } else if message.get("return").is_some() || message.get("error").is_some() {
                    // Nobody waits any more: the rig is going down.
                    let _ = answered.send(message);
                }
            }
        });
        let mut monitor = Self { stream, answers, events };
        monitor.command("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Does it and waits for the answer.
    pub(super) fn command(&mut self, name: &str, arguments: Value) -> io::Result<()> {
        let command = json!({ "execute": name, "arguments": arguments });
        self.stream.write_all(format!("{command}\n").as_bytes())?;
        match self.answers.recv_timeout(ANSWER_WITHIN) {
            Ok(answer) if answer.get("return").is_some() => Ok(()),
            Ok(answer) => Err(io::Error::other(format!("{name}: {}", answer["error"]["desc"]))),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{name}: no answer from QEMU"))),
        }
    }

    /// How often this event has come.
    pub(super) fn count(&self, event: &str) -> usize {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|name| *name == event).count()
    }
}
