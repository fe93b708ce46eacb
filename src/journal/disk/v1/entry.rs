//! A window as it is written: columns over all its points, by postcard.
//!
//! Which points are there is a bitmap per device over its points; how each is written is half a byte; values stand in
//! one column, bit-exact and as short as they allow (see `number`). What is rare is a sparse list: minimum and maximum
//! where a window had more than one reading, doubts, reasons for missing values.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::enums::{ClockTrust, Direction, Missing, Questionable};
use super::event::{Event, name};
use super::{bytes, number};
use crate::journal::disk::chunk::Damage;
use crate::journal::disk::unwritable::Unwritable;
use crate::measure;
use crate::measure::{BootId, Energy, Interval, IntervalValue, Mono, PointInterval, Stamp, Statistic, Utc, Window};
use crate::spec::{DeviceIx, PointIx, VehicleId};

/// Codes above those of `number`.
const CODE_INTEGER: u8 = 10;
const CODE_TEXT: u8 = 11;
const CODE_MISSING: u8 = 12;

/// What is written behind the version byte.
#[derive(Debug, Serialize, Deserialize)]
struct Entry<'a> {
    /// `None`: the boot of the segment.
    boot: Option<[u8; 16]>,
    mono: u64,
    utc: i64,
    trust: ClockTrust,
    length: Duration,
    #[serde(borrow)]
    devices: Vec<Device<'a>>,
    /// One bit for each point of each device, lowest bit first; devices follow one another without padding.
    #[serde(serialize_with = "bytes")]
    present: &'a [u8],
    /// Half a byte for each present point, lower half first.
    #[serde(serialize_with = "bytes")]
    codes: &'a [u8],
    /// The values of all present points that have one, then the minima and maxima of `spreads`.
    #[serde(serialize_with = "bytes")]
    numbers: &'a [u8],
    #[serde(borrow)]
    texts: Vec<&'a str>,
    missing: Vec<Missing>,
    spreads: Vec<Spread>,
    questionables: Vec<(u32, Questionable)>,
    site: Option<SiteRollup>,
    #[serde(borrow)]
    events: Vec<Event<'a>>,
    /// How many present points there are.
    count: u32,
    /// How many bits of `present` are used.
    bits: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Device<'a> {
    device: u16,
    direction: Option<Direction>,
    #[serde(borrow)]
    vehicle: Option<&'a str>,
    /// How many of the bits are its own: its highest present point and one.
    width: u16,
}

/// A point with other than exactly one reading.
#[derive(Debug, Serialize, Deserialize)]
struct Spread {
    /// Its place among the present points.
    at: u32,
    count: u32,
    /// Code of the minimum, and in the upper half that of the maximum.
    codes: u8,
}

/// The charge points of the depot as one.
#[derive(Debug, Serialize, Deserialize)]
struct SiteRollup {
    direction: Direction,
    power_flow_kw: f64,
    power_import_kw: f64,
    power_export_kw: f64,
    charging: u32,
    discharging: u32,
    unknown: u32,
    soc: Option<(f64, f64)>,
}

/// Appends a window of the boot `home` to `bytes`, without the events that this version has no words for.
pub(in crate::journal) fn write(window: &Window, home: BootId, bytes: Vec<u8>) -> Result<Vec<u8>, Unwritable> {
    // Charging sessions, quarter-hours, and how things stand, are version 2's affair.
    let Window { boot, end, length, intervals, site, events, sessions: _, site_intervals: _, checkpoint: _ } = window;
    let mut columns = Columns::default();
    let mut devices = Vec::with_capacity(intervals.len());
    for interval in intervals {
        devices.push(columns.push_interval(interval)?);
    }
    let spreads = columns.push_spreads(window);
    let entry = Entry {
        boot: (*boot != home).then_some(boot.0),
        mono: end.mono.0,
        utc: end.utc.0,
        trust: end.trust.into(),
        length: *length,
        devices,
        present: &columns.present,
        codes: &columns.codes,
        numbers: &columns.numbers,
        texts: columns.texts,
        missing: columns.missing,
        spreads,
        questionables: columns.questionables,
        site: site.as_deref().map(SiteRollup::from),
        events: events.iter().filter_map(Event::of).collect(),
        count: columns.count,
        bits: columns.bits,
    };
    postcard::to_extend(&entry, bytes).map_err(|_| Unwritable::Codec)
}

