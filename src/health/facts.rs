//! The board of facts and the snapshot that is made of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measure::{ClockTrust, Epoch, Missing, Seq, SiteLimitTold, SiteRollup, Utc};
use crate::spec::{BusId, DeviceId, DeviceKind, SessionId, VehicleId};

/// Where every task writes down what it knows of itself. Shared; each section has its own short lock.
#[derive(Debug, Default)]
pub struct StatusBoard {
    devices: Mutex<BTreeMap<DeviceId, DeviceFacts>>,
    buses: Mutex<BTreeMap<BusId, BusFacts>>,
    pipeline: Mutex<PipelineFacts>,
    depot: Mutex<DepotFacts>,
    journal: Mutex<JournalFacts>,
    uplink: Mutex<UplinkFacts>,
    reload_refused: Mutex<Option<String>>,
    without_devices: Mutex<bool>,
    files: Mutex<Option<String>>,
    update: Mutex<Option<UpdateFacts>>,
}

/// A task that panicked while it wrote left numbers, not broken logic: go on with them.
fn open<T>(section: &Mutex<T>) -> MutexGuard<'_, T> {
    section.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StatusBoard {
    /// Updates what is known of one device.
    pub fn device(&self, id: &DeviceId, update: impl FnOnce(&mut DeviceFacts)) {
        let mut devices = open(&self.devices);
        if let Some(facts) = devices.get_mut(id) {
            update(facts);
        } else {
            let mut facts = DeviceFacts::default();
            update(&mut facts);
            devices.insert(id.clone(), facts);
        }
    }

    /// Updates what is known of one bus.
    pub fn bus(&self, id: &BusId, update: impl FnOnce(&mut BusFacts)) {
        update(open(&self.buses).entry(id.clone()).or_default());
    }

    /// Forgets all devices and buses: the plan has changed.
    pub fn clear_devices(&self) {
        open(&self.devices).clear();
        open(&self.buses).clear();
    }

    /// Updates what is known of the pipeline.
    pub fn pipeline(&self, update: impl FnOnce(&mut PipelineFacts)) {
        update(&mut open(&self.pipeline));
    }

    /// Updates what is known of the depot as a whole.
    pub fn depot(&self, update: impl FnOnce(&mut DepotFacts)) {
        update(&mut open(&self.depot));
    }

    /// Updates what is known of the journal.
    pub fn journal(&self, update: impl FnOnce(&mut JournalFacts)) {
        update(&mut open(&self.journal));
    }

    /// Updates what is known of the uplink.
    pub fn uplink(&self, update: impl FnOnce(&mut UplinkFacts)) {
        update(&mut open(&self.uplink));
    }

    /// Notes that the configuration was not taken at a reload, and why, in one line with what to do; `None` once one was.
    pub fn reload_refused(&self, why: Option<String>) {
        *open(&self.reload_refused) = why;
    }

    /// Notes whether the configuration has no device.
    pub fn without_devices(&self, it_has_none: bool) {
        *open(&self.without_devices) = it_has_none;
    }

    /// Notes that too few files may be open at once, in one line with what to do.
    pub fn files(&self, trouble: Option<String>) {
        *open(&self.files) = trouble;
    }

    /// Notes how the newest update of the box is; `None`: there was none.
    pub fn update(&self, update: Option<UpdateFacts>) {
        *open(&self.update) = update;
    }

    /// A consistent copy of each section.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut journal = open(&self.journal).clone();
        journal.held_why = journal.clock_wait.take().map(|wait| wait.to_string());
        Status {
            devices: open(&self.devices).clone(),
            buses: open(&self.buses).clone(),
            pipeline: open(&self.pipeline).clone(),
            depot: open(&self.depot).clone(),
            journal,
            uplink: open(&self.uplink).clone(),
            reload_refused: open(&self.reload_refused).clone(),
            without_devices: *open(&self.without_devices),
            files: open(&self.files).clone(),
            update: open(&self.update).clone(),
        }
    }
}

