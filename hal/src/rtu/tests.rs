//! Over real pseudo-terminals, with a real server or with bytes written by hand at the far end.

use std::os::unix::fs::symlink;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_serial::{SerialPort, SerialStream};

use super::*;
use crate::register_bus::Table;
use crate::sim::{Behaviour, ModbusLine, RegisterImage};

const DEADLINE: Duration = Duration::from_millis(150);
const REQUEST_BYTES: usize = 8;

fn settings(path: &Path) -> SerialLine {
    SerialLine { path: path.to_owned(), baud: 19_200, parity: Parity::Even, stop_bits: StopBits::One, rs485: false }
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
    assert!(bus.wire.is_some() && bus.quiet_at < Instant::now() + DEADLINE);
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
    line.behave(unit(1), Behaviour::Late(DEADLINE + DEADLINE / 4));
    assert!(matches!(bus.read(unit(1), request(52, 2)).await, Err(BusError::Late { .. })));
    let words = bus.read(unit(2), request(52, 2)).await.expect("read");
    assert_eq!(words, [0x3f80, 0x0000], "unit 2 must be heard, not the late unit 1");
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_answer_to_another_request_to_the_same_unit() {
    let (mut far, _near, mut bus) = by_hand();
    let device = tokio::spawn(async move {
        heard(&mut far).await;
        sleep(DEADLINE + DEADLINE / 4).await;
        answers_after(&mut far, &one_word(1, 0x1111), &one_word(1, 0x2222)).await;
        far
    });
    assert!(matches!(bus.read(unit(1), request(1, 1)).await, Err(BusError::Late { .. })));
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
            answers(&mut far, &[&wrong]).await;
            loop {
                let asked = heard(&mut far).await;
                far.write_all(&by_address(asked)).await.expect("answered");
            }
        });
        let error = bus.read(unit(1), request(1, 1)).await.expect_err(name);
        assert!(!matches!(error, BusError::Exception { .. }), "{name}: {error}");
        assert_eq!(bus.read(unit(1), request(0x2222, 1)).await.expect(name), [0x2222], "after {name}");
        device.abort();
    }
}

#[tokio::test]
async fn an_answer_later_than_the_line_is_heard_out_is_not_taken_for_another_units() {
    let (mut far, _near, mut bus) = by_hand();
    let device = tokio::spawn(async move {
        heard(&mut far).await;
        heard(&mut far).await;
        far.write_all(&one_word(1, 0x1111)).await.expect("late");
        far.write_all(&one_word(2, 0x2222)).await.expect("answered");
        far
    });
    assert!(matches!(bus.read(unit(1), request(1, 1)).await, Err(BusError::Timeout { .. })));
    assert_eq!(bus.read(unit(2), request(1, 1)).await.expect("read"), [0x2222]);
    assert_eq!(bus.times().take_late().len(), 1);
    device.await.expect("the device");
}

/// Answers what it is asked, by the address asked for, so that a mistaken answer shows.
fn by_address(asked: [u8; REQUEST_BYTES]) -> Vec<u8> {
    let (start, count) = (u16::from_be_bytes([asked[2], asked[3]]), u16::from_be_bytes([asked[4], asked[5]]));
    let words: Vec<u8> = (start..start + count).flat_map(u16::to_be_bytes).collect();
    framed(&[&[asked[0], asked[1], u8::try_from(words.len()).expect("short")], words.as_slice()].concat())
}

#[tokio::test]
async fn however_late_an_answer_is_it_never_passes_as_that_to_a_like_request_of_the_same_unit() {
    let (mut far, _near, mut bus) = by_hand();
    let device = tokio::spawn(async move {
        let first = heard(&mut far).await;
        // What comes next must differ from the first in its shape; it is answered after the first, and what was wanted
        // in the end after that.
        let second = heard(&mut far).await;
        assert_ne!((first[1], first[4..6].to_vec()), (second[1], second[4..6].to_vec()));
        far.write_all(&by_address(first)).await.expect("very late");
        far.write_all(&by_address(second)).await.expect("answered");
        let third = heard(&mut far).await;
        far.write_all(&by_address(third)).await.expect("answered");
        far
    });
    assert!(matches!(bus.read(unit(1), request(100, 2)).await, Err(BusError::Timeout { .. })));
    assert_eq!(bus.read(unit(1), request(200, 2)).await.expect("read"), [200, 201]);
    device.await.expect("the device");
}

