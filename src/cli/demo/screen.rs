//! The demo's picture: what is known at one moment becomes lines of text. Pure.

use std::time::Duration;

use super::depot::Depot;
use super::story::Chapter;
use crate::api::Report;
use crate::cli::show::{self, Paint};
use crate::health::UplinkState;

/// Half the width of a power bar, in cells: left of the middle V2G, right of it G2V.
const HALF_BAR: usize = 14;
/// Full scale of a charger's bar, kW.
const FULL_SCALE_KW: f64 = 60.0;
/// Entries that fill the journal's bar: an outage of 20 s.
const FULL_JOURNAL: f64 = 80.0;

/// All that the picture shows.
pub(super) struct Scene<'a> {
    pub(super) elapsed: Duration,
    pub(super) chapter: Chapter,
    pub(super) depot: &'a Depot,
    /// The agent's own view; `None` while it does not run.
    pub(super) agent: Option<&'a Report>,
    /// How long the WAN has been cut.
    pub(super) outage: Option<Duration>,
    pub(super) received: Received,
}

/// What the consumer at the broker has received.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Received {
    pub(super) live: u64,
    pub(super) history: u64,
    pub(super) last_latency_ms: Option<f64>,
}

/// The picture, line by line; always the same number of lines.
pub(super) fn render(scene: &Scene<'_>, paint: Paint) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{}  a depot's record through an outage and a crash {}",
            paint.bold("v2g-edge demo"),
            paint.dim(&format!("{:>4.1} s of 30", scene.elapsed.as_secs_f64()))
        ),
        progress(scene.chapter, paint),
        paint.dim(scene.chapter.tells()),
        String::new(),
    ];
    lines.push(paint.dim("  depot                     ◀ V2G to the grid    G2V to the vehicle ▶"));
    for (charger, number) in scene.depot.chargers.iter().zip(1..) {
        lines.push(format!(
            "  dc-{number}   EV{number:03} {:>5.1} %  {} {:>7.1} kW",
            charger.soc,
            power_bar(charger.power_kw, paint),
            charger.power_kw
        ));
    }
    lines.push(format!("  grid-main              {} {:>8.1} kW", " ".repeat(2 * HALF_BAR + 1), scene.depot.grid_kw()));
    lines.push(String::new());
    lines.extend(machine(scene, paint));
    lines
}

/// As much of a line as has room in these columns. What colours it takes none.
pub(super) fn clipped(line: &str, columns: usize) -> String {
    let (mut out, mut shown, mut colours) = (String::with_capacity(line.len()), 0, false);
    for c in line.chars() {
        colours |= c == '\x1b';
        if !colours {
            shown += 1;
        }
        if colours || shown <= columns {
            out.push(c);
        }
        colours &= c != 'm';
    }
    out
}

/// The scene in one line, for what is not a terminal.
pub(super) fn line(scene: &Scene<'_>) -> String {
    let waiting = scene.agent.map_or_else(
        || "agent not running".to_owned(),
        |agent| format!("{} entries wait in the journal", agent.status.journal.waiting_entries),
    );
    format!(
        "{:>5.1} s  {:<8}  grid {:>7.1} kW, {waiting}, broker has {} live and {} history",
        scene.elapsed.as_secs_f64(),
        scene.chapter.title(),
        scene.depot.grid_kw(),
        scene.received.live,
        scene.received.history
    )
}

fn progress(chapter: Chapter, paint: Paint) -> String {
    let mark = |step: Chapter| match step.cmp(&chapter) {
        std::cmp::Ordering::Less => paint.good(&format!("✔ {}", step.title())),
        std::cmp::Ordering::Equal => paint.bold(&format!("▶ {}", step.title())),
        std::cmp::Ordering::Greater => paint.dim(&format!("· {}", step.title())),
    };
    Chapter::ALL.map(mark).join("   ")
}

fn power_bar(power_kw: f64, paint: Paint) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0..=HALF_BAR"
    )]
    let cells = ((power_kw.abs() / FULL_SCALE_KW).clamp(0.0, 1.0) * HALF_BAR as f64).round() as usize;
    let (full, empty) = ("█".repeat(cells), " ".repeat(HALF_BAR - cells));
    let none = " ".repeat(HALF_BAR);
    if power_kw < 0.0 {
        format!("{empty}{}│{none}", paint.discharging(&full))
    } else {
        format!("{none}│{}{empty}", paint.charging(&full))
    }
}

