//! A mosquitto without persistence and without bounds.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hil_tests::port;
use hil_tests::process::{self, Process};
use hil_tests::wait::wait_until;

/// One on this port of loopback, with these lines more.
pub(crate) fn mosquitto(dir: &Path, name: &str, port: u16, extra: &str) -> Process {
    let config = dir.join(format!("{name}.conf"));
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_queued_bytes 0\n\
         max_inflight_messages 1000\nset_tcp_nodelay true\nlog_type error\n{extra}\n"
    );
    std::fs::write(&config, text).expect("ours");
    let mut command = Command::new(process::program("mosquitto"));
    command.arg("-c").arg(&config);
    let started = Process::start("mosquitto", &mut command, &dir.join(format!("{name}.log"))).expect("mosquitto");
    wait_until(Duration::from_secs(10), "the broker", || port::accepts(port));
    started
}
