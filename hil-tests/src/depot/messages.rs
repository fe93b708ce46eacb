//! A station's side of the mirror feed (docs/mirror-feed.md): recorded sessions, played at the script's pace under ids of their own.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use super::script::Visit;
use crate::wait::unix_ns;

/// Between two turns of the loop, s.
pub(super) const TURN_S: f64 = 0.5;
/// Between two messages outside of it, s.
const STEP_S: f64 = 0.05;
/// How long the feed of the session that loses it is gone, s, and for how long it pauses.
const LOST_S: f64 = 4.0;
const PAUSED_S: f64 = 2.5;
/// Of `iso20-dcbpt-sched` under its own ids, by Josev's codec: the vehicle stops to come back, asks to go on, and the station agrees.
const PAUSE: &str = "01fe8002000000128094047e81e1ce75b3000689a8e92d806208";
const GO_ON: &str = "01fe800200000027808c047e81e1ce75b300068828e92d80620b2222ac2cad18181818181818181818181ba221a100";
const GOES_ON: &str = "01fe8002000000228090047e81e1ce75b300068848e92d8062060411114a915111ca914c0c0d0c8a8c40";

/// What is done at a moment, s.
#[derive(Debug, Clone)]
pub(super) struct Act {
    pub(super) at: f64,
    pub(super) connector: u16,
    pub(super) does: Does,
}

#[derive(Debug, Clone)]
pub(super) enum Does {
    /// The station's connection to the gateway goes.
    Lose,
    /// A record of this kind.
    Send(u8, Said),
}

/// A message, and what its sender meant.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    pub(super) frame: Vec<u8>,
    pub(super) kw: Option<f64>,
    pub(super) soc: Option<f64>,
    /// Wh, from and to the grid.
    pub(super) meter: Option<(u64, u64)>,
}

/// A recorded session.
#[derive(Debug)]
struct Recording {
    messages: Vec<Said>,
    /// The loop's: the first request, and behind the last answer.
    turns: (usize, usize),
    session_id: Vec<u8>,
    vehicle: Vec<u8>,
}

/// A session that is played.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) session_id: String,
    pub(super) vehicle: String,
    pub(super) acts: Vec<Act>,
    /// Its feed is lost and comes back, s.
    pub(super) lost: Option<(f64, f64)>,
}

/// Of the connector `connector`, one of ten: four have a meter and both directions, of these the first loses its feed, and pauses.
pub(super) fn play(recordings: &Path, connector: u16, visit: &Visit, calms: &[(f64, f64)]) -> Played {
    let has_meter = connector > 6;
    let mut recording = Recording::read(recordings, if has_meter { "iso20-dcbpt-sched" } else { "din-dc" });
    let id: Vec<u8> =
        [0xA5, 0x5A, 0, 0, 0, 0, 0xC0].into_iter().chain([u8::try_from(connector).unwrap_or(0)]).collect();
    let vehicle = if has_meter {
        format!("DEXYZ00000000{connector:04}DCB").into_bytes()
    } else {
        vec![0xA0, 0xB1, 0xC2, 0xD3, 0xE5, u8::try_from(connector).unwrap_or(0)]
    };
    let told = if has_meter { String::from_utf8_lossy(&vehicle).into_owned() } else { hex_of(&vehicle).to_uppercase() };
    let mut extra = [PAUSE, GO_ON, GOES_ON].map(|text| Said { frame: bytes_of(text), ..Said::default() });
    for said in recording.messages.iter_mut().chain(&mut extra) {
        said.frame = with_bits(&said.frame, &recording.session_id, &id);
        said.frame = with_bits(&said.frame, &recording.vehicle, &vehicle);
    }
    let mut acts = Timeline { at: visit.from, connector, acts: Vec::new() };
    acts.send(0, Said { frame: b"[fe80::1]:50000".to_vec(), ..Said::default() }, 0.0);
    let (first, last) = recording.turns;
    acts.pass(&recording.messages[..first]);
    let tail_s = STEP_S * (recording.messages.len() - last) as f64;
    let (begin, end) = (acts.at, visit.to - tail_s);
    let turns = (last - first) / 2;
    let is_odd = connector == 7 && calms.len() > 2;
    // Both in a calm, after what changes there.
    let mut lost = is_odd.then(|| calms[1].0 + 1.0);
    let mut paused = is_odd.then(|| calms[2].0 + 2.0);
    let mut was_lost = None;
    while acts.at + TURN_S < end {
        if let Some(at) = lost.take_if(|at| *at <= acts.at) {
            acts.acts.push(Act { at: acts.at, connector, does: Does::Lose });
            was_lost = Some((at, acts.at + LOST_S));
            acts.at += LOST_S;
        }
        if paused.take_if(|at| *at <= acts.at).is_some() {
            acts.pass(&recording.messages[last..last + 2]);
            acts.send(1, extra[0].clone(), STEP_S);
            acts.send(2, recording.messages[recording.messages.len() - 1].clone(), STEP_S);
            acts.send(3, Said { frame: b"closed".to_vec(), ..Said::default() }, PAUSED_S);
            acts.send(0, Said { frame: b"[fe80::1]:50001".to_vec(), ..Said::default() }, STEP_S);
            acts.pass(&recording.messages[..2]);
            acts.send(1, extra[1].clone(), STEP_S);
            acts.send(2, extra[2].clone(), STEP_S);
            acts.pass(&recording.messages[4..first]);
        }
        let part = (acts.at - begin) / (end - begin);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of some dozen")]
        let turn = first + 2 * ((part * turns as f64) as usize).min(turns - 1);
        acts.send(1, recording.messages[turn].clone(), 0.01);
        acts.send(2, recording.messages[turn + 1].clone(), TURN_S - 0.01);
    }
    acts.pass(&recording.messages[last..]);
    acts.send(3, Said { frame: b"closed".to_vec(), ..Said::default() }, 0.0);
    Played { session_id: hex_of(&id), vehicle: told, acts: acts.acts, lost: was_lost }
}

