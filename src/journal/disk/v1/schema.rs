//! The words of a segment, as its header has them.
//!
//! ```text
//! format (u16, 1), boot (16 bytes), schema; behind it, for each point of the schema, device by device, a bit that says
//! whether its newest value counts and not its mean (a header without these was written before anything was thinned)
//! ```

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::bytes;
use super::enums::{DeviceKind, Unit, ValueType};
use super::event::name;
use crate::journal::disk::chunk::Damage;
use crate::journal::disk::unreadable::Unreadable;
use crate::measure;
use crate::measure::BootId;
use crate::spec::Aggregation;

/// The format of a segment: its header, seal and chunks are of this version or of an older one; each entry says its own,
/// which may be a later one. It stands first in the body of the header of every version.
pub(in crate::journal) const FORMAT: u16 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Header<'a> {
    format: u16,
    boot: [u8; 16],
    #[serde(borrow)]
    schema: Schema<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Schema<'a> {
    gateway: &'a str,
    site: &'a str,
    #[serde(borrow)]
    series: Vec<Series<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Series<'a> {
    device: &'a str,
    kind: DeviceKind,
    #[serde(borrow)]
    points: Vec<Column<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Column<'a> {
    field: &'a str,
    unit: Unit,
    value_type: ValueType,
}

/// What stands behind the header.
#[derive(Debug, Serialize, Deserialize)]
struct Lasting<'a>(#[serde(borrow, serialize_with = "bytes")] Cow<'a, [u8]>);

/// The body of a segment's header.
pub(in crate::journal) fn write(boot: BootId, schema: &measure::Schema) -> Option<Vec<u8>> {
    let header = Header { format: FORMAT, boot: boot.0, schema: schema.into() };
    postcard::to_stdvec(&(header, Lasting(lasting(schema).into()))).ok()
}

/// Reads it.
pub(in crate::journal) fn read(body: &[u8]) -> Result<(BootId, measure::Schema), Unreadable> {
    let (format, _) = postcard::take_from_bytes::<u16>(body).map_err(|_| Damage::Content)?;
    if format > FORMAT {
        return Err(Unreadable::Newer { version: format });
    }
    let (header, rest) = postcard::take_from_bytes::<Header<'_>>(body).map_err(|_| Damage::Content)?;
    if header.format != FORMAT {
        return Err(Damage::Content.into());
    }
    let lasting = postcard::from_bytes::<Lasting<'_>>(rest).ok();
    let mut schema = measure::Schema::try_from(header.schema)?;
    aggregate_as(&mut schema, lasting.as_ref().map(|lasting| &*lasting.0));
    Ok((BootId(header.boot), schema))
}

fn lasting(schema: &measure::Schema) -> Vec<u8> {
    let columns = schema.series.iter().flat_map(|series| &series.points);
    let lasts: Vec<bool> = columns.map(|column| column.aggregation == Aggregation::Last).collect();
    let byte = |lasts: &[bool]| (0_u8..).zip(lasts).map(|(bit, lasts)| u8::from(*lasts) << bit).sum();
    lasts.chunks(8).map(byte).collect()
}

fn aggregate_as(schema: &mut measure::Schema, lasting: Option<&[u8]>) {
    for (place, column) in schema.series.iter_mut().flat_map(|series| &mut series.points).enumerate() {
        let told = lasting.and_then(|bits| bits.get(place / 8)).map(|byte| byte >> (place % 8) & 1 == 1);
        column.aggregation = match told {
            Some(true) => Aggregation::Last,
            Some(false) => Aggregation::Mean,
            None => Aggregation::usual(column.value_type, column.unit),
        };
    }
}

impl<'a> From<&'a measure::Schema> for Schema<'a> {
    fn from(measure::Schema { gateway, site, series }: &'a measure::Schema) -> Self {
        let column = |column: &'a measure::PointColumn| {
            // How it is aggregated stands behind the header.
            let measure::PointColumn { field, unit, value_type, aggregation: _ } = column;
            Column { field: field.as_str(), unit: (*unit).into(), value_type: (*value_type).into() }
        };
        let series = series.iter().map(|measure::SeriesSpec { device, kind, points }| Series {
            device: device.as_str(),
            kind: (*kind).into(),
            points: points.iter().map(column).collect(),
        });
        Self { gateway: gateway.as_str(), site: site.as_str(), series: series.collect() }
    }
}

impl TryFrom<Schema<'_>> for measure::Schema {
    type Error = Damage;
    fn try_from(Schema { gateway, site, series }: Schema<'_>) -> Result<Self, Damage> {
        let column = |Column { field, unit, value_type }: Column<'_>| {
            let (unit, value_type) = (unit.into(), value_type.into());
            let aggregation = Aggregation::usual(value_type, unit);
            Ok(measure::PointColumn { field: name(field)?, unit, value_type, aggregation })
        };
        let series = series.into_iter().map(|Series { device, kind, points }| {
            let points = points.into_iter().map(column).collect::<Result<_, Damage>>()?;
            Ok(measure::SeriesSpec { device: name(device)?, kind: kind.into(), points })
        });
        Ok(Self { gateway: name(gateway)?, site: name(site)?, series: series.collect::<Result<_, Damage>>()? })
    }
}
