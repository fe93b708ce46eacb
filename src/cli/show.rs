//! How things look in a terminal: colour only where a person reads, numbers as people write them.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Stdout, whose errors can be told from those of files and sockets ([`is_unread`]).
#[derive(Debug)]
pub(super) struct Stdout(io::Stdout);

/// The error of stdout.
#[derive(Debug, thiserror::Error)]
#[error("stdout cannot be written: {0}")]
struct Unwritten(io::Error);

impl Stdout {
    pub(super) fn new() -> Self {
        Self(io::stdout())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| io::Error::new(error.kind(), Unwritten(error)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| io::Error::new(error.kind(), Unwritten(error)))
    }
}

/// Whether whoever read stdout has gone: they have seen enough. A broker's broken connection is none of this.
pub(super) fn is_unread(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(is_of_a_reader)
}

fn is_of_a_reader(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Unwritten>());
    inner.is_some_and(|Unwritten(error)| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes to stdout. A reader that has gone ends the process as what is done; a stdout that cannot be written for another reason
/// ends it as what could not be done.
pub(super) fn print(text: impl fmt::Display) {
    let mut out = Stdout::new();
    // In one piece: what else writes meanwhile stands before or after it.
    if let Err(error) = out.write_all(text.to_string().as_bytes()).and_then(|()| out.flush()) {
        if is_of_a_reader(&error) {
            std::process::exit(0);
        }
        complain(error);
        std::process::exit(3);
    }
}

/// The same with the end of a line.
pub(super) fn print_line(line: impl fmt::Display) {
    print(format_args!("{line}\n"));
}

/// Writes a line to stderr. Who has closed that does not want to know.
pub(super) fn note(what: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// The same with the program's name before it.
pub(super) fn complain(what: impl fmt::Display) {
    note(format_args!("v2g-edge: {what}"));
}

/// Colour, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint {
    colour: bool,
}

impl Paint {
    /// Colour if stdout is a terminal and `NO_COLOR` is not set (<https://no-color.org>).
    pub(super) fn for_stdout() -> Self {
        Self { colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// No colour.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self { colour: false }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn odd(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.wrap("31;1", text)
    }

    /// Towards the vehicle.
    #[cfg(feature = "demo")]
    pub(super) fn charging(self, text: &str) -> String {
        self.wrap("36", text)
    }

    /// Towards the grid.
    #[cfg(feature = "demo")]
    pub(super) fn discharging(self, text: &str) -> String {
        self.wrap("35", text)
    }
}

/// `831 B`, `14.2 KiB`, `3.9 GiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `7 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`.
pub(super) fn duration(length: Duration) -> String {
    let s = length.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86400, s % 86400 / 3600),
    }
}

/// A bar of `width` cells, `share` (0 to 1) of it full.
#[cfg(feature = "demo")]
pub(super) fn bar(share: f64, width: usize) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0..=width"
    )]
    let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(width - full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_as_people_write_them() {
        assert_eq!([bytes(831), bytes(14_541), bytes(4 << 30)], ["831 B", "14.2 KiB", "4.0 GiB"]);
        let times = [7, 200, 7500, 356_400].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(times, ["7 s", "3 min 20 s", "2 h 5 min", "4 d 3 h"]);
    }

    #[test]
    fn only_a_broken_pipe_of_stdout_is_a_reader_that_has_gone() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let of_stdout = |error: io::Error| io::Error::new(error.kind(), Unwritten(error));
        let unread = anyhow::Error::from(of_stdout(broken()));
        assert!(is_unread(&unread) && is_unread(&unread.context("the table")));
        assert!(!is_unread(&anyhow::Error::from(broken()).context("the broker")));
        let full = anyhow::Error::from(of_stdout(io::ErrorKind::StorageFull.into()));
        assert!(!is_unread(&full) && full.to_string().starts_with("stdout cannot be written: "), "{full}");
    }

    #[test]
    fn nothing_is_coloured_for_a_machine() {
        assert_eq!(Paint::plain().bad("lost"), "lost");
    }
}
