//! A recording of a bus by `candump -L`: one frame a line, `(1436509052.249713) can0 109#0290`.
//!
//! Also read: absolute times as a date (`-tA`), times since the first frame (`-tz`) and since the frame before (`-td`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::fault::{Fault, faults};
use super::frame::{Frame, FrameId};
use super::{BusState, Counters, FrameBus, Heard, Received};

/// Frames that are handed over at once at most.
const BATCH: usize = 256;
/// A line of a CAN FD frame has less than 200 characters.
const LINE_BYTES_MAX: u64 = 4096;
/// What is looked at of a recording before it is played: its form, and its interfaces.
const LOOK_LINES: usize = 10_000;
/// [`FrameBus::hear`] comes back at least so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const ERROR_FLAG: u32 = 0x2000_0000;

/// How fast a recording is played.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LogPace {
    /// As it was recorded.
    #[default]
    Recorded,
    /// As fast as it is taken.
    Fast,
}

/// One line of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// When it was recorded, ns. Usually since 1970-01-01 UTC.
    pub utc_ns: i64,
    /// On which interface.
    pub interface: &'a str,
    /// What came.
    pub content: LogContent,
}

/// What a line of a recording holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogContent {
    /// A frame.
    Frame(Frame),
    /// An error frame: class and payload.
    Error(u32, [u8; 8]),
}

/// Reads a line of `candump -L`: also CAN FD (`id##<flags>data`), remote (`id#R`) and error frames, and what newer
/// versions append (direction, raw DLC).
///
/// # Errors
/// What is wrong with it.
pub fn parse_log_line(line: &str) -> Result<LogLine<'_>, String> {
    let (time, rest) = line
        .trim_start()
        .strip_prefix('(')
        .and_then(|line| line.split_once(')'))
        .ok_or("it does not begin with a time in brackets: (1436509052.249713)")?;
    let utc_ns =
        nanos(time).or_else(|| date_nanos(time)).ok_or_else(|| format!("({time}) is not a time in seconds"))?;
    let mut words = rest.split_whitespace();
    let interface = words.next().ok_or("it has no interface")?;
    let text = words.next().ok_or("it has no frame")?;
    let content = content(text).map_err(|why| format!("{text}: {why}"))?;
    Ok(LogLine { utc_ns, interface, content })
}

/// Seconds with a fraction, as ns; exact.
fn nanos(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if seconds.is_empty() || !is_number(seconds) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    seconds.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction)
}

/// `2020-12-04 20:56:00.000000`, as ns since 1970 as if it were UTC: candump means the local time of the recorder.
fn date_nanos(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(' ')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (hours, rest) = time.split_once(':')?;
    let (minutes, seconds) = rest.split_once(':')?;
    let (hours, minutes) = (hours.parse::<i64>().ok()?, minutes.parse::<i64>().ok()?);
    let is_plausible = (1970..=2261).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hours)
        && (0..60).contains(&minutes);
    // Years are counted from March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let whole = ((days * 24 + hours) * 60 + minutes).checked_mul(60_000_000_000)?;
    whole.checked_add(nanos(seconds)?).filter(|_| is_plausible)
}

/// What a recording is, by its first lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Form {
    /// The time of a line is that since the one before.
    is_delta: bool,
    /// In the order in which they come; no more than two are of interest.
    interfaces: Vec<String>,
}

impl Form {
    fn of(lines: impl Iterator<Item = String>) -> Self {
        let mut form = Self::default();
        let (mut times, mut is_short, mut before, mut goes_back) = (0, true, 0, false);
        for text in lines.take(LOOK_LINES) {
            let Ok(line) = parse_log_line(text.trim()) else { continue };
            if form.interfaces.len() < 2 && !form.interfaces.iter().any(|known| known == line.interface) {
                form.interfaces.push(line.interface.to_owned());
            }
            // `(000.100000)`: three digits; of seconds since 1970 there are ten.
            is_short &= text.trim_start().get(4..5) == Some(".");
            goes_back |= times > 1 && line.utc_ns <= before;
            before = line.utc_ns;
            times += 1;
        }
        // What is since the first frame only grows.
        form.is_delta = is_short && goes_back;
        form
    }
}

