//! A whole depot around one box: broker, consumer, two meters, a line, a disk, and the box with the agent in it.
//!
//! ```text
//!            ┌─────────────── the box (QEMU) ──────────────┐
//! meter ─TCP─▶ eth0                                        │
//! meter ─RTU─▶ ttyS0 ── line     agent ──▶ /data ── disk   ├─▶ eth0 ── broker ── consumer ── oracle
//!            │ can0 ═ can1                  watchdog, RTC   │
//!            └──────────────────────────────────────────────┘
//! ```
//!
//! A rig is a file: `rigs/qemu.toml` is the virtual box; `HIL_RIG` names another. What the rig knows of the agent it has
//! from outside: the agent's command line, its configuration, what its `status` says, and what arrives.

mod bench;
mod feed;
mod firmware;
mod machine;
mod qemu;
mod qmp;
mod rewind;
mod shell;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use bench::Settings as BenchSettings;
pub use machine::Settings;
pub use qemu::{BootError, Bus, Settings as QemuSettings};
pub use rewind::Run;
pub use shell::ShellError;

use crate::agent::{MeterSetup, Setup, Status};
use crate::broker::{Broker, BrokerError, Options as BrokerOptions};
use crate::certs::{Authority, CertsError, Files, Validity};
use crate::consumer::{Consumer, ConsumerError, Endpoint};
use crate::disk::{Defects, Disk, DiskError, Traffic};
use crate::fault::Fault;
use crate::image::{Image, ImageError, Overlay, data_disk};
use crate::isolation::{self, IsolationError};
use crate::line::{Line, Trouble};
use crate::meter::{Framing, Meter, MeterError};
use crate::oracle::{Judgement, Line as WireLine, Message, Oracle};
use crate::process::ProcessError;
use crate::seed::Seed;
use crate::tool::ToolError;
use crate::wait::{TimedOut, let_pass, unix_ns, wait_for};
use feed::Feed;
use machine::{Machine, PowerOn};
use qemu::{Boot, Loads};
use rewind::Past;

/// The gateway's name, and that of its certificate.
pub const GATEWAY: &str = "gw-rig";
/// The meter on the network.
pub const METER_TCP: &str = "grid-main";
/// The meter on the line.
pub const METER_RTU: &str = "aux-meter";
/// A box's clock is set to the second, a window takes 250 ms, a poll over the line up to half a second.
const TOLERANCE: Duration = Duration::from_secs(3);
/// A command in the box. A processor that is emulated while its host is busy is slow.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// Until what should come at once has come, in an emulated box on a busy machine.
pub const SOON: Duration = Duration::from_secs(90);
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";
/// A box that starts does not answer; then it is asked again.
const BOOT_LOOK: Duration = Duration::from_secs(5);
/// The rig that boots our own kernel with the agent in an archive.
const RIG: &str = "qemu.toml";
/// Brokers listen there: what the box's packet filter lets pass.
const MQTTS: u16 = 8883;
const AGENT: &str = "/usr/bin/v2g-edge";
const CONFIG: &str = "/etc/v2g-edge/gateway.toml";
const DATA: &str = "/data";

/// Something of the rig failed; the test says nothing about the agent.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself what it is")]
pub enum RigError {
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    #[error(transparent)]
    Certs(#[from] CertsError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    #[error(transparent)]
    Meter(#[from] MeterError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error(transparent)]
    Shell(#[from] ShellError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Late(#[from] TimedOut),
    #[error("{what}")]
    Io { what: String, source: io::Error },
    #[error("{path:?} is no rig: {why}")]
    File { path: PathBuf, why: String },
    #[error("the power of the box is off")]
    NoPower,
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("{0} is not possible on this rig; its file has no command for it, or no box could do it")]
    NotOnThisRig(&'static str),
    #[error("{0} does not heal: {1}")]
    Incurable(&'static str, &'static str),
}

/// What differs from test to test.
#[derive(Debug, Clone)]
pub struct Options {
    /// The rig's file below `rigs`. For the first of them `HIL_RIG` may name another one.
    pub rig: &'static str,
    /// What the box's clock says when its power comes on: `utc`, or a date as `2001-01-01T00:00:00`.
    /// With `utc` it counts as synced.
    pub rtc: &'static str,
    /// The agent feeds the rig's watchdog, which waits so long for it; `None`: the watchdog sleeps.
    pub watchdog: Option<&'static str>,
    /// What is wrong with the disk from the beginning.
    pub disk: Defects,
    /// `aggregate.window` of the agent in the image, each of which is an entry of the journal, and how often the meter on the network is read.
    pub window: &'static str,
    /// More of the agent's configuration: buses and devices.
    pub extra: &'static str,
    /// More files in the box: path and content.
    pub files: &'static [(&'static str, &'static str)],
    /// The image of a memory stick that is in the box.
    pub stick: Option<PathBuf>,
    /// A box that starts from its disk has its host keys already: an emulated one makes them for minutes.
    pub has_host_keys: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rig: RIG,
            rtc: "utc",
            watchdog: None,
            disk: Defects::default(),
            window: "250ms",
            extra: "",
            files: &[],
            stick: None,
            has_host_keys: false,
        }
    }
}

impl Options {
    /// The box that starts from its disk, with the image that `hil-tests/image` has built.
    #[must_use]
    pub fn firmware() -> Self {
        Self { rig: "firmware.toml", ..Self::default() }
    }
}

/// What a power cut met, for the record.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Blocks of 4 KiB that had been written and were lost.
    pub blocks_lost: usize,
    /// What had gone through the disk since power on.
    pub traffic: Traffic,
    /// Epoch, and the newest number that the agent had said to be durable in it.
    pub committed: Option<(u64, u64)>,
}

