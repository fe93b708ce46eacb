//! From PEM files to what rustls takes.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;
use crate::net::OwnFiles;

/// A bundle of all public CAs has less than 300 KiB.
const BYTES_MAX: u64 = 2 << 20;

/// A password: the first line of a file that nobody but its owner can read.
pub(crate) fn password(path: &Path) -> Result<String, TlsError> {
    private(path)?;
    let text = String::from_utf8(bounded(path)?).map_err(|_| TlsError::NoPassword(path.to_owned()))?;
    let word = text.lines().next().unwrap_or_default();
    if word.is_empty() || word.len() > usize::from(u16::MAX) {
        return Err(TlsError::NoPassword(path.to_owned()));
    }
    Ok(word.to_owned())
}

/// Whose signature counts.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::NotPem {
            path: path.to_owned(),
            what: "CA certificate",
            why: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// Who we are, and the proof.
pub(super) fn identity(own: &OwnFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    private(&own.key)?;
    let chain = certificates(&own.certificate)?;
    // In the words of both forms: PKCS #8 (RFC 7468, 11) and the header of the older one (RFC 1421, 4.6.1.1).
    let text = bounded(&own.key)?;
    if text.windows(9).any(|word| word == b"ENCRYPTED") {
        return Err(TlsError::EncryptedKey(own.key.clone()));
    }
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| not_pem(&own.key, "private key", error))?;
    Ok((chain, key))
}

/// All that is in a file, if it is a file and no larger than one can be.
fn bounded(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| unreadable(path, source);
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(unreadable(path, io::Error::other("it is no file")));
    }
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(TlsError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// A secret that nobody but its owner can read.
fn private(path: &Path) -> Result<(), TlsError> {
    let mode = fs::metadata(path).map_err(|source| unreadable(path, source))?.permissions().mode();
    if mode & 0o077 == 0 { Ok(()) } else { Err(TlsError::ExposedKey(path.to_owned())) }
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = bounded(path)?;
    let found = CertificateDer::pem_slice_iter(&text);
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
pub struct Fingerprint(Vec<Option<Look>>);

/// Inode, length, seconds and nanoseconds of the last change, mode.
type Look = (u64, u64, i64, i64, u32);

impl Fingerprint {
    /// As they look now. A file that is not there looks like nothing.
    #[must_use]
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        let look = |path: &PathBuf| {
            let m = fs::metadata(path).ok()?;
            Some((m.ino(), m.len(), m.mtime(), m.mtime_nsec(), m.mode()))
        };
        Self(paths.into_iter().map(look).collect())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use hil_tests::certs::{Authority, Validity};

    use super::super::examine;
    use super::*;
    use crate::net::TlsFiles;

    /// A gateway's, from a depot's CA, in a directory of their own.
    pub(in crate::tls) fn files(validity: Validity) -> (tempfile::TempDir, TlsFiles) {
        let dir = tempfile::tempdir().expect("a directory");
        let made = Authority::new(dir.path(), "ca").expect("a ca").client("gw", validity).expect("a client");
        (dir, TlsFiles::mutual(made.ca, made.certificate, made.key))
    }

    #[test]
    fn a_key_under_a_password_is_told_as_that_in_both_forms() {
        let (_dir, files) = files(Validity::Good);
        let own = files.own.expect("mutual");
        for head in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n",
        ] {
            fs::write(&own.key, format!("{head}AAAA\n-----END\n")).expect("ours");
            let error = identity(&own).map(drop).expect_err("nobody knows the password");
            assert!(error.to_string().contains("openssl pkey -in"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_named_as_that_and_not_read_to_its_end() {
        let (_dir, files) = files(Validity::Good);
        let own = files.own.clone().expect("mutual");
        for path in [&own.key, &own.certificate, &files.ca] {
            let before = fs::read(path).expect("ours");
            // Sparse: 2 GB that take no room.
            fs::File::options().write(true).open(path).and_then(|file| file.set_len(2 << 30)).expect("ours");
            let error = examine(&files).expect_err("2 GB").to_string();
            assert!(error.contains("is larger than 2 MiB") && error.contains(&path.display().to_string()), "{error}");
            fs::write(path, before).expect("ours");
        }
        examine(&files).expect("as before");
        let password = own.key.with_file_name("password");
        fs::write(&password, vec![b'x'; 3 << 20]).expect("ours");
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("ours");
        assert!(matches!(super::password(&password), Err(TlsError::TooLarge(_))));
    }

    #[test]
    fn what_is_no_file_is_told_and_not_waited_for() {
        let (_dir, files) = files(Validity::Good);
        let zeros = TlsFiles { ca: "/dev/zero".into(), ..files };
        let error = examine(&zeros).expect_err("no file").to_string();
        assert!(error.contains("/dev/zero cannot be read: it is no file"), "{error}");
    }

    #[test]
    fn an_exposed_key_and_an_exposed_password_are_refused_with_the_cure() {
        let (dir, files) = files(Validity::Good);
        let key = files.own.as_ref().expect("mutual").key.clone();
        let before = Fingerprint::of(files.paths());
        assert!(examine(&files).is_ok());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("ours");
        let error = examine(&files).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", key.display())), "{error}");
        assert_ne!(Fingerprint::of(files.paths()), before, "the change is seen from outside");

        let file = dir.path().join("password");
        assert!(matches!(password(&file), Err(TlsError::Unreadable { .. })));
        fs::write(&file, "secret\n").expect("ours");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("ours");
        assert!(matches!(password(&file), Err(TlsError::ExposedKey(_))));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
        assert_eq!(password(&file).expect("a password"), "secret");
    }
}