#[tokio::test]
async fn a_late_answer_is_told_as_late_and_frees_the_line_at_once() {
    let (mut far, _near, mut bus) = by_hand();
    let device = tokio::spawn(async move {
        let asked = heard(&mut far).await;
        sleep(DEADLINE + DEADLINE / 4).await;
        far.write_all(&by_address(asked)).await.expect("late");
        let asked = heard(&mut far).await;
        far.write_all(&by_address(asked)).await.expect("answered");
        (asked, far)
    });
    let late = bus.read(unit(1), request(100, 2)).await.expect_err("late");
    assert!(matches!(late, BusError::Late { .. }) && late.to_string().contains("longer timeout"), "{late}");
    assert_eq!(bus.read(unit(1), request(200, 2)).await.expect("read"), [200, 201]);
    let (asked, _far) = device.await.expect("the device");
    assert_eq!(asked[3], 200, "nothing had to be told apart");
}

#[tokio::test]
async fn serial_frames_through_a_gateway_are_read_and_told_apart_as_on_a_line() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let mut bus = RtuBus::over_tcp("127.0.0.1", listener.local_addr().expect("an address").port(), DEADLINE);
    let device = tokio::spawn(async move {
        let (mut far, _) = listener.accept().await.expect("accepted");
        let mut asked = [0; REQUEST_BYTES];
        far.read_exact(&mut asked).await.expect("a request");
        let first = asked;
        far.read_exact(&mut asked).await.expect("a request");
        far.write_all(&by_address(first)).await.expect("very late");
        far.write_all(&by_address(asked)).await.expect("answered");
        far
    });
    assert!(matches!(bus.read(unit(1), request(100, 2)).await, Err(BusError::Timeout { .. })));
    assert_eq!(bus.read(unit(1), request(200, 3)).await.expect("read"), [200, 201, 202]);
    device.await.expect("the device");
}

#[tokio::test]
async fn each_trouble_of_a_line_has_its_own_name() {
    let damaged = {
        let mut answer = one_word(1, 0x1111);
        answer[3] ^= 0x40;
        answer
    };
    for (name, wrong) in [
        ("wrong_unit", one_word(2, 0x1111)),
        ("malformed", framed(&[1, 4, 4, 0x11, 0x11, 0x11, 0x11])),
        ("short", one_word(1, 0x1111)[..4].to_vec()),
        ("noise", damaged),
        ("noise", vec![0xa5; 64]),
        ("timeout", vec![]),
        ("exception", framed(&[1, 0x84, 2])),
    ] {
        let (mut far, _near, mut bus) = by_hand();
        let device = tokio::spawn(async move {
            answers(&mut far, &[&wrong]).await;
            far
        });
        let error = bus.read(unit(1), request(1, 1)).await.expect_err(name);
        assert_eq!(error.name(), name, "{error}");
        device.await.expect("the device");
    }
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
    assert_eq!(bus.read(unit(1), request(1, 1)).await.expect("read"), [0x2222]);
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
    let (mut far, near) = SerialStream::pair().expect("a pseudo-terminal");
    let line = SerialLine { baud: 1_200, ..settings(Path::new(&near.name().expect("a path"))) };
    let mut bus = RtuBus::new(line, DEADLINE);
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

#[tokio::test]
async fn an_adapter_that_came_back_under_another_path_is_found_by_the_name_that_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, by_id) = (directory.path().join("ttyUSB0"), directory.path().join("by-id"));
    std::fs::create_dir(&by_id).expect("made");
    let name = by_id.join("usb-FTDI_RS485_A1B2-if00-port0");
    let first = ModbusLine::start().expect("a pseudo-terminal");
    first.put(unit(1), image(1.0));
    symlink(first.path(), &path).expect("linked");
    symlink(first.path(), &name).expect("linked");
    let mut bus = RtuBus::new(settings(&path), DEADLINE);
    bus.place = Place::Serial { line: settings(&path), by_id, stays: None };
    bus.read(unit(1), request(52, 2)).await.expect("read");

    std::fs::remove_file(&path).expect("unlinked");
    std::fs::remove_file(&name).expect("unlinked");
    drop(first);
    tokio::task::yield_now().await;
    assert!(matches!(bus.read(unit(1), request(52, 2)).await, Err(BusError::Gone { .. })));
    assert!(matches!(bus.read(unit(1), request(52, 2)).await, Err(BusError::Unreachable { .. })));

    // It is ttyUSB1 now; only the name by its serial number leads to it.
    let second = ModbusLine::start().expect("a pseudo-terminal");
    second.put(unit(1), image(2.0));
    symlink(second.path(), &name).expect("linked");
    assert_eq!(bus.read(unit(1), request(52, 2)).await.expect("read"), [0x4000, 0]);
}

