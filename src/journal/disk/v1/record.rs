//! The small records as they are written, each in the frame that `disk::record` draws. What was added while version 1 was
//! made stands behind the rest, and may be missing.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::enums::Resolution;
use super::event::Identity;
use crate::journal::disk::chunk::Damage;
use crate::journal::disk::record;
use crate::journal::disk::record::Record;
use crate::journal::disk::unreadable::Unreadable;

const SEAL_MAGIC: [u8; 4] = *b"V2GS";
const CURSOR_MAGIC: [u8; 4] = *b"V2GC";
const LIFE_MAGIC: [u8; 4] = *b"V2GE";
const TIMES_MAGIC: [u8; 4] = *b"V2GA";
/// Stands first in the record of times.
const TIMES_FORMAT: u16 = 1;

/// Behind it: [`Resolution`].
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::journal) struct Seal<'a> {
    pub(in crate::journal) first: u64,
    pub(in crate::journal) last: u64,
    pub(in crate::journal) chunks: u32,
    pub(in crate::journal) points: u64,
    pub(in crate::journal) newest_utc: Option<i64>,
    pub(in crate::journal) telling: Option<Cow<'a, [u64]>>,
}

/// Behind it: the segments of which something was handed out, by their first numbers.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::journal) struct Cursor<'a> {
    pub(in crate::journal) generation: u64,
    pub(in crate::journal) next: u64,
    pub(in crate::journal) settled: Cow<'a, [(u64, u64)]>,
    pub(in crate::journal) shortened: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::journal) struct Life<'a> {
    pub(in crate::journal) epoch: u64,
    pub(in crate::journal) gateway: &'a str,
    pub(in crate::journal) site: &'a str,
    pub(in crate::journal) clean: bool,
}

/// Behind it: who told the newest.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::journal) struct Times {
    format: u16,
    pub(in crate::journal) anchor: Option<Anchor>,
    pub(in crate::journal) high: Option<i64>,
    pub(in crate::journal) newest: Option<i64>,
    pub(in crate::journal) turns: u16,
    pub(in crate::journal) stretches: Vec<Stretch>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::journal) struct Anchor {
    pub(in crate::journal) boot: [u8; 16],
    pub(in crate::journal) mono: u64,
    pub(in crate::journal) utc: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::journal) struct Stretch {
    pub(in crate::journal) boot: [u8; 16],
    pub(in crate::journal) from: u64,
    pub(in crate::journal) first: u64,
    pub(in crate::journal) last: u64,
    pub(in crate::journal) wall: i64,
    pub(in crate::journal) set: Option<u64>,
    pub(in crate::journal) after: Option<i64>,
    pub(in crate::journal) pieces: Vec<Piece>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::journal) struct Piece {
    pub(in crate::journal) to: u64,
    pub(in crate::journal) course: Course,
    pub(in crate::journal) turn: u16,
    pub(in crate::journal) resolved: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::journal) struct Course {
    pub(in crate::journal) mono: u64,
    pub(in crate::journal) utc: i64,
    pub(in crate::journal) mono_span: u64,
    pub(in crate::journal) utc_span: u64,
}

impl Times {
    pub(in crate::journal) fn new(anchor: Option<Anchor>, high: Option<i64>, newest: Option<i64>, turns: u16) -> Self {
        Self { format: TIMES_FORMAT, anchor, high, newest, turns, stretches: Vec::new() }
    }
}

pub(in crate::journal) fn write_seal(seal: &Seal<'_>, resolution: Resolution) -> Option<Vec<u8>> {
    record::frame(SEAL_MAGIC, &postcard::to_stdvec(&(seal, resolution)).ok()?)
}

pub(in crate::journal) fn read_seal(bytes: &[u8]) -> Result<(Seal<'_>, Option<Resolution>), Unreadable> {
    pair(record::body(SEAL_MAGIC, bytes)?)
}

pub(in crate::journal) fn write_cursor(cursor: &Cursor<'_>, published: &[u64]) -> Option<Vec<u8>> {
    record::frame(CURSOR_MAGIC, &postcard::to_stdvec(&(cursor, published)).ok()?)
}

