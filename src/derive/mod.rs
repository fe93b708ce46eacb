//! What is worked out of readings and windows: energy, charging sessions, the depot as one, and what does not go together. Pure:
//! nothing here reads a clock or a disk.
//!
//! In: the [`Reading`]s of the windows, and the windows as `aggregate` closes them. Out: the same windows, with what each knows of
//! the energy of its devices ([`Energy`](crate::measure::Energy)), and with the charging sessions of which there is news
//! ([`ChargingSession`](crate::measure::ChargingSession)).
//!
//! - **From a register where there is one**, else from power over the time for which it was known; each direction for itself. What a
//!   register counts is told with the reading that shows it, so that the sum over any time is the difference of what it
//!   showed, also over an outage of the device and over a restart of the agent. An end of its bits, another meter, a fall for a
//!   reading are told apart before (`measure::counter`), and make no energy.
//! - **Power over time** is the area under straight lines between its readings, told in the window of the second. Between two readings that
//!   are further apart than three polls (5 s of a device that speaks by itself), or if the device has said in between that it is
//!   not known, nothing is made up: `known` is shorter, and there is no energy. Each area is off by at most half the difference of
//!   its two powers times their distance.
//! - Energies are whole mWh and times whole ms; what is less is carried to the next window. So they may be added in any order
//!   and over any windows, and the sums are the same.
//! - What is of a window that could not be kept is told in the next one ([`Deriver::take_back`]).
//!
//! - **A session** of a charge point is what its messages say (ISO 15118, DIN SPEC 70121), or else what its `state` says of its connector
//!   (occupied to free), or else, of one that has neither or whose words nobody knows, power: 5 s of it begin a session and 15 min without end it. It is told when it
//!   begins, changes what it does, each minute, and when it ends. Its energy is the sum of its windows. One whose messages pause, or whose
//!   feed is lost, is `paused` until it goes on under its id or another one begins; one whose device is not heard goes on.
//! - A session goes on over a restart under its id; of the times for which it charged and discharged, and of its highest powers, up to a
//!   minute before a kill may be lacking, of its energy nothing that a window has told.
//!
//! - **The depot** ([`SiteRollup`](crate::measure::SiteRollup)) is told in every window in which anything of it is known, or of a charge point or
//!   the connection's meter was heard: power, counts and SoC of the charge points; batteries and inverters, each by themselves; power, phases and
//!   energy of the grid connection, and what is left of its limits. A vehicle that is heard by itself is the one at a charge point if its id, or the
//!   name of its device, says so: then only what its charge point tells of it counts.
//!
//! - **A limit** of the connection is exceeded once the power has been above it for the hold time, and kept once it has been below it by the
//!   hysteresis for as long.
//! - **Quarter-hours** of the connection ([`SiteInterval`](crate::measure::SiteInterval)) are the sums of what its windows know; the one that goes
//!   on is told each minute, and each when it is over. They go on over a restart. What an earlier boot began does not go on while the clock
//!   is not synced or set.
//!
//! - **What does not go together** is told by an event when it has not for a while, by the rules in `plausibility`.
//!
//! Memory: some words for each device, and 3 kB of a meter that tells all of its phases. A restart goes on from the [`Checkpoint`](crate::measure::Checkpoint) that the journal keeps.

mod backlog;
mod energy;
mod limits;
#[cfg(test)]
mod limits_tests;
mod plausibility;
mod quarters;
#[cfg(test)]
mod quarters_tests;
mod rollup;
#[cfg(test)]
mod rollup_tests;
mod session;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::backlog::BesideBacklog;
use self::energy::EnergyMeter;
use self::limits::Limits;
use self::plausibility::Plausibility;
use self::quarters::Quarters;
use self::rollup::Rollup;
use self::session::SessionMeter;
use crate::measure::{
    BootId, ChargingSession, Checkpoint, Event, EventKind, Reading, SessionState, SiteInterval, Stamp, Window,
};
use crate::spec::{DeviceId, DeviceIx, DeviceSpec, SessionId, SiteSpec, VehicleId};

/// A window that has so many events takes no finding more: those that are left are told in the next one.
const FINDINGS_UNTIL: usize = 512;

/// The state of the room.
#[derive(Debug)]
pub struct Deriver {
    devices: Vec<Device>,
    rollup: Rollup,
    limits: Limits,
    quarters: Quarters,
    sessions_beside_backlog: BesideBacklog<ChargingSession>,
    quarters_beside_backlog: BesideBacklog<SiteInterval>,
}

#[derive(Debug)]
struct Device {
    id: DeviceId,
    energy: EnergyMeter,
    sessions: SessionMeter,
    plausibility: Plausibility,
}

impl Deriver {
    /// Of these devices; `window` is the length of a window.
    #[must_use]
    pub fn new(devices: &[DeviceSpec], window: Duration, dead_band_kw: f64, boot: BootId) -> Self {
        let device = |(ix, device): (DeviceIx, &DeviceSpec)| Device {
            id: device.id.clone(),
            energy: EnergyMeter::new(device, window),
            sessions: SessionMeter::new(ix, device, dead_band_kw, boot),
            plausibility: Plausibility::new(device),
        };
        Self {
            devices: (0..).map(DeviceIx).zip(devices).map(device).collect(),
            rollup: Rollup::new(devices, window, dead_band_kw),
            limits: Limits::new(&SiteSpec::default()),
            quarters: Quarters::default(),
            sessions_beside_backlog: BesideBacklog::default(),
            quarters_beside_backlog: BesideBacklog::default(),
        }
    }

