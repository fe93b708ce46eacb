//! The measurements, each in a process of its own.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::{Value, json};
use v2g_edge::journal::bench::Ring;
use v2g_edge::measure::{IntervalValue, Window};
use v2g_edge::uplink::wire;

use super::depot::Depot;
use super::records;

const GROUP: Duration = Duration::from_millis(50);
const GROUP_BYTES: usize = 1 << 20;
const LIVE_BYTES: u64 = 64_000_000;
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");

/// `part store dir bytes`.
pub(super) fn part(arguments: &[String]) -> Value {
    hal::trim_heap();
    let [part, store, dir, bytes] = arguments else { panic!("part store dir bytes") };
    let (dir, bytes) = (Path::new(dir), bytes.parse::<u64>().expect("a number"));
    let mut told = match part.as_str() {
        "append" => append(store, dir, bytes, records()),
        "points" => return points(dir),
        "noise" => append(store, dir, bytes, noise()),
        "drain" => drain(store, dir),
        "churn" => churn(store, dir, bytes),
        other => panic!("no part {other}"),
    };
    told["rss_mb"] = json!(peak_rss_bytes() as f64 / 1e6);
    told
}

/// What all three can do.
trait Log {
    fn append(&mut self, record: &[u8], points: u64);
    fn commit(&mut self, now: Duration);
    /// Reads and releases up to so many; answers how many there were.
    fn release(&mut self, count: usize, now: Duration) -> usize;
    fn disk_bytes(&self) -> u64;
    fn close(self: Box<Self>, now: Duration);
}

fn open(store: &str, dir: &Path) -> Box<dyn Log> {
    match store {
        "plain" => Box::new(Plain::open(dir)),
        "plain+zstd" => Box::new(Squeezed { plain: Plain::open(dir), chunk: Vec::new() }),
        "ring" => {
            let schema = Depot::new(super::ENTRY_CHARGERS, super::ENTRY_METER_POINTS).schema();
            Box::new(Ring::open(&dir.join("journal"), 1 << 40, schema, Depot::stamp(0)))
        }
        "redb" => Box::new(Redb::open(dir)),
        other => panic!("no store {other}"),
    }
}

fn append(store: &str, dir: &Path, bytes: u64, (records, points): (Vec<Vec<u8>>, u64)) -> Value {
    let mut log = open(store, dir);
    let begin = Instant::now();
    let (mut payload, mut count, mut group, mut since) = (0_u64, 0_u64, 0, Instant::now());
    for record in records.iter().cycle() {
        log.append(record, points);
        (payload, count, group) = (payload + record.len() as u64, count + 1, group + record.len());
        if group >= GROUP_BYTES || since.elapsed() >= GROUP {
            log.commit(begin.elapsed());
            (group, since) = (0, Instant::now());
        }
        if payload >= bytes {
            break;
        }
    }
    log.commit(begin.elapsed());
    let took = begin.elapsed();
    log.close(took);
    json!({
        "per_s": count as f64 / took.as_secs_f64(),
        "payload_mb": payload as f64 / 1e6,
        "entry_bytes": payload / count,
        "write_amplification": written() as f64 / payload as f64,
    })
}

fn drain(store: &str, dir: &Path) -> Value {
    let begin = Instant::now();
    let mut log = open(store, dir);
    let opened = begin.elapsed();
    let mut count = 0;
    loop {
        let released = log.release(64, begin.elapsed());
        if released == 0 {
            break;
        }
        count += released;
    }
    let took = begin.elapsed().saturating_sub(opened);
    json!({ "open_s": opened.as_secs_f64(), "per_s": count as f64 / took.as_secs_f64(), "entries": count })
}