fn machine(scene: &Scene<'_>, paint: Paint) -> [String; 5] {
    let wan = match scene.outage {
        None => paint.good("up"),
        Some(length) => paint.bad(&format!("CUT for {:.1} s", length.as_secs_f64())),
    };
    let received = scene.received;
    let latency = received.last_latency_ms.map_or_else(String::new, |ms| format!(" (the last after {ms:.0} ms)"));
    let broker = format!("  broker     received {} live{latency}, {} as history", received.live, received.history);
    let Some(agent) = scene.agent else {
        return [
            format!("  agent      {}", paint.bad("not running")),
            "  journal    on disk, nobody looks after it".to_owned(),
            "  uplink     –".to_owned(),
            format!("  WAN        {wan}"),
            broker,
        ];
    };
    let journal = &agent.status.journal;
    let uplink = match agent.status.uplink.state {
        UplinkState::Online => paint.good("online"),
        UplinkState::Connecting => paint.odd("connecting"),
        UplinkState::Draining => paint.odd("draining"),
        UplinkState::Offline => paint.odd("offline"),
    };
    #[allow(clippy::cast_precision_loss, reason = "a bar of 28 cells")]
    let share = journal.waiting_entries as f64 / FULL_JOURNAL;
    [
        format!(
            "  agent      {} pid {}, epoch {}, {} resident",
            paint.good("running"),
            agent.pid,
            journal.epoch.map_or_else(|| "–".to_owned(), |e| e.to_string()),
            agent.rss_bytes.map_or_else(|| "?".to_owned(), show::bytes)
        ),
        format!(
            "  journal    {} {} wait for PUBACK, fsync {}",
            show::bar(share, 2 * HALF_BAR),
            journal.waiting_entries,
            journal.commit_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1} ms"))
        ),
        format!(
            "  uplink     {uplink}, acknowledged {} live and {} history",
            agent.status.uplink.live.acknowledged, agent.status.uplink.history.acknowledged
        ),
        format!("  WAN        {wan}"),
        broker,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_terminal_ends_and_keeps_its_colours() {
        assert_eq!(clipped("\x1b[1mabc\x1b[0mdef", 4), "\x1b[1mabc\x1b[0md");
        assert_eq!(clipped("\x1b[1mabcdef\x1b[0m", 4), "\x1b[1mabcd\x1b[0m");
        assert_eq!(clipped("ab", 4), "ab");
    }

    #[test]
    fn the_picture_fits_into_80_columns_and_24_rows_in_every_chapter() {
        let depot = Depot::new();
        let report = full_report();
        for chapter in Chapter::ALL {
            for agent in [None, Some(&report)] {
                let received = Received { live: 99_999, history: 99_999, last_latency_ms: Some(9_999.0) };
                let outage = Some(Duration::from_secs(99));
                let scene = Scene { elapsed: Duration::from_secs(99), chapter, depot: &depot, agent, outage, received };
                let lines = render(&scene, Paint::plain());
                assert!(lines.len() < 24, "{} lines", lines.len());
                for line in lines {
                    assert!(line.chars().count() <= 80, "{} characters: {line}", line.chars().count());
                }
            }
        }
    }

    fn full_report() -> Report {
        let mut status = crate::health::Status::default();
        status.journal.waiting_entries = 99_999;
        status.journal.commit_ms = Some(9_999.9);
        status.uplink.state = UplinkState::Connecting;
        status.uplink.live.acknowledged = 99_999;
        status.uplink.history.acknowledged = 99_999;
        Report {
            version: "0.1.0".to_owned(),
            gateway: "gw".try_into().expect("a name"),
            site: "depot".try_into().expect("a name"),
            pid: 4_194_304,
            uptime_s: 30,
            rss_bytes: Some(99 << 20),
            wall_clock: String::new(),
            clock: crate::measure::ClockTrust::Synced,
            hung: vec![],
            status,
        }
    }

    #[test]
    fn the_picture_keeps_its_height_whether_the_agent_runs_or_not() {
        let depot = Depot::new();
        let scene = |chapter, agent| Scene {
            elapsed: Duration::from_secs(9),
            chapter,
            depot: &depot,
            agent,
            outage: Some(Duration::from_secs(2)),
            received: Received::default(),
        };
        let dead = render(&scene(Chapter::Killed, None), Paint::plain());
        assert!(dead.iter().any(|line| line.contains("not running")));
        assert!(dead.iter().any(|line| line.contains("CUT for 2.0 s")));
        assert!(dead.iter().all(|line| !line.contains('\x1b')));
    }
}