/// A gateway hands a frame over in two pieces: what came first was refused as broken off after 40 ms.
#[tokio::test]
async fn an_answer_that_falls_silent_within_is_read() {
    for silence in [50, 300] {
        let (mut far, _near, mut bus) = by_hand();
        let peer = tokio::spawn(async move {
            heard(&mut far).await;
            let answer = one_word(1, 0x1234);
            far.write_all(&answer[..4]).await.expect("begun");
            sleep(Duration::from_millis(silence)).await;
            far.write_all(&answer[4..]).await.expect("ended");
            far
        });
        assert_eq!(bus.read(unit(1), request(52, 1)).await.expect("read"), [0x1234], "{silence} ms");
        peer.await.expect("the unit");
    }
}

/// The time for what may go on is given up for a unit whose answers break off.
#[tokio::test]
async fn answers_that_break_off_are_noticed_and_soon_cost_little() {
    let (mut far, _near, mut bus) = by_hand();
    bus.times().set_byte_timeout(Duration::from_secs(2));
    let peer = tokio::spawn(async move {
        let whole = one_word(1, 0x1234);
        for _ in 0..6 {
            heard(&mut far).await;
            far.write_all(&whole[..4]).await.expect("begun");
        }
        heard(&mut far).await;
        far.write_all(&whole).await.expect("answered");
        far
    });
    let began = Instant::now();
    for n in 0..6_u16 {
        // Of another shape each: what a unit owes is another matter.
        let error = bus.read(unit(1), request(52, n + 2)).await.expect_err("broken off");
        assert!(!matches!(error, BusError::Gone { .. }), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(8), "twice 2 s, and no more: {:?}", began.elapsed());
    assert_eq!(bus.read(unit(1), request(52, 1)).await.expect("read"), [0x1234]);
    peer.await.expect("the unit");
}

/// A byte at a time, each within the byte timeout: such a unit had the line for as long as it liked.
#[tokio::test]
async fn an_answer_that_comes_byte_by_byte_is_given_up_after_a_few_silences() {
    let (mut far, _near, mut bus) = by_hand();
    bus.times().set_byte_timeout(Duration::from_millis(100));
    let peer = tokio::spawn(async move {
        heard(&mut far).await;
        for byte in [1, 4, 250].into_iter().chain([0; 250]) {
            far.write_all(&[byte]).await.expect("said");
            sleep(Duration::from_millis(40)).await;
        }
    });
    let asked = Instant::now();
    let error = bus.read(unit(1), request(0, 125)).await.expect_err("it never ends");
    assert!(matches!(error, BusError::Short { expected: 255, .. }), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    peer.abort();
}