/// Everything, running. Dropping it ends everything.
#[derive(Debug)]
pub struct Rig {
    // Dropped in this order: the box first, its directory last.
    power: Option<Machine>,
    line: Line,
    /// Of a virtual box: a real one has a real disk.
    disk: Option<Disk>,
    consumer: Consumer,
    /// May be stopped, muted, brought back.
    pub broker: Broker,
    meters: [(&'static str, Meter); 2],
    feed: Feed,
    past: Past,
    seed: Seed,
    settings: Settings,
    options: Options,
    /// Of a virtual box.
    loads: Option<Loads>,
    overlay: Overlay,
    boots: u32,
    dir: tempfile::TempDir,
}

impl Rig {
    /// Everything runs, and the box has been powered on. Takes this thread into a network of its own.
    pub fn start(options: Options) -> Result<Self, RigError> {
        let settings = settings(options.rig)?;
        let dir = tempfile::tempdir().map_err(io_error("a temporary directory"))?;
        let path = |name: &str| dir.path().join(name);
        // From Debian's mirror, if it is not there yet: before there is no network.
        let image = match &settings {
            Settings::Qemu(_) if settings.firmware().is_none() => Some(Image::in_cache(&cache())?),
            Settings::Qemu(_) | Settings::Bench(_) => None,
        };
        if let Settings::Qemu(qemu) = &settings {
            isolation::enter()?;
            qemu.bus.as_ref().map_or(Ok(()), firmware::lay_cable)?;
        }
        let authority = Authority::new(&path("tls"), "depot ca")?;
        let server = authority.server_known_as(settings.host(), Validity::Good)?;
        let listen = settings.listen();
        let tls_port = settings.firmware().map(|_| MQTTS);
        let broker =
            Broker::start(&path("broker"), &server, BrokerOptions { listen, tls_port, ..BrokerOptions::default() })?;
        let consumer = Consumer::start(dir.path(), &Endpoint::Plain(broker.plain_port()), "judge", &["v2g/#"])?;
        let meters = [
            (METER_TCP, Meter::start_with(&path("meter-tcp"), Framing::Tcp, settings.meter_listens())?),
            (METER_RTU, Meter::start_with(&path("meter-rtu"), Framing::Rtu, Ipv4Addr::LOCALHOST)?),
        ];
        let tls = authority.client(GATEWAY, Validity::Good)?;
        let setup = setup(&settings, &options, &broker, &meters[0].1);
        let firmware = settings.firmware().and_then(|qemu| Some((qemu, qemu.firmware.as_ref()?, qemu.bus.as_ref()?)));
        let overlay = match firmware {
            Some((_, _, bus)) => firmware::data(&setup, &tls, bus, &options)?,
            None => overlay(&setup, &tls)?,
        };
        for (path, content) in options.files {
            let path = if firmware.is_some() { firmware::on_data(path) } else { (*path).to_owned() };
            overlay.put(&path, content.as_bytes(), 0o644)?;
        }
        let loads = match (&settings, firmware, image) {
            (_, Some((qemu, uboot, _)), _) => {
                firmware::disk(&overlay, &path("disk"), qemu.data_disk_mib)?;
                Some(Loads::Firmware(uboot.clone()))
            }
            (Settings::Qemu(qemu), None, Some(image)) => {
                data_disk(&path("disk"), qemu.data_disk_mib)?;
                overlay.over(&image.base, &path("initrd"))?;
                Some(Loads::Kernel { kernel: image.kernel, initrd: path("initrd") })
            }
            (Settings::Qemu(_) | Settings::Bench(_), None, _) => None,
        };
        let disk = match &loads {
            Some(_) => Some(Disk::start(&path("disk"), &path("disk.sock"), options.disk)?),
            None => None,
        };
        let seed = Seed::from_env();
        let mut rig = Self {
            power: None,
            line: Line::new(Seed::new(1)),
            disk,
            consumer,
            broker,
            meters,
            feed: Feed::default(),
            past: Past::default(),
            seed,
            settings,
            options,
            loads,
            overlay,
            boots: 0,
            dir,
        };
        rig.power_on()?;
        Ok(rig)
    }

    /// Power on, and up to a shell. The agent starts by itself.
    pub fn power_on(&mut self) -> Result<(), RigError> {
        self.boots += 1;
        let (dir, number) = (self.dir.path(), self.boots);
        let boot = self.loads.as_ref().zip(self.disk.as_ref()).map(|(loads, disk)| {
            disk.power_on();
            let stick = self.options.stick.as_deref();
            Boot { loads, disk: disk.socket(), stick, dir, rtc: self.options.rtc, number }
        });
        let mut machine = PowerOn { dir, overlay: self.overlay.root(), boot, number }.go(&self.settings)?;
        machine.wire(&self.feed, &self.line, self.meters[1].1.port())?;
        self.power = Some(machine);
        Ok(())
    }

    /// The power goes, at once.
    pub fn power_cut(&mut self, remains: crate::disk::Remains) -> Result<Cut, RigError> {
        // A real box has a disk of its own; what remains is its affair.
        let (traffic, blocks_lost) = match &self.disk {
            Some(disk) => (disk.traffic(), disk.cut(remains, &mut self.seed)),
            None => (Traffic::default(), 0),
        };
        self.power.take().ok_or(RigError::NoPower)?.power_off()?;
        let committed = self.feed.newest().and_then(|(_, status)| status.epoch().zip(status.durable()));
        Ok(Cut { blocks_lost, traffic, committed })
    }

    /// The power goes right after this many more writes to the disk; then say [`Rig::power_cut`] what of them is left.
    pub fn wait_for_writes(&mut self, writes: u64) -> Result<(), RigError> {
        let disk = self.disk("a cut at a write")?;
        disk.cut_after_writes(writes);
        let came = disk.wait_for_cut(SOON);
        let lacking = || format!("{:?} since power on", disk.traffic());
        let late = || TimedOut { what: format!("{writes} writes"), waited: SOON, lacking: lacking() };
        if came { Ok(()) } else { Err(late().into()) }
    }

    /// Makes it go wrong.
    pub fn inject(&mut self, fault: Fault) -> Result<(), RigError> {
        match fault {
            Fault::Silence => self.line.set(Trouble::Silence),
            Fault::Noise => self.line.set(Trouble::Noise),
            Fault::LateReply(by) => self.line.set(Trouble::Late(by)),
            // The emulated controller knows no error counters: the interface goes down, which is what is left of it.
            Fault::BusOff => drop(self.run("/usr/bin/ip link set can0 down")?),
            Fault::PowerCut(remains) => {
                self.power_cut(remains)?;
            }
            Fault::DiskFull => {
                drop(
                    self.run(&format!("dd if=/dev/zero of={DATA}/full bs=64k 2>/dev/null; sync; test -s {DATA}/full"))?,
                );
            }
            Fault::DiskError => self.disk(fault.name())?.change(|disk| disk.fails_writes = true),
            Fault::SlowDisk(delay) => self.disk(fault.name())?.change(|disk| disk.delay = delay),
            Fault::BrokerMute => self.broker.freeze()?,
            Fault::LinkDown => self.box_mut()?.set_link(false)?,
            Fault::ClockJump(to) => drop(self.run(&format!("date -u -s @{to}"))?),
            Fault::Hang => drop(self.run("killall -STOP v2g-edge")?),
        }
        Ok(())
    }

    /// Makes it good again.
    pub fn heal(&mut self, fault: Fault) -> Result<(), RigError> {
        match fault {
            Fault::Silence | Fault::Noise | Fault::LateReply(_) => self.line.set(Trouble::None),
            Fault::BusOff => drop(self.run("/usr/bin/ip link set can0 up")?),
            Fault::PowerCut(_) => self.power_on()?,
            Fault::DiskFull => drop(self.run(&format!("rm {DATA}/full && sync"))?),
            Fault::DiskError => self.disk(fault.name())?.change(|disk| disk.fails_writes = false),
            Fault::SlowDisk(_) => self.disk(fault.name())?.change(|disk| disk.delay = Duration::ZERO),
            Fault::BrokerMute => self.broker.thaw()?,
            Fault::LinkDown => self.box_mut()?.set_link(true)?,
            Fault::ClockJump(_) => return Err(RigError::Incurable(fault.name(), "jump again")),
            Fault::Hang => drop(self.run("killall -CONT v2g-edge")?),
        }
        Ok(())
    }

    /// Runs a command in the box, and hands over what it wrote.
    pub fn run(&mut self, command: &str) -> Result<String, RigError> {
        self.run_within(command, COMMAND_WITHIN)
    }

    /// The same for what takes longer.
    pub fn run_within(&mut self, command: &str, within: Duration) -> Result<String, RigError> {
        self.box_mut()?.run(command, within)
    }

    /// The other end of the box's second serial port, for whoever plays the CAN adapter that is plugged in there.
    pub fn adapter(&mut self) -> Result<std::os::unix::net::UnixStream, RigError> {
        self.box_mut()?.adapter()
    }

    /// What the box wrote on its console in this boot.
    pub fn console(&mut self) -> Result<String, RigError> {
        self.box_mut()?.console().map_err(io_error("the console"))
    }

    /// The rig's file.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn console_tail(&mut self) -> String {
        self.power.as_mut().map_or_else(|| "(no power)".to_owned(), Machine::console_tail)
    }

    /// What the agent said of itself last in this boot.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.feed.newest().map(|(_, status)| status)
    }

