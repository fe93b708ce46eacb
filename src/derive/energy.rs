//! The energy of one device.

use std::time::Duration;

use crate::measure::{
    Count, Energy, EnergyDelta, EnergySource, Interval, Missing, Outcome, Questionable, Reading, Stamp, Value, areas,
    mwh_of,
};
use crate::spec::{DeviceSpec, Origin, PointIx, Roles, SessionId};

/// Readings of power that are further apart than so many polls: nobody knows what was in between. One that is lost in between
/// is bridged, and so is the next.
const POLLS_MAX: u32 = 3;
/// The same of a device that speaks by itself: a charging loop turns every 0.25 s to some seconds.
const SPEAKING_MAX: Duration = Duration::from_secs(5);
/// A source's time that goes back by more was set back; by less, what it says is out of order.
const OUT_OF_ORDER_NS: i128 = 1_000_000_000;
/// What a session has counted may be corrected by its station's meter. It falls by more than this where another session has begun
/// whose id nobody knows.
const CORRECTION_KWH: f64 = 0.1;
const MWH_PER_KWH: f64 = 1e6;

/// What is known of the energy of a device.
#[derive(Debug)]
pub(super) struct EnergyMeter {
    power: Option<PowerMeter>,
    import: Side,
    export: Side,
    session: Option<SessionId>,
    /// Of the open window, since the last part of it.
    open: Energy,
    /// Of sessions that ended in the open window, and what was given back.
    parts: Vec<(Option<SessionId>, Energy)>,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    register: Option<Register>,
    /// By power over time: what is less than a mWh, mWh.
    rest: f64,
}

/// A register that counts one direction.
#[derive(Debug)]
struct Register {
    point: PointIx,
    /// It counts a session, and begins with 0 at each.
    is_of_session: bool,
    /// Up to where it has been told, mWh; `None`: it has not been read, and power over time is told instead.
    base: Option<i64>,
}

/// Power over time.
#[derive(Debug)]
struct PowerMeter {
    point: PointIx,
    /// Between two readings, at most.
    reach: Duration,
    last: Option<(f64, Moment)>,
    /// Known time that is less than a millisecond.
    rest: Duration,
}

/// A time by one of two clocks that do not compare: ours, or the source's.
#[derive(Debug, Clone, Copy)]
struct Moment {
    is_of_source: bool,
    ns: i128,
}

impl Moment {
    fn of(at: Stamp) -> Self {
        let is_of_source = at.trust.is_of_source();
        Self { is_of_source, ns: if is_of_source { at.utc.0.into() } else { at.mono.0.into() } }
    }
}

impl EnergyMeter {
    pub(super) fn new(device: &DeviceSpec, window: Duration) -> Self {
        let Roles { power, energy_import, energy_export, .. } = device.points.roles();
        let register = |point: PointIx| {
            let spec = device.points.get(usize::from(point.0))?;
            let is_of_session = matches!(spec.origin, Origin::Session(_));
            spec.is_energy_register().then_some(Register { point, is_of_session, base: None })
        };
        let side = |point: Option<PointIx>| Side { register: point.and_then(register), rest: 0.0 };
        let power = power.map(|point| {
            let reach = device.interval_of(point).map_or(SPEAKING_MAX, |interval| POLLS_MAX * interval + window);
            PowerMeter { point, reach, last: None, rest: Duration::ZERO }
        });
        Self {
            power,
            import: side(energy_import),
            export: side(energy_export),
            session: None,
            open: Energy::default(),
            parts: Vec::new(),
        }
    }

    /// A register was told up to here, kWh. Of a session's own count the life before knows nothing.
    pub(super) fn resume(&mut self, point: PointIx, kwh: f64) {
        let registers = [&mut self.import, &mut self.export].into_iter().filter_map(|side| side.register.as_mut());
        for register in registers.filter(|register| register.point == point && !register.is_of_session) {
            register.base = Some(mwh_of(kwh));
        }
    }

    /// Takes a reading. Answers the mean power (kW) of the time since the one before it, and that time, if it is one of power.
    pub(super) fn add(&mut self, reading: &Reading) -> Option<(f64, Duration)> {
        let Self { power, import, export, open, .. } = self;
        if let Some(power) = power.as_mut().filter(|power| power.point == reading.point) {
            let (passed, mean_kw, (charged, discharged)) = power.read(reading)?;
            let known = power.known(passed);
            let by_power = |mwh| (mwh > 0).then_some(EnergyDelta { mwh, source: EnergySource::Power });
            let (import, export) = (by_power(import.flow(charged)), by_power(export.flow(discharged)));
            open.add(Energy { import, export, known: Some(known) });
            return Some((mean_kw, known));
        }
        let counted = |side: &mut Side| {
            let register = side.register.as_mut().filter(|register| register.point == reading.point)?;
            Some(EnergyDelta { mwh: register.read(reading)?, source: EnergySource::Register })
        };
        open.add(Energy { import: counted(import), export: counted(export), known: None });
        None
    }

