//! How busy a bus is: frames of each id, and the share of the time in which the bus carries bits. Pure.

use std::collections::HashMap;
use std::time::Duration;

use hal::can::{Counters, Frame, FrameId};

use crate::measure::Mono;

/// More ids than that are counted together: a bus with errors can invent many.
const IDS_MAX: usize = 1024;

/// What was heard since it was last asked.
#[derive(Debug)]
pub struct Load {
    since: Mono,
    ids: HashMap<FrameId, u64>,
    frames: u64,
    /// In the arbitration phase, and in the faster data phase of CAN FD; without stuff bits.
    bits: (u64, u64),
    payload_bytes: u64,
    /// The interface's own count when it was last asked.
    counters: Option<Counters>,
}

/// How fast a bus sends its bits, where that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Speeds {
    /// Bits per second.
    pub bitrate: Option<u32>,
    /// Of the data phase of CAN FD.
    pub data_bitrate: Option<u32>,
}

/// The rates of one period.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates {
    /// Frames per second, all ids.
    pub frames_per_second: f64,
    /// 0 to 1; `None` if the bit rate is not known. Without stuff bits, which are up to a fifth more.
    pub load: Option<f64>,
    /// Frames per second of each id that was heard, ascending.
    pub ids: Vec<(FrameId, f64)>,
    /// Frames that the driver lost.
    pub lost: u64,
}

impl Load {
    /// Counts from `now` on.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self { since: now, ids: HashMap::new(), frames: 0, bits: (0, 0), payload_bytes: 0, counters: None }
    }

    /// A frame was heard.
    pub fn note(&mut self, frame: &Frame) {
        self.frames += 1;
        let (slow, fast) = frame.bits();
        self.bits = (self.bits.0 + u64::from(slow), self.bits.1 + u64::from(fast));
        self.payload_bytes += frame.data().len() as u64;
        if let Some(count) = self.ids.get_mut(&frame.id) {
            *count += 1;
        } else if self.ids.len() < IDS_MAX {
            self.ids.insert(frame.id, 1);
        }
    }

    /// The rates since it was last asked, and a new period. `counters` are the interface's own: with them frames are
    /// counted, too, that a filter kept from us, as if they were like those that were heard.
    #[allow(clippy::cast_precision_loss, reason = "nobody counts 2^53 frames in a period")]
    pub fn cut(&mut self, now: Mono, speeds: Speeds, counters: Option<Counters>) -> Rates {
        let seconds = now.since(self.since).as_secs_f64().max(Duration::from_millis(1).as_secs_f64());
        let (mut frames, mut bits, mut lost) = (self.frames as f64, (self.bits.0 as f64, self.bits.1 as f64), 0);
        if let (Some(before), Some(after)) = (self.counters, counters) {
            let all = after.frames.saturating_sub(before.frames);
            let bytes = after.bytes.saturating_sub(before.bytes);
            lost = after.lost.saturating_sub(before.lost);
            let unheard = all.saturating_sub(self.frames) as f64;
            let unheard_bytes = bytes.saturating_sub(self.payload_bytes) as f64;
            // What a frame takes besides its payload; of 11-bit ids if none was heard.
            let own = bits.0 - if bits.1 > 0.0 { 0.0 } else { self.payload_bytes as f64 * 8.0 };
            let overhead = if self.frames > 0 { own / frames } else { 47.0 };
            bits.0 += unheard * overhead + unheard_bytes * 8.0;
            frames += unheard;
        }
        let busy = speeds.bitrate.map(|rate| {
            let fast = speeds.data_bitrate.or(speeds.bitrate).unwrap_or(rate);
            bits.0 / f64::from(rate.max(1)) + bits.1 / f64::from(fast.max(1))
        });
        let mut ids: Vec<_> = self.ids.drain().map(|(id, count)| (id, count as f64 / seconds)).collect();
        ids.sort_unstable_by_key(|(id, _)| *id);
        *self = Self { since: now, counters: counters.or(self.counters), ..Self::new(now) };
        Rates { frames_per_second: frames / seconds, load: busy.map(|busy| busy / seconds), ids, lost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const SPEEDS: Speeds = Speeds { bitrate: Some(500_000), data_bitrate: None };

    fn frame(id: u16) -> Frame {
        Frame::new(FrameId::Standard(id), &[0; 8], false).expect("a frame")
    }

    #[test]
    fn rate_and_load_are_those_of_the_period() {
        let mut load = Load::new(Mono(0));
        (0..100).for_each(|_| load.note(&frame(0x109)));
        (0..10).for_each(|_| load.note(&frame(0x208)));
        let rates = load.cut(Mono(2 * SECOND), SPEEDS, None);
        assert_eq!(rates.ids, [(FrameId::Standard(0x109), 50.0), (FrameId::Standard(0x208), 5.0)]);
        assert!((rates.frames_per_second - 55.0).abs() < 1e-9);
        assert!((rates.load.expect("known") - 110.0 * 111.0 / 1e6).abs() < 1e-12, "{rates:?}");
        assert_eq!(load.cut(Mono(3 * SECOND), SPEEDS, None).ids, []);
    }

    #[test]
    fn frames_that_a_filter_kept_from_us_count_by_the_interface() {
        let mut load = Load::new(Mono(0));
        let counters = |frames, bytes, lost| Some(Counters { frames, bytes, lost });
        load.cut(Mono(SECOND), SPEEDS, counters(1000, 8000, 3));
        (0..100).for_each(|_| load.note(&frame(0x109)));
        let rates = load.cut(Mono(2 * SECOND), SPEEDS, counters(2000, 16_000, 5));
        assert!((rates.frames_per_second - 1000.0).abs() < 1e-9);
        assert!((rates.load.expect("known") - 1000.0 * 111.0 / 500_000.0).abs() < 1e-9, "{rates:?}");
        assert_eq!(rates.lost, 2);
    }

    #[test]
    fn a_full_bus_of_1_mbit_is_about_full() {
        let mut load = Load::new(Mono(0));
        (0..8000).for_each(|_| load.note(&frame(1)));
        let rates = load.cut(Mono(SECOND), Speeds { bitrate: Some(1_000_000), data_bitrate: None }, None);
        assert!((0.85..0.95).contains(&rates.load.expect("known")), "{rates:?}");
    }
}
