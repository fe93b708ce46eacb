//! What a person is told, and how often. Pure; times are since the uplink's start.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::tls::Days;
use crate::measure::{ClockTrust, EventKind, Stamp};

/// A trouble that lasts is told again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(600);
/// Different troubles remembered; with more of them each is news.
const REMEMBERED_MAX: usize = 64;

/// Which troubles were told.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<(String, String), Duration>);

impl Told {
    /// Whether this has not been told since the last connection, or not for long.
    pub(super) fn is_news(&mut self, broker: &str, what: &str, now: Duration) -> bool {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        let key = (broker.to_owned(), what.to_owned());
        match self.0.get(&key) {
            Some(at) if now < *at + TELL_AGAIN => false,
            _ => {
                self.0.insert(key, now);
                true
            }
        }
    }

    /// A connection was made: what comes now is new.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Which certificates end soon, and what was said of it.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    /// The last warning of each file.
    warned: HashMap<PathBuf, u16>,
    warnings: Vec<String>,
}

impl Certificates {
    /// What is to be told now, in words and as an event. A clock that was never synced warns of nothing.
    pub(super) fn look(&mut self, days: &[Days], now: Stamp) -> Vec<(String, EventKind)> {
        self.warnings.clear();
        let mut news = Vec::new();
        if now.trust == ClockTrust::Unsynced {
            return news;
        }
        for file in days {
            let Some(left) = file.warning(now.utc) else {
                self.warned.remove(&file.path);
                continue;
            };
            let (path, until) = (file.path.display(), file.until.rfc3339());
            let text = match left {
                0 => format!("{path} has expired on {until}: renew it"),
                _ => format!(
                    "{path} expires within {left} days, on {until}: renew it; it is taken over without a restart"
                ),
            };
            self.warnings.push(text.clone());
            if self.warned.insert(file.path.clone(), left) != Some(left) {
                let notice = EventKind::CertificateExpires { file: path.to_string().into(), days: left };
                news.push((text, notice));
            }
        }
        news
    }

    /// What should be looked at, for as long as it lasts.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Mono, Utc};

    const DAY: i64 = 86_400_000_000_000;

    #[test]
    fn a_trouble_is_told_once_until_it_lasts_or_comes_back() {
        let mut told = Told::default();
        let s = Duration::from_secs;
        assert!(told.is_news("a", "refused", s(0)));
        assert!(!told.is_news("a", "refused", s(1)));
        assert!(told.is_news("b", "refused", s(1)));
        assert!(told.is_news("a", "refused", s(600)));
        told.forget();
        assert!(told.is_news("a", "refused", s(601)));
    }

    #[test]
    fn a_certificate_that_ends_is_told_at_thirty_seven_and_one_day_and_at_its_end_and_once_each() {
        let mut certificates = Certificates::default();
        let file = Days { path: "gw.pem".into(), from: Utc(0), until: Utc(100 * DAY) };
        let mut told = Vec::new();
        for hour in 0..=110 * 24 {
            let now = Stamp { mono: Mono(1), utc: Utc(hour * DAY / 24), trust: ClockTrust::Synced };
            for (_, event) in certificates.look(std::slice::from_ref(&file), now) {
                told.push((hour / 24, event));
            }
        }
        let warning = |days| EventKind::CertificateExpires { file: "gw.pem".into(), days };
        assert_eq!(told, [(70, warning(30)), (93, warning(7)), (99, warning(1)), (100, warning(0))]);
        let renewed = Days { until: Utc(500 * DAY), ..file };
        let now = Stamp { mono: Mono(1), utc: Utc(111 * DAY), trust: ClockTrust::Synced };
        assert!(certificates.look(&[renewed], now).is_empty() && certificates.warnings().is_empty());
    }

    #[test]
    fn a_clock_that_was_never_set_warns_of_nothing() {
        let file = Days { path: "gw.pem".into(), from: Utc(0), until: Utc(DAY) };
        let now = Stamp { mono: Mono(1), utc: Utc(2 * DAY), trust: ClockTrust::Unsynced };
        assert!(Certificates::default().look(&[file], now).is_empty());
    }
}
