//! When certificates are valid.

use std::path::PathBuf;

use super::files::certificates;
use super::x509;
use crate::measure::Utc;

/// A certificate file's days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Days {
    /// The file.
    pub path: PathBuf,
    /// Of all certificates in it, when the first one ends.
    pub until: Utc,
    /// … and when the last one begins.
    pub from: Utc,
}

/// When the certificates in these files are valid. A file that cannot be read has no days.
#[must_use]
pub fn days<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Vec<Days> {
    let of = |path: &PathBuf| {
        let all = certificates(path).ok()?;
        let validities: Vec<(i64, i64)> = all.iter().filter_map(|der| x509::validity(der)).collect();
        let from = validities.iter().map(|(from, _)| *from).max()?;
        let until = validities.iter().map(|(_, until)| *until).min()?;
        let utc = |seconds: i64| Utc(seconds.saturating_mul(1_000_000_000));
        Some(Days { path: path.clone(), from: utc(from), until: utc(until) })
    };
    paths.into_iter().filter_map(of).collect()
}

/// Days before its end at which a certificate is warned of.
const WARN_DAYS: [i64; 3] = [1, 7, 30];
const DAY_NS: i64 = 86_400_000_000_000;

impl Days {
    /// The warning that is due: at 30, 7 and 1 days before the end, and at 0 when it is over. `None` before.
    #[must_use]
    pub fn warning(&self, now: Utc) -> Option<u16> {
        let left = self.until.0.saturating_sub(now.0);
        if left <= 0 {
            return Some(0);
        }
        let due = WARN_DAYS.into_iter().find(|days| left <= days * DAY_NS)?;
        u16::try_from(due).ok()
    }

    /// What is wrong with it now, in words; `None` if nothing is.
    #[must_use]
    pub fn problem(&self, now: Utc) -> Option<String> {
        let path = self.path.display();
        if now.0 >= self.until.0 {
            Some(format!(
                "{path} has expired on {} by this box's clock: renew it, or check the clock",
                self.until.rfc3339()
            ))
        } else if now.0 < self.from.0 {
            let from = self.from.rfc3339();
            Some(format!("{path} is not valid before {from}: check this box's clock (NTP, RTC battery)"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use hil_tests::certs::Validity;

    use super::*;
    use crate::net::TlsFiles;
    use crate::tls::files::tests::files;

    fn utc(rfc3339_day: i64) -> Utc {
        Utc(rfc3339_day * DAY_NS)
    }

    #[test]
    fn the_end_of_a_certificate_is_warned_of_thirty_seven_and_one_day_ahead() {
        let (_dir, files) = files(Validity::Good);
        let own = days(files.certificates()).pop().expect("ours is the last");
        // 2099-01-01.
        let end = 47_117;
        assert_eq!(own.until, utc(end));
        let due = [31, 30, 8, 7, 2, 1, 0, -5].map(|before| own.warning(utc(end - before)));
        assert_eq!(due, [None, Some(30), Some(30), Some(7), Some(7), Some(1), Some(0), Some(0)]);
    }

    #[test]
    fn a_box_in_2001_and_an_expired_certificate_are_told_apart() {
        let (_dir, good) = files(Validity::Good);
        let problem = |files: &TlsFiles, day| days(files.certificates()).pop().expect("ours").problem(utc(day));
        // 2001-09-09 and 2026-01-01.
        assert!(problem(&good, 11_574).expect("not yet").contains("check this box's clock"));
        assert_eq!(problem(&good, 20_454), None);
        let (_dir, expired) = files(Validity::Expired);
        assert!(problem(&expired, 20_454).expect("over").contains("has expired on 2001-01-01"));
    }
}
