//! What the intervals of a window know of energy: version 1 has no words for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::journal::disk::chunk::Damage;
use crate::journal::disk::v1::{bytes, number};
use crate::measure::{Energy, EnergyDelta, EnergySource, Window};

/// The energies of a window.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Energies<'a> {
    /// One byte for each interval up to the last that knows of any: in the lowest two bits the source of what was imported, in the
    /// next two that of what was exported ([`source_code`], 0 if nothing is known), then whether the known time is told.
    #[serde(serialize_with = "bytes")]
    codes: &'a [u8],
    /// For each interval in turn what its code says that is there: import and export in mWh, known time in ms.
    #[serde(serialize_with = "bytes")]
    numbers: &'a [u8],
}

const EXPORT_BITS: u8 = 2;
const IS_KNOWN: u8 = 1 << 4;
/// No later bit has a meaning yet.
const CODES: u8 = IS_KNOWN << 1;

/// The columns while they are written.
#[derive(Debug, Default)]
pub(super) struct Columns {
    codes: Vec<u8>,
    numbers: Vec<u8>,
}

impl Columns {
    /// Those of a window; `None`: it knows of no energy.
    pub(super) fn of(window: &Window) -> Option<Self> {
        let count = window.intervals.iter().rposition(|interval| !interval.energy.is_empty())? + 1;
        let mut columns = Self::default();
        window.intervals.iter().take(count).for_each(|interval| columns.push(interval.energy));
        Some(columns)
    }

    fn push(&mut self, Energy { import, export, known }: Energy) {
        let source = |delta: Option<EnergyDelta>| delta.map_or(0, |delta| source_code(delta.source));
        let known_code = if known.is_some() { IS_KNOWN } else { 0 };
        self.codes.push(source(import) | source(export) << EXPORT_BITS | known_code);
        let known = known.map(|known| u64::try_from(known.as_millis()).unwrap_or(u64::MAX));
        for told in [import.map(|delta| delta.mwh), export.map(|delta| delta.mwh), known].into_iter().flatten() {
            number::write_signed(i64::try_from(told).unwrap_or(i64::MAX), &mut self.numbers);
        }
    }

    pub(super) fn written(&self) -> Energies<'_> {
        Energies { codes: &self.codes, numbers: &self.numbers }
    }
}

pub(super) fn source_code(source: EnergySource) -> u8 {
    match source {
        EnergySource::Power => 1,
        EnergySource::Register => 2,
        EnergySource::Mixed => 3,
    }
}

pub(super) fn source_of(code: u8) -> Option<EnergySource> {
    match code & 0b11 {
        1 => Some(EnergySource::Power),
        2 => Some(EnergySource::Register),
        3 => Some(EnergySource::Mixed),
        _ => None,
    }
}

/// Puts them where they belong.
pub(super) fn put(window: &mut Window, energies: &Energies<'_>) -> Result<(), Damage> {
    let mut numbers = energies.numbers;
    let mut read = || u64::try_from(number::read_signed(&mut numbers)?).map_err(|_| Damage::Content);
    if energies.codes.len() > window.intervals.len() {
        return Err(Damage::Content);
    }
    for (interval, &code) in window.intervals.iter_mut().zip(energies.codes) {
        if code >= CODES {
            return Err(Damage::Content);
        }
        let mut delta =
            |code| source_of(code).map(|source| Ok::<_, Damage>(EnergyDelta { mwh: read()?, source })).transpose();
        let (import, export) = (delta(code)?, delta(code >> EXPORT_BITS)?);
        let known = if code & IS_KNOWN == 0 { None } else { Some(Duration::from_millis(read()?)) };
        interval.energy = Energy { import, export, known };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::v2;
    use crate::journal::testing::depot_window;
    use crate::measure::BootId;

    const HOME: BootId = BootId([7; 16]);

    fn delta(mwh: u64, source: EnergySource) -> Option<EnergyDelta> {
        Some(EnergyDelta { mwh, source })
    }

    /// Four devices; the second and the last know of no energy.
    fn window() -> Window {
        let mut window = depot_window(4, 1, 1);
        let known = |ms| Some(Duration::from_millis(ms));
        window.intervals[0].energy =
            Energy { import: delta(500, EnergySource::Power), export: None, known: known(250) };
        window.intervals[2].energy = Energy {
            import: delta(0, EnergySource::Register),
            export: delta(12_345_678_901, EnergySource::Mixed),
            known: None,
        };
        window
    }

    #[test]
    fn energies_come_back_at_their_intervals() {
        let window = window();
        let bytes = v2::write(&window, HOME, Vec::new()).expect("it can be written");
        assert_eq!(v2::read(&bytes[1..], HOME), Ok(window));
    }

    /// As written on the day of its making.
    #[test]
    fn the_bytes_of_energies_are_these() {
        let window = window();
        let columns = Columns::of(&window).expect("energies");
        assert_eq!(columns.codes, [1 | IS_KNOWN, 0, 2 | 3 << 2]);
        assert_eq!(columns.numbers, [0xe8, 7, 0xf4, 3, 0, 0xea, 0xf0, 0xe0, 0xfd, 0x5b]);
        assert!(Columns::of(&depot_window(3, 1, 1)).is_none());
    }

    #[test]
    fn what_cannot_be_of_energies_is_damage() {
        let (mut one, none): (Window, &[u8]) = (depot_window(1, 1, 1), &[]);
        for (codes, numbers) in [(&[1_u8][..], none), (&[0, 0], none), (&[CODES], none), (&[1], &[1])] {
            assert_eq!(put(&mut one, &Energies { codes, numbers }), Err(Damage::Content), "{codes:?}");
        }
    }
}
