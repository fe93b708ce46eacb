//! `v2g-edge audit`: a consumer that believes nothing but what arrives.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::{mpsc, watch};

use hal::Clock;

use super::Exit;
use super::show::{complain, note, print_line};
use crate::config;
use crate::measure::Utc;
use crate::net::{BrokerUrl, TlsFiles};
use crate::uplink::audit::{self, AuditReport, ConsumerSettings, Heard, Judge};

/// Messages between the connection and the judge: a second of a fast replay.
const MESSAGES_MAX: usize = 1024;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 0: complete. 1: a gap that no gap event covers, or one identity with two contents.\n\
    Ctrl-C ends the audit and gives the verdict."
)]
pub(super) struct Arguments {
    /// The broker: mqtts://host:8883, mqtt://host:1883, or wss://host:443/mqtt, ws://host:80/mqtt
    #[arg(long, short, value_name = "URL", required_unless_present = "config")]
    broker: Option<String>,
    /// Take broker and TLS files from a gateway's configuration
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["ca", "certificate", "key"])]
    config: Option<PathBuf>,
    /// CA certificate (PEM) for mqtts and wss
    #[arg(long, value_name = "FILE", requires_all = ["certificate", "key"])]
    ca: Option<PathBuf>,
    /// Client certificate (PEM) for mqtts and wss
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Client key (PEM, not readable by others) for mqtts and wss
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Topics of these gateways, as `v2g/site/gateway`; `+` stands for any
    #[arg(long, value_name = "PREFIX", default_value = "v2g/+/+")]
    prefix: String,
    /// How long to listen, as 60s or 10m; for ever without
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<String>,
    /// The verdict as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    let length = match arguments.length.as_deref().map(config::duration).transpose() {
        Ok(length) => length,
        Err(problem) => {
            complain(format_args!("--for: {problem}"));
            return Ok(Exit::Usage);
        }
    };
    let settings = peer(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let verdict = runtime.block_on(listen(settings, length))?;
    if arguments.json {
        print_line(serde_json::to_string(&verdict)?);
    } else {
        print_line(&verdict);
    }
    Ok(if verdict.passes() { Exit::Fine } else { Exit::Wrong })
}

/// Where to listen, and as whom.
fn peer(arguments: &Arguments) -> Result<ConsumerSettings> {
    let planned = match &arguments.config {
        Some(path) => Some(config::load(path).map_err(|faults| anyhow::anyhow!("{faults}"))?.uplink),
        None => None,
    };
    let url: BrokerUrl = match (&arguments.broker, &planned) {
        (Some(text), _) => text.parse().map_err(|error| anyhow::anyhow!("--broker {text} {error}"))?,
        (None, Some(uplink)) => uplink.brokers.first().cloned().context("the configuration names no broker")?,
        (None, None) => bail!("name a broker with --broker, or a configuration with --config"),
    };
    let login = planned.as_ref().and_then(|uplink| uplink.login.as_ref()).cloned();
    let tls = match (&arguments.ca, &arguments.certificate, &arguments.key, planned.and_then(|uplink| uplink.tls)) {
        (Some(ca), Some(certificate), Some(key), _) => {
            Some(TlsFiles::mutual(ca.clone(), certificate.clone(), key.clone()))
        }
        (_, _, _, planned) => planned,
    };
    if url.tls && tls.is_none() {
        bail!("{url} needs --ca, --certificate and --key");
    }
    Ok(ConsumerSettings { broker: url, tls, login, prefix: arguments.prefix.clone() })
}

/// Judges what arrives until the time is over or Ctrl-C.
async fn listen(settings: ConsumerSettings, length: Option<Duration>) -> Result<AuditReport> {
    let (tell, mut heard) = mpsc::channel(MESSAGES_MAX);
    let (stop, stopped) = watch::channel(false);
    let clock = hal::LinuxClock::new();
    let wall = move || Utc(clock.now().utc_ns);
    let consumer = tokio::spawn(audit::consume(settings, wall, tell, stopped));
    let mut judge = Judge::default();
    let over = async {
        match length {
            Some(length) => tokio::time::sleep(length).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => break,
            _ = tokio::signal::ctrl_c() => break,
            told = heard.recv() => match told {
                Some(told) => take(&mut judge, told),
                None => break,
            },
        }
    }
    stop.send_replace(true);
    while let Some(told) = heard.recv().await {
        take(&mut judge, told);
    }
    consumer.await.context("the consumer failed")??;
    Ok(judge.report())
}

fn take(judge: &mut Judge, told: Heard) {
    match told {
        Heard::Message(message) => judge.take(&message),
        Heard::Listening => note("listening"),
        Heard::Blind => {
            note("listening again; the broker had forgotten this consumer: it was blind meanwhile");
            judge.was_blind();
        }
        Heard::Away(why) => note(format_args!("not connected: {why}")),
    }
}