fn content(text: &str) -> Result<LogContent, String> {
    let (id, rest) = text.split_once('#').ok_or("there is no '#' between id and data")?;
    let number = u32::from_str_radix(id, 16).map_err(|_| "the id is not hexadecimal")?;
    // Three digits are 11 bits, eight are 29: that is how candump tells them apart.
    let extended = match id.len() {
        3 => false,
        8 => true,
        _ => return Err("an id has three digits, or eight if it has 29 bits".to_owned()),
    };
    if extended && number & ERROR_FLAG != 0 {
        let mut data = [0; 8];
        let bytes = payload(rest)?;
        data.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
        return Ok(LogContent::Error(number & !ERROR_FLAG, data));
    }
    let id = FrameId::new(number, extended).map_err(|invalid| invalid.to_string())?;
    if rest.starts_with(['R', 'r']) {
        return Ok(LogContent::Frame(Frame::remote(id)));
    }
    let (rest, flags) = match rest.strip_prefix('#') {
        None => (rest, None),
        Some(fd) => {
            let flags = fd.chars().next().and_then(|c| c.to_digit(16)).ok_or("CAN FD needs its flags after ##")?;
            (&fd[1..], Some(flags))
        }
    };
    let mut frame = Frame::new(id, &payload(rest)?, flags.is_some()).map_err(|invalid| invalid.to_string())?;
    frame.fast = flags.is_some_and(|flags| flags & 1 != 0);
    Ok(LogContent::Frame(frame))
}

/// Bytes in hexadecimal, with or without dots between them; `_9` at the end is a raw DLC above 8.
fn payload(text: &str) -> Result<Vec<u8>, String> {
    let (text, _) = text.split_once('_').unwrap_or((text, ""));
    let digits = text.bytes().filter(|b| *b != b'.').map(|b| char::from(b).to_digit(16));
    let digits: Vec<u32> = digits.collect::<Option<_>>().ok_or("the data is not hexadecimal")?;
    if !digits.len().is_multiple_of(2) {
        return Err("the data has half a byte".to_owned());
    }
    Ok(digits.chunks_exact(2).filter_map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect())
}

fn form_of(path: &Path) -> io::Result<Form> {
    let mut file = BufReader::new(File::open(path)?);
    Ok(Form::of(std::iter::from_fn(|| {
        let mut bytes = Vec::new();
        let read = file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        matches!(read, Ok(1..)).then(|| String::from_utf8_lossy(&bytes).into_owned())
    })))
}

/// A recording as a bus. It begins at the first [`FrameBus::hear`].
pub struct CanLog {
    path: PathBuf,
    lines: Option<BufReader<File>>,
    pace: LogPace,
    interface: Option<String>,
    is_of_one_bus: bool,
    /// Times are since the line before: their sum.
    sum_ns: Option<i64>,
    /// Of the recording's first line, and when it was played.
    began: Option<(i64, Instant)>,
    /// Read, and not due yet.
    next: Option<(i64, LogContent)>,
    state: BusState,
    unreadable: u64,
    line: u64,
    first_unreadable: Option<String>,
    over: bool,
}

impl CanLog {
    /// The recording in this file; of one interface only, if it is named.
    #[must_use]
    pub fn new(path: &Path, pace: LogPace, interface: Option<String>) -> Self {
        Self {
            path: path.to_owned(),
            lines: None,
            pace,
            interface,
            is_of_one_bus: false,
            sum_ns: None,
            began: None,
            next: None,
            state: BusState::Absent,
            unreadable: 0,
            line: 0,
            first_unreadable: None,
            over: false,
        }
    }

    /// Of a recording of several interfaces nothing is played until one is named.
    #[must_use]
    pub fn of_one_bus(self) -> Self {
        Self { is_of_one_bus: true, ..self }
    }

