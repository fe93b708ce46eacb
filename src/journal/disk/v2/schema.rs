//! The header of a segment in format 2: format 1 with the kinds of devices that it has no words for. It is written only where there is
//! such a device, so that an older program reads all other segments, and leaves these alone.
//!
//! ```text
//! format (u16, 2), postcard of [(place among the schema's series, kind)], ascending
//! the header as format 1 has it, in which these devices are meters
//! ```
//!
//! Another kind is another format: what this one does not name cannot be read in its place.

use serde::{Deserialize, Serialize};

use crate::journal::disk::chunk::Damage;
use crate::journal::disk::unreadable::Unreadable;
use crate::journal::disk::v1;
use crate::measure::{BootId, Schema};
use crate::spec;

/// See `v1::schema`.
pub(in crate::journal) const FORMAT: u16 = 2;

/// The kind of a device. The order is what is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum DeviceKind {
    Vehicle,
    Battery,
    Inverter,
}

impl DeviceKind {
    /// `None`: format 1 has a word for it.
    fn of(kind: spec::DeviceKind) -> Option<Self> {
        match kind {
            spec::DeviceKind::Evse | spec::DeviceKind::Meter => None,
            spec::DeviceKind::Vehicle => Some(Self::Vehicle),
            spec::DeviceKind::Battery => Some(Self::Battery),
            spec::DeviceKind::Inverter => Some(Self::Inverter),
        }
    }
}

impl From<DeviceKind> for spec::DeviceKind {
    fn from(kind: DeviceKind) -> Self {
        match kind {
            DeviceKind::Vehicle => Self::Vehicle,
            DeviceKind::Battery => Self::Battery,
            DeviceKind::Inverter => Self::Inverter,
        }
    }
}

/// The body of a segment's header, in the older format if that can say it.
pub(in crate::journal) fn write(boot: BootId, schema: &Schema) -> Option<Vec<u8>> {
    let kinds = (0_u16..).zip(&schema.series).filter_map(|(place, s)| Some((place, DeviceKind::of(s.kind)?)));
    let kinds: Vec<(u16, DeviceKind)> = kinds.collect();
    let first = v1::schema::write(boot, schema)?;
    if kinds.is_empty() {
        return Some(first);
    }
    let mut body = postcard::to_stdvec(&(FORMAT, kinds)).ok()?;
    body.extend(first);
    Some(body)
}

/// Reads it.
pub(in crate::journal) fn read(body: &[u8]) -> Result<(BootId, Schema), Unreadable> {
    let (format, rest) = postcard::take_from_bytes::<u16>(body).map_err(|_| Damage::Content)?;
    match format {
        FORMAT => {}
        ..=v1::schema::FORMAT => return v1::schema::read(body),
        newer => return Err(Unreadable::Newer { version: newer }),
    }
    let (kinds, first) = postcard::take_from_bytes::<Vec<(u16, DeviceKind)>>(rest).map_err(|_| Damage::Content)?;
    // What stands in it is format 1 and no other.
    let (boot, mut schema) = v1::schema::read(first).map_err(|_| Damage::Content)?;
    for (place, kind) in kinds {
        schema.series.get_mut(usize::from(place)).ok_or(Damage::Content)?.kind = kind.into();
    }
    Ok((boot, schema))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::depot_schema;
    use crate::spec::DeviceKind as Kind;

    const BOOT: BootId = BootId([7; 16]);

    /// A charge point and each of the kinds that format 1 has no words for.
    fn schema() -> Schema {
        let mut schema = depot_schema("gw-01", 5, 2);
        for (series, kind) in
            schema.series[1..].iter_mut().zip([Kind::Vehicle, Kind::Battery, Kind::Meter, Kind::Inverter])
        {
            series.kind = kind;
        }
        schema
    }

    #[test]
    fn every_kind_comes_back_and_a_program_of_format_1_is_told_that_it_is_newer() {
        let schema = schema();
        let body = write(BOOT, &schema).expect("it can be written");
        assert_eq!(read(&body), Ok((BOOT, schema)));
        assert_eq!(v1::schema::read(&body), Err(Unreadable::Newer { version: 2 }));
    }

    #[test]
    fn a_depot_of_charge_points_and_meters_is_written_as_format_1_has_it() {
        let mut schema = depot_schema("gw-01", 3, 2);
        schema.series[1].kind = Kind::Meter;
        assert_eq!(write(BOOT, &schema), v1::schema::write(BOOT, &schema));
        assert_eq!(v1::schema::read(&write(BOOT, &schema).expect("it can be written")), Ok((BOOT, schema)));
    }

    /// As written on the day of its making.
    #[test]
    fn the_bytes_of_kinds_are_these() {
        let body = write(BOOT, &schema()).expect("it can be written");
        let own = [2, 3, 1, 0, 2, 1, 4, 2];
        assert_eq!(body[..own.len()], own);
        assert_eq!(Some(body[own.len()..].to_vec()), v1::schema::write(BOOT, &schema()), "the rest is format 1");
    }

    #[test]
    fn a_kind_that_is_none_a_place_without_a_device_and_a_format_within_a_format_are_damage() {
        let body = write(BOOT, &schema()).expect("it can be written");
        for (at, byte) in [(3, 3), (2, 5), (8, 2)] {
            let mut body = body.clone();
            body[at] = byte;
            assert_eq!(read(&body), Err(Damage::Content.into()), "{at}");
        }
        let mut newer = body;
        newer[0] = 3;
        assert_eq!(read(&newer), Err(Unreadable::Newer { version: 3 }));
    }
}