    /// The same with what is to be known of the depot as a whole.
    #[must_use]
    pub fn with_site(mut self, site: SiteSpec) -> Self {
        self.limits = Limits::new(&site);
        self.rollup.set_site(site);
        self
    }

    fn device(&mut self, ix: DeviceIx) -> Option<&mut Device> {
        self.devices.get_mut(usize::from(ix.0))
    }

    /// Goes on from where the life before ended; this one begins `now`.
    pub fn resume(&mut self, checkpoint: &Checkpoint, now: Stamp) {
        self.limits.resume(&checkpoint.site);
        self.quarters.resume(&checkpoint.site);
        for ((device, point), base) in &checkpoint.registers {
            if let Some(device) = self.device(*device) {
                device.energy.resume(*point, base.value);
            }
        }
        for open in checkpoint.sessions.values() {
            if let Some(device) = self.device(open.told.device) {
                device.sessions.resume(open.clone(), now);
            }
        }
    }

    /// Takes a reading of the open window.
    pub fn add(&mut self, reading: &Reading) {
        self.rollup.add(reading);
        if let Some(Device { energy, sessions, plausibility, .. }) = self.device(reading.device) {
            let flowed = energy.add(reading);
            sessions.add(reading);
            plausibility.add(reading, flowed.map(|(kw, time)| (kw, time.as_secs_f64() / 3600.0)));
            if let Some((kw, time)) = flowed {
                sessions.flow(kw, time);
            }
        }
    }

    /// The vehicle at a device from now on.
    pub fn set_vehicle(&mut self, device: DeviceIx, vehicle: Option<VehicleId>) {
        self.rollup.set_vehicle(device, vehicle.as_ref());
        if let Some(device) = self.device(device) {
            device.sessions.set_vehicle(vehicle);
        }
    }

    /// The session at a device from now on, as the messages between vehicle and station say it; readings are added to it from here on
    /// (as [`Aggregator::set_session`](crate::aggregate::Aggregator::set_session)).
    pub fn set_session(&mut self, device: DeviceIx, session: Option<SessionId>, at: Stamp) {
        if let Some(device) = self.device(device) {
            device.sessions.set_session(session.clone(), at);
            device.energy.set_session(session);
        }
    }

    /// What happened to a device.
    pub fn notice(&mut self, device: DeviceIx, kind: &EventKind, at: Stamp) {
        if let Some(device) = self.device(device) {
            device.sessions.notice(kind, at);
        }
    }

    /// The session at a device from now on, if that has changed by what was found here. To be asked before a reading is added to its
    /// window.
    pub fn session_news(&mut self, device: DeviceIx) -> Option<Option<SessionId>> {
        let device = self.device(device)?;
        let news = device.sessions.news()?;
        device.energy.set_session(news.clone());
        Some(news)
    }

    /// Adds to a window that has just ended what it knows of energy and sessions. Each window is completed once. `is_late`: it holds what
    /// came late of a device, and is none of the moment.
    pub fn complete(&mut self, window: &mut Window, is_late: bool) {
        let Window { intervals, sessions, events, end, .. } = window;
        for of_device in intervals.chunk_by_mut(|one, other| one.device == other.device) {
            let ix = of_device.first().map(|interval| interval.device);
            if let Some(device) = ix.and_then(|ix| self.devices.get_mut(usize::from(ix.0))) {
                device.energy.tell(of_device);
                device.sessions.tell(of_device, *end, sessions);
                let Device { id, plausibility, .. } = device;
                plausibility.judge(of_device, *end, |kind| {
                    let has_room = events.len() < FINDINGS_UNTIL;
                    if has_room {
                        events.push(Event { device: Some(id.clone()), kind });
                    }
                    has_room
                });
            }
        }
        if !is_late {
            self.devices.iter_mut().for_each(|device| device.sessions.tell(&[], *end, sessions));
            self.rollup.complete(window);
            self.limits.complete(window);
            self.quarters.complete(window);
        }
    }

    /// To be asked at each window of the moment, once it is complete. While a backlog is delivered beside what is of the moment, a
    /// database gets older news of a session or a quarter-hour after the newest; so what ends meanwhile is told once more when the backlog
    /// has gone.
    pub fn tell_after_backlog(&mut self, window: &mut Window, has_backlog: bool) {
        let Window { sessions, site_intervals, end, .. } = window;
        let over = sessions.iter().filter(|told| told.state == SessionState::Ended);
        // By the wall clock: the window that tells it again is another one.
        let sealed: Vec<_> = over.cloned().filter_map(|told| told.sealed(*end)).collect();
        sessions.extend(self.sessions_beside_backlog.take(sealed, has_backlog, end.mono));
        let complete: Vec<_> = site_intervals.iter().filter(|told| told.is_complete).copied().collect();
        site_intervals.extend(self.quarters_beside_backlog.take(complete, has_backlog, end.mono));
    }

    /// A window is not kept: what it knew is told in the next one.
    pub fn take_back(&mut self, window: &Window) {
        if !window.end.trust.is_of_source() {
            self.quarters.take_back();
            self.rollup.take_back(window);
            let complete = window.site_intervals.iter().filter(|told| told.is_complete).copied();
            self.quarters_beside_backlog.take_back(complete, window.end.mono);
        }
        for interval in &window.intervals {
            if let Some(device) = self.device(interval.device) {
                device.energy.take_back(interval);
                device.sessions.take_back(interval);
            }
        }
        for told in &window.sessions {
            if let Some(device) = self.device(told.device) {
                device.sessions.tell_again(told);
            }
        }
    }
}