/// What the agent knows of itself at one moment. All of it is the agent's own view: "in journal" is not
/// "acknowledged by the broker".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// By name.
    pub devices: BTreeMap<DeviceId, DeviceFacts>,
    /// CAN buses, by name.
    #[serde(default)]
    pub buses: BTreeMap<BusId, BusFacts>,
    /// From samples to windows.
    pub pipeline: PipelineFacts,
    /// The depot as a whole.
    #[serde(default)]
    pub depot: DepotFacts,
    /// Where data waits.
    pub journal: JournalFacts,
    /// Towards the broker.
    pub uplink: UplinkFacts,
    /// Why the agent goes on with another configuration than the one in its file, and what to do; `None` if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_refused: Option<String>,
    /// The configuration has no device: nothing is read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_devices: bool,
    /// Too few files may be open at once, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// The newest update of the box; `None`: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateFacts>,
}

/// The newest update of the box, as far as this agent knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateFacts {
    /// Tells updates apart; empty if the record cannot be read.
    pub id: String,
    /// `installing`, `installed`, `confirming`, `confirmed`, `rolled_back` or `failed`; empty if the record cannot be read.
    pub state: String,
    /// The version before.
    pub from: String,
    /// The new version.
    pub to: String,
    /// The event `update_started` is durable in the journal.
    pub start_told: bool,
    /// So is the event of its end.
    #[serde(default)]
    pub end_told: bool,
    /// What is still waited for before the new version is confirmed, in words; nothing once the update has ended.
    pub waits_for: Vec<String>,
    /// What of its files cannot be read, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A device, as its source sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// The bus it is on.
    pub bus: Option<BusId>,
    /// Meter, charge point, …
    pub kind: Option<DeviceKind>,
    /// Whether it answers.
    pub state: DeviceState,
    /// Requests sent since the start.
    pub requests: u64,
    /// Answers that could be used.
    pub answers: u64,
    /// Requests that failed, by the name of the failure.
    pub failures: BTreeMap<String, u64>,
    /// The last failure in words, with what to do; kept when the device answers again.
    pub last_failure: Option<String>,
    /// What is wrong with it though it answers, with what to do; `None` when all is well.
    #[serde(default)]
    pub trouble: Option<String>,
    /// What of it gives no answer while the rest does, with what to do; `None` unless it answers in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_part: Option<String>,
    /// Why it is not read as often as it should be, with what to do; `None` if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrun: Option<String>,
    /// Round trip of the last answer, ms.
    pub reply_ms: Option<f64>,
    /// It does not hear what comes so soon after an answer, ms: as was found, and is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<f64>,
    /// The last known power, kW, positive towards the vehicle or the site; `None` also if what it says makes no sense.
    pub power_flow_kw: Option<f64>,
    /// Values of its last window that make no sense, by field. They are sent as they came, and marked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub questionable: BTreeMap<String, QuestionableFacts>,
    /// What it says that does not go together, by the name of the rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub implausible: BTreeMap<String, ImplausibleFacts>,
    /// The command that shows what it says; `None` where there is none, and before the first window with its power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// The charging session, of a device whose sessions are heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionFacts>,
}

/// Quantities of a device that do not go together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImplausibleFacts {
    /// What it says.
    pub value: f64,
    /// What its other quantities make of it.
    pub expected: f64,
    /// The unit of both.
    pub unit: String,
    /// Which quantities.
    pub what: String,
}

/// A value that makes no sense.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QuestionableFacts {
    /// In the wire's unit.
    pub value: f64,
    /// That unit.
    pub unit: String,
    /// The word on the wire: `out_of_range`, `counter_zero` …
    pub why: String,
    /// A frequency of 0 where no voltage is known: nothing is connected or energised.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unpowered: bool,
}

impl fmt::Display for QuestionableFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, unit, .. } = self;
        let size = value.abs();
        // Of garbage the size is enough.
        let is_plain = size == 0.0 || (1e-4..1e7).contains(&size);
        if is_plain {
            write!(f, "{value}")?;
        } else {
            write!(f, "{value:.1e}")?;
        }
        if unit.is_empty() { Ok(()) } else { write!(f, " {unit}") }
    }
}