/// Reads what [`write`] has appended.
pub(in crate::journal) fn read(body: &[u8], home: BootId) -> Result<Window, Damage> {
    let entry: Entry<'_> = postcard::from_bytes(body).map_err(|_| Damage::Content)?;
    entry.window(home)
}

/// The columns while they are written.
#[derive(Debug, Default)]
struct Columns<'a> {
    present: Vec<u8>,
    codes: Vec<u8>,
    numbers: Vec<u8>,
    texts: Vec<&'a str>,
    missing: Vec<Missing>,
    questionables: Vec<(u32, Questionable)>,
    count: u32,
    bits: u32,
}

impl<'a> Columns<'a> {
    fn push_interval(&mut self, interval: &'a Interval) -> Result<Device<'a>, Unwritable> {
        let mut width = 0_u16;
        for point in &interval.points {
            let skip = point.point.0.checked_sub(width).ok_or(Unwritable::Disordered)?;
            for _ in 0..skip {
                self.push_bit(false);
            }
            self.push_bit(true);
            width = point.point.0.checked_add(1).ok_or(Unwritable::Disordered)?;
            self.push_point(point);
        }
        // Its session and its energy are version 2's affair.
        let Interval { device, direction, vehicle, session: _, points: _, energy: _ } = interval;
        let (direction, vehicle) = (direction.map(Direction::from), vehicle.as_ref().map(VehicleId::as_str));
        Ok(Device { device: device.0, direction, vehicle, width })
    }

    fn push_bit(&mut self, set: bool) {
        let place = self.bits % 8;
        if place == 0 {
            self.present.push(0);
        }
        if let Some(byte) = self.present.last_mut() {
            *byte |= u8::from(set) << place;
        }
        self.bits += 1;
    }

    fn push_point(&mut self, point: &'a PointInterval) {
        let code = match &point.value {
            IntervalValue::Float(statistic) => number::write(statistic.value, &mut self.numbers),
            IntervalValue::Integer(value) => {
                number::write_signed(*value, &mut self.numbers);
                CODE_INTEGER
            }
            IntervalValue::Text(text) => {
                self.texts.push(text);
                CODE_TEXT
            }
            IntervalValue::Missing(why) => {
                self.missing.push((*why).into());
                CODE_MISSING
            }
        };
        if let Some(questionable) = point.questionable {
            self.questionables.push((self.count, questionable.into()));
        }
        match self.codes.last_mut() {
            Some(byte) if self.count % 2 == 1 => *byte |= code << 4,
            _ => self.codes.push(code),
        }
        self.count += 1;
    }

    fn push_spreads(&mut self, window: &Window) -> Vec<Spread> {
        let mut spreads = Vec::new();
        for (point, at) in window.intervals.iter().flat_map(|i| &i.points).zip(0_u32..) {
            if let IntervalValue::Float(s) = point.value
                && (s.count != 1 || s.min.to_bits() != s.value.to_bits() || s.max.to_bits() != s.value.to_bits())
            {
                let low = number::write(s.min, &mut self.numbers);
                let high = number::write(s.max, &mut self.numbers);
                spreads.push(Spread { at, count: s.count, codes: low | high << 4 });
            }
        }
        spreads
    }
}

impl Entry<'_> {
    fn window(self, home: BootId) -> Result<Window, Damage> {
        let mut columns = Reading {
            bit: 0,
            at: 0,
            present: self.present,
            codes: self.codes,
            numbers: self.numbers,
            texts: self.texts.iter(),
            missing: self.missing.iter(),
        };
        let mut intervals = Vec::with_capacity(self.devices.len());
        for device in &self.devices {
            let points = columns.points(device.width)?;
            let Device { device, direction, vehicle, width: _ } = device;
            let (direction, vehicle) = (direction.map(Into::into), vehicle.map(name::<VehicleId>).transpose()?);
            let (device, energy) = (DeviceIx(*device), Energy::default());
            intervals.push(Interval { device, direction, vehicle, session: None, points, energy });
        }
        let mut numbers = columns.numbers;
        let mut points: Vec<&mut PointInterval> = intervals.iter_mut().flat_map(|i| i.points.iter_mut()).collect();
        for &(at, questionable) in &self.questionables {
            place(&mut points, at)?.questionable = Some(questionable.into());
        }
        for spread in &self.spreads {
            let min = number::read(spread.codes & 0xf, &mut numbers)?;
            let max = number::read(spread.codes >> 4, &mut numbers)?;
            let IntervalValue::Float(s) = &mut place(&mut points, spread.at)?.value else {
                return Err(Damage::Content);
            };
            *s = Statistic { value: s.value, min, max, count: spread.count };
        }
        Ok(Window {
            boot: self.boot.map_or(home, BootId),
            end: Stamp { mono: Mono(self.mono), utc: Utc(self.utc), trust: self.trust.into() },
            length: self.length,
            intervals,
            site: self.site.map(|site| Box::new(site.into())),
            events: self.events.into_iter().map(TryInto::try_into).collect::<Result<_, Damage>>()?,
            sessions: Vec::new(),
            site_intervals: Vec::new(),
            checkpoint: None,
        })
    }
}

