//! `v2g-edge probe can`: listens on a bus, or to a recording of one, and shows what passes.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use hal::Clock;
use hal::can::{CanLog, CanSocket, Counters, FrameBus, FrameId, Heard, LinkSettings, LogPace, Received};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::Exit;
use crate::cli::show::{Paint, Stdout, complain};
use crate::config::{self, Dbc, DbcFault};
use crate::measure::Mono;
use crate::source::can::{Decoded, Decoder, Load, Number, Rates, Speeds, Transport};
use crate::spec::FrameMatch;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The interface is taken as it is set up; nothing is sent. --dbc is a file, or the name of a built-in one \
    (chademo.dbc).\nExit code 1: nothing was heard, the bus is not well, or something of it could not be read."
)]
pub(in crate::cli) struct Arguments {
    /// The interface, can0; with --log only what was recorded on it
    #[arg(value_name = "INTERFACE", required_unless_present = "log")]
    interface: Option<String>,
    /// A recording by `candump -L` in place of an interface
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Decode with this DBC file; may be given several times
    #[arg(long, value_name = "FILE")]
    dbc: Vec<PathBuf>,
    /// Each frame as a line of its own as it comes, decoded; with --json an object a line
    #[arg(long)]
    frames: bool,
    /// Bits per second of the bus, for its load
    #[arg(long, value_name = "N")]
    bitrate: Option<u32>,
    /// How long to listen to an interface
    #[arg(long = "for", value_name = "DURATION", default_value = "5s", value_parser = config::duration)]
    length: Duration,
    /// For machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    let book = match Book::read(&arguments.dbc) {
        Ok(book) => book,
        Err(problem) => {
            complain(problem);
            return Ok(Exit::Usage);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let mut view = View::new(arguments, &book);
        let listened = match (&arguments.log, &arguments.interface) {
            (Some(log), only) => view.listen(CanLog::new(log, LogPace::Fast, only.clone()).of_one_bus()).await,
            (None, interface) => view.listen(CanSocket::new(taken_as_it_is(interface.as_deref()), vec![])).await,
        };
        listened?;
        Ok(if view.is_well() { Exit::Fine } else { Exit::Wrong })
    })
}

fn taken_as_it_is(interface: Option<&str>) -> LinkSettings {
    LinkSettings {
        interface: interface.unwrap_or_default().to_owned(),
        timing: None,
        data_timing: None,
        restart: None,
        fd: false,
        listen_only: true,
    }
}

/// The DBC files, ready to decode.
struct Book {
    decoder: Decoder,
    /// The frames that its signals are in.
    frames: Vec<FrameMatch>,
    /// By the decoder's numbers.
    signals: Vec<Named>,
    /// Signals that cannot be read, and why.
    unusable: Vec<String>,
}

struct Named {
    message: String,
    name: String,
    unit: String,
    texts: Vec<(i128, std::sync::Arc<str>)>,
}

impl Book {
    fn read(files: &[PathBuf]) -> Result<Self, String> {
        let (mut taken, mut signals, mut unusable) = (Vec::new(), Vec::new(), Vec::new());
        for file in files {
            let shown = file.display();
            let bytes = match (std::fs::read(file), file.to_str().and_then(config::built_in_dbc)) {
                (Ok(bytes), _) => bytes,
                (Err(_), Some(built_in)) => built_in.into_bytes(),
                (Err(error), None) => return Err(format!("--dbc {shown} cannot be read: {error}")),
            };
            let told = |fault: &DbcFault| {
                let line = fault.line.map_or_else(String::new, |line| format!(":{line}"));
                format!("{shown}{line}: {fault}; {}", fault.cure)
            };
            let (dbc, mistakes) = Dbc::read_with_mistakes(&bytes).map_err(|fault| told(&fault))?;
            unusable.extend(mistakes.iter().map(told));
            for (message, told) in dbc.signals() {
                match &told.signal {
                    Ok(signal) => {
                        taken.push(signal.clone());
                        signals.push(Named {
                            message: message.name.to_string(),
                            name: told.name.to_string(),
                            unit: told.unit.to_string(),
                            texts: told.texts.clone(),
                        });
                    }
                    Err(why) => unusable.push(format!("{shown}: {}.{} {why}", message.name, told.name)),
                }
            }
        }
        let frames = taken.iter().map(|signal| signal.frame).collect();
        Ok(Self { decoder: Decoder::new(&taken), frames, signals, unusable })
    }

