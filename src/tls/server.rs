//! The server's end of mutual TLS: who is let in, and why somebody is not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::files::{authorities, identity};
use super::{Fingerprint, TlsError, rustls_error};
use crate::net::ServerFiles;

/// Three flights and two signatures take a second on a bad radio link and a small controller.
pub(crate) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Whether these files make a TLS server.
///
/// # Errors
/// [`TlsError`] says which file is wrong, and what to do.
pub fn examine_server(files: &ServerFiles) -> Result<(), TlsError> {
    config(files).map(drop)
}

/// What a look at a server's files has found.
#[derive(Debug)]
pub enum Look {
    /// They are as they were.
    Same,
    /// Others, and good: the next connection gets them. Those that stand, stand on.
    Renewed,
    /// Others, and of no use: the ones before are used further, until somebody mends these.
    Broken(TlsError),
}

/// A server whose files were good when they were last read.
#[derive(Debug)]
pub struct Server {
    files: ServerFiles,
    seen: Fingerprint,
    config: Arc<ServerConfig>,
}

impl Server {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] says which file is wrong, and what to do.
    pub fn open(files: ServerFiles) -> Result<Self, TlsError> {
        // Looked at before it is read: what changes in between is found by the next look.
        let seen = Fingerprint::of(files.paths());
        let config = config(&files)?;
        Ok(Self { files, seen, config })
    }

    /// Reads files that have changed since the last look.
    pub fn look(&mut self) -> Look {
        let seen = Fingerprint::of(self.files.paths());
        if seen == self.seen {
            return Look::Same;
        }
        self.seen = seen;
        match config(&self.files) {
            Ok(config) => {
                self.config = config;
                Look::Renewed
            }
            Err(error) => Look::Broken(error),
        }
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &ServerFiles {
        &self.files
    }

    /// For one connection, with the files as they were at the last look.
    pub(crate) fn acceptor(&self) -> Acceptor {
        Acceptor(TlsAcceptor::from(Arc::clone(&self.config)))
    }
}

/// One handshake to be.
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// Lets the client in if it shows a certificate of our authority within [`HANDSHAKE_WITHIN`].
    ///
    /// # Errors
    /// [`Refusal`]; nothing but its handshake was read, and the connection is closed. Cancelling closes it, too.
    pub(crate) async fn accept(self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Refusal> {
        match timeout(HANDSHAKE_WITHIN, self.0.accept(tcp)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Refusal::of(&error)),
            Err(_) => Err(Refusal {
                reason: "tls_timeout",
                what: format!("the handshake did not end within {} s", HANDSHAKE_WITHIN.as_secs()),
                remedy: "check the link, and that the sender speaks TLS",
            }),
        }
    }
}

/// Why a client is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Its name, by which it is counted; one of a dozen.
    pub(crate) reason: &'static str,
    /// What happened.
    pub(crate) what: String,
    /// What a person can do.
    pub(crate) remedy: &'static str,
}

impl Refusal {
    /// Whether it was the client that turned away: ours may be at fault.
    pub(crate) fn blames_us(&self) -> bool {
        matches!(self.reason, "tls_refused" | "tls_cut")
    }

    fn of(error: &io::Error) -> Self {
        let Some(found) = rustls_error(error) else {
            return Self {
                reason: "tls_cut",
                what: format!("the connection ended in the midst of the handshake ({error})"),
                remedy: "look into the sender's log: it may not believe this gateway's certificate",
            };
        };
        let (reason, remedy) = named(found);
        Self { reason, what: format!("TLS: {found}"), remedy }
    }
}

/// The name of a failed handshake, and what a person can do.
fn named(error: &rustls::Error) -> (&'static str, &'static str) {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    match error {
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::PeerSentOversizedRecord => {
            ("tls_not_spoken", "the sender must speak TLS on this port")
        }
        Error::PeerIncompatible(_) => ("tls_version", "the sender must offer TLS 1.3"),
        Error::NoCertificatesPresented => {
            ("tls_no_certificate", "give the sender a client certificate that is signed by ca, and its key")
        }
        // A signature that does not fit is that of another authority with the same name.
        Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            ("tls_unknown_ca", "the sender's certificate is not signed by ca: give it one that is, or correct ca")
        }
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            ("tls_expired", "the sender's certificate has expired by this box's clock: renew it, or check the clock")
        }
        Error::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => (
            "tls_not_yet_valid",
            "the sender's certificate is not valid yet by this box's clock: check the clock (NTP, RTC battery)",
        ),
        Error::InvalidCertificate(Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. }) => {
            ("tls_purpose", "the sender's certificate is not for clients: issue one with the usage clientAuth")
        }
        Error::InvalidCertificate(_) => ("tls_certificate", "issue the sender another certificate"),
        Error::AlertReceived(Alert::CertificateExpired) => (
            "tls_refused",
            "this gateway's certificate has expired by the sender's clock: renew it, or check that clock",
        ),
        Error::AlertReceived(Alert::UnknownCA | Alert::DecryptError) => {
            ("tls_refused", "the sender does not know the CA of this gateway's certificate: add it at the sender")
        }
        Error::AlertReceived(_) => {
            ("tls_refused", "the sender refuses this gateway's certificate: look into the sender's log")
        }
        _ => ("tls_failed", "look into the sender's log"),
    }
}

fn config(files: &ServerFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let ServerFiles { ca, own } = files;
    let unfit =
        |source| TlsError::Unfit { end: "server", certificate: own.certificate.clone(), key: own.key.clone(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(ca)?), Arc::clone(&provider));
    let verifier = verifier.build().map_err(|error| TlsError::NotPem {
        path: ca.clone(),
        what: "CA certificate",
        why: error.to_string(),
    })?;
    let (chain, key) = identity(own)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unfit)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(unfit)?;
    // A session that is resumed shows no certificate: it would outlive the certificate's end. And a client that never reads would
    // close its socket with our tickets unread, which resets the connection and takes its last bytes with it.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hil_tests::certs::{Authority, Files, Validity};

    use super::*;

    fn files(made: Files) -> ServerFiles {
        ServerFiles { ca: made.ca, own: crate::net::OwnFiles { certificate: made.certificate, key: made.key } }
    }

    #[test]
    fn files_that_break_leave_the_ones_before_in_use_and_are_taken_over_when_mended() {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new(dir.path(), "ca").expect("a ca");
        let ours = files(authority.server(Validity::Good).expect("one"));
        let mut server = Server::open(ours.clone()).expect("good files");
        assert!(matches!(server.look(), Look::Same));
        let before = Arc::clone(&server.config);

        // A key of another certificate: the moment between the two renames of a renewal.
        let other = authority.server_known_as("other", Validity::Good).expect("one");
        fs::rename(&other.key, &ours.own.key).expect("ours");
        let Look::Broken(error) = server.look() else { panic!("they do not fit") };
        assert!(error.to_string().contains("do not make the certificate of a server"), "{error}");
        assert!(Arc::ptr_eq(&server.config, &before));
        assert!(matches!(server.look(), Look::Same), "told once");
        fs::rename(&other.certificate, &ours.own.certificate).expect("ours");
        assert!(matches!(server.look(), Look::Renewed));
        assert!(!Arc::ptr_eq(&server.config, &before));
    }
}