    /// Waits until the agent says something of itself that holds.
    pub fn wait_for_status(&mut self, what: &str, holds: impl Fn(&Status) -> bool) -> Result<Status, RigError> {
        let from = unix_ns();
        // What it said before the question is no answer to it.
        let look = || match self.feed.newest() {
            Some((at, status)) if at > from && holds(&status) => Ok(status),
            Some((_, status)) => Err(format!("{status:?}")),
            None => Err(format!("the agent has not said anything in this boot; console:\n{}", self.console_tail())),
        };
        Ok(wait_for(SOON, what, look)?)
    }

    /// Waits for a line of a device.
    pub fn wait_for_line(&self, what: &str, holds: impl Fn(&WireLine) -> bool) -> Result<WireLine, RigError> {
        let look = || {
            let lines = self.lines();
            let count = lines.len();
            lines.into_iter().rev().find(&holds).ok_or_else(|| format!("{count} lines and none such"))
        };
        Ok(wait_for(SOON, what, look)?)
    }

    /// Waits until values of now of both meters come by.
    pub fn wait_until_live(&mut self) -> Result<(), RigError> {
        let from = self.consumer.look(<[Message]>::len);
        for device in [METER_TCP, METER_RTU] {
            let look = || {
                let fits = |line: &WireLine| line.tag("device") == Some(device) && line.field("power_flow").is_some();
                let live = |message: &&Message| message.topic.ends_with("/telemetry");
                let came = self.consumer.look(|messages| {
                    messages[from..].iter().filter(live).flat_map(Message::device_lines).any(|line| fits(&line))
                });
                let mut lacking = || match self.status() {
                    Some(status) => format!("the agent says {status:?}"),
                    None => format!("the agent says nothing; console:\n{}", self.console_tail()),
                };
                if came { Ok(()) } else { Err(lacking()) }
            };
            wait_for(SOON, &format!("live values of {device}"), look)?;
        }
        Ok(())
    }

