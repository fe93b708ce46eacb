//! The packet filter, shot at from outside the box and from inside: two network namespaces and the cable between them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hil_tests::process::Process;
use hil_tests::wait::wait_for;
use hil_tests::{isolation, tool};
use serde_json::Value;

use crate::shipped;

const BOX4: &str = "10.77.0.1";
const OUTSIDE4: &str = "10.77.0.2";
/// Of the outside, in the network of the buses.
const CHARGER4: &str = "10.77.1.2";
/// Of the outside, where technicians are.
const SERVICE4: &str = "10.77.2.2";
const OPEN: &str = "open";
const SILENT: &str = "silent";

/// A box and its outside.
struct Cable {
    gateway: Process,
    outside: Process,
    servers: Vec<Process>,
    dir: tempfile::TempDir,
}

impl Cable {
    fn new() -> Self {
        isolation::enter().expect("a network of its own");
        let dir = tempfile::tempdir().expect("a directory");
        let gateway = namespace("gateway", dir.path());
        let outside = namespace("outside", dir.path());
        let of = |process: &Process| process.id().to_string();
        let ends = ["eth0", "netns", &of(&gateway), "type", "veth", "peer", "name", "eth0", "netns", &of(&outside)];
        tool::run(Command::new("ip").args(["link", "add"]).args(ends)).expect("a cable");
        for (end, addresses) in [(&gateway, &[BOX4][..]), (&outside, &[OUTSIDE4, CHARGER4, SERVICE4][..])] {
            for address in addresses {
                within(end, &["ip", "address", "add", &format!("{address}/16"), "dev", "eth0"]);
            }
            within(end, &["ip", "link", "set", "lo", "up"]);
            within(end, &["ip", "link", "set", "eth0", "up"]);
        }
        let rules = shipped("nftables/v2g-edge.nft");
        within(&gateway, &["nft", "-f", &rules.display().to_string()]);
        for (set, element) in [("service4", SERVICE4), ("bus4", CHARGER4), ("listen", "15119"), ("page", "8443")] {
            within(&gateway, &["nft", "add", "element", "inet", "v2g_edge", set, &format!("{{ {element} }}")]);
        }
        let mut cable = Self { gateway, outside, servers: Vec::new(), dir };
        cable.serve();
        cable
    }

    /// Somebody listens on both ends, on every port that is tried: what is silent was dropped by the filter.
    fn serve(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/shoot.py");
        for (name, end) in [("gateway-servers", self.gateway.id()), ("outside-servers", self.outside.id())] {
            let log = self.dir.path().join(name);
            let mut server = Command::new("nsenter");
            server.args(["--net", "--target", &end.to_string(), "python3"]).arg(&script).arg("serve").args(PORTS);
            self.servers.push(Process::start(name, &mut server, &log).expect("it starts"));
            let listens = || match std::fs::read_to_string(&log) {
                Ok(said) if said.contains("listening") => Ok(()),
                other => Err(format!("{other:?}")),
            };
            wait_for(Duration::from_secs(20), "the servers", listens).unwrap_or_else(|late| panic!("{late}"));
        }
    }

    fn inward(&self, source: &str, ports: &[&str]) -> Vec<String> {
        shoot(&self.outside, source, BOX4, ports)
    }

    fn outward(&self, to: &str, ports: &[&str]) -> Vec<String> {
        shoot(&self.gateway, BOX4, to, ports)
    }

    /// Packets that a counter has seen.
    fn counted(&self, name: &str) -> u64 {
        let said = within(&self.gateway, &["nft", "-j", "list", "counter", "inet", "v2g_edge", name]);
        let json: Value = serde_json::from_str(&said).expect("JSON");
        let counters = json["nftables"].as_array().expect("a list");
        counters.iter().find_map(|entry| entry["counter"]["packets"].as_u64()).expect("the counter is there")
    }
}

/// What becomes of a connection to each of these ports of an address, from one end with this source address.
fn shoot(from: &Process, source: &str, to: &str, ports: &[&str]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/shoot.py").display().to_string();
    let command = [&["python3", &script, "connect", source, to], ports].concat();
    within(from, &command).lines().map(str::to_owned).collect()
}

/// What is tried: SSH, names, MQTT without and with TLS, HTTPS, Modbus, a mirror feed, the page, and something else.
const PORTS: [&str; 9] = ["22", "53", "1883", "8883", "443", "502", "15119", "8443", "8080"];

/// A process that holds a network namespace.
fn namespace(name: &str, dir: &Path) -> Process {
    let mut holder = Command::new("unshare");
    holder.args(["--net", "sleep", "600"]);
    let holder = Process::start(name, &mut holder, &dir.join(name)).expect("a network namespace");
    let own = std::fs::read_link("/proc/thread-self/ns/net").expect("this thread's network");
    let apart = || match std::fs::read_link(format!("/proc/{}/ns/net", holder.id())) {
        Ok(other) if other != own => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(Duration::from_secs(10), "the namespace", apart).unwrap_or_else(|late| panic!("{late}"));
    holder
}

fn within(end: &Process, command: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let target = end.id().to_string();
    tool::run(Command::new("nsenter").env("PATH", path).args(["--net", "--target", &target]).args(command))
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

#[test]
fn only_named_ports_pass_the_filter_and_what_it_drops_is_counted() {
    let cable = Cable::new();

    // Into the box: nothing, but what the depot has named, for whom it has named it.
    assert_eq!(cable.inward(OUTSIDE4, &PORTS), [SILENT; PORTS.len()], "a stranger");
    assert!(cable.counted("in_plain_mqtt") > 0, "1883 is counted apart");
    assert!(cable.counted("in_dropped") >= 8);
    assert_eq!(cable.inward(SERVICE4, &["22", "8443", "15119"]), [OPEN, OPEN, SILENT], "a technician is no station");
    assert_eq!(cable.inward(CHARGER4, &["15119", "22"]), [OPEN, SILENT], "a charger is no technician");

    // Out of it: brokers with TLS, HTTPS and names to everybody, everything but 1883 to the buses.
    assert_eq!(cable.outward(OUTSIDE4, &["8883", "443", "53"]), [OPEN; 3]);
    assert_eq!(cable.outward(OUTSIDE4, &["22", "502", "8080", "15119"]), ["no route to host"; 4]);
    assert_eq!(cable.outward(CHARGER4, &["502", "1883"]), [OPEN, SILENT]);
    assert_eq!(cable.outward(OUTSIDE4, &["1883"]), [SILENT]);
    assert!(cable.counted("out_plain_mqtt") >= 2);
    assert!(cable.counted("out_dropped") >= 4);
    assert!(cable.counted("out_tls") >= 2 && cable.counted("out_bus") >= 1 && cable.counted("in_feed") >= 1);
}
