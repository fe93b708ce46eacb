//! A CAN interface of the kernel: how it is, and how it is set up (rtnetlink).

use std::io;
use std::time::Duration;

use socketcan::nl::{CanCtrlModes, CanState, InterfaceDetails};
use socketcan::{CanCtrlMode, CanInterface, InterfaceCanParams};

use super::BusState;

/// When a link is set up and the plan does not say: a controller that has left the bus comes back after this.
const RESTART_DEFAULT: Duration = Duration::from_secs(1);

/// A bit rate, and where in a bit it is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Bits per second.
    pub bitrate: u32,
    /// Tenths of a percent of a bit; `None` leaves it to the kernel (87.5 % up to 500 kbit/s: CiA 301).
    pub sample_point: Option<u32>,
}

/// An interface, and how it is to be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSettings {
    /// `can0`.
    pub interface: String,
    /// `None` takes the interface as somebody else has set it up, and never changes it.
    pub timing: Option<Timing>,
    /// Of the data phase of CAN FD.
    pub data_timing: Option<Timing>,
    /// After this the controller comes back from bus-off; zero: never.
    pub restart: Option<Duration>,
    /// CAN FD frames, too.
    pub fd: bool,
    /// Never acknowledge and never signal an error, where the controller can.
    pub listen_only: bool,
}

/// An interface as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub index: u32,
    pub up: bool,
    /// `None` for a virtual one.
    pub state: Option<BusState>,
}

/// What setting up a link came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetUp {
    /// As it was wanted, already or now.
    AsWanted,
    /// As it was wanted, but the controller cannot be kept from acknowledging.
    Acknowledging,
    /// Nothing to set: a virtual interface has no bit rate.
    Virtual,
}

/// Why it could not be done, with what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("there is no interface {interface}; see: ip link (is the adapter plugged in, its driver loaded?)")]
    Absent { interface: String },
    #[error(
        "the agent may not set up {interface} (CAP_NET_ADMIN); give it that capability, or delete bitrate and set the \
         interface up elsewhere: {command}"
    )]
    Forbidden { interface: String, command: String },
    #[error("{interface} does not take its settings: {source}; check that its controller can do {wanted}")]
    Refused { interface: String, wanted: String, source: io::Error },
    #[error("{interface} cannot be asked how it is: {source}")]
    Mute { interface: String, source: io::Error },
}

/// How the interface is.
pub(super) fn look(interface: &str) -> Result<Link, LinkError> {
    let details = details(interface)?;
    let state = details.can.state.map(|state| match state {
        CanState::ErrorActive => BusState::Active,
        CanState::ErrorWarning => BusState::Warning,
        CanState::ErrorPassive => BusState::Passive,
        CanState::BusOff => BusState::BusOff,
        CanState::Stopped | CanState::Sleeping => BusState::Stopped,
    });
    Ok(Link { index: details.index, up: details.is_up, state })
}

/// Makes the interface as the settings want it, and up. One that is so already is left alone.
pub(super) fn set_up(settings: &LinkSettings) -> Result<SetUp, LinkError> {
    let details = details(&settings.interface)?;
    let link = CanInterface::open_iface(details.index);
    let refused = |error: socketcan::Error| refusal(settings, error);
    if settings.timing.is_none() {
        return Ok(SetUp::AsWanted);
    }
    if is_virtual(&details) {
        if !details.is_up {
            link.bring_up().map_err(refused)?;
        }
        return Ok(SetUp::Virtual);
    }
    if details.is_up && is_as_wanted(&details.can, settings) {
        return Ok(SetUp::AsWanted);
    }
    if details.is_up {
        link.bring_down().map_err(refused)?;
    }
    let done = set(&link, settings).map_err(refused)?;
    link.bring_up().map_err(refused)?;
    Ok(done)
}

