//! `[uplink]` and `[uplink.tls]`: towards the broker.

use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Surroundings;
use super::document::Value;
use super::plan::{GatewayPlan, UplinkPlan};
use super::section::{
    Form, Section, Taken, Wrong, boolean, duration_within, integer, one_of, rate_within, size_within, text,
};
use crate::net::{BrokerUrl, Link, Login, OwnFiles, TlsFiles};

pub(super) const UPLINK: Form = Form {
    table: "uplink",
    keys: &[
        ("brokers", "[\"mqtts://mqtt.example:8883\"]"),
        ("allow_plaintext", "true"),
        ("topic_prefix", "\"v2g/{site}/{gateway}\""),
        ("client_id", "\"gw-01\""),
        ("keep_alive", "\"15s\""),
        ("history_rate_max", "\"2MiB/s\""),
        ("in_flight_max", "100"),
        ("history_per_day_max", "\"500MiB\""),
        ("interface", "\"eth0\""),
        ("fail_back", "\"5m\""),
        ("no_subscriber", "\"hold\""),
        ("username", "\"gw-01\""),
        ("password_file", "\"/etc/v2g-edge/tls/password\""),
        ("tls", "[uplink.tls]"),
        ("second", "[uplink.second]"),
    ],
};
pub(super) const SECOND: Form = Form {
    table: "uplink.second",
    keys: &[("interface", "\"wwan0\""), ("history_rate_max", "\"64KiB/s\""), ("history_per_day_max", "\"200MiB\"")],
};
pub(super) const TLS: Form = Form {
    table: "uplink.tls",
    keys: &[
        ("ca", "\"/etc/v2g-edge/tls/ca.pem\""),
        ("certificate", "\"/etc/v2g-edge/tls/gateway.pem\""),
        ("key", "\"/etc/v2g-edge/tls/gateway.key\""),
    ],
};

const BROKERS_MAX: usize = 8;
/// The client library takes nothing below 5 s; MQTT counts seconds in 16 bits, 18 h 12 min.
const KEEP_ALIVE: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(18 * 3600);
const HISTORY_RATE: RangeInclusive<u64> = (1 << 10)..=(1 << 30);
/// Below 1 MiB a day an outage of an hour would never be caught up with; above 1 TiB there is no bound.
const HISTORY_PER_DAY: RangeInclusive<u64> = (1 << 20)..=(1 << 40);
/// More often and a flapping link would be moved to and fro.
const FAIL_BACK: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// `IFNAMSIZ` of Linux, less its NUL.
const INTERFACE_BYTES_MAX: usize = 15;
const USERNAME_BYTES_MAX: usize = 256;
const FAIL_BACK_DEFAULT: Duration = Duration::from_secs(300);
const HISTORY_RATE_DEFAULT: u64 = 2 << 20;
/// A quarter of what LTE carries at its edge.
const SECOND_RATE_DEFAULT: u64 = 64 << 10;
/// 1000 batches of 64 KiB are 64 MB, more than a small box has to spare.
const IN_FLIGHT: RangeInclusive<u16> = 1..=1000;
/// With `/telemetry` and two names of 64 bytes the full topic stays below 256 bytes.
const TOPIC_PREFIX_BYTES_MAX: usize = 150;
const CLIENT_ID_BYTES_MAX: usize = 128;
const TOPIC_PREFIX_DEFAULT: &str = "v2g/{site}/{gateway}";

