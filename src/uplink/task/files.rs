//! The files that the uplink reads anew for each connection: certificates that end, and files that have changed.

use std::time::Duration;

use super::Driver;
use crate::measure::Stamp;
use crate::tls::{self, Fingerprint};

/// Between two looks at the files of TLS.
const LOOK: Duration = Duration::from_secs(5);

impl Driver {
    /// Certificates that end soon are warned of; files that have changed are taken over by a new connection.
    pub(super) fn look_at_files(&mut self, stamp: Stamp) {
        let now = self.now();
        if self.looked.is_some_and(|looked| now < looked + LOOK) {
            return;
        }
        self.looked = Some(now);
        self.look_for_twin();
        self.look_for_unasked();
        let Some(files) = &self.settings.tls else { return };
        let seen = Fingerprint::of(self.settings.files());
        let days = tls::days(files.certificates());
        let mut news = self.certificates.look(&days, stamp);
        for (text, notice) in news.drain(..) {
            tracing::warn!("uplink: {text}");
            self.notice(notice);
        }
        let warnings = self.certificates.warnings();
        self.facts.uplink(|facts| facts.warnings = warnings);
        if seen == self.files || !self.session.is_online() {
            return;
        }
        self.files = seen;
        match tls::examine(files) {
            Ok(()) => {
                tracing::info!("the files of [uplink.tls] have changed: connecting anew with them");
                self.session.renew(now);
            }
            Err(error) => {
                let remedy = "mend the file; until then the connection goes on with the old ones".to_owned();
                self.trouble(error.to_string(), remedy);
            }
        }
    }

    /// What our own certificate says against a connection now.
    pub(super) fn own_problem(&self, stamp: Stamp) -> Option<String> {
        let files = self.settings.tls.as_ref()?;
        tls::days(files.certificates()).iter().find_map(|days| days.problem(stamp.utc))
    }
}
