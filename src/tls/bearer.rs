//! What stands in our own certificate for which a broker refuses us, or takes us for somebody else.

use std::path::PathBuf;

use super::files::certificates;
use super::x509::{self, Subject};
use crate::net::OwnFiles;

/// A client's certificate, as the other end reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The file.
    pub path: PathBuf,
    subject: Subject,
}

/// The first certificate of the file; `None` if there is none that can be read.
#[must_use]
pub fn bearer(own: &OwnFiles) -> Option<Bearer> {
    let first = certificates(&own.certificate).ok()?.into_iter().next()?;
    Some(Bearer { path: own.certificate.clone(), subject: x509::subject(&first)? })
}

impl Bearer {
    /// Why a broker refuses it, with the cure; `None` if nothing in it is a reason.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let Subject { version, is_for_clients, .. } = self.subject;
        // RFC 8446, 4.4.2.3.
        if version < 3 {
            Some(format!("is X.509 version {version}, and TLS 1.3 knows version 3 only: issue it anew with extensions"))
        } else if !is_for_clients {
            Some("is not for clients: issue it anew with clientAuth in its extended key usage".to_owned())
        } else {
            None
        }
    }

    /// Under which other name a broker that takes names from certificates knows us; `None` if it is this one.
    #[must_use]
    pub fn other_name(&self, id: &str) -> Option<&str> {
        self.subject.common_name.as_deref().filter(|name| *name != id)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hil_tests::certs::{Authority, Validity};

    use super::*;

    /// Made with `openssl x509 -req` without extensions: version 1, CN=gw-01.
    const VERSION_1: &str = include_str!("../../tests/data/gateway-v1.pem");

    #[test]
    fn a_certificate_that_is_not_for_clients_of_version_1_or_of_another_name_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new(dir.path(), "ca").expect("a ca");
        let of = |files: hil_tests::certs::Files| {
            bearer(&OwnFiles { certificate: files.certificate, key: files.key }).expect("a certificate")
        };
        let good = of(authority.client("gw-01", Validity::Good).expect("one"));
        assert_eq!((good.problem(), good.other_name("gw-01")), (None, None));
        assert_eq!(good.other_name("gw-02"), Some("gw-01"));
        let server = of(authority.server_known_as("gw-03", Validity::Good).expect("one"));
        assert!(server.problem().is_some_and(|problem| problem.contains("clientAuth")));

        let certificate = dir.path().join("v1.pem");
        fs::write(&certificate, VERSION_1).expect("ours");
        let old = bearer(&OwnFiles { certificate, key: dir.path().join("none") }).expect("a certificate");
        assert!(old.problem().is_some_and(|problem| problem.contains("X.509 version 1")), "{old:?}");
    }
}