/// `gateway` is `None` if it has mistakes of its own; the rest is read all the same.
pub(super) fn uplink(
    section: &Section<'_>,
    gateway: Option<&GatewayPlan>,
    surroundings: &Surroundings,
) -> Option<UplinkPlan> {
    let allow_plaintext = section.optional("allow_plaintext", boolean).unwrap_or(false);
    let brokers = brokers(section, allow_plaintext);
    let names = gateway.map_or(("site", "gateway"), |g| (g.site.as_str(), g.id.as_str()));
    let topic_prefix = section.optional("topic_prefix", |value| topic_prefix(&text(value)?, names));
    let client_id = section.optional("client_id", client_id);
    let keep_alive = section.optional("keep_alive", |value| {
        let keep_alive = duration_within(KEEP_ALIVE)(value)?;
        if keep_alive.subsec_millis() == 0 { Ok(keep_alive) } else { Err(Wrong::new("is not in whole seconds")) }
    });
    let login = login(section, surroundings);
    let has_login = section.has("username");
    let tls = section.section("tls", &TLS).map(|section| tls(&section, has_login, surroundings));
    let second = section.section("second", &SECOND).map(|section| second(&section));
    let own_interface = section.optional("interface", interface);
    if let (Some(one), Some(Some(other))) = (&own_interface, &second)
        && Some(one) == other.interface.as_ref()
    {
        section.blame(
            "interface",
            format!("interface and [uplink.second] are both {one}"),
            "another one, or no [uplink.second]",
        );
    }
    if let Some(broker) = brokers.iter().flatten().find(|broker| broker.tls)
        && !section.has("tls")
    {
        let remedy: String = TLS.keys.iter().map(|(key, example)| format!("\n{key} = {example}")).collect();
        let problem = format!("{}:// needs the table [uplink.tls]", broker.scheme());
        section.blame("brokers", problem, format!("[uplink.tls]{remedy}"));
    }
    let history_rate_max = section.optional("history_rate_max", rate_within(HISTORY_RATE));
    let history_per_day_max = section.optional("history_per_day_max", size_within(HISTORY_PER_DAY));
    let fail_back = section.optional("fail_back", duration_within(FAIL_BACK));
    let holds_unheard = section.optional("no_subscriber", one_of(&[("accept", false), ("hold", true)]));
    let in_flight_max = section.optional("in_flight_max", integer(IN_FLIGHT));
    Some(UplinkPlan {
        brokers: brokers?,
        allow_plaintext,
        topic_prefix: match topic_prefix {
            Some(prefix) => prefix,
            None => topic_prefix_of(TOPIC_PREFIX_DEFAULT, names),
        },
        client_id: client_id.or_else(|| gateway.map(|g| g.id.to_string()))?,
        keep_alive: keep_alive.unwrap_or(Duration::from_secs(15)),
        in_flight_max: in_flight_max.unwrap_or(100),
        link: Link {
            interface: own_interface,
            history_rate_max: history_rate_max.unwrap_or(HISTORY_RATE_DEFAULT),
            history_bytes_per_day: history_per_day_max,
        },
        second: second.flatten(),
        fail_back: fail_back.unwrap_or(FAIL_BACK_DEFAULT),
        holds_unheard: holds_unheard.unwrap_or(false),
        login,
        tls: tls.flatten(),
    })
}

/// The other way out.
fn second(section: &Section<'_>) -> Option<Link> {
    let interface = section.required("interface", interface);
    let history_rate_max = section.optional("history_rate_max", rate_within(HISTORY_RATE));
    let history_per_day_max = section.optional("history_per_day_max", size_within(HISTORY_PER_DAY));
    Some(Link {
        interface: Some(interface?),
        history_rate_max: history_rate_max.unwrap_or(SECOND_RATE_DEFAULT),
        history_bytes_per_day: history_per_day_max,
    })
}

fn interface(value: &Value) -> Taken<String> {
    let given = text(value)?;
    let plain = |b: u8| b.is_ascii_graphic() && b != b'/';
    if given.is_empty() || given.len() > INTERFACE_BYTES_MAX || !given.bytes().all(plain) {
        return Err(Wrong::noted(
            format!("= \"{given}\" is not the name of a network interface"),
            "a name as `ip link` shows it",
        ));
    }
    Ok(given)
}

/// A name and where its password is: both or none.
fn login(section: &Section<'_>, surroundings: &Surroundings) -> Option<Login> {
    let username = section.optional("username", |value| {
        let given = text(value)?;
        if given.is_empty() || given.len() > USERNAME_BYTES_MAX || given.chars().any(char::is_control) {
            return Err(Wrong::new(format!("is not 1 to {USERNAME_BYTES_MAX} printable characters")));
        }
        Ok(given)
    });
    let password_file = section.optional("password_file", |value| secret(value, surroundings));
    match (section.has("username"), section.has("password_file")) {
        (true, false) => section.missing("password_file"),
        (false, true) => section.missing("username"),
        _ => {}
    }
    Some(Login { username: username?, password_file: password_file? })
}

fn brokers(section: &Section<'_>, allow_plaintext: bool) -> Option<Vec<BrokerUrl>> {
    if !section.has("brokers") {
        section.missing("brokers");
    }
    let brokers = section.list("brokers", BROKERS_MAX, |value| {
        let given = text(value)?;
        let url: BrokerUrl = given
            .parse()
            .map_err(|invalid| Wrong::new(format!("has \"{}\", which {invalid}", without_login(&given))))?;
        if !url.tls && !url.is_loopback() && !allow_plaintext {
            let encrypted = url.encrypted();
            let problem = format!("has \"{given}\", which sends everything readable over the network");
            let action = format!("\"{encrypted}\"\nor, if that is meant, allow_plaintext = true under [uplink]");
            return Err(Wrong::action(problem, action));
        }
        Ok(url)
    })?;
    if let Some(twice) = brokers.iter().enumerate().find_map(|(n, url)| brokers[..n].contains(url).then_some(url)) {
        section.blame("brokers", format!("brokers has {twice} twice"), format!("{twice} once"));
    }
    Some(brokers)
}

