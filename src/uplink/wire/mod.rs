//! The wire contract, version 2: what a consumer at the broker can rely on.
//!
//! Prefix `v2g/{site}/{gateway}` (configurable). MQTT 5, QoS 1, UTF-8 payloads with payload-format-indicator 1.
//!
//! | topic | retain | content |
//! |---|---|---|
//! | `…/telemetry` | | a batch, live |
//! | `…/history` | | a batch from before the connection, or one that was delivered late; user property `historical` = `true` |
//! | `…/state` | yes | `{"state":"online"…}`; `offline` at an orderly stop, and as the will |
//! | `…/catalog` | yes | devices, kinds, points with unit, profile, window, wire version |
//!
//! A batch is one entry of the journal, content type `application/vnd.influx-line-protocol`, user properties
//! `gateway`, `epoch`, `seq`, `points`. Its payload is the same to the byte on both topics and on every replay.
//!
//! - First line: `gateway,site=…,gateway=… epoch=12i,seq=345i,points=2i,time_trust="synced",version=2i TIME`. `points`
//!   counts the measured values: one for each point of a device, whatever statistics it carries. `version` is that of the
//!   contract in whose words the batch is told: those of the program that recorded it. One of version 1 has no `version`,
//!   and `time` in the place of `time_trust`; that is all the difference. `time_trust` says how far the time stamps of the
//!   batch can be believed: `synced`, or `holdover` (the clock was synced in this boot and runs free since); `resolved`
//!   (captured before the clock was set; the true time was found later in the same boot, as good as synced); `estimated`
//!   (the clock was never set in that boot: in order and at the right pace between what is known before and after, but
//!   shifted by an unknown time); `unsynced` (written by an agent that knew no better: as the clock showed it).
//! - One line per device of which something is known or was asked for; measurement = its kind; tags `site`, `gateway`,
//!   `device`, then `vehicle_id` if known, then `direction`: for an EVSE and a vehicle `G2V`,
//!   `V2G` or `idle`, for a battery `charging`, `discharging` or `idle`.
//! - While a charging session is heard, its device's lines and its events have the field `session_id`: the same text for the same
//!   session at a device. A device of which a window holds more than one session has a line for each.
//! - `charging_session` lines: all that is known of a session, under the time of its start, so that a database keeps one row for each.
//!   Told at its begin, at each change of what it does, each minute, and at its end (`state`: `running`, `paused`, `ended`).
//! - A float point has its value; if it was read more than once in the window also `…_min` and `…_max`.
//! - `energy_import_delta`, `energy_export_delta` (kWh, never negative) and `known_s`: what the window knows of the device's energy, and
//!   for how long power was known. They may be summed over any windows. From a register where there is one, else power over time.
//! - `power_source="meter"` in a line of a charging session: `power_flow` is worked out from the station's meter, a mean of up to a minute.
//! - A point that was asked for and is not known has no field; the line then has `missing="timeout"` (the commonest
//!   reason among its points). A doubtful point keeps its value and is named in `suspect="power_flow:out_of_range"`.
//! - A counter that does not go on is doubted as `counter_zero` (fell to 0), `counter_backwards` or `counter_jump` (further than can
//!   have passed) until it goes on or stays. `counter_break` (`point`, `from`, `to`, `reason`) says that it is believed where it is
//!   now: `rolled_over` (came to the end of its bits, confirmed by a second reading), `meter_exchanged` (the device's own number changed),
//!   `another_level` (it stays there: reset, or another meter). Differences over a `counter_break` are no energy, but over
//!   `rolled_over`. `meter_exchanged` (`before`, `after`): a device's own number changed.
//! - One `site` line in each window in which anything of the depot is known or was heard: power, counts and SoC of the charge points
//!   (`unknown=2i` if the power of some is not in the sums), batteries and inverters, and the grid connection with its energies and headroom.
//! - `site_interval` lines: a quarter-hour of the grid connection, under the time of its beginning, so that a database keeps one row for each.
//!   Told each minute (`state` `open`), and when it is over (`complete`). `site_limit_exceeded`, `site_limit_kept`: a limit of it.
//! - `event` lines, one for each event, tag `kind` and, where it concerns one, `device`.
//! - `implausible` and `plausible` (tag `rule`; `value`, `expected`, `unit`, `reason`, `stands`): what a device says does not go together,
//!   and does again.
//! - `journal_newer` (`reason`): the journal holds what a newer program wrote, before it was rolled back; that comes when it is
//!   installed again.
//! - `events_left_out` (`of`, `about`, `count`): so many events of these kinds were not told each, because more than one came in
//!   a second; the last of them is told. `reload_refused` (`reason`) and `reloaded`: what became of a new configuration.
//! - What happens to a CAN bus: `bus_state` (`bus`, `state`, `reason`), `bus_restarted` (`bus`), `frames_dropped` (`bus`, `frames`).
//! - A `gap` event names entries that will never come: `from_epoch`, `from_seq`, `to_seq`, `reason`. With the reason
//!   `thinned` others stand for them, at a coarser window: `as_epoch`, `as_from_seq`, `as_to_seq`, `window_ms`.
//! - Events of a charging session begin with `session_`: `session_started` (`how`, `protocol`, `namespace`, `evse_id`),
//!   `session_phase` (`phase`, `before`), `session_notified` (`what`), `session_failed` (`code`, `message`), `session_ended` (`how`,
//!   `reason`, `seconds`, `import_wh`, `export_wh`, `energy_source`, `messages`, `unreadable`), `session_encrypted`,
//!   `session_unreadable` (`reason`, `count`, `namespace`), `session_readable` (`count`); `feed_connected` and `feed_lost` (`reason`).
//! - `uplink_trouble` (`broker`, `reason` with the MQTT name and code, `remedy`) and `uplink_online` (`broker`) tell of outages as
//!   the gateway saw them; `certificate_expires` (`file`, `days` 30, 7, 1, 0) of what must be renewed.
//! - A batch that is larger than the broker's maximum packet size comes in parts, told by the user property `part` = `2/3`.
//!   Each begins with the batch's own line and is good line protocol by itself; a line may go on in the next part, under
//!   the same series and time. A database takes them as they are. Who tells repeats by identity counts the part to it, and
//!   has the batch when all parts are there; put together they are the payload above, to the byte.
//! - No two batches of a gateway have the same time stamp; order is `epoch` and `seq`, never the time.
//! - `epoch` is the number of a life of the agent, below 2^53: its upper 28 bits rise from life to life, its lower 25 are drawn.
//!   Of an entry whose time another life has found than the one that recorded it, it is between the two, and made of what was found.
//! - Every time stamp is the window's end, ns, but that of a charging session and of a quarter-hour. A line whose series already stands in the batch gets 1 ns more than
//!   the last of it, so that a database that upserts keeps both.

mod batch;
mod charging;
mod documents;
mod energy;
mod event;
mod line;
mod parts;
pub mod read;
mod site;

pub use batch::payload_of;
pub(super) use batch::{Batch, CONTENT_TYPE};
pub use documents::DeviceCard;
pub(super) use documents::{Presence, catalog, state};
pub(super) use parts::{join, part, split, without_part};

/// The payload of an entry, for tests of other rooms.
#[cfg(test)]
pub(crate) fn payload(entry: &crate::measure::Entry) -> String {
    Batch::new(entry, crate::journal::Lane::History, "v2g/site/gw").payload
}

/// The version of this contract, in the catalog.
pub const WIRE_VERSION: u32 = crate::measure::Words::Second.wire_version();
