//! Over real pseudo-terminals, with a real server or with bytes written by hand at the far end.

use std::os::unix::fs::symlink;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_serial::SerialPort;

use super::*;
use crate::register_bus::Table;
use crate::sim::{Behaviour, ModbusLine, RegisterImage};

const DEADLINE: Duration = Duration::from_millis(150);
const REQUEST_BYTES: usize = 8;

fn settings(path: &Path) -> SerialLine {
    SerialLine { path: path.to_owned(), baud: 19_200, parity: Parity::Even, stop_bits: StopBits::One }
}

fn request(start: u16, count: u16) -> ReadRequest {
    ReadRequest { table: Table::Input, start, count }
}

fn unit(id: u8) -> UnitId {
    UnitId::try_from(id).expect("a unit")
}

fn image(value: f32) -> RegisterImage {
    let mut image = RegisterImage::default();
    image.set_f32(Table::Input, 52, value);
    image
}

fn served() -> (ModbusLine, RtuBus) {
    let line = ModbusLine::start().expect("a pseudo-terminal");
    line.put(unit(1), image(-7200.5));
    let bus = RtuBus::new(settings(line.path()), DEADLINE);
    (line, bus)
}

/// The far end of a line, for hand-written answers; the near end, held open; and the bus.
fn by_hand() -> (SerialStream, SerialStream, RtuBus) {
    let (far, near) = SerialStream::pair().expect("a pseudo-terminal");
    let bus = RtuBus::new(settings(Path::new(&near.name().expect("a path"))), DEADLINE);
    (far, near, bus)
}

/// A frame with its CRC (CRC-16/MODBUS), reckoned apart from the code under test.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut crc = 0xffff_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 };
        }
    }
    [bytes, &crc.to_le_bytes()].concat()
}

/// The answer of a unit that holds `word` in its one register.
fn one_word(unit: u8, word: u16) -> Vec<u8> {
    let [high, low] = word.to_be_bytes();
    framed(&[unit, 4, 2, high, low])
}

async fn heard(far: &mut SerialStream) -> [u8; REQUEST_BYTES] {
    let mut asked = [0; REQUEST_BYTES];
    far.read_exact(&mut asked).await.expect("a request");
    asked
}

/// Answers each request with the next of these.
async fn answers(far: &mut SerialStream, answers: &[&[u8]]) {
    for answer in answers {
        heard(far).await;
        far.write_all(answer).await.expect("answered");
    }
}

#[test]
fn the_silence_between_frames_is_the_standards() {
    let silence = |baud| SerialLine { baud, ..settings(Path::new("/dev/null")) }.silence();
    assert_eq!(silence(115_200), Duration::from_micros(1_750));
    assert_eq!(silence(9_600).as_micros(), 4_010);
    assert!(silence(19_200) >= Duration::from_micros(1_750));
}

#[tokio::test]
async fn registers_arrive_as_they_are_served() {
    let (_line, mut bus) = served();
    let words = bus.read(unit(1), request(52, 2)).await.expect("read");
    let bits = u32::from(words[0]) << 16 | u32::from(words[1]);
    assert_eq!(f32::from_bits(bits), -7200.5);
}

#[tokio::test]
async fn an_exception_is_named_and_leaves_the_port_open() {
    let (_line, mut bus) = served();
    let error = bus.read(unit(1), request(1000, 2)).await.expect_err("refused");
    assert!(error.to_string().contains("illegal data address"), "{error}");
    assert!(bus.line.is_some() && bus.quiet_at < Instant::now() + DEADLINE);
    bus.read(unit(1), request(52, 2)).await.expect("read");
}

