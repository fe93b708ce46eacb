//! A disk that loses its write cache when the power goes: an NBD server on a unix socket, with a file as medium and in memory what was written.
//!
//! QEMU's own cache modes cannot show what a power cut takes: the host's page cache outlives a killed QEMU. Here a write
//! lives in a volatile cache until the guest flushes, and [`Disk::cut`] decides what of it is left. While the power is
//! off nothing is answered; [`Disk::power_on`] is the next boot's disk. Of what is recorded ([`Disk::record`]) the disk is had
//! again as a cut at any moment of it would have left it ([`Disk::cut_at`]): one run, and as many cuts of it as are wanted.
//!
//! The protocol is NBD's, fixed newstyle with simple replies
//! (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>): as much of it as QEMU's client asks for.

mod cache;
mod nbd;
mod recording;

use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cache::Cached;
pub use cache::Remains;
pub use recording::Recording;

use crate::seed::Seed;

/// The disk could not be set up; nothing listens.
#[derive(Debug, thiserror::Error)]
#[error("{path:?}: no disk")]
pub struct DiskError {
    /// The image or the socket.
    path: PathBuf,
    /// Why.
    #[source]
    source: io::Error,
}

/// What is wrong with the disk besides that its cache is volatile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Defects {
    /// A flush is answered and not done: the liar against which nothing helps, and which a test must be able to catch.
    pub ignores_flush: bool,
    /// Writes and flushes fail with EIO.
    pub fails_writes: bool,
    /// How much longer each write and flush takes.
    pub delay: Duration,
}

/// What went through it since the last [`Disk::power_on`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Writes that were taken into the cache.
    pub writes: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Flushes that were answered.
    pub flushes: u64,
}

/// A disk that answers on a unix socket. Dropping it closes the socket.
#[derive(Debug)]
pub struct Disk {
    shared: Arc<Shared>,
    socket: PathBuf,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    cached: Cached,
    defects: Defects,
    traffic: Traffic,
    /// Each power cut ends a life: a connection of an earlier one is never answered again.
    life: u64,
    powered: bool,
    cut_after_writes: Option<u64>,
    recording: Option<Recording>,
    closed: bool,
}

/// What an operation gives when it fails: NBD's error numbers are Linux'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Io,
    Invalid,
    /// No answer at all: the power is off.
    Silence,
}