    fn decode(&self, id: FrameId, data: &[u8]) -> Vec<(usize, Option<Decoded>)> {
        let mut found = Vec::new();
        self.decoder.decode_message(id, data, |ix, decoded| found.push((ix, decoded)));
        found.sort_unstable_by_key(|(ix, _)| *ix);
        found
    }

    /// Message and signals of a decoded frame, for machines.
    fn json(&self, found: &[(usize, Option<Decoded>)]) -> (Option<&str>, Map<String, Value>) {
        let mut signals = Map::new();
        let named = found.iter().filter_map(|(ix, decoded)| Some((self.signals.get(*ix)?, decoded)));
        for (signal, decoded) in named {
            let value = decoded.map_or(Value::Null, |decoded| number(decoded.value));
            let text = decoded.and_then(|decoded| signal.text(decoded));
            let mut told = json!({ "value": value, "unit": signal.unit });
            if let (Some(text), Value::Object(fields)) = (text, &mut told) {
                fields.insert("text".to_owned(), json!(text));
            }
            signals.insert(signal.name.clone(), told);
        }
        (self.message(found), signals)
    }

    fn message(&self, found: &[(usize, Option<Decoded>)]) -> Option<&str> {
        found.first().and_then(|(ix, _)| self.signals.get(*ix)).map(|signal| signal.message.as_str())
    }

    fn words(&self, found: &[(usize, Option<Decoded>)]) -> Vec<String> {
        let word = |(ix, decoded): &(usize, Option<Decoded>)| {
            let signal = self.signals.get(*ix)?;
            let Some(decoded) = decoded else { return Some(format!("{} too short", signal.name)) };
            let text = signal.text(*decoded).map_or_else(String::new, |text| format!(" ({text})"));
            let unit = if signal.unit.is_empty() { String::new() } else { format!(" {}", signal.unit) };
            Some(match decoded.value {
                Number::Integer(integer) => format!("{} = {integer}{unit}{text}", signal.name),
                Number::Float(float) => format!("{} = {float}{unit}{text}", signal.name),
            })
        };
        found.iter().filter_map(word).collect()
    }
}

impl Named {
    /// What the code means.
    fn text(&self, decoded: Decoded) -> Option<&str> {
        let Number::Integer(code) = decoded.bits else { return None };
        let found = self.texts.iter().find(|(known, _)| *known == code)?;
        Some(&found.1)
    }
}

fn number(number: Number) -> Value {
    match number {
        Number::Integer(integer) => match (i64::try_from(integer), u64::try_from(integer)) {
            (Ok(integer), _) => json!(integer),
            (_, Ok(integer)) => json!(integer),
            _ => json!(number.as_f64()),
        },
        // JSON has no infinity: null.
        Number::Float(float) => json!(float),
    }
}

/// What is known of one id.
struct Seen {
    frames: u64,
    length: usize,
    newest: Vec<u8>,
    /// The newest value of each of its signals: a multiplexed message shows them one page after the other.
    values: BTreeMap<usize, Option<Decoded>>,
}

impl Seen {
    fn found(&self) -> Vec<(usize, Option<Decoded>)> {
        self.values.iter().map(|(ix, decoded)| (*ix, *decoded)).collect()
    }
}

struct View<'a> {
    arguments: &'a Arguments,
    book: &'a Book,
    clock: hal::LinuxClock,
    load: Load,
    transport: Transport,
    seen: BTreeMap<FrameId, Seen>,
    frames: u64,
    /// First and last time stamp.
    span: Option<(i64, i64)>,
    state: Option<(hal::can::BusState, String)>,
    dropped: u64,
    bus_errors: u64,
    unreadable: Option<(u64, String)>,
    out: BufWriter<Stdout>,
}

impl<'a> View<'a> {
    fn new(arguments: &'a Arguments, book: &'a Book) -> Self {
        Self {
            arguments,
            book,
            clock: hal::LinuxClock::new(),
            load: Load::new(Mono(0)),
            transport: Transport::new(book.frames.iter().copied()),
            seen: BTreeMap::new(),
            frames: 0,
            span: None,
            state: None,
            dropped: 0,
            bus_errors: 0,
            unreadable: None,
            out: BufWriter::new(Stdout::new()),
        }
    }

