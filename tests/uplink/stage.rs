//! A meter, an agent and a depot's certificates, in one directory that goes with the test. The broker is the test's own.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use hil_tests::agent::{Agent, MeterSetup, Setup, Status};
use hil_tests::broker::Broker;
use hil_tests::certs::{Authority, Validity};
use hil_tests::consumer::Consumer;
use hil_tests::meter::Meter;
use hil_tests::oracle::{Judgement, Message, Oracle, judge_the_end};
use hil_tests::proxy::Proxy;
use hil_tests::wait::{let_pass, wait_for};

pub(crate) const GATEWAY: &str = "gw-01";
const DEVICE: &str = "grid-main";
/// For whatever should come at once, on a machine that does other things too: the longest back-off is 8 s.
pub(crate) const SOON: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// As in the delivery tests: a window, a poll, a busy machine.
const TOLERANCE: Duration = Duration::from_millis(1_000);

/// From a PUBLISH that a broker takes to its consumers, on a busy machine.
const PASSED_ON_WITHIN: Duration = Duration::from_millis(500);

pub(crate) struct Stage {
    // Dropped in this order: the agent first, its directory last.
    pub(crate) agent: Agent,
    pub(crate) setup: Setup,
    meter: Meter,
    pub(crate) authority: Authority,
    pub(crate) dir: tempfile::TempDir,
}

impl Stage {
    /// Everything but brokers; the agent does not run yet.
    pub(crate) fn set() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
        let meter = Meter::start(&dir.path().join("meter")).expect("a meter");
        let setup = Setup {
            gateway: GATEWAY.to_owned(),
            site: "depot-a".to_owned(),
            brokers: vec!["mqtt://127.0.0.1:9".to_owned()],
            tls: authority.client(GATEWAY, Validity::Good).expect("a client certificate"),
            meters: vec![MeterSetup::sdm630(DEVICE, &meter.address())],
            line: None,
            keep_alive: "5s",
            uplink: String::new(),
            extra: String::new(),
        };
        let binary =
            std::env::var_os("V2G_EDGE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_v2g-edge").into(), PathBuf::from);
        let agent = Agent::new(&binary, dir.path(), &setup).expect("a configuration");
        Self { agent, setup, meter, authority, dir }
    }

    /// Starts the agent with these brokers and these lines more in `[uplink]`.
    pub(crate) fn start(&mut self, brokers: &[String], uplink: &str) {
        self.setup.brokers = brokers.to_vec();
        uplink.clone_into(&mut self.setup.uplink);
        self.agent.configure(&self.setup).expect("the file is ours");
        self.agent.start().expect("the agent starts");
    }

    #[track_caller]
    pub(crate) fn wait_for_status(&mut self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        self.wait_for_status_within(SOON, what, holds)
    }

    #[track_caller]
    pub(crate) fn wait_for_status_within(
        &mut self,
        within: Duration,
        what: &str,
        holds: impl Fn(&Status) -> bool,
    ) -> Status {
        let look = || match (self.agent.runs(), self.agent.status()) {
            (Ok(false), _) => Err("the agent has ended".to_owned()),
            (_, Ok(status)) if holds(&status) => Ok(status),
            (_, Ok(status)) => Err(format!("{:?}", status.text("/uplink/trouble/what"))),
            (_, Err(error)) => Err(format!("{error:#?}")),
        };
        wait_for(within, what, look).unwrap_or_else(|late| panic!("{late}\n{}", self.agent.log_tail()))
    }

    /// Waits until `status` names the cause and says what to do about it.
    #[track_caller]
    pub(crate) fn wait_for_trouble(&mut self, cause: &str, remedy: &str) {
        let told = |status: &Status| {
            let says = |pointer: &str, part: &str| status.text(pointer).is_some_and(|text| text.contains(part));
            says("/uplink/trouble/what", cause) && says("/uplink/trouble/remedy", remedy)
        };
        self.wait_for_status(&format!("the trouble \"{cause}\" with the remedy \"{remedy}\""), told);
    }

    #[track_caller]
    pub(crate) fn wait_until_online(&mut self) {
        self.wait_for_status("a connection", Status::is_online);
    }

    #[track_caller]
    pub(crate) fn wait_for_backlog(&mut self, entries: u64) {
        self.wait_for_status(&format!("a backlog of {entries} entries"), |status| {
            status.waiting().is_some_and(|waiting| waiting >= entries)
        });
    }

    #[track_caller]
    pub(crate) fn wait_until_drained(&mut self) {
        // Between two windows of 250 ms nothing waits and nothing is on its way.
        self.wait_for_status_within(3 * SOON, "an empty backlog", |status| {
            status.is_online() && status.waiting() == Some(0)
        });
    }

    /// Waits until the consumer has all that is durable now: what a broker holds for one that is away dies with it.
    #[track_caller]
    pub(crate) fn wait_until_heard(&mut self, consumer: &Consumer) {
        let durable = self.agent.status().expect("it runs").durable().expect("it has written");
        let number = |message: &Message| {
            let (_, seq) = message.user_properties.iter().find(|(key, _)| key == "seq")?;
            seq.parse::<u64>().ok()
        };
        let look = || {
            let heard: BTreeSet<u64> = consumer.look(|messages| messages.iter().filter_map(number).collect());
            let missing = (1..=durable).find(|seq| !heard.contains(seq));
            missing.map_or(Ok(()), |seq| Err(format!("{seq} of {durable} has not come")))
        };
        wait_for(SOON, "what is durable at the consumer", look).unwrap_or_else(|late| panic!("{late}"));
    }

    /// Waits until all is delivered, stops the agent in order, and lets the oracle speak: from the first number to the
    /// last one nothing may be missing, changed or untrue.
    #[track_caller]
    pub(crate) fn judge(&mut self, messages: impl Fn() -> Vec<Message>) -> Judgement {
        self.wait_for_status("2 s of windows", |status| status.durable().is_some_and(|durable| durable >= 8));
        self.wait_until_drained();
        let durable = self.agent.status().expect("it runs").durable().expect("it has written");
        let status = self.agent.terminate(STOP_WITHIN).expect("it ends");
        assert!(status.success(), "the agent ended with {status}:\n{}", self.agent.log_tail());
        let oracle = || {
            let mut oracle = Oracle::new();
            oracle.know(self.meter.truth(DEVICE, TOLERANCE).expect("the meter's file"));
            oracle
        };
        let judgement = judge_the_end(SOON, GATEWAY, durable, oracle, messages);
        assert!(judgement.tally(GATEWAY).values_checked > 0, "no value was held against the truth: {judgement}");
        judgement
    }
}

/// SIGKILL of a broker in the midst of its traffic. mosquitto acknowledges a message before it is through to consumers,
/// and what it holds in that instant dies with it: a loss that no gateway can see, so the line stands still for as long
/// as passing on takes. To the gateway the broker dies with its packets half answered all the same.
pub(crate) fn kill_behind(line: &Proxy, broker: &mut Broker) {
    line.freeze(true);
    let_pass(PASSED_ON_WITHIN);
    broker.kill9().expect("it ran");
    line.freeze(false);
}