/// A charging session, as far as it was heard. Empty where nothing was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionFacts {
    /// What it does, or how the last one ended.
    pub state: String,
    /// `din70121`, `iso15118-2`, `iso15118-20`.
    pub protocol: Option<String>,
    /// As the two have negotiated it; known only when the beginning was heard.
    pub namespace: Option<String>,
    /// The vehicle.
    pub vehicle: Option<VehicleId>,
    /// The session that runs.
    #[serde(default)]
    pub session_id: Option<SessionId>,
    /// The station's own name.
    pub evse_id: Option<String>,
    /// State of charge, %.
    pub soc: Option<f64>,
    /// At the station, V.
    pub voltage: Option<f64>,
    /// At the station, A, positive towards the vehicle.
    pub current: Option<f64>,
    /// Where its power comes from, if it is known: `present`, or `meter` if it is worked out from the meter's readings.
    #[serde(default)]
    pub power_source: Option<String>,
    /// To the vehicle in this session, kWh.
    pub energy_import_kwh: Option<f64>,
    /// From the vehicle in this session, kWh.
    pub energy_export_kwh: Option<f64>,
    /// `meter`, `integrated` or `mixed`.
    pub energy_source: Option<String>,
    /// Whether the last frame could be read.
    pub readable: bool,
    /// Messages understood since the start.
    pub messages: u64,
    /// Sessions since the start.
    pub sessions: u64,
    /// How the last session ended, and why.
    pub last_end: Option<String>,
    /// From the charger's clock, as its feed says, to ours; ms.
    pub lag_ms: Option<f64>,
    /// Senders that were not let in since the start, by reason; at the first device of their bus, as nobody knows for which
    /// connector they would have spoken.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
}

/// The detail of a bus whose recording was played to its end.
pub const RECORDING_OVER: &str = "the recording is over";

/// A CAN bus, as its source sees it. Counts are since the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BusFacts {
    /// Its interface, or the file that it was recorded in.
    pub port: String,
    /// `active`, `warning`, `passive`, `bus_off`, `stopped`, `down` or `absent`; empty before the first look.
    pub state: String,
    /// What is known besides, and what to do.
    pub detail: String,
    /// How often its state changed after the start.
    pub changes: u64,
    /// How often its controller was restarted after a bus-off.
    pub restarts: u64,
    /// All frames on the bus in the last second.
    pub frames_per_second: f64,
    /// The share of the last second in which the bus carried bits, 0 to 1, without stuff bits; `None` if its bit rate
    /// is not known.
    pub load: Option<f64>,
    /// Frames in the last second of each id that is read, in hexadecimal: three digits, or eight of a 29-bit id.
    pub ids: BTreeMap<String, f64>,
    /// Frames that did not fit into our receive buffer.
    pub dropped: u64,
    /// Times that the controller had no room for a frame.
    pub overruns: u64,
    /// Frames that the driver lost.
    pub lost: u64,
    /// Errors that the controller saw on the bus.
    pub bus_errors: u64,
    /// Lines of a recording that could not be read.
    pub unreadable: u64,
    /// Messages of several frames (J1939 transport protocol) that were put together.
    #[serde(default)]
    pub messages: u64,
    /// Those that were not, by reason: `aborted`, `timed_out`, `out_of_sequence`, `restarted`, `malformed`, `crowded`.
    #[serde(default)]
    pub messages_given_up: BTreeMap<String, u64>,
}

/// Whether a device answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It answers.
    Answering,
    /// It does not.
    Silent(Missing),
    /// Some of its blocks of registers do, or some of its units.
    Partly {
        /// So many blocks are answered.
        answering: u16,
        /// Of so many that are read.
        blocks: u16,
    },
}

/// From samples to windows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PipelineFacts {
    /// Samples taken from the sources.
    pub samples: u64,
    /// Samples that reached no window, and measured values in windows that the journal did not take.
    pub samples_shed: u64,
    /// Of those, told by an event in a window.
    #[serde(default)]
    pub samples_shed_told: u64,
    /// Samples that came late, with a time of their source's own.
    #[serde(default)]
    pub samples_late: u64,
    /// Windows of their own that the journal has taken of those.
    #[serde(default)]
    pub windows_late: u64,
    /// Windows closed.
    pub windows: u64,
    /// Of those, windows that the journal has taken. What happened in one that it did not take is told in the next one that it takes.
    #[serde(default)]
    pub windows_taken: u64,
    /// How long after its end the last window was closed, ms; a few are waited on purpose.
    #[serde(default)]
    pub late_ms: Option<f64>,
    /// The most since the start, ms.
    #[serde(default)]
    pub late_max_ms: f64,
    /// Measured values in them.
    pub points: u64,
    /// Trust of the wall clock at the last window.
    pub clock: Option<ClockTrust>,
    /// The depot's charge points together at the last roll-up, kW.
    pub site_power_kw: Option<f64>,
}