    /// Listens until the time is over, the recording ends, or Ctrl-C; then shows what there was.
    async fn listen(&mut self, mut bus: impl FrameBus) -> io::Result<()> {
        for problem in &self.book.unusable {
            complain(problem);
        }
        let began = self.clock.now();
        let over = tokio::time::sleep(self.arguments.length);
        tokio::pin!(over);
        let mut heard = Vec::new();
        let mut counted = bus.counters();
        let is_log = self.arguments.log.is_some();
        loop {
            tokio::select! {
                () = bus.hear(&mut heard) => {}
                () = &mut over, if !is_log => break,
                _ = tokio::signal::ctrl_c() => break,
            }
            let mut ended = false;
            for told in heard.drain(..) {
                ended |= self.take(told)?;
            }
            // A recording that is not there will not come while somebody waits.
            let is_absent = is_log && matches!(self.state, Some((hal::can::BusState::Absent, _)));
            if ended || is_absent {
                break;
            }
            if self.arguments.frames && !is_log {
                self.out.flush()?;
            }
        }
        let listened = self.clock.now().mono.saturating_sub(began.mono);
        let recorded = self.span.map(|(first, last)| Duration::from_nanos(u64::try_from(last - first).unwrap_or(0)));
        let period = if is_log { recorded.unwrap_or_default() } else { listened };
        let counters: Option<Counters> = bus.counters().filter(|_| counted.is_some());
        let speeds = Speeds { bitrate: self.arguments.bitrate, data_bitrate: None };
        let rates = self.load.cut(Mono(0) + period, speeds, None);
        let lost = counters.zip(counted.take()).map_or(0, |(after, before)| after.lost.saturating_sub(before.lost));
        if !self.arguments.frames {
            if self.arguments.json { self.tell_json(&rates, period, lost)? } else { self.tell(&rates, period, lost)? }
        }
        self.out.flush()
    }

    /// Answers whether it is over.
    fn take(&mut self, heard: Heard) -> io::Result<bool> {
        match heard {
            Heard::Frame(received) => self.take_frame(&received)?,
            Heard::State(state, detail) => {
                if !state.is_heard() {
                    complain(format_args!("the bus is {state}: {detail}"));
                }
                self.state = Some((state, detail));
            }
            Heard::Restarted => complain("the controller was restarted after a bus-off"),
            Heard::Dropped(frames) | Heard::Overrun(frames) => self.dropped += frames,
            Heard::BusErrors(errors) => self.bus_errors += errors,
            Heard::Unreadable(lines, first) => self.unreadable = Some((lines, first)),
            Heard::End => return Ok(true),
        }
        Ok(false)
    }

    fn take_frame(&mut self, received: &Received) -> io::Result<()> {
        let frame = received.frame;
        self.frames += 1;
        self.load.note(&frame);
        if let Some(utc) = received.utc_ns {
            let (first, last) = self.span.unwrap_or((utc, utc));
            self.span = Some((first.min(utc), last.max(utc)));
        }
        self.take_content(frame.id, (!frame.remote).then_some(frame.data()), &frame.to_string(), received.utc_ns)?;
        // Of a recording its own time counts.
        let now = Mono(u64::try_from(received.utc_ns.unwrap_or(0)).unwrap_or(0));
        if let Some(message) = self.transport.handle_frame(&frame, now) {
            let shown = format!("{}#{}", message.id, hex(&message.data));
            self.take_content(message.id, Some(&message.data), &shown, received.utc_ns)?;
        }
        Ok(())
    }

    /// What an id carries, in a frame or in several; a remote frame shows nothing.
    fn take_content(&mut self, id: FrameId, data: Option<&[u8]>, shown: &str, utc_ns: Option<i64>) -> io::Result<()> {
        let found = data.map_or_else(Vec::new, |data| self.book.decode(id, data));
        let new = Seen { frames: 0, length: 0, newest: Vec::new(), values: BTreeMap::new() };
        let seen = self.seen.entry(id).or_insert(new);
        seen.values.extend(found.iter().copied());
        seen.frames += 1;
        if let Some(data) = data {
            seen.length = seen.length.max(data.len());
            data.clone_into(&mut seen.newest);
        }
        let data = data.unwrap_or_default();
        if self.arguments.frames {
            let seconds = utc_ns.unwrap_or(0);
            if self.arguments.json {
                let (message, signals) = self.book.json(&found);
                let line = FrameLine {
                    time_ns: seconds,
                    id: id.to_string(),
                    extended: id.is_extended(),
                    data: hex(data),
                    message,
                    signals,
                };
                serde_json::to_writer(&mut self.out, &line)?;
                writeln!(self.out)?;
            } else {
                let (whole, nanos) = (seconds.div_euclid(1_000_000_000), seconds.rem_euclid(1_000_000_000) / 1000);
                let message = self.book.message(&found).unwrap_or_default();
                let words = self.book.words(&found).join(", ");
                writeln!(self.out, "({whole}.{nanos:06}) {shown} {message} {words}")?;
            }
        }
        Ok(())
    }

