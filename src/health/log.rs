//! Log set-up: to journald where systemd started us, else to stderr; bounded for every cause (`log_bound.rs`).

use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::log_bound::{LAST_BYTES_MAX, LeftOut, LogBound};
use crate::measure::Mono;

/// Who tells what was left out is not left out itself: it is bounded by how it is made.
const TELLING: &str = "v2g_edge::log";
/// What a line is about, in the order in which one of it names a cause.
const SUBJECTS: [&str; 4] = ["device", "bus", "broker", "path"];

/// The log could not be set up. Nothing has been changed; the caller stops.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("log filter \"{filter}\" cannot be read; write for example \"info\" or \"info,v2g_edge::uplink=debug\"")]
    Filter {
        /// As given.
        filter: String,
        /// Where it breaks.
        #[source]
        source: ParseError,
    },
    /// Something else in the process has already set one up.
    #[error("a log is already set up in this process")]
    Taken,
}

/// Sends `tracing` events to journald if `JOURNAL_STREAM` says that stderr is connected to it, else to stderr;
/// coloured only on a terminal and without `NO_COLOR`. `filter` is a level, or `RUST_LOG`'s `target=level` with commas between.
///
/// # Errors
/// [`LogError::Filter`] and [`LogError::Taken`]; nothing has been changed then.
pub fn init(filter: &str) -> Result<LogLimit, LogError> {
    // rumqttc tells each packet and sled each page: neither is news for an operator.
    let quiet = format!("warn,v2g_edge={filter},hal={filter}");
    let spec = if filter.contains('=') || filter.contains(',') { filter } else { &quiet };
    // Not the filter with patterns over spans: nobody needs it here, and its automata are 200 KB of the firmware.
    let targets: Targets = spec.parse().map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let limit = LogLimit::default();
    let registry = tracing_subscriber::registry().with(targets).with(limit.clone());
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    if under_systemd && let Ok(journald) = tracing_journald::layer() {
        return registry.with(journald).try_init().map(|()| limit).map_err(|_| LogError::Taken);
    }
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false);
    registry.with(stderr).try_init().map(|()| limit).map_err(|_| LogError::Taken)
}

/// Keeps the log within its bound. Its owner tells it the time every few seconds ([`Self::tell`]); without that nothing
/// that was left out is told.
#[derive(Debug, Clone, Default)]
pub struct LogLimit(Arc<Mutex<LogBound<Identifier>>>);

impl LogLimit {
    /// It is `now`: tells what was left out in the minutes that are over.
    pub fn tell(&self, now: Mono) {
        let left_out = self.open().due(now.since(Mono(0)));
        write(left_out);
    }

    /// Tells all that was left out: the process ends.
    pub fn tell_rest(&self) {
        let left_out = self.open().rest();
        write(left_out);
    }

    fn open(&self) -> MutexGuard<'_, LogBound<Identifier>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not under the lock: what is written is asked about again.
fn write(left_out: Vec<LeftOut>) {
    for LeftOut { subject, lines, last } in left_out {
        let of = if subject.is_empty() { String::new() } else { format!(" about {subject}") };
        tracing::warn!(target: TELLING, "{lines} lines{of} were left out of this log in the last minute; the last: {last}");
    }
}

impl<S: Subscriber> Layer<S> for LogLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == TELLING {
            return true;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let Line { mut subjects, reason, message, fields } = line;
        let mut subject = subjects.iter_mut().find_map(Option::take).unwrap_or_default();
        if let Some(reason) = reason {
            subject = format!("{subject} {reason}").trim_start().to_owned();
        }
        self.open().take(metadata.callsite(), &subject, || format!("{message}{fields}"))
    }
}

/// Characters of what a line is about.
const SUBJECT_CHARS_MAX: usize = 100;
/// The longest word that is a reason; a sentence is none.
const REASON_BYTES_MAX: usize = 40;

/// A line as a person reads it, within bounds.
#[derive(Default)]
struct Line {
    subjects: [Option<String>; SUBJECTS.len()],
    /// One of a few words, by which causes of one place are told apart.
    reason: Option<String>,
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = if field.name() == "message" { &mut self.message } else { &mut self.fields };
        if let Some(place) = SUBJECTS.iter().position(|name| *name == field.name()) {
            let name = format!("{value:?}");
            self.subjects[place] = Some(name.trim_matches('"').chars().take(SUBJECT_CHARS_MAX).collect());
        }
        if field.name() == "reason" {
            let word = format!("{value:?}").trim_matches('"').to_owned();
            let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            self.reason = (word.len() <= REASON_BYTES_MAX && word.bytes().all(is_word)).then_some(word);
        }
        let start = text.len();
        let written = if field.name() == "message" {
            write!(text, "{value:?}")
        } else {
            write!(text, " {}={value:?}", field.name())
        };
        if written.is_err() || text.len() > LAST_BYTES_MAX {
            text.truncate(text.floor_char_boundary(LAST_BYTES_MAX.max(start)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("ours").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Page {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// What is written of it.
    fn log(write: impl FnOnce(&LogLimit)) -> Vec<String> {
        let (limit, page) = (LogLimit::default(), Page::default());
        let stderr = tracing_subscriber::fmt::layer().with_writer(page.clone()).with_ansi(false).without_time();
        let registry = tracing_subscriber::registry().with(limit.clone()).with(stderr);
        tracing::subscriber::with_default(registry, || write(&limit));
        let bytes = page.0.lock().expect("ours").clone();
        String::from_utf8(bytes).expect("text").lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_day_of_a_device_that_closes_after_each_reply_is_kilobytes_and_its_last_state_is_in_them() {
        let s = |seconds: u64| Mono(0) + Duration::from_secs(seconds);
        let lines = log(|limit| {
            for second in 0..86_400 {
                for _ in 0..4 {
                    tracing::warn!(device = %"grid-main", bus = "lan", error = "closed", "device is silent");
                    tracing::info!(device = %"grid-main", bus = "lan", "device answers");
                }
                if second % 5 == 0 {
                    limit.tell(s(second));
                }
            }
            limit.tell_rest();
        });
        let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
        println!("{} lines, {bytes} bytes a day", lines.len());
        assert!(lines.len() < 1_500 && bytes < 300_000, "{} lines, {bytes} bytes", lines.len());
        let last = lines.last().expect("some");
        assert!(last.contains("lines about grid-main were left out of this log in the last minute"), "{last}");
        assert!(last.ends_with("the last: device answers device=grid-main bus=\"lan\""), "{last}");
    }

    #[test]
    fn lines_that_a_person_has_asked_for_are_all_written() {
        let lines = log(|_| (0..1_000).for_each(|n| tracing::debug!(device = "a", n, "read")));
        assert_eq!(lines.len(), 1_000);
    }

    #[test]
    fn a_line_of_any_length_is_told_within_bounds() {
        let lines = log(|limit| {
            for _ in 0..10 {
                tracing::warn!(path = "ü".repeat(100_000), "{}", "ß".repeat(100_000));
            }
            limit.tell_rest();
        });
        assert!(lines.last().is_some_and(|line| line.len() < 2_000), "{}", lines.last().map_or(0, String::len));
    }
}