    /// Waits until the agent says that nothing waits any more: windows go on, so some entry may always be on its way.
    pub fn wait_until_drained(&mut self) -> Result<Status, RigError> {
        self.wait_for_status("an empty backlog", |status| {
            status.is_online() && status.waiting().is_some_and(|waiting| waiting <= 3)
        })
    }

    /// All device lines so far, in order of their arrival.
    #[must_use]
    pub fn lines(&self) -> Vec<WireLine> {
        self.consumer.look(|messages| self.past.of(messages).flat_map(Message::device_lines).collect())
    }

    /// Waits for a message with this text in it, of all that came so far and come.
    pub fn wait_for_text(&self, text: &str) -> Result<(), RigError> {
        let has = |message: &Message| String::from_utf8_lossy(&message.payload).contains(text);
        let look = || match self.consumer.look(|messages| (self.past.of(messages).any(has), messages.len())) {
            (true, _) => Ok(()),
            (false, count) => Err(format!("{count} messages and none such")),
        };
        Ok(wait_for(SOON, &format!("a message with {text}"), look)?)
    }

    /// Waits for a line with all of these texts in it, of all that came so far and come.
    pub fn wait_for_line_with(&self, texts: &[&str]) -> Result<String, RigError> {
        let found = |message: &Message| {
            let payload = String::from_utf8_lossy(&message.payload);
            payload.lines().find(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned)
        };
        let look = || match self.consumer.look(|messages| (self.past.of(messages).find_map(found), messages.len())) {
            (Some(line), _) => Ok(line),
            (None, count) => Err(format!("{count} messages and none such")),
        };
        Ok(wait_for(SOON, &format!("a line with {texts:?}"), look)?)
    }