    fn is_well(&self) -> bool {
        let heard = self.state.as_ref().is_some_and(|(state, _)| state.is_heard());
        self.frames > 0 && heard && self.unreadable.is_none() && self.dropped == 0 && self.book.unusable.is_empty()
    }

    fn tell_json(&mut self, rates: &Rates, period: Duration, lost: u64) -> io::Result<()> {
        let rate_of = |id: &FrameId| rates.ids.iter().find(|(known, _)| known == id).map_or(0.0, |(_, rate)| *rate);
        let id = |(id, seen): (&FrameId, &Seen)| {
            let (message, signals) = self.book.json(&seen.found());
            json!({
                "id": id.to_string(), "extended": id.is_extended(), "frames": seen.frames, "per_second": rate_of(id),
                "bytes": seen.length, "data": hex(&seen.newest), "message": message, "signals": signals,
            })
        };
        let report = json!({
            "source": self.source(), "seconds": period.as_secs_f64(), "frames": self.frames,
            "frames_per_second": rates.frames_per_second, "load": rates.load,
            "state": self.state.as_ref().map(|(state, _)| state.as_str()),
            "dropped": self.dropped, "lost": lost, "bus_errors": self.bus_errors,
            "unreadable_lines": self.unreadable.as_ref().map_or(0, |(lines, _)| *lines),
            "first_unreadable": self.unreadable.as_ref().map(|(_, first)| first),
            "ids": self.seen.iter().map(id).collect::<Vec<_>>(),
        });
        writeln!(self.out, "{report}")
    }

    fn tell(&mut self, rates: &Rates, period: Duration, lost: u64) -> io::Result<()> {
        let paint = Paint::for_stdout();
        let load = rates
            .load
            .map_or_else(|| "load unknown (say --bitrate)".to_owned(), |load| format!("load {:.1} %", load * 100.0));
        let head = format!(
            "{}: {} frames in {:.1} s, {:.0}/s, {load}, {} ids",
            self.source(),
            self.frames,
            period.as_secs_f64(),
            rates.frames_per_second,
            self.seen.len()
        );
        writeln!(self.out, "{}", paint.bold(&head))?;
        for (id, seen) in &self.seen {
            let rate = rates.ids.iter().find(|(known, _)| known == id).map_or(0.0, |(_, rate)| *rate);
            let found = seen.found();
            let message = self.book.message(&found).unwrap_or("");
            let data = hex(&seen.newest);
            writeln!(
                self.out,
                "{:>8}  {:>7} frames  {rate:>7.1}/s  {data}  {}",
                id.to_string(),
                seen.frames,
                paint.bold(message)
            )?;
            for word in self.book.words(&found) {
                writeln!(self.out, "{:>10}{word}", "")?;
            }
        }
        if self.dropped + lost > 0 {
            let text = format!("{} frames did not fit into the buffer, {lost} were lost in the driver", self.dropped);
            writeln!(self.out, "{}", paint.bad(&text))?;
        }
        if self.bus_errors > 0 {
            writeln!(self.out, "{}", paint.bad(&format!("{} errors on the bus", self.bus_errors)))?;
        }
        if let Some((lines, first)) = &self.unreadable {
            writeln!(self.out, "{}", paint.bad(&format!("{lines} lines cannot be read; {first}")))?;
        }
        Ok(())
    }

    fn source(&self) -> String {
        match (&self.arguments.log, &self.arguments.interface) {
            (Some(log), _) => log.display().to_string(),
            (None, interface) => interface.clone().unwrap_or_default(),
        }
    }
}

/// One frame for machines.
#[derive(Serialize)]
struct FrameLine<'a> {
    time_ns: i64,
    id: String,
    extended: bool,
    data: String,
    message: Option<&'a str>,
    signals: Map<String, Value>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
