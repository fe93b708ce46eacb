//! The packet filter of the booted image, shot at from outside the box and from within. On the cable of the meters this machine
//! is the outside: what it sends to the box is a packet on a wire.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use hil_tests::rig::{Options, Rig, RigError};

/// The box on the cable of the meters, and this machine (`rigs/firmware.toml`).
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const HOST: &str = "10.9.0.1";
/// This machine in the box's WAN.
const WAN: &str = "10.0.2.2";
/// A dropped packet has no answer; what is refused is so within milliseconds.
const SILENCE: Duration = Duration::from_secs(4);
const MQTT: u16 = 1883;
/// A port with no meaning.
const OTHER: u16 = 8080;

#[test]
fn what_is_not_meant_to_pass_is_dropped_in_both_directions_and_counted() -> Result<(), RigError> {
    let mut rig = Rig::start(Options::firmware())?;
    // Values come: 8883 passes, and the network of the buses.
    rig.wait_until_live()?;
    for counter in ["out_tls", "out_bus"] {
        assert!(count(&mut rig, counter)? > 0, "{counter}");
    }

    super::wait_until_started(&mut rig)?;
    // Somebody listens on every port that is shot at: what is silent was dropped on its way.
    let ports = "-l 1883 -l 8883 -l 8080 -l 502";
    rig.run(&format!("setsid systemd-socket-activate --accept {ports} /bin/cat >/dev/null 2>&1 &"))?;
    let (plain_before, dropped_before) = (count(&mut rig, "in_plain_mqtt")?, count(&mut rig, "in_dropped")?);
    for port in [MQTT, 8883, OTHER, 22, 502] {
        let shot = shoot(port);
        assert!(matches!(&shot, Err(error) if error.kind() == io::ErrorKind::TimedOut), "{port}: {shot:?}");
    }
    let (plain, dropped) = (count(&mut rig, "in_plain_mqtt")?, count(&mut rig, "in_dropped")?);
    assert!(
        plain > plain_before && dropped >= dropped_before + 4,
        "{plain_before} {plain}; {dropped_before} {dropped}"
    );

    // Who is in the service network reaches SSH, and nobody else does.
    rig.run("nft add element inet v2g_edge service4 { 10.9.0.1 }")?;
    let mut banner = [0; 4];
    shoot(22)
        .and_then(|mut ssh| ssh.read_exact(&mut banner))
        .map_err(|source| RigError::Io { what: "SSH".into(), source })?;
    assert_eq!(&banner, b"SSH-");
    assert!(count(&mut rig, "in_ssh")? > 0);

    let listeners = [MQTT, OTHER].map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port"));
    let (plain_before, dropped_before) = (count(&mut rig, "out_plain_mqtt")?, count(&mut rig, "out_dropped")?);
    for (host, port) in [(WAN, MQTT), (HOST, MQTT), (WAN, OTHER)] {
        let reached = rig.run(&format!("timeout 4 bash -c 'exec 3<>/dev/tcp/{host}/{port}'"));
        assert!(reached.is_err(), "the box reaches {host}:{port}");
    }
    for listener in &listeners {
        listener.set_nonblocking(true).expect("a socket");
        let came = listener.accept();
        assert!(matches!(&came, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "{came:?}");
    }
    let (plain, dropped) = (count(&mut rig, "out_plain_mqtt")?, count(&mut rig, "out_dropped")?);
    assert!(
        plain >= plain_before + 2 && dropped > dropped_before,
        "{plain_before} {plain}; {dropped_before} {dropped}"
    );
    // The way is there: in the network of the buses everything else passes.
    rig.run(&format!("timeout 10 bash -c 'exec 3<>/dev/tcp/{HOST}/{OTHER}'"))?;
    println!("{}", rig.run("nft list counters table inet v2g_edge")?);
    Ok(())
}

fn shoot(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((GATEWAY, port)), SILENCE)
}

/// Packets.
fn count(rig: &mut Rig, counter: &str) -> Result<u64, RigError> {
    let shown = rig.run(&format!("nft list counter inet v2g_edge {counter}"))?;
    let packets = shown.split_whitespace().skip_while(|word| *word != "packets").nth(1);
    Ok(packets.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{shown}")))
}