fn place<'a>(points: &'a mut [&mut PointInterval], at: u32) -> Result<&'a mut PointInterval, Damage> {
    let at = usize::try_from(at).map_err(|_| Damage::Content)?;
    Ok(&mut **points.get_mut(at).ok_or(Damage::Content)?)
}

/// The columns while they are read.
struct Reading<'a> {
    bit: usize,
    at: usize,
    present: &'a [u8],
    codes: &'a [u8],
    numbers: &'a [u8],
    texts: std::slice::Iter<'a, &'a str>,
    missing: std::slice::Iter<'a, Missing>,
}

impl Reading<'_> {
    fn points(&mut self, width: u16) -> Result<Vec<PointInterval>, Damage> {
        let mut points = Vec::new();
        for point in 0..width {
            let byte = self.present.get(self.bit / 8).ok_or(Damage::Content)?;
            let there = byte >> (self.bit % 8) & 1 == 1;
            self.bit += 1;
            if there {
                points.push(PointInterval { point: PointIx(point), value: self.value()?, questionable: None });
            }
        }
        Ok(points)
    }

    fn value(&mut self) -> Result<IntervalValue, Damage> {
        let byte = self.codes.get(self.at / 2).ok_or(Damage::Content)?;
        let code = if self.at.is_multiple_of(2) { byte & 0xf } else { byte >> 4 };
        self.at += 1;
        Ok(match code {
            CODE_INTEGER => IntervalValue::Integer(number::read_signed(&mut self.numbers)?),
            CODE_TEXT => IntervalValue::Text(Arc::from(*self.texts.next().ok_or(Damage::Content)?)),
            CODE_MISSING => IntervalValue::Missing((*self.missing.next().ok_or(Damage::Content)?).into()),
            code => {
                let value = number::read(code, &mut self.numbers)?;
                IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 })
            }
        })
    }
}

impl From<&measure::SiteRollup> for SiteRollup {
    /// Without what version 1 has no words for. What is not known stands as 0, and version 2 says beside it which that is.
    fn from(rollup: &measure::SiteRollup) -> Self {
        let measure::SiteRollup { power, charging, discharging, unknown, soc, .. } = *rollup;
        let (direction, power_flow_kw, power_import_kw, power_export_kw) = power
            .map_or((measure::Direction::Idle, 0.0, 0.0, 0.0), |power| {
                (power.direction, power.flow_kw, power.import_kw, power.export_kw)
            });
        let direction = direction.into();
        Self { direction, power_flow_kw, power_import_kw, power_export_kw, charging, discharging, unknown, soc }
    }
}

impl From<SiteRollup> for measure::SiteRollup {
    fn from(rollup: SiteRollup) -> Self {
        let SiteRollup {
            direction,
            power_flow_kw,
            power_import_kw,
            power_export_kw,
            charging,
            discharging,
            unknown,
            soc,
        } = rollup;
        let power = measure::SitePower {
            direction: direction.into(),
            flow_kw: power_flow_kw,
            import_kw: power_import_kw,
            export_kw: power_export_kw,
        };
        Self { power: Some(power), charging, discharging, unknown, soc, ..Self::default() }
    }
}