/// All in one call. What a controller cannot do is left out, so that the rest can be had: first the restart by itself, then
/// listening only.
fn set(link: &CanInterface, settings: &LinkSettings) -> socketcan::Result<SetUp> {
    let quiet = settings.listen_only;
    let mut tried = Err(io::Error::from(io::ErrorKind::Unsupported).into());
    for (listen_only, restarts) in [(quiet, true), (quiet, false), (false, true), (false, false)] {
        tried = link.set_can_params(&wanted(settings, listen_only, restarts));
        match &tried {
            Ok(()) if quiet && !listen_only => return Ok(SetUp::Acknowledging),
            Ok(()) => return Ok(SetUp::AsWanted),
            Err(error) if is_unsupported(error) => {}
            Err(_) => break,
        }
    }
    tried.map(|()| SetUp::AsWanted)
}

fn details(interface: &str) -> Result<InterfaceDetails, LinkError> {
    let asked = CanInterface::open(interface).and_then(|link| link.details());
    asked.map_err(|error| {
        let (interface, source) = (interface.to_owned(), io_error(error));
        match source.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => LinkError::Absent { interface },
            _ => LinkError::Mute { interface, source },
        }
    })
}

/// A real controller has a clock.
fn is_virtual(details: &InterfaceDetails) -> bool {
    details.can.clock.is_none() && details.can.bit_timing_const.is_none() && details.can.state.is_none()
}

fn wanted(settings: &LinkSettings, listen_only: bool, restarts: bool) -> InterfaceCanParams {
    let timing = |timing: Timing| socketcan::nl::CanBitTiming {
        bitrate: timing.bitrate,
        sample_point: timing.sample_point.unwrap_or(0),
        ..Default::default()
    };
    let mut modes = CanCtrlModes::default();
    modes.add(CanCtrlMode::ListenOnly, listen_only);
    if settings.fd {
        modes.add(CanCtrlMode::Fd, true);
    }
    let restart = settings.restart.unwrap_or(RESTART_DEFAULT);
    InterfaceCanParams {
        bit_timing: settings.timing.map(timing),
        data_bit_timing: settings.data_timing.filter(|_| settings.fd).map(timing),
        restart_ms: restarts.then(|| u32::try_from(restart.as_millis()).unwrap_or(u32::MAX)),
        ctrl_mode: Some(modes),
        ..InterfaceCanParams::default()
    }
}

fn is_as_wanted(is: &InterfaceCanParams, settings: &LinkSettings) -> bool {
    let matches = |is: Option<socketcan::nl::CanBitTiming>, wanted: Option<Timing>| match (is, wanted) {
        (Some(is), Some(wanted)) => {
            is.bitrate == wanted.bitrate && wanted.sample_point.is_none_or(|point| point == is.sample_point)
        }
        (_, wanted) => wanted.is_none(),
    };
    let mode = |mode| is.ctrl_mode.is_some_and(|modes| modes.has_mode(mode));
    let restart = settings.restart.unwrap_or(RESTART_DEFAULT).as_millis();
    // A controller that cannot listen only is as good as it gets without the mode.
    let quiet_enough = mode(CanCtrlMode::ListenOnly) == settings.listen_only
        || is.ctrl_mode_supported.is_some_and(|modes| modes & CanCtrlMode::ListenOnly.mask() == 0);
    matches(is.bit_timing, settings.timing)
        && matches(is.data_bit_timing, settings.data_timing.filter(|_| settings.fd))
        && mode(CanCtrlMode::Fd) == settings.fd
        && quiet_enough
        && is.restart_ms.is_none_or(|ms| u128::from(ms) == restart)
}

fn is_unsupported(error: &socketcan::Error) -> bool {
    matches!(errno(error), Some(libc::EOPNOTSUPP | libc::EINVAL))
}

fn errno(error: &socketcan::Error) -> Option<i32> {
    match error {
        socketcan::Error::Io(error) => error.raw_os_error(),
        socketcan::Error::Nl(error) => error.errno(),
        socketcan::Error::Can(_) => None,
    }
}

