//! TLS from PEM files (rustls, ring): one loader for both ends, the uplink's and the mirror feed's.
//!
//! In: paths. Out: what rustls needs of them, or one sentence that says which file is wrong and what to do.
//!
//! - **TLS 1.3 only.** The other end is always checked; there is no way to turn that off.
//! - A key or a password that group or others can read is not used.
//! - A client reads its files for each connection. A [`Server`] reads them when they have changed; while they are broken, it goes on
//!   with the ones before. [`Fingerprint`] tells from outside that a file was written or replaced.
//! - A server lets in who shows a certificate of its CA within 10 s. No session is resumed, so that every connection shows it.
//! - [`Days`] and [`Certificates`] tell when a certificate ends: 30, 7 and 1 days ahead.
//!
//! Deliberately absent: revocation lists, system trust stores, keys in a TPM.

mod bearer;
mod client;
mod days;
mod expiry;
mod files;
mod server;
mod x509;

pub use bearer::{Bearer, bearer};
pub(crate) use client::Connector;
pub use client::examine;
pub use days::{Days, days};
pub use expiry::Certificates;
pub use files::Fingerprint;
pub(crate) use files::password;
pub(crate) use server::{Acceptor, Refusal};
pub use server::{Look, Server, examine_server};

use std::error::Error;
use std::io;
use std::path::PathBuf;

/// Files that are of no use. Nothing is done with them; they are read again at the next try, and a person must mend them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not there, or may not be read.
    #[error(
        "{path} cannot be read: {source}; check the path in the configuration, and that the agent's user may read it"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{0} is larger than 2 MiB: no certificate, key or password is; check the path in the configuration")]
    TooLarge(PathBuf),
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
    /// The key is kept under a password.
    #[error(
        "{0} is a key under a password, and nobody is there to type it: write it without one (openssl pkey -in {0} -out \
         FILE), chmod 600 FILE"
    )]
    EncryptedKey(PathBuf),
    /// Others may read the password, or it is none.
    #[error("{0} holds no password: its first line must be 1 to 65535 bytes of text")]
    NoPassword(PathBuf),
    /// The three do not fit together.
    #[error("{certificate} and {key} do not make the certificate of a {end}: {source}")]
    Unfit {
        /// Of which end: `client` or `server`.
        end: &'static str,
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
}

/// The SHA-256 digest of bytes, by the code that TLS uses.
pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    suite.expect("it is a suite of TLS 1.3").common.hash_provider.hash(bytes).as_ref().to_vec()
}

/// The TLS error inside, however deep: rustls errors travel inside of I/O errors.
pub(crate) fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && let Some(found) = io.get_ref().and_then(|wrapped| wrapped.downcast_ref::<rustls::Error>())
        {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}
