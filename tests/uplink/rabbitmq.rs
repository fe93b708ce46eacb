//! Show 5, a second implementation: RabbitMQ 4. `tests/run-rabbitmq` installs and starts it, and sets `HIL_RABBITMQ_PORT`.

use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::proxy::Proxy;
use hil_tests::wait::let_pass;

use crate::stage::{GATEWAY, Stage};

#[test]
fn rabbitmq_takes_everything_live_and_after_outages() {
    let port = std::env::var("HIL_RABBITMQ_PORT").expect("run by tests/run-rabbitmq").parse().expect("a port");
    let mut stage = Stage::set();
    // Another run's retained state must not be taken for ours.
    stage.setup.site = format!("depot-{}", std::process::id());
    let topic = format!("v2g/{}/#", stage.setup.site);
    let id = format!("judge-{}", std::process::id());
    let consumer = Consumer::start(stage.dir.path(), &Endpoint::Plain(port), &id, &[&topic]).expect("a consumer");
    let line = Proxy::start(port);
    stage.start(&[format!("mqtt://127.0.0.1:{}", line.port())], "");
    stage.wait_until_online();
    let granted = stage.agent.status().expect("it runs");
    println!("granted: receive maximum {:?}", granted.number("/uplink/granted/receive_maximum"));
    for _ in 0..3 {
        line.close();
        let_pass(std::time::Duration::from_secs(2));
        line.open();
        stage.wait_until_online();
        stage.wait_until_drained();
    }
    let judgement = stage.judge(|| consumer.messages());
    assert!(judgement.tally(GATEWAY).historical > 0, "{judgement}");
}
