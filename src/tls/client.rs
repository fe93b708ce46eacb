//! The client's end: who we are, and whom we believe.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::TlsError;
use super::files::{authorities, identity};
use crate::net::{OwnFiles, TlsFiles};

/// Whether these files make a TLS client.
///
/// # Errors
/// [`TlsError`] says which file is wrong, and what to do.
pub fn examine(files: &TlsFiles) -> Result<(), TlsError> {
    Connector::read(files).map(drop)
}

static NOBODY: OwnFiles = OwnFiles { certificate: PathBuf::new(), key: PathBuf::new() };

/// Handshakes to be, with the files as they were when they were read.
#[derive(Debug, Clone)]
pub(crate) struct Connector(Arc<ClientConfig>);

impl Connector {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] says which file is wrong, and what to do.
    pub(crate) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let roots = authorities(&files.ca)?;
        let OwnFiles { certificate, key } = files.own.as_ref().unwrap_or(&NOBODY);
        let unfit =
            |source| TlsError::Unfit { end: "client", certificate: certificate.clone(), key: key.clone(), source };
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unfit)?
            .with_root_certificates(roots);
        let config = match &files.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let (chain, key) = identity(own)?;
                builder.with_client_auth_cert(chain, key).map_err(unfit)?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// The stream, once the server has shown a certificate for `name` that a CA of the files has signed. The name is always
    /// checked; there is no way to turn that off. The caller bounds the time; cancelling closes the connection.
    ///
    /// # Errors
    /// What the line or TLS has said ([`super::rustls_error`] finds it).
    pub(crate) async fn connect(&self, name: ServerName<'static>, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(Arc::clone(&self.0)).connect(name, tcp).await
    }
}

#[cfg(test)]
mod tests {
    use hil_tests::certs::Validity;

    use super::super::files::tests::files;
    use super::*;

    #[test]
    fn a_server_that_wants_no_certificate_of_ours_needs_the_ca_only() {
        let (_dir, files) = files(Validity::Good);
        assert!(Connector::read(&TlsFiles { own: None, ..files }).is_ok());
    }
}
