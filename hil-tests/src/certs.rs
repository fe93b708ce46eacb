//! A public key infrastructure in a temporary directory: one CA, a server, as many gateways as wanted.
//!
//! Made anew for each test; P-256, keys as PKCS#8 PEM with mode 0600.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// What can go wrong while certificates are made; files may be left half-made in their directory.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// The key or certificate could not be made.
    #[error("no certificate for {name}")]
    Make {
        /// For whom.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// It could not be written.
    #[error("{path:?} cannot be written")]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A certificate authority whose certificate lies in `ca.pem`.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The three files that one end of a mutual TLS connection needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Whom to trust.
    pub ca: PathBuf,
    /// Who one is.
    pub certificate: PathBuf,
    /// The proof; mode 0600.
    pub key: PathBuf,
}

/// Whether a certificate is good today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validity {
    /// 2020 to 2099: not yet for a box whose clock is in the past.
    #[default]
    Good,
    /// Ended in 2001.
    Expired,
    /// Begins in 2098: what a box whose clock is in the past sees.
    NotYet,
}

impl Authority {
    /// A new authority; `dir` is made if it is not there. Two authorities need two directories.
    pub fn new(dir: &Path, name: &str) -> Result<Self, CertsError> {
        fs::create_dir_all(dir).map_err(|source| CertsError::Write { path: dir.to_owned(), source })?;
        let failed = |source| CertsError::Make { name: name.to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(name, &[], Validity::Good).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        write(&dir.join("ca.pem"), &certificate.pem(), 0o644)?;
        Ok(Self { dir: dir.to_owned(), name: name.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// For a broker on this machine: `localhost` and `127.0.0.1`.
    pub fn server(&self, validity: Validity) -> Result<Files, CertsError> {
        self.server_known_as("localhost", validity)
    }

    /// For a broker on this machine that others know by this name or address.
    pub fn server_known_as(&self, name: &str, validity: Validity) -> Result<Files, CertsError> {
        self.issue(name, &["localhost", "127.0.0.1", name], ExtendedKeyUsagePurpose::ServerAuth, validity)
    }

    /// For a client whose common name is `id`: a gateway, in the broker's eyes.
    pub fn client(&self, id: &str, validity: Validity) -> Result<Files, CertsError> {
        self.issue(id, &[id], ExtendedKeyUsagePurpose::ClientAuth, validity)
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    fn issue(
        &self,
        name: &str,
        alternatives: &[&str],
        usage: ExtendedKeyUsagePurpose,
        validity: Validity,
    ) -> Result<Files, CertsError> {
        let failed = |source| CertsError::Make { name: format!("{name} by {}", self.name), source };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(name, alternatives, validity).map_err(failed)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let files = Files {
            ca: self.ca(),
            certificate: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        write(&files.certificate, &certificate.pem(), 0o644)?;
        write(&files.key, &key.serialize_pem(), 0o600)?;
        Ok(files)
    }
}

fn params(name: &str, alternatives: &[&str], validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let alternatives: Vec<String> = alternatives.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(alternatives)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = match validity {
        Validity::Good => (date_time_ymd(2020, 1, 1), date_time_ymd(2099, 1, 1)),
        Validity::Expired => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
        Validity::NotYet => (date_time_ymd(2098, 1, 1), date_time_ymd(2099, 1, 1)),
    };
    Ok(params)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let failed = |source| CertsError::Write { path: path.to_owned(), source };
    // Never to be seen with a wider mode, not even for a moment; a leftover would keep its own.
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new(dir.path(), "test ca").expect("a ca");
        let files = authority.client("gw-01", Validity::Good).expect("a client");
        let mode = fs::metadata(&files.key).expect("it was written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
