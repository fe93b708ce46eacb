//! A serial line that takes as long as a real one: slaves at the other end of a pseudo-terminal whose frames last as long as
//! their characters at the line's baud rate, and who are as late, noisy or dead as they are told.
//!
//! A pseudo-terminal carries bytes at once. So a request is taken to have ended when its characters would have; the answer
//! begins after t3.5 and is handed over when its last character would have come in. A late unit is late by itself: it holds up
//! nobody, and its answer falls among those of others, as on a real line.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_serial::{SerialPort, SerialStream};

use super::modbus::RegisterImage;
use crate::register_bus::{Table, UnitId};
use crate::reply::crc16;
use crate::rtu::SerialLine;

/// How often a slave looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// How a unit on such a line behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// It answers after t3.5.
    #[default]
    Prompt,
    /// It does not answer.
    Dead,
    /// It does not answer what begins at this register.
    DeadAt(u16),
    /// It answers so much later.
    Late(Duration),
    /// One in so many of its answers has a flipped bit.
    Noisy(u32),
    /// It does not hear what begins within this time after its answer.
    Deaf(Duration),
    /// So many bytes that are none of a frame come before each of its answers.
    Garbage(usize),
    /// It says its answer byte by byte, so far apart, and says more after it than it has.
    Trickle(Duration),
}

/// Bytes of a unit that trickles: as many as a frame may have.
const TRICKLE_BYTES: usize = 255;

#[derive(Debug, Default)]
struct Shared {
    units: HashMap<u8, (RegisterImage, Manner)>,
    /// Answers given, by unit.
    answered: BTreeMap<u8, u64>,
    requests: u64,
}