/// Appends so many bytes and releases the oldest, so that as many entries live as took 64 MB on disk when nothing was
/// released yet.
fn churn(store: &str, dir: &Path, bytes: u64) -> Value {
    let (records, points) = records();
    let mut log = open(store, dir);
    let begin = Instant::now();
    let (mut payload, mut group, mut live) = (0_u64, 0, VecDeque::new());
    let (mut live_bytes, mut live_bytes_max, mut live_disk, mut peak) = (0_u64, u64::MAX, 0, 0);
    for record in records.iter().cycle() {
        log.append(record, points);
        live.push_back(record.len() as u64);
        (payload, group, live_bytes) =
            (payload + record.len() as u64, group + record.len(), live_bytes + record.len() as u64);
        if group >= GROUP_BYTES {
            log.commit(begin.elapsed());
            group = 0;
            if live_bytes_max == u64::MAX && log.disk_bytes() >= LIVE_BYTES {
                (live_bytes_max, live_disk) = (live_bytes, log.disk_bytes());
            }
            while live_bytes > live_bytes_max {
                let released = log.release(64, begin.elapsed());
                assert!(released > 0, "there is something to release");
                live_bytes -= live.drain(..released).sum::<u64>();
            }
            peak = peak.max(log.disk_bytes());
        }
        if payload >= bytes {
            break;
        }
    }
    log.close(begin.elapsed());
    json!({ "peak_to_live": peak as f64 / live_disk as f64, "live_mb": live_disk as f64 / 1e6, "peak_mb": peak as f64 / 1e6 })
}

impl Log for Ring {
    fn append(&mut self, record: &[u8], points: u64) {
        Self::append(self, record, points);
    }

    fn commit(&mut self, now: Duration) {
        Self::commit(self, now);
        self.maintain(now);
    }

    fn release(&mut self, count: usize, now: Duration) -> usize {
        let leased = self.lease(count);
        for entry in &leased {
            self.acknowledge(entry.identity.seq);
        }
        self.maintain(now);
        leased.len()
    }

    fn disk_bytes(&self) -> u64 {
        self.bytes()
    }

    fn close(self: Box<Self>, now: Duration) {
        Self::close(*self, now);
    }
}

/// Length, CRC-32C and record after record; files of 8 MB, the oldest removed when it is read.
struct Plain {
    dir: PathBuf,
    files: VecDeque<u64>,
    writing: Option<(File, u64)>,
    buffer: Vec<u8>,
    reading: Option<(Vec<u8>, usize)>,
}

impl Plain {
    fn open(dir: &Path) -> Self {
        let names = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
        let mut files: Vec<u64> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
        files.sort_unstable();
        Self { dir: dir.to_owned(), files: files.into(), writing: None, buffer: Vec::new(), reading: None }
    }
}

impl Log for Plain {
    fn append(&mut self, record: &[u8], _points: u64) {
        self.buffer.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&crc32c::crc32c(record).to_le_bytes());
        self.buffer.extend_from_slice(record);
    }

    fn commit(&mut self, _now: Duration) {
        if self.writing.as_ref().is_none_or(|(_, written)| *written > 8_000_000) {
            let name = self.files.back().map_or(1, |last| last + 1);
            let path = self.dir.join(name.to_string());
            let file = OpenOptions::new().create_new(true).append(true).open(path).expect("a file");
            File::open(&self.dir).and_then(|dir| dir.sync_all()).expect("the disk works");
            self.files.push_back(name);
            self.writing = Some((file, 0));
        }
        if let Some((file, written)) = &mut self.writing {
            file.write_all(&self.buffer).and_then(|()| file.sync_data()).expect("the disk works");
            *written += self.buffer.len() as u64;
        }
        self.buffer.clear();
    }

    fn release(&mut self, count: usize, _now: Duration) -> usize {
        for released in 0..count {
            if self.reading.as_ref().is_none_or(|(bytes, at)| *at >= bytes.len()) {
                if self.reading.take().is_some()
                    && let Some(done) = self.files.pop_front()
                {
                    fs::remove_file(self.dir.join(done.to_string())).expect("it is there");
                }
                let Some(next) = self.files.front() else { return released };
                let mut bytes = Vec::new();
                let file = File::open(self.dir.join(next.to_string()));
                file.and_then(|mut file| file.read_to_end(&mut bytes)).expect("it is there");
                self.reading = Some((bytes, 0));
            }
            let (bytes, at) = self.reading.as_mut().expect("it was opened above");
            let length = u32::from_le_bytes(bytes[*at..*at + 4].try_into().expect("four")) as usize;
            let crc = u32::from_le_bytes(bytes[*at + 4..*at + 8].try_into().expect("four"));
            assert_eq!(crc32c::crc32c(&bytes[*at + 8..*at + 8 + length]), crc);
            *at += 8 + length;
        }
        count
    }

    fn disk_bytes(&self) -> u64 {
        self.files.iter().map(|name| fs::metadata(self.dir.join(name.to_string())).map_or(0, |m| m.len())).sum()
    }

    fn close(self: Box<Self>, _now: Duration) {}
}