    /// How many messages so far came on topics that end like this.
    #[must_use]
    pub fn count(&self, topic_end: &str) -> usize {
        self.consumer.count(topic_end)
    }

    /// What is wrong with the box's clock, by the box itself: this machine's less the box's, s.
    pub fn clock_late(&mut self) -> Result<i64, RigError> {
        let said = self.run("date +%s")?;
        let said: i64 = said.parse().map_err(|_| {
            RigError::Late(TimedOut {
                what: "the box's clock".to_owned(),
                waited: Duration::ZERO,
                lacking: format!("{said:?} is no number"),
            })
        })?;
        Ok(unix_ns() / 1_000_000_000 - said)
    }

    /// Sets the box's clock to this machine's and says that it is synced, as an NTP client would.
    pub fn sync_clock(&mut self) -> Result<(), RigError> {
        // `date` knows whole seconds: the command is sent when one begins.
        let now = unix_ns();
        let next = (now / 1_000_000_000 + 1) * 1_000_000_000;
        let_pass(Duration::from_nanos((next - now).unsigned_abs()));
        let second = next / 1_000_000_000;
        self.run(&format!("date -u -s @{second} && /usr/bin/adjtimex --status 1 --maxerror 1000 --esterror 1000"))?;
        Ok(())
    }

    /// How often the watchdog has reset the box since its power came on.
    pub fn watchdog_fired(&mut self) -> usize {
        self.power.as_mut().map_or(0, Machine::resets)
    }

    /// After the watchdog has reset the box: waits for its shell, and puts the line to it again.
    pub fn wait_for_reset(&mut self) -> Result<(), RigError> {
        let look = || match self.watchdog_fired() {
            0 => Err("it has not fired".to_owned()),
            _ => Ok(()),
        };
        wait_for(SOON, "the watchdog", look)?;
        let within = self.settings.boot_within();
        self.box_mut()?.wait_for_shell(within)
    }

    /// What the box calls this start of its own: another one after each.
    pub fn boot_id(&mut self) -> Result<String, RigError> {
        self.run(BOOT_ID)
    }

    /// Waits for the shell of a later start than this one; what the start is called.
    pub fn wait_for_start_after(&mut self, boot_id: &str) -> Result<String, RigError> {
        let within = self.settings.boot_within();
        let look = || match self.run_within(BOOT_ID, BOOT_LOOK) {
            Ok(now) if now != boot_id => Ok(now),
            other => Err(format!("{other:?}; console:\n{}", self.console_tail())),
        };
        Ok(wait_for(within, "the box to start anew", look)?)
    }

    /// The seed of this run's random moments.
    pub fn seed(&mut self) -> &mut Seed {
        &mut self.seed
    }

    /// Stops the agent in order and judges everything from the first number to the last.
    pub fn stop_and_judge(&mut self) -> Result<Judgement, RigError> {
        let last = self.wait_until_drained()?.durable().unwrap_or(0);
        self.run(match self.settings.firmware() {
            Some(_) => "systemctl stop v2g-edge",
            None => "touch /run/rig-stop; killall -TERM v2g-edge; while pidof v2g-edge >/dev/null; do sleep 0.1; done",
        })?;
        let said = || match self.consumer.look(|messages| messages.last().map(Message::says_offline)) {
            Some(true) => Ok(()),
            other => Err(format!("the last message says offline: {other:?}")),
        };
        wait_for(SOON, "the state offline", said)?;
        self.judge(Some(last))
    }

