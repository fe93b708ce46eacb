//! What the aggregator makes of the readings of one window, and what the journal makes of that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::charging::{ChargingSession, OpenSession, SessionState};
use super::checkpoint::{Checkpoint, RegisterBase};
use super::direction::Direction;
use super::energy::Energy;
use super::event::{Event, Gap, LifeLost};
use super::id::Identity;
use super::quality::{Missing, Questionable};
use super::quarter::{SiteInterval, SiteProgress};
use super::schema::Schema;
use super::site::SiteRollup;
use super::time::{BootId, Stamp};
use crate::spec::{DeviceIx, PointIx, Roles, SessionId, VehicleId};

/// The shortest window of a configuration. Parts of one window are 2 ms apart: that is 25 of them, of 504 KiB each.
const PARTS_WITHIN: Duration = Duration::from_millis(50);

/// All that happened on the gateway in one window. Becomes one [`Entry`] and one MQTT message.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The boot in which `end.mono` counts.
    pub boot: BootId,
    /// Its end; the time stamp of its lines.
    pub end: Stamp,
    /// Its length. 50 ms to 60 s; longer after thinning.
    pub length: Duration,
    /// One per device of which something is known, and of each charging session of it one of its own; ascending by device. After
    /// thinning one per device, vehicle and session.
    pub intervals: Vec<Interval>,
    /// The depot as a whole, if anything of it is known or was heard.
    pub site: Option<Box<SiteRollup>>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// Charging sessions of which there is news.
    pub sessions: Vec<ChargingSession>,
    /// Quarter-hours of the grid connection of which there is news.
    pub site_intervals: Vec<SiteInterval>,
    /// How what is worked out of windows stands after this one. It is told to nobody: a restart goes on from it.
    pub checkpoint: Option<Arc<Checkpoint>>,
}

impl Window {
    /// One in which nothing was.
    #[must_use]
    pub fn empty(boot: BootId, end: Stamp, length: Duration) -> Self {
        let (intervals, events, sessions, site_intervals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { boot, end, length, intervals, site: None, events, sessions, site_intervals, checkpoint: None }
    }

    /// Measured values in it: one for each point of a device, whatever statistics it carries. Points that
    /// are missing, the site's roll-up and events do not count.
    #[must_use]
    pub fn points(&self) -> u64 {
        let known = |p: &&PointInterval| !matches!(p.value, IntervalValue::Missing(_));
        self.intervals.iter().map(|i| i.points.iter().filter(known).count() as u64).sum()
    }

    /// The lives that it says lost what they had in memory only.
    pub fn lives_lost(&self) -> impl Iterator<Item = LifeLost> + '_ {
        self.events.iter().filter_map(|event| event.kind.life_lost())
    }

