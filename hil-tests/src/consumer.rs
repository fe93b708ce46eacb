//! An independent consumer: `mosquitto_sub` with a persistent session, read line by line.
//!
//! It survives restarts of the broker and is owed everything in between. It judges nothing: see [`crate::oracle`].

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::certs::Files;
use crate::oracle::Message;
use crate::process::{Process, ProcessError, program};
use crate::wait::{TimedOut, unix_ns, wait_for};

/// From the start to a subscription that the broker has accepted.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(15);
/// How long the broker keeps the session of a consumer that is away: longer than any test.
const SESSION_EXPIRY_S: &str = "3600";
/// A retained message here, put there before, is the proof that the subscription stands.
const PROBE_TOPIC: &str = "hil/probe";

/// What can go wrong with a consumer.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// Its files could not be written; nothing runs.
    #[error("{path:?} cannot be written")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its process misbehaved.
    #[error("the consumer's process")]
    Process(#[from] ProcessError),
    /// A message could not be published, or the broker refused it.
    #[error("mosquitto_pub could not publish: {0}")]
    Publish(String),
    /// It runs and was not given the probe; nothing runs.
    #[error("the consumer is not subscribed; its log:\n{log}")]
    Deaf {
        /// Its last lines.
        log: String,
        /// How long it had.
        #[source]
        source: TimedOut,
    },
}

/// How to reach the broker.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// Loopback, without TLS.
    Plain(u16),
    /// Loopback, with a client certificate.
    Tls(u16, Files),
}

/// A subscribed consumer. Dropping it ends it; its session stays with the broker.
#[derive(Debug)]
pub struct Consumer {
    heard: Arc<Mutex<Heard>>,
    process: Process,
    reader: Option<JoinHandle<()>>,
    record: PathBuf,
}

#[derive(Debug)]
struct Heard {
    messages: Vec<Message>,
    /// Lines that were no message, as they came.
    unreadable: Vec<String>,
    probed: bool,
    last: Instant,
}

impl Consumer {
    /// Subscribes to `topics` with QoS 1 and waits until the broker has accepted it. `id` names the session: the same
    /// id later gets what it missed. Everything that comes is also written to `dir/ID.jsonl`.
    pub fn start(dir: &Path, endpoint: &Endpoint, id: &str, topics: &[&str]) -> Result<Self, ConsumerError> {
        fs::create_dir_all(dir).map_err(|source| ConsumerError::Write { path: dir.to_owned(), source })?;
        publish(endpoint, PROBE_TOPIC, b"here", &["-r"])?;
        let mut command = client("mosquitto_sub", endpoint);
        command.args(["-q", "1", "-c", "-i", id, "-x", SESSION_EXPIRY_S, "-k", "10", "-F", "%j"]);
        for topic in topics.iter().copied().chain([PROBE_TOPIC]) {
            command.args(["-t", topic]);
        }
        let log = dir.join(format!("{id}.log"));
        let mut process = Process::start_with_stdout("mosquitto_sub", &mut command, &log, Stdio::piped())?;
        let stdout = process.take_stdout().expect("stdout was piped in the line above");
        let record = dir.join(format!("{id}.jsonl"));
        let file = File::options().create(true).append(true).open(&record);
        let file = file.map_err(|source| ConsumerError::Write { path: record.clone(), source })?;
        let heard = Heard { messages: Vec::new(), unreadable: Vec::new(), probed: false, last: Instant::now() };
        let heard = Arc::new(Mutex::new(heard));
        let reader = std::thread::spawn({
            let heard = Arc::clone(&heard);
            move || listen(stdout, file, &heard)
        });
        let mut consumer = Self { heard, process, reader: Some(reader), record };
        let subscribed = wait_for(SUBSCRIBE_WITHIN, "the consumer's subscription", || match consumer.process.ended() {
            Ok(None) if open(&consumer.heard).probed => Ok(()),
            Ok(None) => Err("it runs, and has not heard the retained probe".to_owned()),
            Ok(Some(status)) => Err(format!("it ended with {status}")),
            Err(error) => Err(error.to_string()),
        });
        subscribed.map_err(|source| ConsumerError::Deaf { log: consumer.process.log_tail(), source })?;
        Ok(consumer)
    }