/// The line. Ends, with its thread, when dropped.
#[derive(Debug)]
pub struct WireLine {
    path: PathBuf,
    shared: Arc<Mutex<Shared>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn open(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WireLine {
    /// Makes a pseudo-terminal and serves it at the speed of this line; its path is ignored.
    ///
    /// # Errors
    /// There is no pseudo-terminal or no thread left.
    pub fn start(line: SerialLine) -> io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let ends = Arc::new(AtomicBool::new(false));
        let (tell, told) = std::sync::mpsc::channel::<io::Result<PathBuf>>();
        let (shared_there, ends_there) = (Arc::clone(&shared), Arc::clone(&ends));
        let thread = std::thread::Builder::new().name("wire".to_owned()).spawn(move || {
            let serve = async {
                let (far, near) = SerialStream::pair()?;
                let path = near.name().map(PathBuf::from).ok_or(io::ErrorKind::NotFound)?;
                let _ = tell.send(Ok(path));
                Slaves {
                    far,
                    _near: near,
                    line,
                    shared: shared_there,
                    ends: ends_there,
                    late: Vec::new(),
                    answered_at: HashMap::new(),
                }
                .serve()
                .await
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Err(error) = runtime.and_then(|runtime| runtime.block_on(serve)) {
                tracing::warn!(%error, "the simulated line ended");
            }
        })?;
        let path = told.recv().unwrap_or_else(|_| Err(io::ErrorKind::NotFound.into()))?;
        Ok(Self { path, shared, ends, thread: Some(thread) })
    }

    /// The port to open.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a unit on the line.
    pub fn put(&self, unit: UnitId, image: RegisterImage, manner: Manner) {
        open(&self.shared).units.insert(unit.get(), (image, manner));
    }

    /// How many requests came to a unit on the line, and how many answers each unit gave.
    #[must_use]
    pub fn counts(&self) -> (u64, BTreeMap<u8, u64>) {
        let shared = open(&self.shared);
        (shared.requests, shared.answered.clone())
    }
}

impl Drop for WireLine {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Slaves {
    far: SerialStream,
    /// Held, or the line would end whenever nobody has the port open.
    _near: SerialStream,
    line: SerialLine,
    shared: Arc<Mutex<Shared>>,
    ends: Arc<AtomicBool>,
    /// Answers that are not due yet.
    late: Vec<(Instant, Vec<u8>)>,
    /// When a deaf unit answered last.
    answered_at: HashMap<u8, Instant>,
}

impl Slaves {
    async fn serve(mut self) -> io::Result<()> {
        let mut heard: Vec<u8> = Vec::new();
        let mut lump = [0; 256];
        while !self.ends.load(Ordering::Relaxed) {
            self.say_what_is_due().await?;
            let next =
                self.late.iter().map(|(due, _)| due.duration_since(Instant::now())).min().unwrap_or(LOOK).min(LOOK);
            match timeout(next, self.far.read(&mut lump)).await {
                Ok(count) => heard.extend_from_slice(&lump[..count?]),
                Err(_) => continue,
            }
            while heard.len() >= 8 {
                let request: Vec<u8> = heard.drain(..8).collect();
                self.hear(&request).await?;
            }
        }
        Ok(())
    }

    async fn say_what_is_due(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|(due, _)| *due <= now);
        self.late = later;
        let due: Vec<(Instant, Vec<u8>)> = due;
        for (_, frame) in due {
            self.far.write_all(&frame).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, request: &[u8]) -> io::Result<()> {
        let came = Instant::now();
        let Some((mut frame, manner)) = self.answer(request) else { return Ok(()) };
        let on_wire = self.line.characters(u32::try_from(request.len() + frame.len()).unwrap_or(u32::MAX));
        let ends = came + on_wire + self.line.silence();
        match manner {
            Manner::Dead | Manner::DeadAt(_) => {}
            Manner::Late(by) => self.late.push((ends + by, frame)),
            Manner::Deaf(by) => {
                let last = self.answered_at.get(&frame[0]);
                if last.is_some_and(|last| came < *last + by) {
                    return Ok(());
                }
                let unit = frame[0];
                exactly(ends).await;
                self.far.write_all(&frame).await?;
                self.answered_at.insert(unit, Instant::now());
            }
            Manner::Trickle(apart) => {
                // The head of an answer that never comes to its end.
                frame[2] = 250;
                frame.resize(TRICKLE_BYTES, 0);
                let at = |n: usize| ends + apart * u32::try_from(n).unwrap_or(u32::MAX);
                self.late.extend(frame.into_iter().enumerate().map(|(n, byte)| (at(n), vec![byte])));
            }
            Manner::Prompt | Manner::Noisy(_) | Manner::Garbage(_) => {
                if let Manner::Garbage(bytes) = manner {
                    frame.splice(..0, std::iter::repeat_n(0xa5, bytes));
                }
                if let Manner::Noisy(every) = manner {
                    let answered = open(&self.shared).answered.get(&frame[0]).copied().unwrap_or(0);
                    if answered.is_multiple_of(every.max(1).into()) {
                        // Where it hits moves from time to time; neither head nor length is spared.
                        let at = usize::try_from(answered / u64::from(every.max(1))).unwrap_or(0) % frame.len();
                        frame[at] ^= 0x10;
                    }
                }
                exactly(ends).await;
                self.far.write_all(&frame).await?;
            }
        }
        Ok(())
    }

    /// What a unit says to a request; `None` if nobody was asked, or not in a way that anybody understands.
    fn answer(&self, request: &[u8]) -> Option<(Vec<u8>, Manner)> {
        let (said, crc) = request.split_at(6);
        if crc != crc16(said).to_le_bytes() {
            return None;
        }
        let (start, count) = (u16::from_be_bytes([said[2], said[3]]), u16::from_be_bytes([said[4], said[5]]));
        let mut shared = open(&self.shared);
        let (image, manner) = shared.units.get(&said[0]).cloned()?;
        shared.requests += 1;
        let table = match said[1] {
            3 => Some(Table::Holding),
            4 => Some(Table::Input),
            _ => None,
        };
        let words = table.map(|table| image.words(table, start, count));
        let mut frame = match words {
            Some(Some(words)) => {
                let mut frame = vec![said[0], said[1], u8::try_from(words.len() * 2).ok()?];
                frame.extend(words.iter().flat_map(|word| word.to_be_bytes()));
                frame
            }
            Some(None) => vec![said[0], said[1] | 0x80, 2],
            None => vec![said[0], said[1] | 0x80, 1],
        };
        frame.extend(crc16(&frame).to_le_bytes());
        let manner = match manner {
            Manner::DeadAt(register) if register != start => Manner::Prompt,
            manner => manner,
        };
        if !matches!(manner, Manner::Dead | Manner::DeadAt(_)) {
            *shared.answered.entry(said[0]).or_default() += 1;
        }
        Some((frame, manner))
    }
}

/// Sleeps to the microsecond: tokio's timers are whole milliseconds, which at 19,200 baud are two characters.
#[allow(clippy::disallowed_methods, reason = "a thread of its own that has nothing else to do")]
async fn exactly(until: Instant) {
    let coarse = until.checked_sub(Duration::from_millis(2)).unwrap_or(until);
    sleep_until(coarse).await;
    std::thread::sleep(until.duration_since(Instant::now()));
}
