//! What the demo tells, and when: a plan of half a minute, as values.

use std::time::Duration;

/// One chapter. Each begins with a deed and lasts until the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chapter {
    Live,
    Cut,
    Killed,
    Restarted,
    Mended,
    Audit,
}

impl Chapter {
    pub(super) const ALL: [Self; 6] = [Self::Live, Self::Cut, Self::Killed, Self::Restarted, Self::Mended, Self::Audit];

    /// When it begins, from the start of the story. The audit begins when the backlog is gone, at the earliest then.
    pub(super) fn begins(self) -> Duration {
        Duration::from_millis(match self {
            Self::Live => 0,
            Self::Cut => 7_000,
            Self::Killed => 12_000,
            Self::Restarted => 14_000,
            Self::Mended => 20_000,
            Self::Audit => 26_000,
        })
    }

    /// The chapter at `elapsed` into the story.
    pub(super) fn at(elapsed: Duration) -> Self {
        Self::ALL.into_iter().rev().find(|chapter| chapter.begins() <= elapsed).unwrap_or(Self::Live)
    }

    /// In two words, for the line of progress.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Cut => "WAN cut",
            Self::Killed => "kill -9",
            Self::Restarted => "restart",
            Self::Mended => "WAN back",
            Self::Audit => "audit",
        }
    }

    /// For machines.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Cut => "wan_cut",
            Self::Killed => "agent_killed",
            Self::Restarted => "agent_restarted",
            Self::Mended => "wan_back",
            Self::Audit => "audit",
        }
    }

    /// In a sentence.
    pub(super) fn tells(self) -> &'static str {
        match self {
            Self::Live => "Every 250 ms a window goes to the journal, is synced, sent, freed by PUBACK.",
            Self::Cut => "The WAN is gone. Nothing leaves the journal without a PUBACK: it fills.",
            Self::Killed => "kill -9 in the middle of it. What was committed is on disk.",
            Self::Restarted => "The agent is back under a new epoch and goes on reading, without a WAN.",
            Self::Mended => "The WAN is back: new data at once on …/telemetry, the rest on …/history.",
            Self::Audit => "The agent stops in order. The consumer judges what the broker has sent it.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chapters_follow_one_another_and_each_is_reached() {
        assert!(Chapter::ALL.is_sorted_by_key(|chapter| chapter.begins()));
        for chapter in Chapter::ALL {
            assert_eq!(Chapter::at(chapter.begins()), chapter);
        }
        assert_eq!(Chapter::at(Duration::from_secs(3600)), Chapter::Audit);
    }
}
