//! Bundles for updates of the box: the slot that `hil-tests/image` has built, with files changed, signed by whoever is to have
//! signed it. Without mounts: `debugfs` writes into the file system, `rauc` packs it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::program;
use crate::tool::{self, ToolError};

/// A bundle could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A program of the host failed.
    #[error("the bundle")]
    Tool(#[from] ToolError),
    /// A file could not be read or written.
    #[error("{path:?}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `debugfs` has not done what it was asked for, and says 0 all the same.
    #[error("{path} is not in the slot as it should be: {said}")]
    Unwritten {
        /// Which.
        path: String,
        /// What stands there.
        said: String,
    },
}

/// Who signs.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Signer {
    /// Whom the box trusts.
    #[must_use]
    pub fn of_the_image() -> Self {
        let keys = image().join("keys");
        Self { certificate: keys.join("cert.pem"), key: keys.join("key.pem") }
    }

    /// Somebody else.
    pub fn stranger(dir: &Path) -> Result<Self, BundleError> {
        let signer = Self { certificate: dir.join("stranger.pem"), key: dir.join("stranger.key") };
        let mut make = Command::new("openssl");
        make.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=a stranger",
            "-keyout",
        ]);
        tool::run(make.arg(&signer.key).arg("-out").arg(&signer.certificate))?;
        Ok(signer)
    }
}

/// A version of the whole system: a slot's file system, in a directory of the test's own.
#[derive(Debug)]
pub struct Slot {
    dir: PathBuf,
}

impl Slot {
    /// What is in the image, in `dir`, which is made.
    pub fn of_the_image(dir: &Path) -> Result<Self, BundleError> {
        fs::create_dir_all(dir).map_err(at(dir))?;
        let slot = Self { dir: dir.to_owned() };
        tool::run(Command::new("cp").arg("--sparse=always").arg(image().join("rootfs.ext4")).arg(slot.file_system()))?;
        Ok(slot)
    }

    /// No file system at all: for a bundle that is refused before it is unpacked.
    pub fn of_noise(dir: &Path) -> Result<Self, BundleError> {
        fs::create_dir_all(dir).map_err(at(dir))?;
        let slot = Self { dir: dir.to_owned() };
        let file = slot.file_system();
        // What can be compressed would make a bundle that is too small to be one.
        let mut noise = [0; 1 << 16];
        File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut noise)).map_err(at(&file))?;
        fs::write(&file, noise).map_err(at(&file))?;
        Ok(slot)
    }

    /// Puts a file in it, or another in its place. Its directories are made.
    pub fn put(&self, path: &str, content: &str, mode: u32) -> Result<(), BundleError> {
        let local = self.dir.join("content");
        fs::write(&local, content)
            .and_then(|()| fs::set_permissions(&local, fs::Permissions::from_mode(mode)))
            .map_err(at(&local))?;
        let mut script = String::new();
        for (end, _) in path.match_indices('/').skip(1) {
            // One that is there is left as it is.
            script += &format!("mkdir {}\n", &path[..end]);
        }
        script += &format!("rm {path}\nwrite {} {path}\nsif {path} mode 0100{mode:o}\n", local.display());
        self.debugfs(&["-w", "-f", &self.script(&script)?])?;
        let said = self.debugfs(&["-R", &format!("cat {path}")])?;
        if said == content { Ok(()) } else { Err(BundleError::Unwritten { path: path.to_owned(), said }) }
    }

    /// What stands in a file of it.
    pub fn read(&self, path: &str) -> Result<String, BundleError> {
        self.debugfs(&["-R", &format!("cat {path}")])
    }

    /// A bundle of it, at `to`. A bundle for another machine has another `compatible`.
    pub fn bundle(&self, to: &Path, compatible: &str, version: &str, signer: &Signer) -> Result<(), BundleError> {
        let content = self.dir.join("bundle");
        fs::create_dir_all(&content).map_err(at(&content))?;
        let inside = content.join("rootfs.ext4");
        let _ = fs::remove_file(&inside);
        fs::hard_link(self.file_system(), &inside).map_err(at(&inside))?;
        let manifest = format!(
            "[update]\ncompatible={compatible}\nversion={version}\n\n[bundle]\nformat=verity\n\n[image.rootfs]\nfilename=rootfs.ext4\n"
        );
        let path = content.join("manifest.raucm");
        fs::write(&path, manifest).map_err(at(&path))?;
        let _ = fs::remove_file(to);
        let mut make = Command::new(program("rauc"));
        make.arg("--cert").arg(&signer.certificate).arg("--key").arg(&signer.key);
        // The fastest: these are unpacked once.
        make.args(["bundle", "--mksquashfs-args=-comp zstd -Xcompression-level 1 -quiet -no-progress"]);
        tool::run(make.arg(&content).arg(to))?;
        Ok(())
    }

    fn file_system(&self) -> PathBuf {
        self.dir.join("rootfs.ext4")
    }

    fn script(&self, text: &str) -> Result<String, BundleError> {
        let path = self.dir.join("script");
        fs::write(&path, text).map_err(at(&path))?;
        Ok(path.display().to_string())
    }

    fn debugfs(&self, arguments: &[&str]) -> Result<String, BundleError> {
        Ok(tool::run(Command::new(program("debugfs")).args(arguments).arg(self.file_system()))?)
    }
}

/// A memory stick with these files, as an image at `to`.
pub fn stick(files: &Path, to: &Path) -> Result<(), BundleError> {
    let mut bytes = 64 << 20;
    for entry in fs::read_dir(files).map_err(at(files))? {
        bytes += entry.and_then(|entry| entry.metadata()).map_err(at(files))?.len();
    }
    let mut make = Command::new(program("mke2fs"));
    make.args(["-q", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-d"]).arg(files).arg(to);
    tool::run(make.arg(format!("{}k", bytes / 1024)))?;
    Ok(())
}

/// What `hil-tests/image` has left.
fn image() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/image")
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BundleError + use<> {
    let path = path.to_owned();
    move |source| BundleError::File { path, source }
}