impl Disk {
    /// A disk with the content of the file `image`, which is never written and must stay as it is; answers on `socket`.
    pub fn start(image: &Path, socket: &Path, defects: Defects) -> Result<Self, DiskError> {
        let told = |path: &Path| {
            let path = path.to_owned();
            move |source| DiskError { path, source }
        };
        let cached = fs::File::open(image).and_then(Cached::new).map_err(told(image))?;
        let listener = UnixListener::bind(socket).map_err(told(socket))?;
        let state = State {
            cached,
            defects,
            traffic: Traffic::default(),
            life: 0,
            powered: true,
            cut_after_writes: None,
            recording: None,
            closed: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let server = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, &shared)
        });
        Ok(Self { shared, socket: socket.to_owned(), server: Some(server) })
    }

    /// Where it answers.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The power goes, at once: whatever is under way is not answered. Returns how many written blocks of 4 KiB are lost.
    pub fn cut(&self, remains: Remains, seed: &mut Seed) -> usize {
        let mut state = self.shared.lock();
        state.powered = false;
        state.life += 1;
        let lost = state.cached.cut(remains, seed);
        self.shared.changed.notify_all();
        lost
    }

    /// From now on all that it is told is kept in memory.
    pub fn record(&self) {
        let mut state = self.shared.lock();
        state.recording = Some(Recording::begin(&state.cached));
    }

    /// What was recorded, which ends it; `None` if nothing was.
    #[must_use]
    pub fn recorded(&self) -> Option<Recording> {
        self.shared.lock().recording.take()
    }

    /// The power goes, at once, and the disk is as it would be if it had gone after the first `events` of a recording of it. Returns
    /// how many blocks that were written then are lost.
    pub fn cut_at(&self, recording: &Recording, events: usize, remains: Remains, seed: &mut Seed) -> usize {
        self.cut(Remains::Nothing, seed);
        let (cached, lost) = recording.cut_after(events, remains, seed);
        self.shared.lock().cached = cached;
        lost
    }

    /// The power will go right after this many more writes; [`Disk::wait_for_cut`] tells when, and then
    /// [`Disk::cut`] says what is left.
    pub fn cut_after_writes(&self, writes: u64) {
        let mut state = self.shared.lock();
        state.cut_after_writes = Some(state.traffic.writes + writes);
    }

    /// Waits until the number of writes is reached; `false` if it was not within this time.
    #[must_use]
    pub fn wait_for_cut(&self, within: Duration) -> bool {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, within, |state| state.powered);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.powered
    }

    /// The power is back: answers again.
    pub fn power_on(&self) {
        let mut state = self.shared.lock();
        state.powered = true;
        state.cut_after_writes = None;
        state.traffic = Traffic::default();
        self.shared.changed.notify_all();
    }

    /// Breaks or mends it.
    pub fn change(&self, change: impl FnOnce(&mut Defects)) {
        change(&mut self.shared.lock().defects);
    }

    /// What went through it since the power came on.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.shared.lock().traffic
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        // Wakes the server, which then finds that it is closed.
        let _ = UnixStream::connect(&self.socket);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, life: u64, offset: u64, length: u32) -> Result<Vec<u8>, Refusal> {
        let state = self.lock();
        state.is_alive(life)?;
        let offset = usize::try_from(offset).map_err(|_| Refusal::Invalid)?;
        state.cached.read(offset, length as usize).ok_or(Refusal::Invalid)
    }

    fn write(&self, life: u64, offset: u64, data: &[u8]) -> Result<(), Refusal> {
        self.hold_up();
        let mut state = self.lock();
        state.is_alive(life)?;
        if state.defects.fails_writes {
            return Err(Refusal::Io);
        }
        let offset = usize::try_from(offset).map_err(|_| Refusal::Invalid)?;
        state.cached.write(offset, data).ok_or(Refusal::Invalid)?;
        if let Some(recording) = &mut state.recording {
            recording.write(offset, data);
        }
        state.traffic.writes += 1;
        state.traffic.bytes += data.len() as u64;
        if state.cut_after_writes.is_some_and(|limit| state.traffic.writes >= limit) {
            state.powered = false;
            self.changed.notify_all();
            return Err(Refusal::Silence);
        }
        Ok(())
    }

    fn flush(&self, life: u64) -> Result<(), Refusal> {
        self.hold_up();
        let mut state = self.lock();
        state.is_alive(life)?;
        if state.defects.fails_writes {
            return Err(Refusal::Io);
        }
        if !state.defects.ignores_flush {
            state.cached.flush();
            if let Some(recording) = &mut state.recording {
                recording.flush();
            }
        }
        state.traffic.flushes += 1;
        Ok(())
    }

    /// A slow disk is slow for everybody who waits for it, and not with the lock held.
    fn hold_up(&self) {
        let delay = self.lock().defects.delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }
}

impl State {
    fn is_alive(&self, life: u64) -> Result<(), Refusal> {
        if self.powered && self.life == life { Ok(()) } else { Err(Refusal::Silence) }
    }
}