    /// Opens the file if it is not open; a file that is not there is looked for again.
    fn open(&mut self, into: &mut Vec<Heard>) -> bool {
        if self.lines.is_some() {
            return true;
        }
        let opened = File::open(&self.path).and_then(|file| Ok((form_of(&self.path)?, file)));
        match opened {
            Ok((Form { interfaces, .. }, _))
                if interfaces.len() > 1 && self.is_of_one_bus && self.interface.is_none() =>
            {
                let (one, other) = (&interfaces[0], &interfaces[1]);
                let why = format!(
                    "the recording {} is of several interfaces, {one} and {other}: two buses are not one; name the one that is \
                     meant, interface = \"{one}\" (probe: the argument {one})",
                    self.path.display()
                );
                self.over = true;
                self.state = BusState::Stopped;
                into.extend([Heard::State(BusState::Stopped, why), Heard::End]);
                false
            }
            Ok((form, file)) => {
                self.sum_ns = form.is_delta.then_some(0);
                self.lines = Some(BufReader::new(file));
                self.enter(BusState::Active, format!("playing {}", self.path.display()), into);
                true
            }
            Err(error) => {
                let why = format!("the recording {} cannot be read: {error}", self.path.display());
                if self.first_unreadable.as_ref() != Some(&why) {
                    into.push(Heard::State(BusState::Absent, why.clone()));
                    self.first_unreadable = Some(why);
                }
                false
            }
        }
    }

    fn enter(&mut self, state: BusState, detail: String, into: &mut Vec<Heard>) {
        if self.state != state {
            self.state = state;
            into.push(Heard::State(state, detail));
        }
    }

    /// The next line that holds something; `None` at the end.
    fn read(&mut self) -> io::Result<Option<(i64, LogContent)>> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            if lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            self.line += 1;
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') || text.starts_with(';') {
                continue;
            }
            let parsed = parse_log_line(text).map(|mut line| {
                if let Some(sum) = &mut self.sum_ns {
                    *sum = sum.saturating_add(line.utc_ns);
                    line.utc_ns = *sum;
                }
                line
            });
            match parsed {
                Ok(line) if self.interface.as_deref().is_none_or(|only| only == line.interface) => {
                    return Ok(Some((line.utc_ns, line.content)));
                }
                Ok(_) => {}
                Err(why) => {
                    self.unreadable += 1;
                    if self.first_unreadable.is_none() {
                        self.first_unreadable = Some(format!("line {} of {}: {why}", self.line, self.path.display()));
                    }
                }
            }
        }
    }

    fn hand_over(&mut self, utc_ns: i64, content: LogContent, into: &mut Vec<Heard>) {
        match content {
            LogContent::Frame(frame) => into.push(Heard::Frame(Received { utc_ns: Some(utc_ns), frame })),
            LogContent::Error(class, data) => {
                for fault in faults(class, &data) {
                    match fault {
                        Fault::State(state) => self.enter(state, "by an error frame".to_owned(), into),
                        Fault::Restarted => into.push(Heard::Restarted),
                        Fault::Overrun => into.push(Heard::Overrun(1)),
                        Fault::Bus => into.push(Heard::BusErrors(1)),
                    }
                }
            }
        }
    }

    fn finish(&mut self, into: &mut Vec<Heard>) {
        self.over = true;
        self.tell_unreadable(into);
        into.push(Heard::End);
    }

    fn tell_unreadable(&mut self, into: &mut Vec<Heard>) {
        if self.unreadable > 0 {
            let first = self.first_unreadable.clone().unwrap_or_default();
            into.push(Heard::Unreadable(std::mem::take(&mut self.unreadable), first));
        }
    }
}

impl FrameBus for CanLog {
    async fn hear(&mut self, into: &mut Vec<Heard>) {
        let (look_again, had) = (Instant::now() + LOOK_EVERY, into.len());
        if self.over || !self.open(into) {
            if into.len() == had {
                sleep_until(look_again).await;
            }
            return;
        }
        for _ in 0..BATCH {
            let read = match self.next.take() {
                Some(waiting) => Ok(Some(waiting)),
                None => self.read(),
            };
            let (utc_ns, content) = match read {
                Ok(Some(line)) => line,
                Ok(None) => return self.finish(into),
                Err(error) => {
                    self.unreadable += 1;
                    self.first_unreadable.get_or_insert_with(|| error.to_string());
                    return self.finish(into);
                }
            };
            if self.pace == LogPace::Recorded {
                let (first, began) = *self.began.get_or_insert_with(|| (utc_ns, Instant::now()));
                let due = began + Duration::from_nanos(u64::try_from(utc_ns.saturating_sub(first)).unwrap_or(0));
                if due > Instant::now() {
                    // Put back before the wait: this future may be dropped in it.
                    self.next = Some((utc_ns, content));
                    self.tell_unreadable(into);
                    if into.len() == had {
                        sleep_until(due.min(look_again)).await;
                    }
                    return;
                }
            }
            self.hand_over(utc_ns, content, into);
        }
    }