struct Timeline {
    at: f64,
    connector: u16,
    acts: Vec<Act>,
}

impl Timeline {
    fn send(&mut self, kind: u8, said: Said, then_s: f64) {
        self.acts.push(Act { at: self.at, connector: self.connector, does: Does::Send(kind, said) });
        self.at += then_s;
    }

    /// Messages of both, in turn.
    fn pass(&mut self, messages: &[Said]) {
        for (number, said) in messages.iter().enumerate() {
            self.send(if number % 2 == 0 { 1 } else { 2 }, said.clone(), STEP_S);
        }
    }
}

impl Recording {
    fn read(dir: &Path, name: &str) -> Self {
        let json = fs::read_to_string(dir.join(format!("{name}.json"))).expect("a recording");
        let truth: Value = serde_json::from_str(&json).expect("JSON");
        let told = truth["messages"].as_array().expect("messages");
        let [vehicle, station] = ["ev", "se"].map(|side| frames(&dir.join(format!("{name}.{side}.bin"))));
        let frames = vehicle.into_iter().zip(station).flat_map(|(request, answer)| [request, answer]);
        let messages: Vec<Said> = frames.zip(told).map(|(frame, told)| Said::of(frame, told)).collect();
        let is_of_loop = |message: &Value| {
            let text = message.to_string();
            text.contains("CurrentDemandRe") || text.contains("ChargeLoopRe")
        };
        let first = told.iter().position(is_of_loop).expect("a loop");
        let last = told.iter().rposition(is_of_loop).expect("a loop") + 1;
        let setup = found(&told[3], "SessionID").and_then(Value::as_str).expect("an id");
        let evcc = truth["session"]["evcc_id"].as_str().expect("a vehicle");
        let vehicle = if evcc.len() == 12 { bytes_of(evcc) } else { evcc.as_bytes().to_vec() };
        Self { messages, turns: (first, last), session_id: bytes_of(setup), vehicle }
    }
}

impl Said {
    fn of(frame: Vec<u8>, told: &Value) -> Self {
        let number = |key: &str| found(told, key).and_then(scaled);
        let kw = number("EVSEPresentVoltage").zip(number("EVSEPresentCurrent")).map(|(volts, amps)| volts * amps / 1e3);
        let count = |key: &str| found(told, key).and_then(Value::as_u64);
        let soc = number("EVRESSSOC").or_else(|| number("PresentSOC"));
        let meter = count("ChargedEnergyReadingWh").zip(count("BPT_DischargedEnergyReadingWh"));
        Self { frame, kw, soc, meter }
    }
}

/// The first value of this name in a message.
fn found<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => fields.get(key).or_else(|| fields.values().find_map(|inner| found(inner, key))),
        _ => None,
    }
}

fn scaled(value: &Value) -> Option<f64> {
    let exponent = value.get("Exponent").or_else(|| value.get("Multiplier")).and_then(Value::as_i64);
    match exponent {
        Some(exponent) => format!("{}e{exponent}", value["Value"].as_i64()?).parse().ok(),
        None => value.as_f64(),
    }
}

/// The V2GTP frames of one side, headers and all.
fn frames(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("a recording");
    let (mut frames, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some(length) = rest.get(4..8) {
        let length = 8 + u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let (frame, later) = rest.split_at(length);
        frames.push(frame.to_vec());
        rest = later;
    }
    frames
}

/// A record of the feed, of now.
pub(super) fn send(stream: &mut dyn Write, kind: u8, connector: u16, bytes: &[u8]) -> std::io::Result<()> {
    let mut record = vec![1, kind];
    record.extend(connector.to_be_bytes());
    record.extend((unix_ns().unsigned_abs() / 1_000).to_be_bytes());
    record.extend(u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
    record.extend(bytes);
    stream.write_all(&record)
}

/// EXI packs values by the bit: the same bytes, wherever they begin.
fn with_bits(frame: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "in place");
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let (length, all) = (from.len() * 8, frame.len() * 8);
    let mut out = frame.to_vec();
    for begin in 64..=all.saturating_sub(length) {
        if (0..length).all(|at| bit(frame, begin + at) == bit(from, at)) {
            for at in 0..length {
                let (place, mask) = ((begin + at) / 8, 1 << (7 - (begin + at) % 8));
                out[place] = if bit(to, at) == 1 { out[place] | mask } else { out[place] & !mask };
            }
        }
    }
    out
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_changed_wherever_its_bits_stand() {
        // Shifted by 4 bits behind a header of 8 bytes.
        let frame = [0, 0, 0, 0, 0, 0, 0, 0, 0x1A, 0xBC, 0xD9];
        assert_eq!(with_bits(&frame, &[0xAB, 0xCD], &[0x12, 0x34])[8..], [0x11, 0x23, 0x49]);
        assert_eq!(with_bits(&frame, &[0xFF, 0xFF], &[0, 0]), frame);
    }
}
