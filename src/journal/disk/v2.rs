//! Version 2 of an entry: version 1 with the events, the reasons of missing values, the charging sessions and the energies that it
//! has no words for. Headers have one of their own (`schema`); seals and the other records have none, and those of lives in memory, of
//! deciders and of the checkpoint begin with it.
//!
//! Values that were not asked in time stand as timeouts in version 1's part, and `Overruns` says which they are.
//!
//! Every entry is written in it. Its number also says that the entry goes out in the words of wire version 2: a program of
//! version 1 would send it in others, and so must leave it alone.
//!
//! Behind the version byte:
//!
//! ```text
//! postcard of [(place among the window's events, device, kind)], ascending; what is no event (doubts, sessions, energies) comes last
//! the window with its other events, as version 1 has it behind its version byte
//! ```

mod charging;
mod checkpoint;
mod energy;
mod event;
mod in_session;
mod quarter;
pub(in crate::journal) mod schema;
mod site;
mod told;

use std::sync::Arc;

use self::checkpoint::Checkpoint;
pub(in crate::journal) use self::checkpoint::CheckpointAtEnd;
use self::event::{CounterDoubt, Event, EventKind};
use super::v1;
use crate::journal::disk::chunk::Damage;
use crate::journal::disk::record;
use crate::journal::disk::unwritable::Unwritable;
use crate::measure::{BootId, Interval, IntervalValue, Missing, PointInterval, Window};

/// The number of this version, before each entry.
pub(in crate::journal) const VERSION: u8 = 2;

const IN_MEMORY_MAGIC: [u8; 4] = *b"V2GM";

/// The record of lives in memory: epoch and first number of each (see `in_memory`).
pub(in crate::journal) fn write_in_memory(lives: &[(u64, u64)]) -> Option<Vec<u8>> {
    record::frame(IN_MEMORY_MAGIC, &postcard::to_stdvec(lives).ok()?)
}

/// Reads it.
pub(in crate::journal) fn read_in_memory(bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    postcard::from_bytes(record::body(IN_MEMORY_MAGIC, bytes).ok()?).ok()
}

const CHECKPOINT_MAGIC: [u8; 4] = *b"V2GS";

const DECIDERS_MAGIC: [u8; 4] = *b"V2GD";

/// Of a boot: for each of its pieces the turn, and the epoch of the life that decided it, if that was noted (see `times`).
pub(in crate::journal) type DecidersOfBoot = ([u8; 16], Vec<(u16, Option<u64>)>);

/// The record of deciders.
pub(in crate::journal) fn write_deciders(boots: &[DecidersOfBoot]) -> Option<Vec<u8>> {
    record::frame(DECIDERS_MAGIC, &postcard::to_stdvec(boots).ok()?)
}

/// Reads it.
pub(in crate::journal) fn read_deciders(bytes: &[u8]) -> Option<Vec<DecidersOfBoot>> {
    postcard::from_bytes(record::body(DECIDERS_MAGIC, bytes).ok()?).ok()
}

/// The record of how things stood after the last entry of a life.
pub(in crate::journal) fn write_checkpoint(noted: &CheckpointAtEnd) -> Option<Vec<u8>> {
    let mut body = postcard::to_stdvec(&checkpoint::AtEnd::of(noted)).ok()?;
    if let Some(site) = quarter::SiteProgress::of(&noted.site) {
        body = postcard::to_extend(&site, body).ok()?;
    }
    record::frame(CHECKPOINT_MAGIC, &body)
}