/// The plain file with the journal's compression: the same work without sled, segments and sequence.
struct Squeezed {
    plain: Plain,
    chunk: Vec<u8>,
}

impl Squeezed {
    fn put(&mut self) {
        let chunk = v2g_edge::journal::bench::compress(std::mem::take(&mut self.chunk));
        self.plain.append(&chunk, 0);
    }
}

impl Log for Squeezed {
    fn append(&mut self, record: &[u8], _points: u64) {
        self.chunk.extend_from_slice(record);
        if self.chunk.len() >= 22_000 {
            self.put();
        }
    }

    fn commit(&mut self, now: Duration) {
        self.put();
        self.plain.commit(now);
    }

    fn release(&mut self, count: usize, now: Duration) -> usize {
        self.plain.release(count, now)
    }

    fn disk_bytes(&self) -> u64 {
        self.plain.disk_bytes()
    }

    fn close(self: Box<Self>, _now: Duration) {}
}

struct Redb {
    path: PathBuf,
    database: Database,
    next: u64,
    buffer: Vec<(u64, Vec<u8>)>,
    first: u64,
}

impl Redb {
    fn open(dir: &Path) -> Self {
        let path = dir.join("redb");
        let mut builder = Database::builder();
        builder.set_cache_size(4 << 20);
        let database = builder.create(&path).expect("a database");
        let (mut first, mut next) = (1, 1);
        if let Ok(table) = database.begin_read().expect("it reads").open_table(TABLE) {
            first = table.first().expect("it reads").map_or(1, |(key, _)| key.value());
            next = table.last().expect("it reads").map_or(1, |(key, _)| key.value() + 1);
        }
        Self { path, database, next, buffer: Vec::new(), first }
    }
}

impl Log for Redb {
    fn append(&mut self, record: &[u8], _points: u64) {
        self.buffer.push((self.next, record.to_vec()));
        self.next += 1;
    }

    fn commit(&mut self, _now: Duration) {
        let transaction = self.database.begin_write().expect("it writes");
        {
            let mut table = transaction.open_table(TABLE).expect("it writes");
            for (seq, record) in self.buffer.drain(..) {
                table.insert(seq, record.as_slice()).expect("it writes");
            }
        }
        transaction.commit().expect("the disk works");
    }

    fn release(&mut self, count: usize, _now: Duration) -> usize {
        let end = (self.first + count as u64).min(self.next);
        let transaction = self.database.begin_write().expect("it writes");
        {
            let mut table = transaction.open_table(TABLE).expect("it writes");
            for seq in self.first..end {
                let removed = table.remove(seq).expect("it reads");
                assert!(removed.is_some_and(|record| !record.value().is_empty()));
            }
        }
        transaction.commit().expect("the disk works");
        let released = end - self.first;
        self.first = end;
        released as usize
    }

    fn disk_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn close(self: Box<Self>, _now: Duration) {}
}

