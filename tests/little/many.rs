//! A gateway with as many devices as a configuration may have, each behind an address of its own.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::thread;

use hil_tests::oracle::Message;
use hil_tests::scripted::{Script, ScriptedBroker};
use hil_tests::wait::wait_for;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Agent, SOON, binary, configure, machine_s};

const DEVICES: usize = 1_000;
/// Sockets at both ends would be more than the usual 1,024.
const FILES: usize = 2_048;

/// So many chargers at 127.0.x.y, all at one port, that are read twice a second.
fn tables(devices: usize, port: u16) -> String {
    let mut tables = "[bus.lan]\nmodbus-tcp = {}\n".to_owned();
    for n in 0..devices {
        let (x, y) = (n / 250 + 1, n % 250 + 1);
        write!(
            tables,
            "[device.evse-{n:04}]\nkind = \"evse\"\nbus = \"lan\"\naddress = \"127.0.{x}.{y}:{port}\"\nunit = 1\n\
             profile = \"sim-bidirectional-dc\"\n"
        )
        .expect("a String takes everything");
    }
    tables
}

/// Answers whoever connects, at any address of loopback.
fn chargers() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    listener.set_nonblocking(true).expect("a listener can");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).expect("it does not block");
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(stream));
                }
            }
        });
    });
    port
}

/// Input registers as in `configs/devices/sim-bidirectional-dc.toml`: it charges with 11 kW.
async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut registers = [0_u16; 18];
    (registers[0], registers[3], registers[4], registers[6]) = (2, 11_000, 4_000, 500);
    loop {
        let mut request = [0; 12];
        stream.read_exact(&mut request).await?;
        let number = |at: usize| usize::from(u16::from_be_bytes([request[at], request[at + 1]]));
        let (start, count) = (number(8), number(10));
        registers[13] = registers[13].wrapping_add(1);
        let words = registers[start..start + count].iter().flat_map(|word| word.to_be_bytes());
        let bytes = u8::try_from(2 * count).expect("a request of at most 18");
        let mut reply = request[..4].to_vec();
        reply.extend([0, 3 + bytes, request[6], request[7], bytes]);
        reply.extend(words);
        stream.write_all(&reply).await?;
    }
}

#[test]
fn a_thousand_devices_are_all_read_and_delivered_and_one_more_is_refused() {
    hal::open_files_max(FILES).expect("they can be had");
    let (broker, port) = (ScriptedBroker::start(Script::default()), chargers());
    let checked = |dir: &Path, devices| {
        configure(dir, broker.port(), &tables(devices, port));
        Command::new(binary()).args(["check", "--config"]).arg(dir.join("gateway.toml")).output().expect("it starts")
    };
    let dir = tempfile::tempdir().expect("a directory");
    let refused = checked(dir.path(), DEVICES + 1);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("1000"), "{refused:?}");
    let passed = checked(dir.path(), DEVICES);
    assert!(passed.status.success(), "{passed:?}");

    let begin = machine_s();
    let mut agent = Agent::start(broker.port(), &tables(DEVICES, port), None);
    let answering = |told: &Value| {
        let devices = told["devices"].as_object().into_iter().flatten();
        devices.filter(|(_, device)| device["state"] == "answering").count()
    };
    let told = agent.wait_for_status("all devices", |told| answering(told) == DEVICES);
    let started = machine_s() - begin;
    assert!(told["files"].is_null(), "{told}");
    let lines = |message: &Message| message.device_lines().len();
    let look = || match broker.messages().iter().map(lines).sum::<usize>() {
        delivered if delivered >= 2 * DEVICES => Ok(()),
        delivered => Err(format!("{delivered} lines")),
    };
    wait_for(SOON, "what was read of them", look).unwrap_or_else(|late| panic!("{late}"));

    let (busy, since) = (agent.busy_s(), machine_s());
    let look = || if machine_s() >= since + 4.0 { Ok(()) } else { Err("not yet".to_owned()) };
    wait_for(SOON, "four seconds", look).unwrap_or_else(|late| panic!("{late}"));
    let (cores, told) = (
        (agent.busy_s() - busy) / (machine_s() - since),
        agent.wait_for_status("an answer", |told| told["rss_bytes"].is_u64()),
    );
    let files = std::fs::read_dir(format!("/proc/{}/fd", agent.process.id())).expect("it runs").count();
    let rss_mb = told["rss_bytes"].as_f64().expect("a size") / 1e6;
    let pipeline = &told["pipeline"];
    println!("all answer after {started:.1} s; {files} files, {rss_mb:.1} MB resident, {cores:.2} cores; {pipeline}");
    assert_eq!(pipeline["samples_shed"].as_u64(), Some(0), "{pipeline}");
    assert!(files < DEVICES + 100, "{files} files");
    assert!(rss_mb < 128.0, "the unit allows 128 MiB: {rss_mb} MB");
    // One that a busy machine has kept waiting for long answers again.
    agent.wait_for_status("all devices, still", |told| answering(told) == DEVICES);
    agent.signal("-TERM");
    assert!(agent.process.wait().expect("it ends").success(), "{}", agent.log());
}
