//! How a window is written: a version byte, then columns over all its points, by postcard.
//!
//! Which points are there is a bitmap per device over its points; how each is written is half a byte; values stand in
//! one column, bit-exact and as short as they allow (see `number`). What is rare is a sparse list: minimum and maximum
//! where a window had more than one reading, doubts, reasons for missing values. `measure::Window` knows nothing of
//! this: a new version gets a new mirror here and the old one stays for reading.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::journal::disk::chunk::{Damage, ENTRY_BYTES_MAX};
use crate::journal::disk::v1::number;
use crate::measure::{
    BootId, ClockTrust, Direction, Event, Interval, IntervalValue, Missing, Mono, PointInterval, Questionable,
    SiteRollup, Stamp, Statistic, Utc, Window,
};
use crate::spec::{DeviceIx, PointIx, VehicleId};

/// The version this agent writes.
const VERSION: u8 = 1;

/// Codes above those of `number`.
const CODE_INTEGER: u8 = 10;
const CODE_TEXT: u8 = 11;
const CODE_MISSING: u8 = 12;

/// A window as bytes, with what the journal needs to know of it without reading it again.
#[derive(Debug, Clone)]
pub(in crate::journal) struct Encoded {
    pub(in crate::journal) bytes: Vec<u8>,
    pub(in crate::journal) points: u64,
    pub(in crate::journal) tells_loss: bool,
    /// Its end, if the clock could be believed.
    pub(in crate::journal) utc: Option<i64>,
}

/// A window that cannot be written. It is given up and told as lost; the next one is not concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::journal) enum Unwritable {
    /// Logic of the pipeline: the points of a device are not in ascending order.
    #[error("the points of a device are not in ascending order")]
    Disordered,
    /// More than the journal's longest entry.
    #[error("the window takes {bytes} bytes and the longest entry has {ENTRY_BYTES_MAX}")]
    Long {
        /// How long it would be.
        bytes: usize,
    },
    /// Postcard refused.
    #[error("the window cannot be encoded")]
    Codec,
}

/// Bytes that are no window that this agent can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::journal) enum Unreadable {
    /// Written by a newer agent: kept, passed over and reported.
    #[error("written in version {0}, which this agent does not know")]
    Version(u8),
    /// Not what was written.
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// Writes a window of the boot `home`, whose id is not repeated in each entry.
pub(in crate::journal) fn encode(window: &Window, home: BootId) -> Result<Encoded, Unwritable> {
    let mut told = Told::head(window, home);
    for interval in &window.intervals {
        told.push_interval(interval)?;
    }
    told.push_spreads(window);
    let bytes = postcard::to_extend(&told, vec![VERSION]).map_err(|_| Unwritable::Codec)?;
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(Unwritable::Long { bytes: bytes.len() });
    }
    Ok(Encoded {
        bytes,
        points: window.points(),
        tells_loss: window.gaps().next().is_some(),
        utc: (window.end.trust != ClockTrust::Unsynced).then_some(window.end.utc.0),
    })
}

/// Reads a window.
pub(in crate::journal) fn decode(bytes: &[u8], home: BootId) -> Result<Window, Unreadable> {
    let (&version, body) = bytes.split_first().ok_or(Damage::Content)?;
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    let told: Told = postcard::from_bytes(body).map_err(|_| Damage::Content)?;
    Ok(told.window(home)?)
}