    /// As the aggregator cuts: what was read before a session got its id is of that session.
    pub(super) fn set_session(&mut self, session: Option<SessionId>) {
        if self.session.is_some() && self.session != session {
            let energy = std::mem::take(&mut self.open);
            self.parts.push((self.session.take(), energy));
            let registers = [&mut self.import, &mut self.export].into_iter().filter_map(|side| side.register.as_mut());
            registers.filter(|register| register.is_of_session).for_each(|register| register.base = None);
        }
        self.session = session;
    }

    /// Tells all that is known in the intervals of the device in a window, each part in that of its session.
    pub(super) fn tell(&mut self, intervals: &mut [Interval]) {
        let open = (self.session.clone(), std::mem::take(&mut self.open));
        for (session, energy) in self.parts.drain(..).chain([open]).filter(|(_, energy)| !energy.is_empty()) {
            let own = intervals.iter().rposition(|interval| interval.session == session);
            let place = own.unwrap_or(intervals.len().saturating_sub(1));
            if let Some(interval) = intervals.get_mut(place) {
                interval.energy.add(energy);
            }
        }
    }

    pub(super) fn take_back(&mut self, interval: &Interval) {
        if !interval.energy.is_empty() {
            self.parts.push((interval.session.clone(), interval.energy));
        }
    }
}

impl Side {
    /// By power over time so much has flowed, kWh: answers the whole mWh, none where a register counts. What counts a session counts
    /// all of it.
    fn flow(&mut self, kwh: f64) -> u64 {
        if self.register.as_ref().is_some_and(|register| register.is_of_session || register.base.is_some()) {
            self.rest = 0.0;
            return 0;
        }
        let whole = self.rest + kwh * MWH_PER_KWH;
        self.rest = whole.fract();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative; 5 MW for a day are 10^14"
        )]
        let mwh = whole.trunc() as u64;
        mwh
    }
}

impl Register {
    /// What has passed by a reading of it, mWh; `None`: it says nothing.
    fn read(&mut self, reading: &Reading) -> Option<u64> {
        let (Outcome::Good(Value::Float(kwh)) | Outcome::Questionable(Value::Float(kwh), _)) = reading.outcome else {
            return None;
        };
        let (shown, base) = (mwh_of(kwh), self.base);
        let passed = if self.is_of_session {
            if !matches!(reading.outcome, Outcome::Good(_)) {
                return None;
            }
            let base = base.unwrap_or(0);
            match shown - base {
                passed if passed >= 0 => passed,
                correction if correction > -mwh_of(CORRECTION_KWH) => return Some(0),
                _ => shown,
            }
        } else {
            match reading.count? {
                Count::First => 0,
                Count::On(_) => shown - base.unwrap_or(shown),
                Count::Break(broken) => mwh_of(broken.passed),
                Count::Doubtful(_) => return None,
            }
        };
        self.base = Some(shown);
        Some(u64::try_from(passed).unwrap_or(0))
    }
}

impl PowerMeter {
    /// The time since the reading before, its mean power (kW) and its energies (kWh, to and from the vehicle), if it is known what was
    /// in between.
    fn read(&mut self, reading: &Reading) -> Option<(Duration, f64, (f64, f64))> {
        let kw = match &reading.outcome {
            Outcome::Good(Value::Float(kw)) => *kw,
            // A charger at rest stands still, too.
            Outcome::Questionable(Value::Float(kw), why)
                if !why.is_senseless() && (*why != Questionable::Frozen || *kw == 0.0) =>
            {
                *kw
            }
            // A sensor that stands still, or a device that says so itself: it is not known.
            Outcome::Questionable(_, Questionable::Frozen)
            | Outcome::Missing(Missing::Decode | Missing::Stale | Missing::BusOff) => {
                self.last = None;
                return None;
            }
            // The next reading may be near enough.
            Outcome::Good(_)
            | Outcome::Questionable(..)
            | Outcome::Missing(Missing::Timeout | Missing::Exception | Missing::Overrun) => return None,
        };
        let now = Moment::of(reading.at);
        let Some((before, since)) = self.last.filter(|(_, since)| since.is_of_source == now.is_of_source) else {
            self.last = Some((kw, now));
            return None;
        };
        let ns = now.ns - since.ns;
        if (-OUT_OF_ORDER_NS..0).contains(&ns) {
            return None;
        }
        self.last = Some((kw, now));
        let passed = Duration::from_nanos(u64::try_from(ns).ok()?);
        let mean = f64::midpoint(before, kw);
        (passed <= self.reach).then(|| (passed, mean, areas(before, kw, passed.as_secs_f64() / 3600.0)))
    }

    /// Known time in whole milliseconds; what is less is kept for the next time.
    fn known(&mut self, passed: Duration) -> Duration {
        let whole = self.rest + passed;
        let known = Duration::from_millis(u64::try_from(whole.as_millis()).unwrap_or(u64::MAX));
        self.rest = whole.saturating_sub(known);
        known
    }
}
