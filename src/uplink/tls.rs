//! Mutual TLS 1.3 from three PEM files (rustls, ring).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::settings::TlsFiles;

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

/// Reads the files. The server's name is always checked; there is no way to turn that off.
pub(super) fn client(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let mode = fs::metadata(&files.key).map_err(|source| unreadable(&files.key, source))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(TlsError::ExposedKey(files.key.clone()));
    }
    let unfit = |source| TlsError::Unfit { certificate: files.certificate.clone(), key: files.key.clone(), source };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate).map_err(|error| TlsError::NotPem {
            path: files.ca.clone(),
            what: "CA certificate",
            why: error.to_string(),
        })?;
    }
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| not_pem(&files.key, "private key", error))?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unfit)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(unfit)?;
    Ok(Arc::new(config))
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

/// What a person can do about a TLS error of a connection.
pub(super) fn remedy(error: &rustls::Error) -> &'static str {
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