/// Reads it.
pub(in crate::journal) fn read_checkpoint(bytes: &[u8]) -> Option<CheckpointAtEnd> {
    let body = record::body(CHECKPOINT_MAGIC, bytes).ok()?;
    let (noted, rest): (checkpoint::AtEnd<'_>, _) = postcard::take_from_bytes(body).ok()?;
    let mut noted = noted.read()?;
    if !rest.is_empty() {
        noted.site = postcard::from_bytes::<quarter::SiteProgress>(rest).ok()?.read().ok()?;
    }
    Some(noted)
}

/// Appends a window of the boot `home` to `bytes`, version byte and all.
pub(in crate::journal) fn write(window: &Window, home: BootId, mut bytes: Vec<u8>) -> Result<Vec<u8>, Unwritable> {
    let mut own: Vec<Event<'_>> =
        (0..).zip(&window.events).filter_map(|(place, event)| Event::of(place, event)).collect();
    let doubts = counter_doubts(window);
    if !doubts.is_empty() {
        own.push(Event { place: 0, device: None, kind: EventKind::CounterDoubts(doubts) });
    }
    let overruns = overruns(window);
    if !overruns.is_empty() {
        own.push(Event { place: 0, device: None, kind: EventKind::Overruns(overruns) });
    }
    let sessions = in_session::of(window);
    if !sessions.is_empty() {
        own.push(Event { place: 0, device: None, kind: EventKind::InSession(sessions) });
    }
    let energies = energy::Columns::of(window);
    if let Some(energies) = &energies {
        own.push(Event { place: 0, device: None, kind: EventKind::Energies(energies.written()) });
    }
    if !window.sessions.is_empty() {
        let sessions = window.sessions.iter().map(charging::Session::of).collect();
        own.push(Event { place: 0, device: None, kind: EventKind::ChargingSessions(sessions) });
    }
    let columns = window.site.as_deref().map(site::Columns::of);
    if let (Some(columns), Some(rollup)) = (&columns, &window.site) {
        own.extend(columns.written(rollup).map(|site| Event { place: 0, device: None, kind: EventKind::Site(site) }));
    }
    if !window.site_intervals.is_empty() {
        let quarters = window.site_intervals.iter().map(Into::into).collect();
        own.push(Event { place: 0, device: None, kind: EventKind::SiteIntervals(quarters) });
    }
    if let Some(checkpoint) = &window.checkpoint {
        own.push(Event { place: 0, device: None, kind: EventKind::Checkpoint(Checkpoint::of(checkpoint, window)) });
        let site = quarter::SiteProgress::of(&checkpoint.site);
        own.extend(site.map(|site| Event { place: 0, device: None, kind: EventKind::SiteProgress(site) }));
    }
    bytes.push(VERSION);
    let bytes = postcard::to_extend(&own, bytes).map_err(|_| Unwritable::Codec)?;
    v1::entry::write(window, home, bytes)
}

/// Reads what stands behind the version byte.
pub(in crate::journal) fn read(bytes: &[u8], home: BootId) -> Result<Window, Damage> {
    let (own, rest): (Vec<Event<'_>>, _) = postcard::take_from_bytes(bytes).map_err(|_| Damage::Content)?;
    let mut window = v1::entry::read(rest, home)?;
    for event in own {
        if let EventKind::CounterDoubts(doubts) = event.kind {
            doubt(&mut window, &doubts)?;
            continue;
        }
        if let EventKind::Overruns(overruns) = event.kind {
            mark(&mut window, &overruns)?;
            continue;
        }
        if let EventKind::InSession(sessions) = event.kind {
            in_session::put(&mut window, &sessions)?;
            continue;
        }
        if let EventKind::Energies(energies) = event.kind {
            energy::put(&mut window, &energies)?;
            continue;
        }
        if let EventKind::Checkpoint(checkpoint) = event.kind {
            window.checkpoint = Some(checkpoint.read(&window)?.into());
            continue;
        }
        if let EventKind::Site(site) = event.kind {
            site.put(window.site.as_mut().ok_or(Damage::Content)?)?;
            continue;
        }
        if let EventKind::SiteIntervals(quarters) = event.kind {
            window.site_intervals = quarters.iter().map(quarter::Quarter::read).collect::<Result<_, _>>()?;
            continue;
        }
        if let EventKind::SiteProgress(site) = event.kind {
            let checkpoint = window.checkpoint.as_mut().ok_or(Damage::Content)?;
            Arc::make_mut(checkpoint).site = site.read()?;
            continue;
        }
        if let EventKind::ChargingSessions(sessions) = event.kind {
            window.sessions = sessions.iter().map(charging::Session::read).collect::<Result<_, _>>()?;
            continue;
        }
        let place = usize::try_from(event.place).map_err(|_| Damage::Content)?;
        if place > window.events.len() {
            return Err(Damage::Content);
        }
        window.events.insert(place, event.try_into()?);
    }
    Ok(window)
}

/// The doubts of a window that version 1 has no words for.
fn counter_doubts(window: &Window) -> Vec<(u32, CounterDoubt)> {
    let points = window.intervals.iter().flat_map(|interval| &interval.points);
    let doubt = |(at, point): (u32, &PointInterval)| Some((at, CounterDoubt::of(point.questionable?)?));
    (0..).zip(points).filter_map(doubt).collect()
}

/// Puts them where they belong.
fn doubt(window: &mut Window, doubts: &[(u32, CounterDoubt)]) -> Result<(), Damage> {
    for (at, why) in doubts {
        let mut points = window.intervals.iter_mut().flat_map(|interval| &mut interval.points);
        let point = usize::try_from(*at).ok().and_then(|at| points.nth(at)).ok_or(Damage::Content)?;
        point.questionable = Some((*why).into());
    }
    Ok(())
}

/// The values of a window that were not asked in time.
fn overruns(window: &Window) -> Vec<(u32, Vec<u32>)> {
    let is_one = |point: &PointInterval| point.value == IntervalValue::Missing(Missing::Overrun);
    let of = |interval: &Interval| {
        (0..).zip(&interval.points).filter(|(_, point)| is_one(point)).map(|(place, _)| place).collect()
    };
    let all = (0..).zip(window.intervals.iter().map(of));
    all.filter(|(_, points): &(u32, Vec<u32>)| !points.is_empty()).collect()
}

fn mark(window: &mut Window, overruns: &[(u32, Vec<u32>)]) -> Result<(), Damage> {
    let at = |place: u32| usize::try_from(place).map_err(|_| Damage::Content);
    for (interval, points) in overruns {
        let interval = window.intervals.get_mut(at(*interval)?).ok_or(Damage::Content)?;
        for point in points {
            let point = interval.points.get_mut(at(*point)?).ok_or(Damage::Content)?;
            point.value = IntervalValue::Missing(Missing::Overrun);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::depot_window;
    use crate::measure::{self, Epoch, Event as Told, EventKind as Kind, Identity, LifeLost, Questionable, Seq};
    use crate::spec::FieldName;

    const HOME: BootId = BootId([7; 16]);

    fn window(kinds: Vec<Kind>) -> Window {
        let device =
            |kind: &Kind| matches!(kind, Kind::DevicePartly { .. }).then(|| "evse-1".try_into().expect("a name"));
        let events = kinds.into_iter().map(|kind| Told { device: device(&kind), kind }).collect();
        Window { events, ..depot_window(2, 3, 1) }
    }

    fn partly() -> Kind {
        Kind::DevicePartly { answering: 3, blocks: 5, silent: "unit 200".into() }
    }

    fn left_out() -> Kind {
        Kind::EventsLeftOut { of: "bus_state".into(), about: "can0".into(), count: 199 }
    }

    #[test]
    fn events_of_both_versions_come_back_in_their_order() {
        for kinds in [
            vec![partly(), Kind::Stopping, Kind::JournalNewer("a".into()), partly()],
            vec![Kind::Stopping, partly()],
            vec![partly()],
            vec![left_out(), Kind::Reloaded, Kind::Stopping, Kind::ReloadRefused("gateway.toml:3: x".into())],
        ] {
            let window = window(kinds);
            let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
            assert_eq!(bytes[0], 2);
            assert_eq!(read(&bytes[1..], HOME), Ok(window));
        }
    }

    #[test]
    fn the_bytes_of_deciders_are_these_and_come_back() {
        let boots = vec![([7; 16], vec![(1, Some(300)), (999, None)]), ([8; 16], Vec::new())];
        let bytes = write_deciders(&boots).expect("it is short");
        assert_eq!(bytes[..8], *b"V2GD\x2a\x00\x00\x00");
        assert_eq!(bytes[29..], [&[2, 1, 1, 172, 2, 231, 7, 0][..], &[8; 16], &[0]].concat());
        assert_eq!(read_deciders(&bytes), Some(boots));
        assert_eq!(read_deciders(&bytes[..bytes.len() - 1]), None);
    }

    fn in_memory() -> [Kind; 3] {
        let lost = |to, renumbered| LifeLost { epoch: Epoch(300), from: Seq(7), to, renumbered };
        let why = "full".into();
        [
            Kind::JournalInMemory { why, from: Seq(7), counts_anew: true },
            Kind::LifeLost(lost(None, false)),
            Kind::LifeLost(lost(Some(Seq(9)), true)),
        ]
    }

    #[test]
    fn the_bytes_of_what_a_life_in_memory_tells_are_these() {
        let window = Window { intervals: Vec::new(), ..window(in_memory().into()) };
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        let own = [&[2, 3, 0, 0, 8, 4][..], b"full", &[7, 1, 1, 0, 9, 0xac, 2, 7, 0, 0, 2, 0, 9, 0xac, 2, 7, 1, 9, 1]]
            .concat();
        assert_eq!(bytes[..own.len()], own);
        assert_eq!(read(&bytes[1..], HOME), Ok(window));
    }

    /// As written on the day of its making: version 2 is read for ever, too.
    #[test]
    fn the_bytes_of_version_2_are_these() {
        let window =
            Window { intervals: Vec::new(), ..window(vec![Kind::Stopping, partly(), Kind::JournalNewer("n".into())]) };
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        let own = [&[2, 2][..], &[1, 1, 6], b"evse-1", &[1, 3, 5, 8], b"unit 200", &[2, 0, 0, 1], b"n"].concat();
        assert_eq!(bytes[..own.len()], own);
        assert_eq!(read(&bytes[1..], HOME), Ok(window));
    }

    /// The same for the kinds that were added later.
    #[test]
    fn the_bytes_of_what_is_left_out_and_of_reloads_are_these() {
        let kinds = vec![left_out(), Kind::ReloadRefused("x".into()), Kind::Reloaded];
        let window = Window { intervals: Vec::new(), ..window(kinds) };
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        let left_out = [&[2, 3, 0, 0, 5, 9][..], b"bus_state", &[4], b"can0", &[199, 1]].concat();
        let own = [&left_out[..], &[1, 0, 6, 1], b"x", &[2, 0, 7]].concat();
        assert_eq!(bytes[..own.len()], own);
        assert_eq!(read(&bytes[1..], HOME), Ok(window));
    }

    #[test]
    fn the_bytes_of_polls_that_are_not_kept_are_these() {
        let window = Window { intervals: Vec::new(), ..window(vec![Kind::PollOverrun("x".into()), Kind::PollKept]) };
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        assert_eq!(bytes[..10], [2, 2, 0, 0, 11, 1, b'x', 1, 0, 12]);
        assert_eq!(read(&bytes[1..], HOME), Ok(window));
    }

    #[test]
    fn the_bytes_of_what_another_entry_told_of_its_life_are_these() {
        let entry = Identity { epoch: Epoch(300), seq: Seq(7) };
        let [in_memory, ..] = in_memory();
        let told = [Kind::JournalFailing("f".into()), Kind::JournalWorking, in_memory, Kind::Stopping];
        let window = Window { intervals: Vec::new(), ..window(told.map(|kind| kind.of_entry(entry)).into()) };
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        let own = [
            &[2, 4][..],
            &[0, 0, 13, 0xac, 2, 7, 0, 1, b'f'],
            &[1, 0, 13, 0xac, 2, 7, 1],
            &[2, 0, 13, 0xac, 2, 7, 2, 4],
            b"full",
            &[7, 1],
            &[3, 0, 13, 0xac, 2, 7, 3],
        ]
        .concat();
        assert_eq!(bytes[..own.len()], own);
        assert_eq!(read(&bytes[1..], HOME), Ok(window));
    }

    #[test]
    fn the_bytes_of_what_an_update_tells_are_these() {
        let (from, to) = (|| "1".into(), || "2".into());
        let kinds = vec![
            Kind::UpdateStarted { from: from(), to: to() },
            Kind::UpdateConfirmed { from: from(), to: to() },
            Kind::UpdateRolledBack { from: from(), to: to(), why: "x".into() },
            Kind::UpdateFailed { from: from(), to: to(), why: "x".into() },
        ];
        let window = Window { intervals: Vec::new(), ..window(kinds) };
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        let versions = [1, b'1', 1, b'2'];
        let own = [
            &[2, 4, 0, 0, 14][..],
            &versions,
            &[1, 0, 15],
            &versions,
            &[2, 0, 16],
            &versions,
            &[1, b'x', 3, 0, 17],
            &versions,
            &[1, b'x'],
        ];
        let own = own.concat();
        assert_eq!(bytes[..own.len()], own);
        assert_eq!(read(&bytes[1..], HOME), Ok(window));
    }

    #[test]
    fn the_bytes_of_what_goes_together_or_does_not_are_these() {
        let verdict = |value_milli| {
            let (rule, unit, what) = ("r".into(), "kW".into(), "w".into());
            measure::Verdict { rule, value_milli, expected_milli: -1, unit, what }.into()
        };
        let window = Window {
            intervals: Vec::new(),
            ..window(vec![Kind::Implausible(verdict(2)), Kind::Plausible(verdict(300))])
        };
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        let words = [1, 2, b'k', b'W', 1, b'w'];
        let own = [&[2, 2, 0, 0, 22, 1, b'r', 4][..], &words, &[1, 0, 23, 1, b'r', 0xd8, 4], &words].concat();
        assert_eq!(bytes[..own.len()], own);
        assert_eq!(read(&bytes[1..], HOME), Ok(window));
    }

    #[test]
    fn values_that_were_not_asked_in_time_come_back_as_that() {
        let mut window = window(vec![Kind::PollOverrun("slow".into()), Kind::Stopping, Kind::PollKept]);
        for interval in window.intervals.iter_mut().skip(1) {
            for point in interval.points.iter_mut().step_by(2) {
                point.value = IntervalValue::Missing(Missing::Overrun);
            }
        }
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        assert_eq!(bytes[0], 2);
        assert_eq!(read(&bytes[1..], HOME), Ok(window));
    }

    #[test]
    fn what_version_1_has_words_for_costs_one_byte_more_in_version_2() {
        let window = window(vec![Kind::Stopping]);
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        assert_eq!(bytes, v1::entry::write(&window, HOME, vec![VERSION, 0]).expect("it can be written"));
    }

    fn counter_break() -> Kind {
        let field = FieldName::try_from("energy_import").expect("a field");
        let reason = measure::BreakReason::RolledOver;
        Kind::CounterBreak { field, from_milli: 99_999_900, to_milli: 400, reason }
    }

    #[test]
    fn why_a_counter_is_doubted_comes_back_and_version_1_has_the_nearest_word() {
        let exchanged = Kind::MeterExchanged { before: "A1".into(), after: "B2".into() };
        let mut window = window(vec![counter_break(), Kind::Stopping, exchanged]);
        let doubts = [Questionable::CounterJump, Questionable::Frozen, Questionable::CounterZero];
        let points = window.intervals.iter_mut().flat_map(|interval| &mut interval.points);
        for (point, doubt) in points.zip([Some(doubts[0]), None, Some(doubts[1]), Some(doubts[2])]) {
            point.questionable = doubt;
        }
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        assert_eq!(read(&bytes[1..], HOME).as_ref(), Ok(&window));
        let first = v1::entry::write(&window, HOME, Vec::new()).expect("it can be written");
        let first = v1::entry::read(&first, HOME).expect("it can be read");
        let told = first.intervals.iter().flat_map(|interval| &interval.points).map(|point| point.questionable);
        let rate = Some(Questionable::Rate);
        assert_eq!(told.take(4).collect::<Vec<_>>(), [rate, None, Some(Questionable::Frozen), rate]);
        // A place beyond the points is damage.
        let window = Window { intervals: Vec::new(), events: Vec::new(), ..window };
        let own =
            [Event { place: 0, device: None, kind: EventKind::CounterDoubts(vec![(0, CounterDoubt::Backwards)]) }];
        let bytes = v1::entry::write(&window, HOME, postcard::to_stdvec(&own[..]).expect("written")).expect("written");
        assert_eq!(read(&bytes, HOME), Err(Damage::Content));
    }

    #[test]
    fn a_place_that_no_event_can_have_is_damage() {
        let own = [Event { place: 1, device: None, kind: EventKind::JournalNewer("n") }];
        let bytes = postcard::to_stdvec(&own[..]).expect("it can be written");
        let bytes = v1::entry::write(&depot_window(1, 1, 1), HOME, bytes).expect("it can be written");
        assert_eq!(read(&bytes, HOME), Err(Damage::Content));
    }
}