    /// Judges what has come so far; with the last number that must have, also whether all did.
    pub fn judge(&self, last: Option<u64>) -> Result<Judgement, RigError> {
        let mut oracle = Oracle::new();
        for (device, meter) in &self.meters {
            oracle.know(meter.truth(device, TOLERANCE)?);
        }
        for (epoch, (first, last)) in self.feed.durable() {
            oracle.committed(GATEWAY, epoch, first, last);
        }
        self.consumer.look(|messages| oracle.take_all(self.past.of(messages)));
        if let Some(last) = last {
            let newest = oracle.judge().tally(GATEWAY).range.map_or(last, |(_, newest)| newest.max(last));
            oracle.expect_range(GATEWAY, 1, newest);
        }
        Ok(oracle.judge())
    }

    fn disk(&self, what: &'static str) -> Result<&Disk, RigError> {
        self.disk.as_ref().ok_or(RigError::NotOnThisRig(what))
    }

    fn box_mut(&mut self) -> Result<&mut Machine, RigError> {
        self.power.as_mut().ok_or(RigError::NoPower)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // nextest shows this of a test that failed.
        if std::thread::panicking() {
            println!("--- the box's console, its end:\n{}", self.console_tail());
        }
    }
}

fn setup(settings: &Settings, options: &Options, broker: &Broker, meter: &Meter) -> Setup {
    let host = settings.host();
    let watchdog = |timeout| format!("[watchdog]\ndevice = {:?}\ntimeout = {timeout:?}\n", settings.watchdog());
    let tls = |name: &str| PathBuf::from("/etc/v2g-edge/tls").join(name);
    Setup {
        gateway: GATEWAY.to_owned(),
        site: "depot-a".to_owned(),
        brokers: vec![format!("mqtts://{host}:{}", broker.tls_port())],
        tls: Files { ca: tls("ca.pem"), certificate: tls("gateway.pem"), key: tls("gateway.key") },
        meters: vec![
            MeterSetup {
                poll: options.window,
                ..MeterSetup::sdm630(METER_TCP, &format!("{}:{}", settings.meter_host(), meter.port()))
            },
            MeterSetup::sdm630_on_the_line(METER_RTU),
        ],
        line: Some(settings.serial_port().to_owned()),
        keep_alive: "5s",
        uplink: String::new(),
        extra: options.watchdog.map(watchdog).unwrap_or_default() + options.extra,
    }
}

fn overlay(setup: &Setup, tls: &Files) -> Result<Overlay, RigError> {
    let overlay = Overlay::new()?;
    overlay.copy(AGENT, &agent()?, 0o755)?;
    overlay.put("/etc/rig/keep", include_bytes!("../guest/keep"), 0o755)?;
    overlay.put("/etc/rig/tell", include_bytes!("../guest/tell"), 0o755)?;
    let state = Path::new(DATA).join("v2g-edge");
    let toml = setup.toml(&state, Path::new("/run/v2g-edge/api.sock"));
    overlay.put(CONFIG, toml.as_bytes(), 0o644)?;
    for (from, to, mode) in [
        (&tls.ca, &setup.tls.ca, 0o644),
        (&tls.certificate, &setup.tls.certificate, 0o644),
        (&tls.key, &setup.tls.key, 0o600),
    ] {
        overlay.copy(&to.to_string_lossy(), from, mode)?;
    }
    Ok(overlay)
}

/// The agent for arm64: what `HIL_AGENT` names, or what `hil-tests/cross` has built.
fn agent() -> Result<PathBuf, RigError> {
    let path = std::env::var_os("HIL_AGENT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/aarch64-unknown-linux-musl/release/v2g-edge"),
        PathBuf::from,
    );
    if path.is_file() {
        Ok(path)
    } else {
        Err(RigError::File { path, why: "no agent for arm64 there; hil-tests/cross builds it".to_owned() })
    }
}

/// What is made once: kept over runs, below the build's own directory.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/hil")
}

fn settings(rig: &str) -> Result<Settings, RigError> {
    let named = std::env::var_os("HIL_RIG").filter(|_| rig == RIG).map(PathBuf::from);
    let path = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("rigs").join(rig));
    let fault = |why: String| RigError::File { path: path.clone(), why };
    let text = fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
    toml::from_str(&text).map_err(|error| fault(error.to_string()))
}

fn io_error(what: &str) -> impl FnOnce(io::Error) -> RigError + use<> {
    let what = what.to_owned();
    move |source| RigError::Io { what, source }
}
