//! Programs of the system, none of which is waited for without a bound: one that hangs is killed.

use std::io::{self, BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// What a program has done within its bound.
#[derive(Debug)]
pub(super) enum Within<T> {
    /// It has ended.
    Ended(T),
    /// It has not, and was killed.
    Killed,
}

/// Runs it to its end, and takes what it says on both outputs.
pub(super) fn output(command: &mut Command, within: Duration) -> io::Result<Within<Output>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (tell, told) = mpsc::sync_channel(1);
    let reading = on_a_thread(move || {
        // Both at once: a full pipe that nobody reads would stop the program.
        let errors = on_a_thread(move || all_of(stderr));
        let said = all_of(stdout);
        let errors = errors.map(|errors| errors.join().unwrap_or_default());
        let _ = tell.send(errors.map(|errors| (said, errors)));
    });
    if let Err(error) = reading {
        kill(child);
        return Err(error);
    }
    let Ok(said) = told.recv_timeout(within) else {
        kill(child);
        return Ok(Within::Killed);
    };
    // Who has closed its outputs is at its end.
    let status = child.wait()?;
    said.map(|(stdout, stderr)| Within::Ended(Output { status, stdout, stderr }))
}

/// Runs it to its end. `tell` is called with each line that it says; `within` is the longest time between two of them.
pub(super) fn lines(
    command: &mut Command,
    within: Duration,
    mut tell: impl FnMut(String),
) -> io::Result<Within<ExitStatus>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let lines = match child.stdout.take().map(lines_of) {
        Some(Ok(lines)) => lines,
        refused => {
            kill(child);
            return Err(refused.and_then(Result::err).unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
        }
    };
    loop {
        match lines.recv_timeout(within) {
            Ok(Ok(line)) => tell(line),
            Ok(Err(error)) => {
                kill(child);
                return Err(error);
            }
            Err(RecvTimeoutError::Disconnected) => return child.wait().map(Within::Ended),
            Err(RecvTimeoutError::Timeout) => {
                kill(child);
                return Ok(Within::Killed);
            }
        }
    }
}

/// Lines in a row that nobody has taken yet: beyond, the program waits.
const LINES_MAX: usize = 64;

fn lines_of(stdout: impl Read + Send + 'static) -> io::Result<Receiver<io::Result<String>>> {
    let (tell, lines) = mpsc::sync_channel(LINES_MAX);
    on_a_thread(move || BufReader::new(stdout).lines().try_for_each(|line| tell.send(line).map_err(drop)))?;
    Ok(lines)
}

fn all_of(output: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was read until it broke is what was said.
    let _ = output.map(|mut output| output.read_to_end(&mut bytes));
    bytes
}

fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name("program".to_owned()).spawn(work)
}

fn kill(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any machine is busy.
    const LONG: Duration = Duration::from_secs(300);
    const SHORT: Duration = Duration::from_millis(50);

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn what_a_program_says_is_taken_from_both_outputs_and_one_that_hangs_is_killed() {
        let both = "i=0; while [ $i -lt 3000 ]; do echo 'out of a full pipe'; echo 'and its errors' >&2; i=$((i+1)); done; exit 3";
        let Ok(Within::Ended(ended)) = output(&mut shell(both), LONG) else { panic!("it ends") };
        assert_eq!((ended.status.code(), ended.stdout.len(), ended.stderr.len()), (Some(3), 57_000, 45_000));
        assert!(matches!(output(&mut shell("exec sleep 1000"), SHORT), Ok(Within::Killed)));
        assert!(
            output(&mut Command::new("/nonexistent"), LONG).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        );
    }

    #[test]
    fn a_program_may_take_as_long_as_it_likes_while_it_says_something() {
        let mut said = Vec::new();
        let ended = lines(&mut shell("echo a; echo b; exit 4"), LONG, |line| said.push(line));
        assert!(matches!(ended, Ok(Within::Ended(status)) if status.code() == Some(4)));
        assert_eq!(said, ["a", "b"]);
        said.clear();
        // It is there, has said something, and says no more.
        assert!(matches!(lines(&mut shell("exec sleep 1000"), SHORT, |line| said.push(line)), Ok(Within::Killed)));
    }
}
