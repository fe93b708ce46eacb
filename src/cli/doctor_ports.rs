//! Whether the ports that the plan names can be had: for `v2g-edge doctor`. Nothing is opened: that would disturb who has it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hal::Holding;
use rustix::fs::{Access, access};

use crate::config::{BusKind, BusPlan};
use crate::net::{Mirror, SessionSource};

/// How a port was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// It can be had, or the agent has it.
    Right(String),
    /// Nothing is known against it; not all could be looked at.
    Unclear(String),
    /// It cannot be had; with its cure.
    Wrong(String),
}

/// One for each serial port, network interface and port of a feed, with what was looked at; `agent` is the process of the running agent.
pub(super) fn examine(buses: &[BusPlan], agent: Option<u32>) -> Vec<(String, Found)> {
    let look = |bus: &BusPlan| {
        let (what, found) = match &bus.kind {
            BusKind::ModbusRtu { line, .. } => (line.path.display().to_string(), serial(&line.path, agent)),
            BusKind::Iso15118(SessionSource::Mirror(Mirror::Tcp(at) | Mirror::Tls { endpoint: at, .. })) => {
                (format!("port {}", at.port), feed(at.port, agent))
            }
            BusKind::Iso15118(SessionSource::Interface(name)) => (name.clone(), interface(name)),
            _ => return None,
        };
        Some((format!("[bus.{}] {what}", bus.id), found))
    };
    buses.iter().filter_map(look).collect()
}

fn serial(path: &Path, agent: Option<u32>) -> Found {
    if let Err(error) = access(path, Access::READ_OK | Access::WRITE_OK) {
        let error = std::io::Error::from(error);
        return Found::Wrong(format!("{error}; {}", hal::cure(&path.display().to_string(), &error)));
    }
    held(&hal::holder_of(path), agent, "a line has one master: stop that")
}

fn feed(port: u16, agent: Option<u32>) -> Found {
    held(&hal::listener_on(port), agent, "stop that, or write another port here and at the charger")
}

fn held(holding: &Holding, agent: Option<u32>, cure: &str) -> Found {
    match holding {
        Holding::Nobody => Found::Right("free".to_owned()),
        Holding::Process(holder) if Some(holder.pid) == agent => Found::Right("the running agent has it".to_owned()),
        Holding::Process(holder) => Found::Wrong(format!("{holder} has it; {cure}")),
        Holding::User(user) if agent.is_some_and(|agent| user_of(agent) == Some(*user)) => {
            Found::Right(format!("the running agent's user ({user}) has it"))
        }
        Holding::User(user) => Found::Wrong(format!(
            "a process of user {user} has it, which you may not look at (`sudo ss -ltnp` names it); {cure}"
        )),
        Holding::Unclear(unseen) => {
            let whose = if agent.is_some() { ", the running agent perhaps among them" } else { "" };
            Found::Unclear(format!(
                "no process that you may look at has it, and {unseen} of other users may not be looked at{whose}: ask as root to know"
            ))
        }
    }
}

/// Whose a process is.
fn user_of(process: u32) -> Option<u32> {
    std::fs::metadata(format!("/proc/{process}")).ok().map(|of_process| of_process.uid())
}

fn interface(name: &str) -> Found {
    if Path::new("/sys/class/net").join(name).exists() {
        Found::Right("is there".to_owned())
    } else {
        Found::Wrong("there is no such network interface; `ip link` shows those that are there".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use hal::Holder;

    use super::*;

    fn right(found: &str) -> Found {
        Found::Right(found.to_owned())
    }

    #[test]
    fn what_another_has_is_wrong_and_what_the_agent_has_is_right() {
        let holder = |pid| Holding::Process(Holder { pid, name: "socat".to_owned() });
        assert_eq!(held(&Holding::Nobody, Some(7), "x"), right("free"));
        assert_eq!(held(&holder(7), Some(7), "x"), right("the running agent has it"));
        let wrong = Found::Wrong("socat (process 8) has it; stop that".to_owned());
        assert_eq!(held(&holder(8), Some(7), "stop that"), wrong);
    }

    /// What a process of another user had was told as free.
    #[test]
    fn what_may_not_be_looked_at_is_not_told_as_free() {
        let own = std::process::id();
        let user = user_of(own).expect("it runs");
        assert_eq!(
            held(&Holding::User(user), Some(own), "x"),
            right(&format!("the running agent's user ({user}) has it"))
        );
        let another = held(&Holding::User(user + 1), Some(own), "stop that");
        assert!(
            matches!(&another, Found::Wrong(told) if told.contains("sudo ss") && told.ends_with("stop that")),
            "{another:?}"
        );
        for agent in [None, Some(7)] {
            let unclear = held(&Holding::Unclear(31), agent, "x");
            assert!(matches!(&unclear, Found::Unclear(told) if told.contains("31 of other users")), "{unclear:?}");
        }
    }

    #[test]
    fn a_port_that_is_not_there_is_told_as_that() {
        let told = serial(Path::new("/dev/ttyUSB99"), None);
        assert!(matches!(&told, Found::Wrong(told) if told.contains("there is no such port")), "{told:?}");
        assert!(matches!((interface("none0"), interface("lo")), (Found::Wrong(_), Found::Right(_))));
    }

    #[test]
    fn who_listens_on_the_port_of_a_feed_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("ours").port();
        let told = feed(port, None);
        assert!(matches!(&told, Found::Wrong(told) if told.contains(&std::process::id().to_string())), "{told:?}");
        assert_eq!(feed(0, None), right("free"));
    }
}
