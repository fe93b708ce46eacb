//! Which certificates end soon, and how often a person is told. Pure.

use std::collections::HashMap;
use std::path::PathBuf;

use super::Days;
use crate::measure::{ClockTrust, EventKind, Stamp};

/// Which certificates end soon, and what was said of it.
#[derive(Debug, Default)]
pub struct Certificates {
    /// The last warning of each file.
    warned: HashMap<PathBuf, u16>,
    warnings: Vec<String>,
}

impl Certificates {
    /// What is to be told now, in words and as an event. A clock that was never synced warns of nothing.
    pub fn look(&mut self, days: &[Days], now: Stamp) -> Vec<(String, EventKind)> {
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
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Mono, Utc};

    const DAY: i64 = 86_400_000_000_000;

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