fn io_error(error: socketcan::Error) -> io::Error {
    match (errno(&error), error) {
        (_, socketcan::Error::Io(error)) => error,
        (Some(errno), _) => io::Error::from_raw_os_error(errno),
        (None, other) => io::Error::other(other.to_string()),
    }
}

fn refusal(settings: &LinkSettings, error: socketcan::Error) -> LinkError {
    let source = io_error(error);
    let interface = settings.interface.clone();
    match source.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => LinkError::Absent { interface },
        Some(libc::EPERM | libc::EACCES) => LinkError::Forbidden { command: command(settings), interface },
        _ => LinkError::Refused { interface, wanted: shown(settings), source },
    }
}

/// The settings in words.
fn shown(settings: &LinkSettings) -> String {
    let mut words: Vec<String> = settings.timing.iter().map(|t| format!("{} bit/s", t.bitrate)).collect();
    words.extend(settings.fd.then(|| "CAN FD".to_owned()));
    words.extend(settings.data_timing.iter().map(|t| format!("{} bit/s of data", t.bitrate)));
    words.join(", ")
}

/// What a person can type to the same end.
pub(super) fn command(settings: &LinkSettings) -> String {
    let LinkSettings { interface, timing, data_timing, fd, listen_only, .. } = settings;
    let mut words = format!("ip link set {interface} up type can");
    for (name, timing) in [("bitrate", timing), ("dbitrate", data_timing)] {
        if let Some(timing) = timing {
            words.push_str(&format!(" {name} {}", timing.bitrate));
        }
    }
    if *fd {
        words.push_str(" fd on");
    }
    if *listen_only {
        words.push_str(" listen-only on");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> LinkSettings {
        LinkSettings {
            interface: "can0".to_owned(),
            timing: Some(Timing { bitrate: 500_000, sample_point: Some(875) }),
            data_timing: Some(Timing { bitrate: 2_000_000, sample_point: None }),
            restart: Some(Duration::from_millis(100)),
            fd: true,
            listen_only: true,
        }
    }

    #[test]
    fn all_settings_go_to_the_kernel_in_one_call() {
        let wanted = wanted(&settings(), true, true);
        assert_eq!(wanted.bit_timing.map(|t| (t.bitrate, t.sample_point)), Some((500_000, 875)));
        assert_eq!(wanted.data_bit_timing.map(|t| t.bitrate), Some(2_000_000));
        assert_eq!(wanted.restart_ms, Some(100));
        let modes = wanted.ctrl_mode.expect("modes");
        assert!(modes.has_mode(CanCtrlMode::ListenOnly) && modes.has_mode(CanCtrlMode::Fd));
    }

    #[test]
    fn what_was_set_counts_as_wanted_and_what_differs_does_not() {
        let settings = settings();
        assert!(is_as_wanted(&wanted(&settings, true, true), &settings));
        assert!(!is_as_wanted(&wanted(&settings, false, true), &settings), "it would acknowledge");
        let slower = LinkSettings { timing: Some(Timing { bitrate: 250_000, sample_point: None }), ..settings.clone() };
        assert!(!is_as_wanted(&wanted(&slower, true, true), &settings));
        let classic = LinkSettings { fd: false, ..settings.clone() };
        assert!(!is_as_wanted(&wanted(&classic, true, true), &settings));
    }

    #[test]
    fn an_interface_that_is_not_there_is_named_with_what_to_do() {
        let error = look("can-none").expect_err("there is none");
        assert!(matches!(error, LinkError::Absent { .. }), "{error:?}");
        assert!(error.to_string().contains("can-none; see: ip link"), "{error}");
    }

    #[test]
    fn the_command_for_people_sets_the_same() {
        assert_eq!(
            command(&settings()),
            "ip link set can0 up type can bitrate 500000 dbitrate 2000000 fd on listen-only on"
        );
    }
}