/// Version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    /// `None`: the boot of the segment.
    boot: Option<BootId>,
    mono: u64,
    utc: i64,
    trust: ClockTrust,
    length: Duration,
    devices: Vec<Device>,
    /// One bit for each point of each device, lowest bit first; devices follow one another without padding.
    present: Vec<u8>,
    /// Half a byte for each present point, lower half first.
    codes: Vec<u8>,
    /// The values of all present points that have one, then the minima and maxima of `spreads`.
    numbers: Vec<u8>,
    texts: Vec<Arc<str>>,
    missing: Vec<Missing>,
    spreads: Vec<Spread>,
    suspicions: Vec<(u32, Questionable)>,
    site: Option<SiteRollup>,
    events: Vec<Event>,
    /// How many present points there are.
    count: u32,
    /// How many bits of `present` are used.
    bits: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Device {
    device: DeviceIx,
    direction: Option<Direction>,
    vehicle: Option<VehicleId>,
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

impl Told {
    fn head(window: &Window, home: BootId) -> Self {
        Self {
            boot: (window.boot != home).then_some(window.boot),
            mono: window.end.mono.0,
            utc: window.end.utc.0,
            trust: window.end.trust,
            length: window.length,
            devices: Vec::with_capacity(window.intervals.len()),
            present: Vec::new(),
            codes: Vec::new(),
            numbers: Vec::new(),
            texts: Vec::new(),
            missing: Vec::new(),
            spreads: Vec::new(),
            suspicions: Vec::new(),
            site: window.site.clone(),
            events: window.events.clone(),
            count: 0,
            bits: 0,
        }
    }

    fn push_interval(&mut self, interval: &Interval) -> Result<(), Unwritable> {
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
        let Interval { device, direction, vehicle, points: _ } = interval;
        self.devices.push(Device { device: *device, direction: *direction, vehicle: vehicle.clone(), width });
        Ok(())
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

    fn push_point(&mut self, point: &PointInterval) {
        let code = match &point.value {
            IntervalValue::Float(statistic) => number::write(statistic.value, &mut self.numbers),
            IntervalValue::Integer(value) => {
                number::write_signed(*value, &mut self.numbers);
                CODE_INTEGER
            }
            IntervalValue::Text(text) => {
                self.texts.push(Arc::clone(text));
                CODE_TEXT
            }
            IntervalValue::Missing(why) => {
                self.missing.push(*why);
                CODE_MISSING
            }
        };
        if let Some(questionable) = point.questionable {
            self.suspicions.push((self.count, questionable));
        }
        match self.codes.last_mut() {
            Some(byte) if self.count % 2 == 1 => *byte |= code << 4,
            _ => self.codes.push(code),
        }
        self.count += 1;
    }

    fn push_spreads(&mut self, window: &Window) {
        for (point, at) in window.intervals.iter().flat_map(|i| &i.points).zip(0_u32..) {
            if let IntervalValue::Float(s) = point.value
                && (s.count != 1 || s.min.to_bits() != s.value.to_bits() || s.max.to_bits() != s.value.to_bits())
            {
                let low = number::write(s.min, &mut self.numbers);
                let high = number::write(s.max, &mut self.numbers);
                self.spreads.push(Spread { at, count: s.count, codes: low | high << 4 });
            }
        }
    }

    fn window(self, home: BootId) -> Result<Window, Damage> {
        let mut columns = Columns {
            bit: 0,
            at: 0,
            present: &self.present,
            codes: &self.codes,
            numbers: &self.numbers,
            texts: self.texts.iter(),
            missing: self.missing.iter(),
        };
        let mut intervals = Vec::with_capacity(self.devices.len());
        for device in &self.devices {
            let points = columns.points(device.width)?;
            let Device { device, direction, vehicle, width: _ } = device;
            intervals.push(Interval { device: *device, direction: *direction, vehicle: vehicle.clone(), points });
        }
        let mut numbers = columns.numbers;
        let mut points: Vec<&mut PointInterval> = intervals.iter_mut().flat_map(|i| i.points.iter_mut()).collect();
        for &(at, questionable) in &self.suspicions {
            place(&mut points, at)?.questionable = Some(questionable);
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
            boot: self.boot.unwrap_or(home),
            end: Stamp { mono: Mono(self.mono), utc: Utc(self.utc), trust: self.trust },
            length: self.length,
            intervals,
            site: self.site,
            events: self.events,
        })
    }
}

fn place<'a>(points: &'a mut [&mut PointInterval], at: u32) -> Result<&'a mut PointInterval, Damage> {
    let at = usize::try_from(at).map_err(|_| Damage::Content)?;
    Ok(&mut **points.get_mut(at).ok_or(Damage::Content)?)
}

/// The columns while they are read.
struct Columns<'a> {
    bit: usize,
    at: usize,
    present: &'a [u8],
    codes: &'a [u8],
    numbers: &'a [u8],
    texts: std::slice::Iter<'a, Arc<str>>,
    missing: std::slice::Iter<'a, Missing>,
}

impl Columns<'_> {
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
            CODE_TEXT => IntervalValue::Text(Arc::clone(self.texts.next().ok_or(Damage::Content)?)),
            CODE_MISSING => IntervalValue::Missing(*self.missing.next().ok_or(Damage::Content)?),
            code => {
                let value = number::read(code, &mut self.numbers)?;
                IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::testing::{any_window, depot_window};

    const HOME: BootId = BootId([7; 16]);

    #[test]
    fn a_point_of_a_typical_depot_costs_less_than_four_and_a_half_bytes() {
        // 20 charge points and 2 meters with 12 points each, one reading in a window of 250 ms.
        let window = depot_window(22, 12, 1);
        let encoded = encode(&window, HOME).expect("it can be written");
        let per_point = encoded.bytes.len() as f64 / window.points() as f64;
        println!("{} points in {} bytes: {per_point:.2} bytes a point", window.points(), encoded.bytes.len());
        assert!(per_point < 4.5, "{per_point} bytes a point");
    }

    #[test]
    fn an_entry_of_a_later_version_is_told_from_a_damaged_one() {
        let mut bytes = encode(&depot_window(1, 3, 1), HOME).expect("it can be written").bytes;
        bytes[0] = 2;
        assert_eq!(decode(&bytes, HOME), Err(Unreadable::Version(2)));
        bytes[0] = 1;
        bytes.truncate(bytes.len() / 2);
        assert_eq!(decode(&bytes, HOME), Err(Unreadable::Damage(Damage::Content)));
    }

    #[test]
    fn points_out_of_order_are_refused_and_not_mixed_up() {
        let mut window = depot_window(1, 3, 1);
        window.intervals[0].points.swap(0, 2);
        assert_eq!(encode(&window, HOME).expect_err("it cannot be written"), Unwritable::Disordered);
    }

    proptest! {
        #[test]
        fn every_window_comes_back_as_it_was(window in any_window()) {
            let encoded = encode(&window, HOME).expect("it can be written");
            prop_assert_eq!(decode(&encoded.bytes, HOME).expect("it can be read"), window);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
            }
            let _ = decode(&bytes, HOME);
        }
    }
}