/// What is told of a URL that was refused goes into a log, and to the broker at a reload: not with a password in it.
fn without_login(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

fn client_id(value: &Value) -> Taken<String> {
    let given = text(value)?;
    if given.is_empty() || given.len() > CLIENT_ID_BYTES_MAX || given.chars().any(char::is_control) {
        return Err(Wrong::new(format!("is not 1 to {CLIENT_ID_BYTES_MAX} printable characters")));
    }
    Ok(given)
}

fn topic_prefix_of(pattern: &str, (site, gateway): (&str, &str)) -> String {
    pattern.replace("{site}", site).replace("{gateway}", gateway)
}

fn topic_prefix(pattern: &str, names: (&str, &str)) -> Taken<String> {
    let prefix = topic_prefix_of(pattern, names);
    let wrong = |problem: &str| Err(Wrong::new(format!("= \"{pattern}\" {problem}")));
    if prefix.contains(['+', '#', '\0']) {
        return wrong("has a wildcard, which no topic to publish on may have");
    }
    if prefix.contains(['{', '}']) {
        return wrong("has a placeholder that is not {site} or {gateway}");
    }
    if prefix.split('/').any(str::is_empty) {
        return wrong("has an empty level: a '/' at an end, or two in a row");
    }
    if prefix.starts_with('$') {
        return wrong("begins with '$', which belongs to the broker");
    }
    if prefix.len() > TOPIC_PREFIX_BYTES_MAX {
        return wrong(&format!("is longer than {TOPIC_PREFIX_BYTES_MAX} bytes"));
    }
    Ok(prefix)
}

/// A gateway that is known by its name and password may do without a certificate.
fn tls(section: &Section<'_>, has_login: bool, surroundings: &Surroundings) -> Option<TlsFiles> {
    let ca = section.required("ca", |value| file(value, surroundings));
    if has_login && !section.has("certificate") && !section.has("key") {
        return Some(TlsFiles { ca: ca?, own: None });
    }
    let certificate = section.required("certificate", |value| file(value, surroundings));
    let key = section.required("key", |value| secret(value, surroundings));
    Some(TlsFiles { ca: ca?, own: Some(OwnFiles { certificate: certificate?, key: key? }) })
}

/// A file that is there, and closed to all but its owner.
pub(super) fn secret(value: &Value, surroundings: &Surroundings) -> Taken<PathBuf> {
    let path = file(value, surroundings)?;
    if surroundings.checks_files { private(&path).map(|()| path) } else { Ok(path) }
}

/// A file that is there. A relative path counts from the directory of the configuration file.
pub(super) fn file(value: &Value, surroundings: &Surroundings) -> Taken<PathBuf> {
    let given = text(value)?;
    let path = surroundings.directory.join(&given);
    if given.is_empty() || given.contains('\0') {
        return Err(Wrong::new("is not the path of a file"));
    }
    if !surroundings.checks_files {
        return Ok(path);
    }
    let shown = path.display();
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => Ok(path),
        Ok(_) => Err(Wrong::noted(format!("= {shown} is not a file"), "the path of a PEM file")),
        Err(error) => Err(Wrong::noted(
            format!("= {shown} cannot be found: {}", io_reason(&error)),
            "the path of a PEM file that is there",
        )),
    }
}

/// A private key that nobody but its owner can touch.
fn private(path: &Path) -> Taken<()> {
    const GROUP_AND_OTHERS: u32 = 0o077;
    let metadata = std::fs::metadata(path);
    let mode =
        metadata.map_err(|error| Wrong::new(format!("cannot be looked at: {}", io_reason(&error))))?.mode() & 0o777;
    if mode & GROUP_AND_OTHERS == 0 {
        return Ok(());
    }
    let who = if mode & 0o007 == 0 { "its group" } else { "everyone on this machine" };
    let shown = path.display();
    Err(Wrong::action(
        format!("= {shown} is a secret open to {who} (mode {mode:03o})"),
        format!("chmod 600 {}   (in a shell; the line itself is right)", shell_word(path)),
    ))
}

/// The reason of an I/O error without its number.
pub(super) fn io_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is nothing of this name".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not look there".to_owned(),
        _ => error.to_string(),
    }
}

fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_' | b'+' | b'@' | b'%');
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_that_is_no_topic_is_refused() {
        for pattern in ["", "/a", "a/", "a//b", "a/+/b", "a/#", "a/{depot}", "$SYS/a", "a\0", &"x".repeat(151)] {
            assert!(topic_prefix(pattern, ("s", "g")).is_err(), "{pattern:?} was accepted");
        }
        assert_eq!(topic_prefix("x/{gateway}/{site}", ("s", "g")).expect("a topic"), "x/g/s");
    }

    #[test]
    fn a_password_in_a_url_is_not_told() {
        assert_eq!(without_login("mqtts://me:s3cret@host:1"), "mqtts://…@host:1");
        assert_eq!(without_login("mqtts://host:1/@"), "mqtts://…@");
        assert_eq!(without_login("host"), "host");
    }

    #[test]
    fn a_path_with_odd_characters_is_quoted_for_the_shell() {
        assert_eq!(shell_word(Path::new("/a b's.key")), r"'/a b'\''s.key'");
        assert_eq!(shell_word(Path::new("/etc/v2g-edge/tls/gateway.key")), "/etc/v2g-edge/tls/gateway.key");
    }
}