/// The depot as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DepotFacts {
    /// The newest window in which anything of it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<DepotWindow>,
    /// Limits of the grid connection that are exceeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceeded: Vec<SiteLimitTold>,
    /// The quarter-hour of the grid connection as it was told last: each minute, and when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarter: Option<QuarterFacts>,
}

/// A window of the depot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DepotWindow {
    /// Its end, ns since 1970.
    pub time_ns: Utc,
    /// What it knows.
    #[serde(flatten)]
    pub rollup: SiteRollup,
}

/// A quarter-hour of the grid connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QuarterFacts {
    /// Its beginning, RFC 3339, UTC.
    pub start: String,
    /// Nothing more comes.
    pub complete: bool,
    /// What was taken, kWh.
    pub energy_import_kwh: f64,
    /// What was given, kWh.
    pub energy_export_kwh: f64,
    /// For so long the power was known, s.
    pub known_s: f64,
    /// The mean power that was taken, kW.
    pub power_import_mean_kw: Option<f64>,
    /// What that will be at its end, if all goes on as it does, kW.
    pub power_import_forecast_kw: Option<f64>,
    /// The highest power that was taken in a window, kW.
    pub power_import_peak_kw: f64,
    /// The highest power that was given in a window, kW.
    pub power_export_peak_kw: f64,
}

/// Where data waits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalFacts {
    /// The life of this start.
    pub epoch: Option<Epoch>,
    /// The newest number that is durable.
    pub durable: Option<Seq>,
    /// Entries that are durable and not acknowledged.
    pub waiting_entries: u64,
    /// Of those, entries that are not sent yet because their time is not known.
    pub held_entries: u64,
    /// Why not, and what to do; `None` if there are none. Put into words when a status is asked for, of `clock_wait`.
    pub held_why: Option<String>,
    /// What they wait for; `None` if there are none.
    #[serde(skip)]
    pub clock_wait: Option<ClockWait>,
    /// By how much the wall clock is off what its last sync says, s, ahead positive: it runs free and somebody has set it. `None`:
    /// nobody has. Times go on from the last sync.
    #[serde(default)]
    pub clock_off_s: Option<f64>,
    /// Entries that are appended and not durable yet.
    pub unsynced_entries: u64,
    /// Bytes of all segments on disk.
    pub bytes: u64,
    /// The byte budget.
    pub bytes_max: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Group commits since the start.
    pub commits: u64,
    /// Payload bytes written since the start.
    pub bytes_written: u64,
    /// Duration of the last commit with its sync, ms.
    pub commit_ms: Option<f64>,
    /// The shortest time between two commits, ms: as planned, or longer to spare the flash.
    pub commit_interval_ms: f64,
    /// The same, as planned.
    pub commit_interval_planned_ms: f64,
    /// Payload bytes a day, at the rate of the last hour; `None` in the first minute.
    pub kept_bytes_per_day: Option<u64>,
    /// Bytes that the agent causes to be written a day, as the kernel counts them for its process.
    pub written_bytes_per_day: Option<u64>,
    /// Bytes written a day to the disk under the journal, by the agent, its file system, and all others.
    pub device_bytes_per_day: Option<u64>,
    /// What `written_bytes_per_day` is held below by rarer commits, if a ceiling is set.
    pub bytes_per_day_max: Option<u64>,
    /// Gap entries written since the start, and the entries they stand for.
    pub gaps: u64,
    /// Entries lost to any reason since the start; each is covered by a gap entry.
    pub entries_lost: u64,
    /// Entries rewritten at a coarser window since the start; each is covered by a gap entry that names what stands
    /// for it.
    #[serde(default)]
    pub entries_thinned: u64,
    /// What is wrong with the medium, and what to do; `None` when all is well.
    pub trouble: Option<String>,
    /// What a newer program wrote and this one leaves alone, and what to do; `None`: nothing.
    #[serde(default)]
    pub newer: Option<String>,
}

