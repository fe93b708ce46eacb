//! TLS 1.3 from PEM files (rustls, ring), and what a person must know of them.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::settings::{Login, OwnFiles, TlsFiles};
use super::x509;
use crate::measure::Utc;

/// The files do not make a TLS client. No connection is tried; they are read again at the next try.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not there, or may not be read.
    #[error("{path} cannot be read: {source}; check the path in [uplink.tls] and that the agent's user may read it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not PEM, or holds something else.
    #[error("{path} holds no {what} in PEM form ({why})")]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Others may read the key.
    #[error("{0} can be read by group or others; mend it with `chmod 600 {0}`")]
    ExposedKey(PathBuf),
    /// Others may read the password, or it is none.
    #[error("{0} holds no password: its first line must be 1 to 65535 bytes of text")]
    NoPassword(PathBuf),
    /// The three do not fit together.
    #[error("{certificate} and {key} do not make a client certificate: {source}")]
    Unfit {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
}

/// Whether these files make a TLS client.
///
/// # Errors
/// [`TlsError`] says which file is wrong, and what to do.
pub fn examine(files: &TlsFiles) -> Result<(), TlsError> {
    client(files).map(drop)
}

/// Reads the files. The server's name is always checked; there is no way to turn that off.
pub(super) fn client(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate).map_err(|error| TlsError::NotPem {
            path: files.ca.clone(),
            what: "CA certificate",
            why: error.to_string(),
        })?;
    }
    let own = files.own.as_ref().unwrap_or(&NOBODY);
    let unfit = |source| TlsError::Unfit { certificate: own.certificate.clone(), key: own.key.clone(), source };
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unfit)?
        .with_root_certificates(roots);
    let Some(own) = &files.own else { return Ok(Arc::new(builder.with_no_client_auth())) };
    private(&own.key)?;
    let chain = certificates(&own.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&own.key).map_err(|error| not_pem(&own.key, "private key", error))?;
    Ok(Arc::new(builder.with_client_auth_cert(chain, key).map_err(unfit)?))
}

static NOBODY: OwnFiles = OwnFiles { certificate: PathBuf::new(), key: PathBuf::new() };

/// The password, read anew for each connection.
pub(super) fn password(login: &Login) -> Result<String, TlsError> {
    let path = &login.password_file;
    private(path)?;
    let text = fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
    let word = text.lines().next().unwrap_or_default();
    if word.is_empty() || word.len() > usize::from(u16::MAX) {
        return Err(TlsError::NoPassword(path.clone()));
    }
    Ok(word.to_owned())
}

/// A secret that nobody but its owner can read.
fn private(path: &Path) -> Result<(), TlsError> {
    let mode = fs::metadata(path).map_err(|source| unreadable(path, source))?.permissions().mode();
    if mode & 0o077 == 0 { Ok(()) } else { Err(TlsError::ExposedKey(path.to_owned())) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| not_pem(path, "certificate", error))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| not_pem(path, "certificate", error))?;
    if found.is_empty() {
        return Err(TlsError::NotPem { path: path.to_owned(), what: "certificate", why: "none is in it".to_owned() });
    }
    Ok(found)
}

fn not_pem(path: &Path, what: &'static str, error: pem::Error) -> TlsError {
    match error {
        pem::Error::Io(source) => unreadable(path, source),
        other => TlsError::NotPem { path: path.to_owned(), what, why: other.to_string() },
    }
}

fn unreadable(path: &Path, source: io::Error) -> TlsError {
    TlsError::Unreadable { path: path.to_owned(), source }
}

/// How the files look from outside: when one is replaced or written, this changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<Option<Look>>);

/// Inode, length, seconds and nanoseconds of the last change, mode.
type Look = (u64, u64, i64, i64, u32);

impl Fingerprint {
    pub(super) fn of(files: Option<&TlsFiles>, login: Option<&Login>) -> Self {
        let paths = files.into_iter().flat_map(TlsFiles::paths).chain(login.map(|login| &login.password_file));
        let look = |path: &PathBuf| {
            let m = fs::metadata(path).ok()?;
            Some((m.ino(), m.len(), m.mtime(), m.mtime_nsec(), m.mode()))
        };
        Self(paths.map(look).collect())
    }
}

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

