//! How what is derived stands after a window: version 1 has no words for it.

use serde::{Deserialize, Serialize};

use super::charging::Open;
use super::told::Told;

use crate::journal::disk::chunk::Damage;
use crate::measure::{self, OpenSession, RegisterBase, Window};
use crate::spec::{DeviceId, DeviceIx, FieldName, PointIx};

/// How things stood after the last entry of a life that ended in order. It outlives the segments, and so has names and no indices.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::journal) struct CheckpointAtEnd {
    /// The number of that entry.
    pub(in crate::journal) last: u64,
    /// Registers of energy, by device and field.
    pub(in crate::journal) registers: Vec<(DeviceId, FieldName, RegisterBase)>,
    /// Charging sessions that have not ended, by device.
    pub(in crate::journal) sessions: Vec<(DeviceId, OpenSession)>,
    /// The grid connection.
    pub(in crate::journal) site: measure::SiteProgress,
}

/// The same as it is written. What is worked out later comes behind: the grid connection, if there is anything of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AtEnd<'a> {
    last: u64,
    #[serde(borrow)]
    registers: Vec<NamedRegister<'a>>,
    #[serde(borrow)]
    sessions: Vec<(&'a str, Open<'a>)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct NamedRegister<'a> {
    device: &'a str,
    field: &'a str,
    value: f64,
    told: Told,
}

impl<'a> AtEnd<'a> {
    pub(super) fn of(noted: &'a CheckpointAtEnd) -> Self {
        let register = |(device, field, base): &'a (DeviceId, FieldName, RegisterBase)| NamedRegister {
            device: device.as_str(),
            field: field.as_str(),
            value: base.value,
            told: Told::of((base.boot, base.at), None),
        };
        let sessions = noted.sessions.iter().map(|(device, open)| (device.as_str(), Open::of(open, None)));
        let registers = noted.registers.iter().map(register).collect();
        Self { last: noted.last, registers, sessions: sessions.collect() }
    }

    pub(super) fn read(&self) -> Option<CheckpointAtEnd> {
        let register = |NamedRegister { device, field, value, told }: &NamedRegister<'_>| {
            let (boot, at) = told.read(None)?;
            let base = RegisterBase { value: *value, boot, at };
            Some(((*device).try_into().ok()?, (*field).try_into().ok()?, base))
        };
        let registers = self.registers.iter().map(register).collect::<Option<Vec<_>>>()?;
        let session = |(device, open): &(&str, Open<'_>)| Some(((*device).try_into().ok()?, open.read(None).ok()?));
        let sessions = self.sessions.iter().map(session).collect::<Option<Vec<_>>>()?;
        Some(CheckpointAtEnd { last: self.last, registers, sessions, site: measure::SiteProgress::default() })
    }
}

/// How it stands. What is worked out later comes behind.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Checkpoint<'a> {
    registers: Vec<Register>,
    #[serde(borrow)]
    sessions: Vec<Open<'a>>,
}

/// Up to where the energy of a register has been told.
#[derive(Debug, Serialize, Deserialize)]
struct Register {
    device: u16,
    point: u16,
    value: f64,
    told: Told,
}

impl<'a> Checkpoint<'a> {
    pub(super) fn of(checkpoint: &'a measure::Checkpoint, window: &Window) -> Self {
        let register = |(&(device, point), base): (&(DeviceIx, PointIx), &RegisterBase)| Register {
            device: device.0,
            point: point.0,
            value: base.value,
            told: Told::of((base.boot, base.at), Some(window)),
        };
        let sessions = checkpoint.sessions.values().map(|open| Open::of(open, Some(window))).collect();
        Self { registers: checkpoint.registers.iter().map(register).collect(), sessions }
    }

