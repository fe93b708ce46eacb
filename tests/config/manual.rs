//! The manual, and what is right.

use std::time::Duration;

use v2g_edge::config::{BusKind, Framing, ProfileSource, known_keys};
use v2g_edge::measure::WhenFull;

use super::stage::{HEAD, MANUAL, METER, plan};

#[test]
fn the_manual_is_a_valid_configuration() {
    let plan = plan(MANUAL);
    assert_eq!(plan.gateway.id.as_str(), "gw-01");
    assert_eq!(plan.uplink.topic_prefix, "v2g/depot-a/gw-01");
    assert_eq!(plan.uplink.brokers.len(), 2);
    assert_eq!(plan.devices.len(), 2);
    assert_eq!(plan.devices[1].address.to_string(), "10.0.0.17:502");
}

#[test]
fn the_manual_mentions_every_key() {
    for (table, key) in known_keys() {
        let header = format!("[{}", if table.is_empty() { key } else { table }.replace(".*", "."));
        let written = format!("{key} = ");
        let below = format!("[{table}.{key}]");
        let mentioned = if table.is_empty() {
            MANUAL.contains(&header)
        } else {
            MANUAL.contains(&written) || MANUAL.contains(&below)
        };
        assert!(mentioned, "configs/gateway.toml does not mention {table} {key}");
    }
}

#[test]
fn the_manual_names_every_built_in_profile() {
    for name in ProfileSource::built_in().names() {
        assert!(MANUAL.contains(&format!("\"{name}\"")), "configs/gateway.toml does not name the profile {name}");
    }
}

#[test]
fn a_new_version_has_ten_minutes_more_than_the_clock_is_waited_for() {
    let within = |extra: &str| plan(&format!("{HEAD}{METER}{extra}")).update.confirm_within.as_secs() / 60;
    assert_eq!(within(""), 15);
    assert_eq!(within("[journal]\ntime_wait = \"0s\"\n"), 15);
    assert_eq!(within("[journal]\ntime_wait = \"1h\"\n"), 70);
    assert_eq!(within("[journal]\ntime_wait = \"1h\"\n[update]\nconfirm_within = \"61m\"\n"), 61);
}

#[test]
fn the_manual_shows_the_defaults() {
    let bare = plan(&format!("{HEAD}{METER}"));
    let shown = plan(MANUAL);
    assert_eq!(bare.aggregate, shown.aggregate);
    assert_eq!(bare.site, shown.site);
    assert_eq!(bare.journal, shown.journal);
    assert_eq!(bare.api, shown.api);
    assert_eq!(bare.log, shown.log);
    assert_eq!(bare.watchdog, shown.watchdog);
    assert_eq!(bare.update, shown.update);
    assert_eq!(bare.uplink.topic_prefix, shown.uplink.topic_prefix);
    assert_eq!(bare.uplink.client_id, shown.uplink.client_id);
    assert_eq!(bare.uplink.keep_alive, shown.uplink.keep_alive);
    assert_eq!(bare.uplink.link, shown.uplink.link);
    assert_eq!(bare.uplink.fail_back, shown.uplink.fail_back);
    assert_eq!(bare.uplink.in_flight_max, shown.uplink.in_flight_max);
    assert_eq!(bare.buses[0].kind, shown.buses[0].kind);
    assert_eq!(bare.devices[0].spec, shown.devices[0].spec);
    assert_eq!(bare.devices[0].timeout, shown.devices[0].timeout);
}

#[test]
fn the_kernels_watchdog_is_left_alone_unless_it_is_named() {
    assert_eq!(plan(&format!("{HEAD}{METER}")).watchdog.device, None);
    let named = plan(&format!("{HEAD}[watchdog]\ndevice = \"/dev/watchdog\"\ntimeout = \"12s\"\n{METER}")).watchdog;
    assert_eq!((named.device, named.timeout), (Some("/dev/watchdog".into()), Duration::from_secs(12)));
}

#[test]
fn every_kind_of_bus_is_read() {
    let plan = plan(&format!(
        r#"{HEAD}
[bus.meters]
modbus-rtu = {{ port = "/dev/ttyS1", baud = 19200, parity = "even", stop_bits = 1 }}
[bus.can-a]
can = {{ interface = "can0", bitrate = 250000 }}
[bus.plc-1.iso15118]
files = ["a.ev.bin", "a.se.bin"]
"#
    ));
    let kinds: Vec<&str> = plan.buses.iter().map(|bus| bus.kind.as_str()).collect();
    assert_eq!(kinds, ["modbus-tcp", "modbus-rtu", "can", "iso15118"]);
    assert_eq!(
        plan.buses[0].kind,
        BusKind::ModbusTcp { timeout: Duration::from_secs(1), byte_timeout: hal::BYTE_TIMEOUT, framing: Framing::Tcp }
    );
}

#[test]
fn devices_keep_the_order_of_the_file() {
    let evse = |n: u8| METER.replace("grid-main", &format!("z{}", 9 - n)).replace("unit = 1", &format!("unit = {n}"));
    let plan = plan(&format!("{HEAD}{}{}{}", evse(1), evse(2), evse(3)));
    let series: Vec<String> = plan.schema().series.iter().map(|series| series.device.to_string()).collect();
    assert_eq!(series, ["z8", "z7", "z6"]);
}

#[test]
fn what_is_written_is_what_runs() {
    let text = format!("{HEAD}{METER}").replace(
        "[bus.lan]",
        r#"topic_prefix = "a/{gateway}"
keep_alive = "2m"
history_rate_max = "64KiB/s"
[journal]
bytes_max = "512MiB"
when_full = "drop-oldest"
[aggregate]
window = "1s"
[bus.lan]"#,
    );
    let plan = plan(&text);
    assert_eq!(plan.uplink.topic_prefix, "a/gw-01");
    assert_eq!(plan.uplink.keep_alive, Duration::from_secs(120));
    assert_eq!(plan.uplink.link.history_rate_max, 65_536);
    assert_eq!(plan.journal.bytes_max, 512 << 20);
    assert_eq!(plan.journal.when_full, WhenFull::DropOldest);
    assert_eq!(plan.aggregate.window, Duration::from_secs(1));
}
