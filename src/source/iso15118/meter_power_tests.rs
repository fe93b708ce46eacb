//! The power of AC sessions in which nobody tells it, as a consumer gets it.

use super::adapter::SessionAdapter;
use super::feed_tests::{Heard, point};
use super::tests::{changed, frames};
use super::*;
use crate::measure::{ClockTrust, Missing, Mono, Payload, Raw, Stamp, Utc};
use crate::spec::{DeviceKind, PointIx, SessionValue as V};
use iso15118::iso2::BodyChoice;

const S: u64 = 1_000_000_000;
/// The loop of the recorded AC session: a request and its answer; and the request that ends it.
const LOOP: std::ops::Range<usize> = 14..16;
const STOP: usize = 56;

/// What one message has told of the power: its kW, and its source.
type Told = (Option<Result<f64, Missing>>, Option<String>);

struct Charger {
    adapter: SessionAdapter,
    points: Vec<V>,
    now: u64,
}

impl Charger {
    /// A device of these values, in the loop of a session that was heard from its beginning.
    fn of(points: Vec<V>, is_timed: bool) -> Self {
        let spec = DeviceSpec {
            id: "evse-1".try_into().expect("a name"),
            kind: DeviceKind::Evse,
            profile: "iso15118".to_owned(),
            points: points.iter().copied().map(point).collect(),
            groups: vec![],
        };
        let target = Target { ix: DeviceIx(0), connector: 1, spec };
        let adapter = SessionAdapter::new(&target, &VehicleIds::Send, is_timed);
        let mut charger = Self { adapter, points, now: S };
        for (payload_type, payload) in &frames("iso2-ac-eim")[..LOOP.start] {
            charger.hear(*payload_type, payload);
        }
        charger
    }

    fn hear(&mut self, payload_type: u16, payload: &[u8]) -> Told {
        let at = Stamp { mono: Mono(self.now), utc: Utc(0), trust: ClockTrust::Synced };
        self.adapter.hear(at, |tracker| tracker.handle_frame(payload_type, payload, at.mono));
        self.take()
    }

    fn take(&mut self) -> Told {
        let mut told = (None, None);
        for sample in self.adapter.drain() {
            let Payload::Values(values) = sample.payload else { continue };
            for (PointIx(point), raw) in values {
                match (self.points[usize::from(point)], raw) {
                    (V::PowerFlow, Ok(Raw::Float(kw))) => told.0 = Some(Ok(kw)),
                    (V::PowerFlow, Err(why)) => told.0 = Some(Err(why)),
                    (V::PowerSource, Ok(Raw::Text(source))) => told.1 = Some(source.to_string()),
                    _ => {}
                }
            }
        }
        told
    }

    /// A turn of the loop, a second after the one before, with this reading.
    fn turn(&mut self, reading_wh: Option<u64>) -> Told {
        let all = frames("iso2-ac-eim");
        let answer = changed(&all[LOOP.end - 1].1, |body| match body {
            BodyChoice::ChargingStatusRes(answer) => {
                answer.meter_info.as_mut().expect("it has a meter").meter_reading = reading_wh;
            }
            other => panic!("{}", other.name()),
        });
        self.now += S;
        self.hear(all[LOOP.start].0, &all[LOOP.start].1);
        self.hear(0x8001, &answer)
    }

    /// So many turns at 11 kW.
    fn charge(&mut self, turns: u64) -> Vec<Told> {
        (0..turns).map(|_| self.turn(Some(1_234_935 + (self.now + S) / S * 11_000 / 3600))).collect()
    }
}

fn nothing() -> Told {
    (None, None)
}

#[test]
fn power_that_is_worked_out_is_told_with_each_reading_and_says_so_each_time() {
    let mut charger = Charger::of(V::ALL.into(), true);
    let told = charger.charge(60);
    let first = told.iter().position(|told| *told != nothing()).expect("a power");
    assert!((10..40).contains(&first), "{first} turns");
    for told in &told[first..] {
        let (Some(Ok(kw)), Some(source)) = told else { panic!("{told:?}") };
        assert!((kw - 11.0).abs() <= 1.1 && source == "meter", "{told:?}");
    }
    // The vehicle asks for the end: it is over at once.
    let (payload_type, payload) = &frames("iso2-ac-eim")[STOP];
    assert_eq!(charger.hear(*payload_type, payload).0, Some(Err(Missing::Stale)));
}

#[test]
fn no_power_is_worked_out_over_silence() {
    let mut charger = Charger::of(V::ALL.into(), true);
    charger.charge(60);
    let at = Stamp { mono: Mono(charger.now), utc: Utc(0), trust: ClockTrust::Synced };
    charger.adapter.hear(at, |tracker| tracker.handle_feed_lost(at.mono));
    assert_eq!(charger.take().0, Some(Err(Missing::Stale)), "nobody knows what it does now");
    charger.now += 5 * S;
    let told = charger.charge(40);
    assert!(told[..10].iter().all(|told| *told == nothing()), "it begins anew");
    assert!(matches!(told[39].0, Some(Ok(kw)) if (kw - 11.0).abs() <= 1.1), "{:?}", told[39]);
    // Turns without a reading: for once that may be, and then it is not known any more.
    let told: Vec<Told> = (0..12).map(|_| charger.turn(None)).collect();
    assert!(told[..10].iter().all(|told| *told == nothing()), "{told:?}");
    assert_eq!(told[10].0, Some(Err(Missing::Stale)));
    assert_eq!(told[11], nothing());
}

/// 3.68 kW for a minute, and then a vehicle that is full: at once, with the records' own times.
#[test]
fn a_backlog_has_the_power_of_its_own_times() {
    let mut heard = Heard::new();
    heard.feed("17-ac-power", 0);
    let powers: Vec<f64> = heard.all.iter().filter(|(name, _)| *name == "power_flow").map(|(_, kw)| *kw).collect();
    let (charging, none): (Vec<f64>, Vec<f64>) = powers.iter().partition(|kw| **kw > 0.0);
    assert!(charging.len() > 30 && charging.iter().all(|kw| (kw - 3.68).abs() <= 0.37), "{charging:?}");
    assert!(none.len() > 10 && powers.ends_with(&none), "{powers:?}");
    assert_eq!(heard.ended(), ("terminated", 111, 61, "meter"));
}

/// In Josev's recording the meter runs 50 times as fast as its records.
#[test]
fn of_the_recorded_session_no_power_is_told_that_its_station_cannot_give() {
    let mut charger = Charger::of(V::ALL.into(), true);
    for (payload_type, payload) in &frames("iso2-ac-eim")[LOOP.start..] {
        charger.now += S / 2;
        assert_eq!(charger.hear(*payload_type, payload), nothing());
    }
}

#[test]
fn power_is_worked_out_only_where_it_can_be_marked_and_has_times() {
    let without_mark = V::ALL.into_iter().filter(|value| *value != V::PowerSource).collect();
    for mut charger in [Charger::of(without_mark, true), Charger::of(V::ALL.into(), false)] {
        assert!(charger.charge(60).iter().all(|told| *told == nothing()));
    }
}

#[test]
fn a_power_that_the_messages_tell_says_so_too() {
    let mut charger = Charger::of(V::ALL.into(), true);
    let mut sources = Vec::new();
    for (payload_type, payload) in &frames("iso2-dc-eim") {
        charger.now += S / 4;
        let (power, source) = charger.hear(*payload_type, payload);
        assert!(source.is_none() || power.is_some());
        sources.extend(source);
    }
    assert!(!sources.is_empty() && sources.iter().all(|source| source == "present"), "{sources:?}");
}
