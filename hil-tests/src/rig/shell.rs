//! A shell in the box at the other end of a stream.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Stands around a command's exit code; no tool prints it.
const MARK: char = '\u{1e}';

/// A command in the box did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// No answer: the box hangs, or its shell is gone.
    #[error("the box does not answer to `{command}`; so far: {output:?}")]
    Mute {
        /// What was asked.
        command: String,
        /// What had come.
        output: String,
        /// What the stream said.
        #[source]
        source: io::Error,
    },
    /// It ended with another code than 0.
    #[error("`{command}` in the box ended with {code}: {output}")]
    Failed {
        /// What was asked.
        command: String,
        /// How it ended.
        code: i32,
        /// What it said.
        output: String,
    },
}

/// One shell, one command at a time. A command that was not answered in time may be later, by this shell or by that of the
/// box's next start: answers are numbered, and one to an earlier command is passed over.
#[derive(Debug)]
pub(super) struct Shell {
    stream: UnixStream,
    asked: u64,
}

impl Shell {
    /// Over this stream, at whose other end a shell reads commands or will.
    pub(super) fn over(stream: UnixStream) -> Self {
        Self { stream, asked: 0 }
    }

    /// Runs it and hands over what it wrote to both outputs.
    pub(super) fn run(&mut self, command: &str, within: Duration) -> Result<String, ShellError> {
        let mut heard = Vec::new();
        let mute = |heard: &[u8], source| ShellError::Mute {
            command: command.to_owned(),
            output: String::from_utf8_lossy(heard).into_owned(),
            source,
        };
        self.asked += 1;
        let number = self.asked;
        let (begin, end) = (format!("{MARK}{number}<"), format!("{MARK}{number}>"));
        let asked =
            format!("printf '\\036{number}<'; {{ {command}\n}} 2>&1 </dev/null; printf '\\036{number}>%d\\036' $?\n");
        self.stream.write_all(asked.as_bytes()).map_err(|source| mute(&heard, source))?;
        let deadline = Instant::now() + within;
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&heard);
            let answer = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
            if let Some((output, code)) = answer.and_then(|(output, rest)| Some((output, rest.split_once(MARK)?.0))) {
                let output = output.trim().to_owned();
                return match code.parse() {
                    Ok(0) => Ok(output),
                    Ok(code) => Err(ShellError::Failed { command: command.to_owned(), code, output }),
                    Err(_) => Err(mute(&heard, io::ErrorKind::InvalidData.into())),
                };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(mute(&heard, io::ErrorKind::TimedOut.into()));
            }
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut buffer));
            match read {
                Ok(0) => return Err(mute(&heard, io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => heard.extend(&buffer[..count]),
                Err(source) => return Err(mute(&heard, source)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn output_and_exit_code_come_back() {
        let (here, there) = UnixStream::pair().expect("sockets");
        let ends = || Stdio::from(std::os::fd::OwnedFd::from(there.try_clone().expect("a descriptor")));
        let mut child = Command::new("sh").stdin(ends()).stdout(ends()).spawn().expect("sh is everywhere");
        let mut shell = Shell::over(here);
        let within = Duration::from_secs(10);
        assert_eq!(shell.run("echo one; echo two >&2", within).expect("it works"), "one\ntwo");
        let error = shell.run("echo no; false", within).unwrap_err();
        assert!(matches!(&error, ShellError::Failed { code: 1, output, .. } if output == "no"), "{error}");
        let late = shell.run("sleep 1; echo late", Duration::from_millis(50));
        assert!(matches!(late, Err(ShellError::Mute { .. })));
        assert_eq!(shell.run("echo next", within).expect("it works"), "next", "not the answer to the one before");
        child.kill().and_then(|()| child.wait()).expect("it was ours");
    }
}