    fn counters(&mut self) -> Option<Counters> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn frame(line: &str) -> String {
        match parse_log_line(line).expect(line).content {
            LogContent::Frame(frame) => frame.to_string(),
            LogContent::Error(class, data) => format!("error {class:#x} {data:?}"),
        }
    }

    #[test]
    fn lines_of_candump_are_read_in_all_their_forms() {
        let line = parse_log_line("(1436509052.249713) vcan0 244#DEADBEEF").expect("a line");
        assert_eq!((line.utc_ns, line.interface), (1_436_509_052_249_713_000, "vcan0"));
        for (text, shown) in [
            ("244#DEADBEEF", "244#DEADBEEF"),
            ("0283F000#", "0283F000#"),
            ("00000123#11.22.33", "00000123#112233"),
            ("123#R", "123#R"),
            ("123#R8", "123#R"),
            ("123##1AABB", "123##1AABB"),
            ("123##0", "123##0"),
            ("123#1122334455667788_B", "123#1122334455667788"),
            ("20000040#0000000000000000", "error 0x40 [0, 0, 0, 0, 0, 0, 0, 0]"),
        ] {
            assert_eq!(frame(&format!("(1.5) can0 {text}")), shown);
            assert_eq!(frame(&format!(" (1.5) can0 {text} R\r")), shown, "with direction");
        }
    }

    #[test]
    fn times_in_the_other_forms_of_candump_are_read() {
        let time = |line: &str| parse_log_line(line).expect(line).utc_ns;
        assert_eq!(time("(2020-12-04 20:56:00.100000) can0 109#02"), 1_607_115_360_100_000_000);
        assert_eq!(time("(2000-02-29 00:00:00.000000) can0 109#02"), 951_782_400_000_000_000);
        assert!(parse_log_line("(2020-13-04 20:56:00.1) can0 109#02").is_err());
        let form = |lines: &[&str]| Form::of(lines.iter().map(|line| (*line).to_owned()));
        let of = |times: &[&str]| {
            let lines: Vec<String> = times.iter().map(|time| format!("({time}) can0 109#02")).collect();
            form(&lines.iter().map(String::as_str).collect::<Vec<_>>()).is_delta
        };
        assert!(of(&["000.000000", "000.100000", "000.100000"]) && of(&["000.000000", "000.200000", "000.100000"]));
        assert!(!of(&["000.000000", "000.100000", "000.200000"]));
        assert!(!of(&["1700000000.000000", "1700000000.000000", "1700000000.000000"]));
        let two = form(&["(1.0) can0 1#", "(1.0) can0 109#02", "(2.0) can1 109#02", "(2.0) can2 109#02"]);
        assert_eq!(two.interfaces, ["can0", "can1"]);
    }