    /// Everything heard so far, in order.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        open(&self.heard).messages.clone()
    }

    /// Looks at what was heard so far, without a copy.
    pub fn look<T>(&self, look: impl FnOnce(&[Message]) -> T) -> T {
        look(&open(&self.heard).messages)
    }

    /// How many messages on topics that end like this.
    #[must_use]
    pub fn count(&self, topic_end: &str) -> usize {
        self.look(|messages| messages.iter().filter(|m| m.topic.ends_with(topic_end)).count())
    }

    /// For how long nothing has come.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        open(&self.heard).last.elapsed()
    }

    /// Lines of `mosquitto_sub` that were no message: empty in a test worth its name.
    #[must_use]
    pub fn unreadable(&self) -> Vec<String> {
        open(&self.heard).unreadable.clone()
    }

    /// The file of all messages as JSON lines.
    #[must_use]
    pub fn record(&self) -> &Path {
        &self.record
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Ends the pipe, and with it the reader.
        let _ = self.process.kill9();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Publishes with QoS 1 by `mosquitto_pub`, with more of its arguments: a stand-in for an agent, or a probe.
pub fn publish(endpoint: &Endpoint, topic: &str, payload: &[u8], arguments: &[&str]) -> Result<(), ConsumerError> {
    let failed = |source: io::Error| ConsumerError::Publish(source.to_string());
    let mut command = client("mosquitto_pub", endpoint);
    command.args(["-q", "1", "-t", topic, "-s"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(payload).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(ConsumerError::Publish(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// A message as `mosquitto_sub -F %j` prints it (2.0 and later).
#[derive(Deserialize)]
struct Printed {
    topic: String,
    qos: u8,
    retain: u8,
    payloadlen: usize,
    #[serde(default)]
    properties: Properties,
    #[serde(default)]
    payload: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Properties {
    user_properties: UserProperties,
    content_type: Option<String>,
    payload_format_indicator: Option<u8>,
}

/// A list and not a map: a key may come twice, and a consumer that hides it would hide a fault.
#[derive(Default)]
struct UserProperties(Vec<(String, String)>);

impl<'de> Deserialize<'de> for UserProperties {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> serde::de::Visitor<'de> for Pairs {
            type Value = UserProperties;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(UserProperties(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn parse(line: &[u8], received_ns: i64) -> Option<Message> {
    let text = String::from_utf8_lossy(line);
    let printed: Printed = serde_json::from_str(&text).ok()?;
    let payload = printed.payload.into_bytes();
    Some(Message {
        topic: printed.topic,
        // The printer stops at a NUL, and we have replaced what is not UTF-8: both change the length.
        intact: payload.len() == printed.payloadlen,
        payload,
        user_properties: printed.properties.user_properties.0,
        content_type: printed.properties.content_type,
        payload_is_utf8: printed.properties.payload_format_indicator == Some(1),
        qos: printed.qos,
        retain: printed.retain == 1,
        received_ns,
    })
}

fn listen(stdout: ChildStdout, mut record: File, heard: &Mutex<Heard>) {
    for line in BufReader::new(stdout).split(b'\n') {
        let Ok(line) = line else { break };
        let received_ns = unix_ns();
        // Only for a person who looks afterwards; the judgement does not read it.
        let _ = record.write_all(&line).and_then(|()| record.write_all(b"\n"));
        let message = parse(&line, received_ns);
        let mut heard = open(heard);
        heard.last = Instant::now();
        match message {
            Some(message) if message.topic == PROBE_TOPIC => heard.probed = true,
            Some(message) => heard.messages.push(message),
            None => heard.unreadable.push(String::from_utf8_lossy(&line).into_owned()),
        }
    }
}

/// A reader that panicked left whole messages behind.
fn open(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn client(name: &str, endpoint: &Endpoint) -> Command {
    let mut command = Command::new(program(name));
    command.args(["-V", "5", "-h", "127.0.0.1"]);
    match endpoint {
        Endpoint::Plain(port) => {
            command.args(["-p", &port.to_string()]);
        }
        Endpoint::Tls(port, files) => {
            command.args(["-p", &port.to_string()]);
            command.arg("--cafile").arg(&files.ca).arg("--cert").arg(&files.certificate);
            command.arg("--key").arg(&files.key);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_message_is_read_with_its_properties_and_repeated_keys() {
        let line = br#"{"tst":"x","topic":"v2g/a/b/telemetry","qos":1,"retain":0,"payloadlen":5,"mid":2,
            "properties":{"user-properties":{"a":"1","a":"2"},"content-type":"t","payload-format-indicator":1},
            "payload":"h\"\u00f6x"}"#;
        let message = parse(line, 7).expect("it is one");
        assert_eq!(message.user_properties, [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())]);
        assert_eq!(message.payload, "h\"öx".as_bytes());
        assert!(message.intact && message.payload_is_utf8 && !message.retain);
    }

    #[test]
    fn a_payload_that_text_cannot_carry_is_marked() {
        let line = b"{\"topic\":\"t\",\"qos\":1,\"retain\":0,\"payloadlen\":9,\"payload\":\"a\"}";
        assert!(!parse(line, 7).expect("it is one").intact);
    }
}
