//! The caller's side: one question, one answer, on a blocking socket with a deadline.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Request, Response};

/// The agent answers from memory: what takes longer than this hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Room for a few hundred devices at about 1 KiB each.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// No answer was had. Nothing has been changed by asking.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there: the agent does not run, or with another socket.
    #[error(
        "no agent answers at {path}; is it running? try `systemctl status v2g-edge`, or name its socket with --socket"
    )]
    Absent {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// This user may not ask.
    #[error("{path} may not be opened by this user; join the socket's group or use sudo")]
    Forbidden {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The agent is there and does not answer: it hangs or is stopping.
    #[error("the agent at {path} did not answer within 3 s")]
    Mute {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The answer is not one: another program, or another version, holds the socket.
    #[error("the answer at {path} cannot be read: another version runs than this one (systemctl restart v2g-edge)")]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// Where it breaks.
        #[source]
        source: serde_json::Error,
    },
}

/// Asks the agent behind the socket at `path`. Blocks for at most 3 s per read or write.
///
/// # Errors
/// See [`AskError`].
pub fn ask(path: &Path, request: Request) -> Result<Response, AskError> {
    let absent = |source: io::Error| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => AskError::Forbidden { path, source },
            _ => AskError::Absent { path, source },
        }
    };
    let mute = |source| AskError::Mute { path: path.to_owned(), source };
    let garbled = |source| AskError::Garbled { path: path.to_owned(), source };

    let mut socket = UnixStream::connect(path).map_err(absent)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN)).map_err(mute)?;
    socket.set_write_timeout(Some(ANSWER_WITHIN)).map_err(mute)?;
    let mut question = serde_json::to_vec(&request).map_err(garbled)?;
    question.push(b'\n');
    socket.write_all(&question).map_err(mute)?;

    let mut answer = String::new();
    BufReader::new(socket.take(ANSWER_BYTES_MAX)).read_line(&mut answer).map_err(mute)?;
    serde_json::from_str(&answer).map_err(garbled)
}