#[tokio::test]
async fn a_silent_unit_times_out_and_answers_again_later() {
    let (line, mut bus) = served();
    line.behave(unit(1), Behaviour::Silent);
    let error = bus.read(unit(1), request(52, 2)).await.expect_err("silent");
    assert!(matches!(error, BusError::Timeout { .. }) && error.to_string().contains("baud rate"), "{error}");
    line.behave(unit(1), Behaviour::Prompt);
    bus.read(unit(1), request(52, 2)).await.expect("read");
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_answer_of_another_unit() {
    let (line, mut bus) = served();
    line.put(unit(2), image(1.0));
    line.behave(unit(1), Behaviour::Late(DEADLINE + DEADLINE / 2));
    assert!(matches!(bus.read(unit(1), request(52, 2)).await, Err(BusError::Timeout { .. })));
    let words = bus.read(unit(2), request(52, 2)).await.expect("read");
    assert_eq!(words, [0x3f80, 0x0000], "unit 2 must be heard, not the late unit 1");
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_answer_to_another_request_to_the_same_unit() {
    let (mut far, _near, mut bus) = by_hand();
    let device = tokio::spawn(async move {
        heard(&mut far).await;
        sleep(DEADLINE + DEADLINE / 2).await;
        answers_after(&mut far, &one_word(1, 0x1111), &one_word(1, 0x2222)).await;
        far
    });
    assert!(matches!(bus.read(unit(1), request(1, 1)).await, Err(BusError::Timeout { .. })));
    assert_eq!(bus.read(unit(1), request(2, 1)).await.expect("read"), [0x2222]);
    device.await.expect("the device");
}

/// Says something late, and then answers.
async fn answers_after(far: &mut SerialStream, late: &[u8], answer: &[u8]) {
    far.write_all(late).await.expect("said");
    answers(far, &[answer]).await;
}

#[tokio::test]
async fn the_answer_to_a_dropped_read_is_never_taken_for_another() {
    let (mut far, _near, mut bus) = by_hand();
    let device = tokio::spawn(async move {
        heard(&mut far).await;
        sleep(DEADLINE / 2).await;
        answers_after(&mut far, &one_word(1, 0x1111), &one_word(1, 0x2222)).await;
        far
    });
    let opening = DEADLINE + DEADLINE / 4;
    assert!(timeout(opening, bus.read(unit(1), request(1, 1))).await.is_err(), "dropped under way");
    assert_eq!(bus.read(unit(1), request(2, 1)).await.expect("read"), [0x2222]);
    device.await.expect("the device");
}

#[tokio::test]
async fn what_came_before_the_port_was_opened_is_not_an_answer() {
    let (mut far, _near, mut bus) = by_hand();
    far.write_all(&one_word(1, 0x1111)).await.expect("said");
    let device = tokio::spawn(async move {
        answers(&mut far, &[&one_word(1, 0x2222)]).await;
        far
    });
    assert_eq!(bus.read(unit(1), request(1, 1)).await.expect("read"), [0x2222]);
    device.await.expect("the device");
}

#[tokio::test]
async fn what_is_not_the_answer_is_refused_and_the_next_read_is_right() {
    let damaged = {
        let mut answer = one_word(1, 0x1111);
        answer[3] ^= 0x40;
        answer
    };
    let garbage = vec![0xa5; 64];
    for (name, wrong) in [
        ("another unit", one_word(2, 0x1111)),
        ("another function", framed(&[1, 3, 2, 0x11, 0x11])),
        ("an exception to another function", framed(&[1, 0x83, 2])),
        ("another length", framed(&[1, 4, 4, 0x11, 0x11, 0x11, 0x11])),
        ("an odd length", framed(&[1, 4, 3, 0x11, 0x11, 0x11])),
        ("half of it", one_word(1, 0x1111)[..4].to_vec()),
        ("a damaged one", damaged),
        ("noise", garbage),
        ("nothing but zeroes", vec![0; 30]),
    ] {
        let (mut far, _near, mut bus) = by_hand();
        let device = tokio::spawn(async move {
            answers(&mut far, &[&wrong, &one_word(1, 0x2222)]).await;
            far
        });
        let error = bus.read(unit(1), request(1, 1)).await.expect_err(name);
        assert!(matches!(error, BusError::Malformed { .. } | BusError::Timeout { .. }), "{name}: {error}");
        assert_eq!(bus.read(unit(1), request(1, 1)).await.expect(name), [0x2222], "after {name}");
        device.await.expect("the device");
    }
}

#[tokio::test]
async fn an_answer_later_than_the_line_is_heard_out_is_refused_by_another_unit() {
    let (mut far, _near, mut bus) = by_hand();
    let device = tokio::spawn(async move {
        heard(&mut far).await;
        answers(&mut far, &[&one_word(1, 0x1111), &one_word(2, 0x2222)]).await;
        far
    });
    assert!(matches!(bus.read(unit(1), request(1, 1)).await, Err(BusError::Timeout { .. })));
    assert!(matches!(bus.read(unit(2), request(1, 1)).await, Err(BusError::Malformed { .. })));
    assert_eq!(bus.read(unit(2), request(1, 1)).await.expect("read"), [0x2222]);
    device.await.expect("the device");
}

#[tokio::test]
async fn the_wrong_unit_is_malformed() {
    let (mut far, _near, mut bus) = by_hand();
    let device = tokio::spawn(async move {
        answers(&mut far, &[&one_word(2, 0x1111)]).await;
        far
    });
    assert!(matches!(bus.read(unit(1), request(1, 1)).await, Err(BusError::Malformed { .. })));
    device.await.expect("the device");
}

#[tokio::test]
async fn noise_around_an_answer_never_becomes_a_value() {
    let (mut far, _near, mut bus) = by_hand();
    let device = tokio::spawn(async move {
        let trailed = [one_word(1, 0x1111), vec![0xff, 0x00]].concat();
        let preceded = [vec![0x55], one_word(1, 0x2222)].concat();
        answers(&mut far, &[&trailed, &preceded, &one_word(1, 0x3333)]).await;
        far
    });
    assert_eq!(bus.read(unit(1), request(1, 1)).await.expect("read"), [0x1111]);
    match bus.read(unit(1), request(1, 1)).await {
        Ok(words) => assert_eq!(words, [0x2222]),
        Err(error) => assert!(matches!(error, BusError::Malformed { .. } | BusError::Timeout { .. }), "{error}"),
    }
    assert_eq!(bus.read(unit(1), request(1, 1)).await.expect("read"), [0x3333]);
    device.await.expect("the device");
}

#[tokio::test]
async fn a_line_that_never_falls_silent_is_given_up_and_told() {
    let (mut far, _near, mut bus) = by_hand();
    let babble = tokio::spawn(async move {
        loop {
            far.write_all(&[0x00]).await.expect("said");
            sleep(HUSH / 5).await;
        }
    });
    let error = bus.read(unit(1), request(1, 1)).await.expect_err("never quiet");
    assert!(error.to_string().contains("another master"), "{error}");
    babble.abort();
}

#[tokio::test]
async fn frames_are_apart_by_the_silence() {
    let (mut far, _near, mut bus) = by_hand();
    bus.settings.baud = 1_200;
    let device = tokio::spawn(async move {
        heard(&mut far).await;
        far.write_all(&one_word(1, 1)).await.expect("answered");
        let answered = Instant::now();
        heard(&mut far).await;
        answered.elapsed()
    });
    bus.read(unit(1), request(1, 1)).await.expect("read");
    let _ = bus.read(unit(1), request(1, 1)).await;
    let apart = device.await.expect("the device");
    assert!(apart >= Duration::from_millis(32), "{apart:?} instead of 3.5 characters at 1200 baud");
}

#[tokio::test]
async fn a_port_that_vanished_and_came_back_under_its_path_is_found_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ttyUSB0");
    let first = ModbusLine::start().expect("a pseudo-terminal");
    first.put(unit(1), image(1.0));
    symlink(first.path(), &path).expect("linked");
    let mut bus = RtuBus::new(settings(&path), DEADLINE);
    bus.read(unit(1), request(52, 2)).await.expect("read");

    std::fs::remove_file(&path).expect("unlinked");
    drop(first);
    tokio::task::yield_now().await;
    let gone = bus.read(unit(1), request(52, 2)).await.expect_err("unplugged");
    assert!(matches!(gone, BusError::Gone { .. }), "{gone}");
    let absent = bus.read(unit(1), request(52, 2)).await.expect_err("still unplugged");
    assert!(matches!(absent, BusError::Unreachable { .. }), "{absent}");

    let second = ModbusLine::start().expect("a pseudo-terminal");
    second.put(unit(1), image(2.0));
    symlink(second.path(), &path).expect("linked");
    assert_eq!(bus.read(unit(1), request(52, 2)).await.expect("read"), [0x4000, 0]);
}