    #[test]
    fn a_line_that_is_none_says_why() {
        for (line, why) in [
            ("", "a time in brackets"),
            ("can0 123#11", "a time in brackets"),
            ("(x) can0 123#11", "not a time"),
            ("(1.0)", "no interface"),
            ("(1.0) can0", "no frame"),
            ("(1.0) can0 123", "no '#'"),
            ("(1.0) can0 1234#", "three digits"),
            ("(1.0) can0 8FF#", "does not fit"),
            ("(1.0) can0 123#1", "half a byte"),
            ("(1.0) can0 123#XX", "not hexadecimal"),
            ("(1.0) can0 123##", "flags"),
            ("(1.0) can0 123#112233445566778899", "more than the 8"),
            ("(99999999999999999999.0) can0 123#", "not a time"),
        ] {
            let error = parse_log_line(line).expect_err(line);
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    async fn played(text: &str, pace: LogPace, interface: Option<&str>) -> (Vec<Heard>, Duration) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let mut log = CanLog::new(file.path(), pace, interface.map(str::to_owned));
        let began = Instant::now();
        let mut heard = Vec::new();
        while heard.last() != Some(&Heard::End) {
            log.hear(&mut heard).await;
        }
        (heard, began.elapsed())
    }

    const LOG: &str = "(10.0) can0 109#01\nnoise\n(10.5) can1 109#02\n\n(12.0) can0 20000040#00\n(14.5) can0 109#03\n";

    #[tokio::test(start_paused = true)]
    async fn a_recording_plays_at_its_own_pace_and_ends() {
        let (heard, took) = played(LOG, LogPace::Recorded, None).await;
        let words: Vec<String> = heard
            .iter()
            .map(|heard| match heard {
                Heard::Frame(received) => received.frame.to_string(),
                Heard::State(state, _) => state.to_string(),
                other => format!("{other:?}").chars().take(10).collect(),
            })
            .collect();
        assert_eq!(words, ["active", "109#01", "Unreadable", "109#02", "bus_off", "109#03", "End"]);
        assert_eq!(took, Duration::from_millis(4500));
        let told = heard.iter().find_map(|heard| match heard {
            Heard::Unreadable(count, why) => Some((*count, why.clone())),
            _ => None,
        });
        let (count, why) = told.expect("the noise is told");
        assert!(count == 1 && why.starts_with("line 2 of "), "{count} {why}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_recording_takes_no_time_and_keeps_to_its_interface() {
        let (heard, took) = played(LOG, LogPace::Fast, Some("can1")).await;
        assert_eq!(took, Duration::ZERO);
        let frames: Vec<_> = heard.iter().filter(|heard| matches!(heard, Heard::Frame(_))).collect();
        assert_eq!(frames.len(), 1, "{heard:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_recording_that_is_not_there_is_told_once_and_looked_for_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("later.log");
        let mut log = CanLog::new(&path, LogPace::Fast, None);
        let mut heard = Vec::new();
        log.hear(&mut heard).await;
        log.hear(&mut heard).await;
        assert!(matches!(heard.as_slice(), [Heard::State(BusState::Absent, _)]), "{heard:?}");
        std::fs::write(&path, "(1.0) can0 109#01\n").expect("written");
        while heard.last() != Some(&Heard::End) {
            log.hear(&mut heard).await;
        }
        assert!(matches!(heard[1], Heard::State(BusState::Active, _)), "{heard:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn where_one_bus_is_meant_a_recording_of_two_interfaces_is_not_played_before_one_is_named() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(LOG.as_bytes()).expect("written");
        let mut log = CanLog::new(file.path(), LogPace::Fast, None).of_one_bus();
        let mut heard = Vec::new();
        log.hear(&mut heard).await;
        let [Heard::State(BusState::Stopped, why), Heard::End] = &heard[..] else { panic!("{heard:?}") };
        assert!(why.contains("can0 and can1") && why.contains("interface = \"can0\""), "{why}");
        let mut log = CanLog::new(file.path(), LogPace::Fast, Some("can0".to_owned())).of_one_bus();
        heard.clear();
        while heard.last() != Some(&Heard::End) {
            log.hear(&mut heard).await;
        }
        assert_eq!(heard.iter().filter(|heard| matches!(heard, Heard::Frame(_))).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn times_since_the_line_before_add_up() {
        let text = "(000.000000) can0 109#02\n(000.100000) can0 109#02\n(000.100000) can0 109#02\n";
        let (heard, took) = played(text, LogPace::Recorded, None).await;
        let times: Vec<_> = heard
            .iter()
            .filter_map(|heard| if let Heard::Frame(received) = heard { received.utc_ns } else { None })
            .collect();
        assert_eq!((times, took), (vec![0, 100_000_000, 200_000_000], Duration::from_millis(200)));
    }
}