pub(in crate::journal) fn read_cursor(bytes: &[u8]) -> Result<(Cursor<'_>, Option<Vec<u64>>), Unreadable> {
    pair(record::body(CURSOR_MAGIC, bytes)?)
}

pub(in crate::journal) fn write_life(life: &Life<'_>) -> Option<Vec<u8>> {
    record::frame(LIFE_MAGIC, &postcard::to_stdvec(life).ok()?)
}

pub(in crate::journal) fn read_life(bytes: &[u8]) -> Result<Life<'_>, Unreadable> {
    Ok(postcard::from_bytes(record::body(LIFE_MAGIC, bytes)?).map_err(|_| Damage::Content)?)
}

pub(in crate::journal) fn write_times(times: &Times, told_by: Option<Identity>) -> Option<Vec<u8>> {
    record::frame(TIMES_MAGIC, &postcard::to_stdvec(&(times, told_by)).ok()?)
}

pub(in crate::journal) fn read_times(bytes: &[u8]) -> Result<(Times, Option<Identity>), Unreadable> {
    let body = record::body(TIMES_MAGIC, bytes)?;
    let (format, _) = postcard::take_from_bytes::<u16>(body).map_err(|_| Damage::Content)?;
    match format {
        TIMES_FORMAT => pair(body).map(|(times, told_by)| (times, told_by.flatten())),
        0 => Err(Damage::Content.into()),
        newer => Err(Unreadable::Newer { version: newer }),
    }
}

/// The version of a record, if it is whole.
pub(in crate::journal) fn version_of(record: Record, bytes: &[u8]) -> Option<u16> {
    let magic = match record {
        Record::Life => LIFE_MAGIC,
        Record::CursorA | Record::CursorB => CURSOR_MAGIC,
        Record::Times => TIMES_MAGIC,
        // Of no released program: they have no versions yet.
        Record::Lived | Record::Deciders | Record::Checkpoint => return None,
    };
    let (version, body) = record::any_body(magic, bytes).ok()?;
    let format = if record == Record::Times { postcard::take_from_bytes::<u16>(body).ok()?.0 } else { version };
    Some(version.max(format))
}

/// What the life of any version begins with.
pub(in crate::journal) fn begin_of_life(bytes: &[u8]) -> Option<Life<'_>> {
    begin_of(LIFE_MAGIC, bytes)
}

/// What the cursor of any version begins with: its generation, and the next number.
pub(in crate::journal) fn begin_of_cursor(bytes: &[u8]) -> Option<(u64, u64)> {
    begin_of(CURSOR_MAGIC, bytes)
}

/// What the record of times of any version begins with; without its stretches.
pub(in crate::journal) fn begin_of_times(bytes: &[u8]) -> Option<Times> {
    let (_format, anchor, high, newest, turns): (u16, _, _, _, _) = begin_of(TIMES_MAGIC, bytes)?;
    Some(Times::new(anchor, high, newest, turns))
}

fn begin_of<'a, T: Deserialize<'a>>(magic: [u8; 4], bytes: &'a [u8]) -> Option<T> {
    let (_, body) = record::any_body(magic, bytes).ok()?;
    postcard::take_from_bytes(body).ok().map(|(begin, _)| begin)
}

/// A record and what stands behind it; without the second half if that was not written yet.
fn pair<'a, T: Deserialize<'a>, U: Deserialize<'a>>(body: &'a [u8]) -> Result<(T, Option<U>), Unreadable> {
    let (first, rest) = postcard::take_from_bytes(body).map_err(|_| Damage::Content)?;
    Ok((first, postcard::from_bytes(rest).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_agent_adds_is_read_by_itself_and_passed_over_by_an_older_one() {
        let new = postcard::to_stdvec(&(7_u64, vec![1_u64, 2])).expect("it can be written");
        assert_eq!(pair::<u64, Vec<u64>>(&new), Ok((7, Some(vec![1, 2]))));
        assert_eq!(postcard::from_bytes(&new), Ok(7_u64));
        let old = postcard::to_stdvec(&7_u64).expect("it can be written");
        assert_eq!(pair::<u64, Vec<u64>>(&old), Ok((7, None)));
    }
}