fn serve(listener: &UnixListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.lock().closed {
            return;
        }
        // A client that goes away in the midst of its request was killed: that is what it is for.
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || nbd::session(stream, &shared));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::tool;

    /// QEMU's own client against our server.
    fn qemu_io(disk: &Disk, commands: &[&str]) -> Result<String, tool::ToolError> {
        let url = format!("nbd+unix:///?socket={}", disk.socket().display());
        let mut command = Command::new("qemu-io");
        // Without its own cache, so that a write is on its way before the next command.
        command.args(["-f", "raw", "-t", "none", &url]);
        for text in commands {
            command.args(["-c", text]);
        }
        tool::run(&mut command)
    }

    fn disk(dir: &Path, defects: Defects) -> Disk {
        let image = dir.join("image");
        fs::write(&image, vec![0; 1 << 20]).expect("a writable directory");
        Disk::start(&image, &dir.join("nbd"), defects).expect("a socket")
    }

    #[test]
    fn a_client_of_another_make_writes_flushes_and_reads() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = disk(dir.path(), Defects::default());
        qemu_io(&disk, &["write -P 7 4096 8192", "flush", "read -P 7 4096 8192", "read -P 0 0 4096"])
            .expect("it works");
        let Traffic { writes, bytes, flushes } = disk.traffic();
        assert!(writes >= 1 && bytes == 8192 && flushes >= 1, "{:?}", disk.traffic());
        assert_eq!(disk.cut(Remains::Nothing, &mut Seed::new(1)), 0, "it was flushed");
        disk.power_on();
        qemu_io(&disk, &["read -P 7 4096 8192"]).expect("it is still there");
    }

    #[test]
    fn a_liar_loses_what_was_flushed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = disk(dir.path(), Defects { ignores_flush: true, ..Defects::default() });
        qemu_io(&disk, &["write -P 7 0 4096", "flush"]).expect("it says that it works");
        assert_eq!(disk.cut(Remains::Nothing, &mut Seed::new(1)), 1);
        disk.power_on();
        qemu_io(&disk, &["read -P 0 0 4096"]).expect("it is gone");
    }

    #[test]
    fn a_cut_at_any_moment_of_what_was_recorded_is_had_again_and_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = disk(dir.path(), Defects::default());
        qemu_io(&disk, &["write -P 1 0 4k"]).expect("it works");
        disk.record();
        qemu_io(&disk, &["write -P 2 4k 4k", "flush", "write -P 3 0 8k"]).expect("it works");
        let recording = disk.recorded().expect("it was recorded");
        let second = recording.writes_into(4096, 4096).nth(1).expect("two writes touch it");
        let mut seed = Seed::new(1);
        for (events, remains, patterns) in [
            // The client flushes when it goes.
            (0, Remains::Nothing, [1, 0]),
            (second, Remains::Nothing, [1, 2]),
            (second + 1, Remains::Nothing, [1, 2]),
            (second + 1, Remains::Everything, [3, 3]),
            (1, Remains::Nothing, [1, 0]),
        ] {
            disk.cut_at(&recording, events, remains, &mut seed);
            disk.power_on();
            let [a, b] = patterns;
            let read = qemu_io(&disk, &[&format!("read -P {a} 0 4k"), &format!("read -P {b} 4k 4k")]);
            read.unwrap_or_else(|error| panic!("{events} {remains:?}: {error}"));
        }
    }

    #[test]
    fn a_failing_disk_says_so() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = disk(dir.path(), Defects { fails_writes: true, ..Defects::default() });
        let said = qemu_io(&disk, &["write -P 7 0 4096"]).unwrap_or_else(|error| error.to_string());
        assert!(said.contains("Input/output error"), "{said}");
        disk.change(|defects| *defects = Defects::default());
        qemu_io(&disk, &["write -P 7 0 4096", "flush", "read -P 7 0 4096"]).expect("it was mended");
    }

    #[test]
    fn the_power_goes_at_the_write_that_was_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = disk(dir.path(), Defects::default());
        disk.cut_after_writes(2);
        let client = std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let url = format!("nbd+unix:///?socket={}", disk.socket().display());
                let writes = ["-c", "write -P 1 0 4k", "-c", "write -P 2 4k 4k", "-c", "write -P 3 8k 4k"];
                Command::new("timeout").args(["5", "qemu-io", "-f", "raw", "-t", "none", &url]).args(writes).output()
            });
            assert!(disk.wait_for_cut(Duration::from_secs(20)), "it was not reached");
            disk.cut(Remains::Everything, &mut Seed::new(1));
            client.join().expect("no panic")
        });
        assert!(client.is_ok());
        disk.power_on();
        qemu_io(&disk, &["read -P 2 4k 4k", "read -P 0 8k 4k"]).expect("two of three are there");
    }
}