/// Entries wait for the wall clock of this boot to be synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockWait {
    /// What it shows; `None`: no window has ended yet.
    pub shows: Option<Utc>,
    /// How long after the first connection they are sent all the same.
    pub time_wait: Duration,
}

impl fmt::Display for ClockWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shows = self.shows.map_or_else(|| "nothing yet".to_owned(), Utc::rfc3339);
        write!(
            f,
            "their time is not known: the wall clock was not synced in this boot and shows {shows}; they are sent when \
             it is, or with estimated times {} s after the first connection (journal.time_wait). Check NTP and the way \
             to its server (timedatectl, chronyc sources)",
            self.time_wait.as_secs()
        )
    }
}

/// Towards the broker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UplinkFacts {
    /// Where the session stands.
    pub state: UplinkState,
    /// The broker in use or being tried.
    pub broker: Option<String>,
    /// The network interface towards it; `None` for the system's choice.
    #[serde(default)]
    pub interface: Option<String>,
    /// What the broker has granted; `None` without a connection.
    #[serde(default)]
    pub granted: Option<BrokerLimits>,
    /// Bytes of history that the link in use may still carry today; `None` without a bound.
    #[serde(default)]
    pub history_bytes_left_today: Option<u64>,
    /// What should be looked at before it becomes a trouble.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Connections made since the start.
    pub connections: u64,
    /// Connections lost since the start.
    pub disconnections: u64,
    /// Entries that were recorded in this boot and that a broker has acknowledged since the start, whether or not anybody subscribes.
    #[serde(default)]
    pub acknowledged_of_this_boot: u64,
    /// Messages from the broker that nobody asked for; they are not looked at.
    #[serde(default)]
    pub unasked: u64,
    /// Those of late: 0 once none has come for 10 min.
    #[serde(default)]
    pub unasked_lately: u64,
    /// Messages sent and not acknowledged.
    pub in_flight: u64,
    /// The live lane.
    pub live: LaneFacts,
    /// The history lane.
    pub history: LaneFacts,
    /// What went wrong last; kept after it is mended.
    pub trouble: Option<BrokerTrouble>,
    /// Nobody at the broker subscribes to what is sent.
    #[serde(default)]
    pub no_subscriber: Option<BrokerTrouble>,
    /// Another box speaks under this gateway's id.
    #[serde(default)]
    pub twin: Option<BrokerTrouble>,
}

/// What a broker has granted in its CONNACK (MQTT 5, 3.2.2.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerLimits {
    /// Messages in flight.
    pub receive_maximum: u16,
    /// Bytes of a packet; `None` for no bound.
    pub packet_bytes_max: Option<u32>,
    /// Topics that may be named by a number.
    pub topic_alias_max: u16,
    /// Whether it takes retained messages.
    pub retains: bool,
    /// What holds for both sides, s.
    pub keep_alive_s: u64,
    /// The client id, if it gave another one than was asked for.
    pub client_id: Option<String>,
    /// For so long it keeps the session, s, though none was asked for.
    pub session_expiry_s: Option<u32>,
}

/// One lane of the uplink.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneFacts {
    /// Entries handed to the connection.
    pub published: u64,
    /// Entries acknowledged by the broker with success.
    pub acknowledged: u64,
    /// Entries refused by the broker for good.
    pub refused: u64,
    /// Entries that the broker did not take for a reason of the moment or of its set-up; they go out again.
    #[serde(default)]
    pub given_back: u64,
    /// Entries that the broker took though nobody subscribes to them.
    #[serde(default)]
    pub unheard: u64,
    /// Payload bytes handed to the connection.
    pub bytes: u64,
    /// Why the broker took none of the newest; `None` once it takes one.
    #[serde(default)]
    pub not_taken: Option<BrokerTrouble>,
}

/// Something that went wrong towards the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerTrouble {
    /// Which broker.
    pub broker: String,
    /// What happened, with the MQTT name of the reason code if there was one.
    pub what: String,
    /// What a person can do.
    pub remedy: String,
}

/// Where the session towards the broker stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UplinkState {
    /// Waiting for the next try.
    #[default]
    Offline,
    /// Trying.
    Connecting,
    /// Connected.
    Online,
    /// Sending the last before a stop.
    Draining,
}