    /// The losses that it tells of.
    pub fn gaps(&self) -> impl Iterator<Item = Gap> + '_ {
        self.events.iter().filter_map(|event| event.kind.gap())
    }

    /// Gives it another end; its sessions stay when they were.
    pub fn move_end(&mut self, end: Stamp) {
        let (later, earlier) = (end.mono.since(self.end.mono), self.end.mono.since(end.mono));
        let moved = |told: ChargingSession| told.beside_later(later).beside_earlier(earlier);
        self.sessions = std::mem::take(&mut self.sessions).into_iter().map(moved).collect();
        self.end = end;
    }

    /// Whether it is a further part of a window, kept in several entries, whose first part ended then. The journal has set it apart from that:
    /// by less than any window is long, and it begins before that has ended. What comes late is never so long.
    #[must_use]
    pub fn is_part_of(&self, boot: BootId, first: Stamp) -> bool {
        let is_of_clock = self.boot == boot && self.end.trust == first.trust && !first.trust.is_of_source();
        let later = self.end.mono.since(first.mono);
        is_of_clock && !later.is_zero() && later < self.length.min(PARTS_WITHIN)
    }

    /// A checkpoint goes on by what this window tells; `schema` is the window's.
    pub fn advance(&self, checkpoint: &mut Checkpoint, schema: &Schema) {
        let _ = self.advance_site(&mut checkpoint.site);
        checkpoint.registers.extend(self.registers_told(schema));
        let sessions = &mut checkpoint.sessions;
        for told in &self.sessions {
            if told.state != SessionState::Ended {
                // Another one stands there no more.
                sessions.insert(told.device, OpenSession { told: told.clone(), boot: self.boot, at: self.end });
            } else if sessions.get(&told.device).is_some_and(|open| open.told.id == told.id) {
                sessions.remove(&told.device);
            }
        }
        let told: BTreeSet<(DeviceIx, &SessionId)> = self.sessions.iter().map(|told| (told.device, &told.id)).collect();
        for interval in self.intervals.iter().filter(|interval| !interval.energy.is_empty()) {
            let is_own = |open: &&mut OpenSession| Some(&open.told.id) == interval.session.as_ref();
            let is_told = |open: &OpenSession| told.contains(&(interval.device, &open.told.id));
            if let Some(open) = sessions.get_mut(&interval.device).filter(is_own).filter(|open| !is_told(open)) {
                open.told.energy.add(interval.energy);
            }
        }
    }

    /// The grid connection goes on by this window. Answers the quarter-hours that are over with it.
    pub fn advance_site(&self, site: &mut SiteProgress) -> Vec<SiteInterval> {
        site.advance(self.boot, self.end, self.length, self.site.as_deref(), &self.events)
    }

    /// Whether a checkpoint goes on by it.
    #[must_use]
    pub fn is_progress(&self, checkpoint: &Checkpoint) -> bool {
        let is_in_session = |session: &Option<SessionId>| session.is_some() && !checkpoint.sessions.is_empty();
        let is_one = |interval: &Interval| {
            interval.energy.is_of_register() || (is_in_session(&interval.session) && !interval.energy.is_empty())
        };
        let is_of_site = checkpoint.site.is_progress(self.site.as_deref(), &self.events);
        is_of_site || !self.sessions.is_empty() || self.intervals.iter().any(is_one)
    }

    /// The registers whose energy it tells, and up to where. `schema` is the window's.
    fn registers_told(&self, schema: &Schema) -> impl Iterator<Item = ((DeviceIx, PointIx), RegisterBase)> {
        let (boot, at) = (self.boot, self.end);
        let of_registers = self.intervals.iter().filter(|interval| interval.energy.is_of_register());
        of_registers.flat_map(move |interval| {
            let told = interval.registers_told(schema).into_iter().flatten();
            told.map(move |(point, value)| ((interval.device, point), RegisterBase { value, boot, at }))
        })
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_news = !self.events.is_empty() || !self.sessions.is_empty() || !self.site_intervals.is_empty();
        self.intervals.is_empty() && self.site.is_none() && !is_news
    }
}

/// One device in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// Which device.
    pub device: DeviceIx,
    /// Which way its energy goes; `None` if its power is not known.
    pub direction: Option<Direction>,
    /// The vehicle at it, if known.
    pub vehicle: Option<VehicleId>,
    /// The charging session that it is of, if there is one and its id is known.
    pub session: Option<SessionId>,
    /// What was read in this window; ascending by point, not empty.
    pub points: Vec<PointInterval>,
    /// What is known of its energy.
    pub energy: Energy,
}

impl Interval {
    /// The registers whose energy it tells, and what they showed.
    fn registers_told(&self, schema: &Schema) -> [Option<(PointIx, f64)>; 2] {
        let columns = schema.series.get(usize::from(self.device.0)).map_or(&[][..], |series| &series.points);
        let roles = Roles::of(columns.iter().map(|column| &column.field));
        [(roles.energy_import, self.energy.import), (roles.energy_export, self.energy.export)].map(|(role, delta)| {
            let point = role.filter(|_| delta.is_some_and(|delta| delta.source.is_of_register()))?;
            match self.points.iter().find(|told| told.point == point)?.value {
                IntervalValue::Float(statistic) => Some((point, statistic.value)),
                _ => None,
            }
        })
    }
}

/// One point in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct PointInterval {
    /// Which point of the device.
    pub point: PointIx,
    /// What is known of it.
    pub value: IntervalValue,
    /// Set if any reading in the window was doubtful.
    pub questionable: Option<Questionable>,
}

/// What a window knows of a point.
#[derive(Debug, Clone, PartialEq)]
pub enum IntervalValue {
    /// A number.
    Float(Statistic),
    /// The newest code or count.
    Integer(i64),
    /// The newest state.
    Text(Arc<str>),
    /// It was asked for and nothing is known.
    Missing(Missing),
}

/// The readings of one window as numbers. All finite; `min <= max`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistic {
    /// The mean or the newest, as the point's fold says.
    pub value: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many readings; at least 1.
    pub count: u32,
}

/// A window that the journal has kept: durable, with an identity that never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Who it is.
    pub identity: Identity,
    /// What its indices mean.
    pub schema: Arc<Schema>,
    /// In which words it is told.
    pub words: Words,
    /// What it says.
    pub window: Window,
}

/// The words of an entry, those of the program that wrote it: what has been told once is told in the same words for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Words {
    /// Of version 0.1.0.
    First,
    /// Of this one: all that is new is told in them.
    Second,
}

impl Words {
    /// The version of the wire contract that has them.
    #[must_use]
    pub const fn wire_version(self) -> u32 {
        match self {
            Self::First => 1,
            Self::Second => 2,
        }
    }
}