/// When the certificates of these files are valid. A file that cannot be read has no days.
#[must_use]
pub fn days(files: &TlsFiles) -> Vec<Days> {
    let paths = std::iter::once(&files.ca).chain(files.own.iter().map(|own| &own.certificate));
    let of = |path: &PathBuf| {
        let all = certificates(path).ok()?;
        let validities: Vec<(i64, i64)> = all.iter().filter_map(|der| x509::validity(der)).collect();
        let from = validities.iter().map(|(from, _)| *from).max()?;
        let until = validities.iter().map(|(_, until)| *until).min()?;
        let utc = |seconds: i64| Utc(seconds.saturating_mul(1_000_000_000));
        Some(Days { path: path.clone(), from: utc(from), until: utc(until) })
    };
    paths.filter_map(of).collect()
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

/// What a TLS error of a connection means, and what a person can do.
pub(super) fn explained(error: &rustls::Error) -> (String, &'static str) {
    (format!("TLS: {error}"), remedy(error))
}

/// What a person can do about a TLS error of a connection.
fn remedy(error: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    match error {
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "the broker's certificate has expired by this box's clock: renew it, or check the clock"
        }
        Error::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            "the broker's certificate is not valid yet by this box's clock: check the clock (NTP, RTC battery)"
        }
        Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "the broker's certificate is not signed by [uplink.tls] ca: give the gateway the right CA"
        }
        Error::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            "the broker's certificate is for another name: write that name into [uplink] brokers, or reissue it"
        }
        Error::AlertReceived(Alert::CertificateRequired) => "the broker wants a client certificate and got none",
        Error::AlertReceived(Alert::UnknownCA) => {
            "the broker does not know the CA of this gateway's certificate: add it at the broker"
        }
        Error::AlertReceived(Alert::CertificateExpired) => "this gateway's certificate has expired: renew it",
        Error::AlertReceived(Alert::CertificateRevoked) => "this gateway's certificate was revoked: issue a new one",
        Error::AlertReceived(Alert::BadCertificate | Alert::CertificateUnknown | Alert::AccessDenied) => {
            "the broker refuses this gateway's certificate: look into the broker's log"
        }
        Error::AlertReceived(Alert::ProtocolVersion) => "the broker must offer TLS 1.3",
        _ => "look into the broker's log, and check that the port speaks TLS",
    }
}

#[cfg(test)]
mod tests {
    use hil_tests::certs::{Authority, Validity};

    use super::*;

    fn files(validity: Validity) -> (tempfile::TempDir, TlsFiles) {
        let dir = tempfile::tempdir().expect("a directory");
        let made = Authority::new(dir.path(), "ca").expect("a ca").client("gw", validity).expect("a client");
        (dir, TlsFiles::mutual(made.ca, made.certificate, made.key))
    }

    fn utc(rfc3339_day: i64) -> Utc {
        Utc(rfc3339_day * DAY_NS)
    }

    #[test]
    fn the_end_of_a_certificate_is_warned_of_thirty_seven_and_one_day_ahead() {
        let (_dir, files) = files(Validity::Good);
        let own = days(&files).pop().expect("ours is the last");
        // 2099-01-01.
        let end = 47_117;
        assert_eq!(own.until, utc(end));
        let due = [31, 30, 8, 7, 2, 1, 0, -5].map(|before| own.warning(utc(end - before)));
        assert_eq!(due, [None, Some(30), Some(30), Some(7), Some(7), Some(1), Some(0), Some(0)]);
    }

    #[test]
    fn a_box_in_2001_and_an_expired_certificate_are_told_apart() {
        let (_dir, good) = files(Validity::Good);
        let problem = |files: &TlsFiles, day| days(files).pop().expect("ours").problem(utc(day));
        // 2001-09-09 and 2026-01-01.
        assert!(problem(&good, 11_574).expect("not yet").contains("check this box's clock"));
        assert_eq!(problem(&good, 20_454), None);
        let (_dir, expired) = files(Validity::Expired);
        assert!(problem(&expired, 20_454).expect("over").contains("has expired on 2001-01-01"));
    }

    #[test]
    fn an_exposed_key_and_an_exposed_password_are_refused_with_the_cure() {
        let (dir, files) = files(Validity::Good);
        let key = files.own.as_ref().expect("mutual").key.clone();
        let before = Fingerprint::of(Some(&files), None);
        assert!(client(&files).is_ok());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("ours");
        let error = client(&files).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", key.display())), "{error}");
        assert_ne!(Fingerprint::of(Some(&files), None), before, "the change is seen from outside");

        let login = Login { username: "gw".to_owned(), password_file: dir.path().join("password") };
        assert!(matches!(password(&login), Err(TlsError::Unreadable { .. })));
        fs::write(&login.password_file, "secret\n").expect("ours");
        fs::set_permissions(&login.password_file, fs::Permissions::from_mode(0o644)).expect("ours");
        assert!(matches!(password(&login), Err(TlsError::ExposedKey(_))));
        fs::set_permissions(&login.password_file, fs::Permissions::from_mode(0o600)).expect("ours");
        assert_eq!(password(&login).expect("a password"), "secret");
    }

    #[test]
    fn a_broker_that_wants_no_certificate_of_ours_needs_the_ca_only() {
        let (_dir, files) = files(Validity::Good);
        assert!(client(&TlsFiles { own: None, ..files }).is_ok());
    }
}
