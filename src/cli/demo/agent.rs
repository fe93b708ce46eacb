//! The agent of the demo: this same binary as a process of its own, that can be killed.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep, timeout};

use super::depot::CHARGERS;
use super::plant::METER;
use crate::api::{self, Report, Request, Response};

/// What an orderly stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The agent and its directory.
#[derive(Debug)]
pub(super) struct Agent {
    config: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Agent {
    /// Writes a configuration for the plant at `plant` and the broker behind `wan`.
    pub(super) fn prepare(directory: &Path, plant: SocketAddr, wan: SocketAddr) -> Result<Self> {
        let config = directory.join("gateway.toml");
        let socket = directory.join("api.sock");
        let mut text = format!(
            "[gateway]\nid = \"gw-demo\"\nsite = \"depot-demo\"\nstate_dir = \"{}\"\n\n\
             [uplink]\nbrokers = [\"mqtt://{wan}\"]\n\n[api]\nsocket = \"{}\"\n\n[bus.lan]\nmodbus-tcp = {{}}\n",
            directory.join("state").display(),
            socket.display(),
        );
        let mut device = |id: &str, kind: &str, unit: u8, profile: &str| {
            text += &format!(
                "\n[device.{id}]\nkind = \"{kind}\"\nbus = \"lan\"\naddress = \"{plant}\"\nunit = {unit}\n\
                 profile = \"{profile}\"\npoll = \"250ms\"\n"
            );
        };
        device("grid-main", "meter", METER, "eastron-sdm630");
        for (number, unit) in (1..=CHARGERS).zip(METER + 1..) {
            device(&format!("dc-{number}"), "evse", unit, "sim-bidirectional-dc");
        }
        fs::write(&config, text).context("the demo's configuration cannot be written")?;
        Ok(Self { config, socket, log: directory.join("agent.log"), child: None })
    }

    pub(super) fn start(&mut self) -> Result<()> {
        let program = std::env::current_exe().context("this program cannot be found")?;
        let log = File::options().create(true).append(true).open(&self.log).context("no log file")?;
        let child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("JOURNAL_STREAM")
            .spawn()
            .context("the agent cannot be started")?;
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL: no last word, no last sync.
    pub(super) fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().context("the agent cannot be killed")?;
        child.wait().context("the agent does not end")?;
        Ok(())
    }

    /// Its own view; `None` while it does not run or does not answer yet.
    pub(super) async fn report(&self) -> Option<Report> {
        self.child.as_ref()?;
        let socket = self.socket.clone();
        let asked = tokio::task::spawn_blocking(move || api::ask(&socket, Request::Status));
        match timeout(Duration::from_secs(1), asked).await {
            Ok(Ok(Ok(Response::Status(report)))) => Some(*report),
            _ => None,
        }
    }

    /// SIGTERM, and its orderly end.
    pub(super) async fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        hal::terminate(child.id()).context("the agent cannot be told to stop")?;
        let until = Instant::now() + STOP_WITHIN;
        while Instant::now() < until {
            if let Some(status) = child.try_wait().context("the agent is lost")? {
                if status.success() {
                    return Ok(());
                }
                bail!("the agent ended with {status}: {}", self.last_words());
            }
            sleep(Duration::from_millis(20)).await;
        }
        let _ = child.kill();
        bail!("the agent did not stop within {} s: {}", STOP_WITHIN.as_secs(), self.last_words());
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The demo ends; its agent must not outlive it.
        let _ = self.kill();
    }
}