    pub(super) fn read(&self, window: &Window) -> Result<measure::Checkpoint, Damage> {
        let base = |Register { device, point, value, told }: &Register| {
            let (boot, at) = told.read(Some(window)).ok_or(Damage::Content)?;
            Ok(((DeviceIx(*device), PointIx(*point)), RegisterBase { value: *value, boot, at }))
        };
        let registers = self.registers.iter().map(base).collect::<Result<_, Damage>>()?;
        let open = |open: &Open<'_>| open.read(Some(window)).map(|open| (open.told.device, open));
        let sessions = self.sessions.iter().map(open).collect::<Result<_, Damage>>()?;
        Ok(measure::Checkpoint { registers, sessions, ..measure::Checkpoint::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::journal::disk::v2;
    use crate::journal::testing::depot_window;
    use crate::measure::{BootId, Checkpoint, ClockTrust, Mono, RegisterBase, SiteProgress, Stamp, Utc, Window};
    use crate::spec::{DeviceIx, PointIx};

    const HOME: BootId = BootId([7; 16]);

    /// One register was told 5 s before the window, one in another boot, one by another clock.
    fn window() -> Window {
        let mut window = depot_window(1, 1, 100);
        let second = 1_000_000_000;
        let before = Stamp { mono: Mono(window.end.mono.0 - 5 * second), ..window.end };
        let before = Stamp { utc: Utc(window.end.utc.0 - 5_000_000_000), ..before };
        let stepped = Stamp { utc: Utc(3), ..before };
        let unsynced = Stamp { trust: ClockTrust::Unsynced, ..before };
        let base = |value, boot, at| RegisterBase { value, boot, at };
        let registers = [
            ((DeviceIx(0), PointIx(1)), base(12_345.678, HOME, before)),
            ((DeviceIx(0), PointIx(2)), base(0.1, BootId([8; 16]), before)),
            ((DeviceIx(7), PointIx(1)), base(1e9, HOME, stepped)),
            ((DeviceIx(300), PointIx(0)), base(-0.0, HOME, unsynced)),
            ((DeviceIx(300), PointIx(1)), base(5.0, HOME, window.end)),
        ];
        window.checkpoint = Some(Arc::new(Checkpoint { registers: registers.into(), ..Checkpoint::default() }));
        window
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        let window = window();
        let bytes = v2::write(&window, HOME, Vec::new()).expect("it can be written");
        assert_eq!(v2::read(&bytes[1..], HOME), Ok(window));
    }

    /// As written on the day of its making.
    #[test]
    fn the_bytes_of_the_record_at_the_end_are_these_and_come_back() {
        let at = Stamp { mono: Mono(5), utc: Utc(-1), trust: ClockTrust::Synced };
        let base = RegisterBase { value: 0.5, boot: HOME, at };
        let registers = vec![("a".try_into().expect("a name"), "energy_import".try_into().expect("a field"), base)];
        let site = SiteProgress::default();
        let noted = v2::CheckpointAtEnd { last: 300, registers, sessions: vec![], site };
        let bytes = v2::write_checkpoint(&noted).expect("it is short");
        let value = 0.5_f64.to_le_bytes();
        let body =
            [&[0xac, 2, 1, 1, b'a', 13][..], b"energy_import", &value, &[1], &[7; 16], &[5, 1, 0], &[0]].concat();
        assert_eq!(bytes[12..], body);
        assert_eq!(v2::read_checkpoint(&bytes), Some(noted));
        assert_eq!(v2::read_checkpoint(&bytes[..bytes.len() - 1]), None);
    }

    /// As written on the day of its making.
    #[test]
    fn the_bytes_of_a_checkpoint_are_these() {
        let mut window = window();
        let mut checkpoint = Checkpoint::default();
        let known = window.checkpoint.take().expect("a checkpoint");
        checkpoint.registers.extend(known.registers.iter().take(2).map(|(ix, base)| (*ix, *base)));
        window.checkpoint = Some(Arc::new(checkpoint));
        let bytes = v2::write(&window, HOME, Vec::new()).expect("it can be written");
        let value = 12_345.678_f64.to_le_bytes();
        let other = 0.1_f64.to_le_bytes();
        let own = [&[2, 1, 0, 0, 20, 2][..], &[0, 1], &value, &[0, 0x88, 0x27], &[0, 2], &other, &[1], &[8; 16]];
        let own = own.concat();
        assert_eq!(bytes[..own.len()], own);
    }
}