/// Bytes a point of a typical depot takes, in each form.
pub(super) fn points(dir: &Path) -> Value {
    const WINDOWS: u64 = 4_800;
    let mut depot = Depot::typical();
    let schema = depot.schema();
    let windows: Vec<Window> = (0..WINDOWS).map(|_| depot.window()).collect();
    let points: u64 = windows.iter().map(Window::points).sum();
    let a_point = |bytes: u64| bytes as f64 / points as f64;
    let encoded: Vec<Vec<u8>> = windows.iter().map(v2g_edge::journal::bench::encode).collect();
    let entry = |window: &Window| v2g_edge::measure::Entry {
        identity: v2g_edge::measure::Identity {
            epoch: v2g_edge::measure::Epoch(390_412_534_860_721),
            seq: v2g_edge::measure::Seq(123_456),
        },
        schema: schema.clone().into(),
        words: v2g_edge::measure::Words::Second,
        window: window.clone(),
    };
    let line_protocol = windows.iter().map(|window| wire::payload_of(&entry(window)).len() as u64).sum();
    let json = windows.iter().map(|window| as_json(&schema, window).to_string().len() as u64).sum();
    let mut told = json!({
        "line_protocol_text_bytes_a_point": a_point(line_protocol),
        "json_text_bytes_a_point": a_point(json),
        "entries_uncompressed_bytes_a_point": a_point(encoded.iter().map(|entry| entry.len() as u64).sum()),
    });
    // A window a commit (100 ms), four, and what a commit of 10 s has.
    for (name, group) in [("1_window_a_commit", 1), ("4_windows_a_commit_(1_s)", 4), ("40_windows_a_commit_(10_s)", 40)]
    {
        let _ = fs::remove_dir_all(dir);
        let before = written();
        let mut ring = Ring::open(&dir.join("journal"), 1 << 40, schema.clone(), Depot::stamp(0));
        let mut now = Duration::ZERO;
        for group in encoded.chunks(group) {
            for record in group {
                ring.append(record, 250);
            }
            now += Duration::from_millis(250) * group.len() as u32;
            ring.commit(now);
            ring.maintain(now);
        }
        told[format!("{name}:_frames,_bytes_a_point")] = json!(a_point(ring.written()));
        told[format!("{name}:_on_disk,_bytes_a_point")] = json!(a_point(ring.bytes()));
        ring.close(now);
        let a_day = (written() - before) as f64 / WINDOWS as f64 * 4.0 * 86_400.0;
        told[format!("{name}:_process_writes,_GB_a_day")] = json!(a_day / 1e9);
    }
    told
}

/// As compact as JSON that names what it tells can be: names once a device, no quality.
fn as_json(schema: &v2g_edge::measure::Schema, window: &Window) -> Value {
    let mut devices = serde_json::Map::new();
    for interval in &window.intervals {
        let series = &schema.series[usize::from(interval.device.0)];
        let mut fields = serde_json::Map::new();
        for point in &interval.points {
            let field = series.points[usize::from(point.point.0)].field.as_str().to_owned();
            fields.insert(
                field,
                match &point.value {
                    IntervalValue::Float(statistic) => json!(statistic.value),
                    IntervalValue::Integer(code) => json!(code),
                    IntervalValue::Text(word) => json!(word),
                    IntervalValue::Missing(_) => Value::Null,
                },
            );
        }
        devices.insert(series.device.as_str().to_owned(), Value::Object(fields));
    }
    json!({ "time": window.end.utc, "devices": devices })
}

/// Entries whose bytes are noise.
fn noise() -> (Vec<Vec<u8>>, u64) {
    let (mut records, points) = records();
    let mut state = 88_172_645_463_325_252_u64;
    for byte in records.iter_mut().flatten() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state.to_le_bytes()[3];
    }
    (records, points)
}

/// Bytes that this process caused to be written (proc(5), write_bytes).
fn written() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}

fn peak_rss_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
