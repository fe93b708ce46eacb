//! Who we are to the other end, and whom we believe: paths of files, never what is in them.

use std::path::PathBuf;

/// A name and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// As the broker knows us; 1 to 256 printable characters.
    pub username: String,
    /// A file with the password in its first line; readable by its owner only.
    pub password_file: PathBuf,
}

/// The PEM files of a TLS client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may have signed the other end's certificate.
    pub ca: PathBuf,
    /// Who we are; `None` for a server that knows its clients by name and password only.
    pub own: Option<OwnFiles>,
}

/// Our half of mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFiles {
    /// Ours, with its chain.
    pub certificate: PathBuf,
    /// The key of ours; readable by its owner only.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Mutual TLS.
    #[must_use]
    pub fn mutual(ca: PathBuf, certificate: PathBuf, key: PathBuf) -> Self {
        Self { ca, own: Some(OwnFiles { certificate, key }) }
    }

    /// Those that end some day.
    pub fn certificates(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.ca).chain(self.own.iter().map(|own| &own.certificate))
    }

    /// All that are read.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let own = self.own.iter().flat_map(|own| [&own.certificate, &own.key]);
        std::iter::once(&self.ca).chain(own)
    }
}

/// The PEM files of a TLS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// Who must have signed a client's certificate.
    pub ca: PathBuf,
    /// What clients are shown.
    pub own: OwnFiles,
}

impl ServerFiles {
    /// All that are read.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.certificates().chain(std::iter::once(&self.own.key))
    }

    /// Those of them that end some day.
    pub fn certificates(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.ca, &self.own.certificate].into_iter()
    }
}
