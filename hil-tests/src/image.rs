//! The image that the rig boots, made without root from what Debian publishes for arm64.
//!
//! A kernel with its own modules, a static busybox, iproute2 and can-utils as real tools, and `guest/init`: the base,
//! 7 MB, made once and kept below `target/hil/`. What differs from boot to boot (agent, configuration, certificates) is
//! an [`Overlay`], a second archive that the kernel unpacks over the first.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tool::{self, ToolError};

/// Real tools of the guest, and the libraries that they load.
const PACKAGES: [&str; 13] = [
    "adjtimex",
    "busybox-static",
    "can-utils",
    "iproute2",
    "libbpf1",
    "libbsd0",
    "libc6",
    "libcap2",
    "libelf1",
    "libmd0",
    "libmnl0",
    "libxtables12",
    "zlib1g",
];
/// Depends on the newest kernel, whose name has its version in it.
const KERNEL_META_PACKAGE: &str = "linux-image-arm64";
/// Out of `/usr/bin`, `/bin`, `/sbin` of the packages, into `/usr/bin`. The shell prefers what it has itself: whoever wants
/// the real `ip` says where it is.
const PROGRAMS: [&str; 8] = ["adjtimex", "busybox", "ip", "tc", "candump", "cansend", "cangen", "slcand"];
/// What the guest's hardware and the tests need; `guest/init` loads them in this order.
const MODULES: [&str; 14] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "ext4",
    "i6300esb",
    "can",
    "can_raw",
    "can_dev",
    "kvaser_pci",
    "vcan",
    "slcan",
    "sch_netem",
];
const INIT: &str = include_str!("../guest/init");

/// The image could not be made; a half-made one is made again next time.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A program of the host failed.
    #[error("the image")]
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
    /// Debian's packages do not hold what they did.
    #[error("no {what} in {place}")]
    Lacking {
        /// What.
        what: String,
        /// Where it was looked for.
        place: String,
    },
}

/// Kernel and base archive, ready to boot.
#[derive(Debug, Clone)]
pub struct Image {
    /// The kernel, as QEMU takes it.
    pub kernel: PathBuf,
    /// The base archive, gzip.
    pub base: PathBuf,
}

impl Image {
    /// The image below `cache`, made if this recipe has not been made there yet (1 min, 70 MB from Debian's mirror).
    pub fn in_cache(cache: &Path) -> Result<Self, ImageError> {
        let mut recipe = DefaultHasher::new();
        (PACKAGES, KERNEL_META_PACKAGE, PROGRAMS, MODULES, INIT).hash(&mut recipe);
        let dir = cache.join(format!("image-{:016x}", recipe.finish()));
        let image = Self { kernel: dir.join("vmlinuz"), base: dir.join("base.cpio.gz") };
        if !dir.is_dir() {
            // Made aside and named when it is whole. Of two that make it at once one wins; they are the same.
            let making = tempfile::tempdir_in(ensure(cache)?).map_err(at(cache))?;
            make(making.path())?;
            match fs::rename(making.path().join("done"), &dir) {
                Err(_) if dir.is_dir() => {}
                other => other.map_err(at(&dir))?,
            }
        }
        Ok(image)
    }
}

/// Files that the kernel unpacks over the base.
#[derive(Debug)]
pub struct Overlay {
    root: tempfile::TempDir,
}

impl Overlay {
    /// An empty one.
    pub fn new() -> Result<Self, ImageError> {
        Ok(Self { root: tempfile::tempdir().map_err(at(Path::new("/tmp")))? })
    }

    /// Adds a file with this content, path and mode.
    pub fn put(&self, path: &str, content: &[u8], mode: u32) -> Result<(), ImageError> {
        write(&self.root.path().join(path.trim_start_matches('/')), content, mode)
    }

    /// Adds a copy of a file.
    pub fn copy(&self, path: &str, from: &Path, mode: u32) -> Result<(), ImageError> {
        self.put(path, &fs::read(from).map_err(at(from))?, mode)
    }

    /// Base and overlay in one file, as the kernel wants it.
    pub fn over(&self, base: &Path, to: &Path) -> Result<(), ImageError> {
        let own = to.with_extension("overlay");
        archive(self.root.path(), &own)?;
        let mut whole = fs::read(base).map_err(at(base))?;
        whole.extend(fs::read(&own).map_err(at(&own))?);
        fs::write(to, whole).map_err(at(to))
    }

    /// Where its files lie on this machine.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

/// An ext4 file system of `mebibytes` in a file, empty.
pub fn data_disk(path: &Path, mebibytes: u32) -> Result<(), ImageError> {
    fs::File::create(path).and_then(|file| file.set_len(u64::from(mebibytes) << 20)).map_err(at(path))?;
    // No lazy work: a guest that writes by itself would flush what the agent should.
    let options = ["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-m", "0"];
    tool::run(Command::new(crate::process::program("mkfs.ext4")).args(options).arg(path))?;
    Ok(())
}

fn make(dir: &Path) -> Result<(), ImageError> {
    let packages = dir.join("packages");
    fetch(&ensure(&packages)?)?;
    let unpacked = dir.join("unpacked");
    ensure(&unpacked)?;
    for package in entries(&packages)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "deb")) {
        tool::run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&unpacked))?;
    }
    let root = ensure(&dir.join("root"))?;
    programs(&unpacked, &root)?;
    modules(&unpacked, &root)?;
    write(&root.join("init"), INIT.as_bytes(), 0o755)?;
    write(&root.join("etc/modules"), MODULES.join("\n").as_bytes(), 0o644)?;
    for mount_point in ["proc", "sys", "dev", "run", "data", "tmp"] {
        ensure(&root.join(mount_point))?;
    }
    let done = ensure(&dir.join("done"))?;
    let kernel = entries(&unpacked.join("boot"))?
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
        .ok_or_else(|| lacking("vmlinuz", &unpacked.join("boot")))?;
    fs::copy(&kernel, done.join("vmlinuz")).map_err(at(&kernel))?;
    archive(&root, &done.join("base.cpio.gz"))
}

/// Debian packages for arm64, with a state of apt's own: the host's is not touched.
fn fetch(dir: &Path) -> Result<(), ImageError> {
    for part in ["state/lists/partial", "cache/archives/partial"] {
        ensure(&dir.join(part))?;
    }
    write(&dir.join("status"), b"", 0o644)?;
    let config = dir.join("apt.conf");
    let place = dir.display();
    let text = format!(
        "Dir::State \"{place}/state\";\nDir::State::status \"{place}/status\";\nDir::Cache \"{place}/cache\";\n\
         APT::Architecture \"arm64\";\nAPT::Architectures {{ \"arm64\"; }};\nAPT::Sandbox::User \"root\";\n\
         Acquire::Retries \"3\";\n"
    );
    write(&config, text.as_bytes(), 0o644)?;
    let apt = |program: &str| {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &config).current_dir(dir);
        command
    };
    tool::run(apt("apt-get").args(["-qq", "update"]))?;
    let depends = tool::run(apt("apt-cache").args(["depends", KERNEL_META_PACKAGE]))?;
    let kernel = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let kernel = kernel.ok_or_else(|| lacking("kernel", Path::new(KERNEL_META_PACKAGE)))?;
    tool::run(apt("apt-get").args(["-qq", "download"]).arg(format!("linux-image-{kernel}")).args(PACKAGES))?;
    Ok(())
}

/// Where a library may lie in a package.
const LIBRARIES: [&str; 4] = ["lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib", "usr/lib"];

/// The programs, the libraries they load, and the loader.
fn programs(unpacked: &Path, root: &Path) -> Result<(), ImageError> {
    let find = |name: &str, places: &[&str]| {
        let mut found = places.iter().map(|place| unpacked.join(place).join(name));
        found.find(|path| path.is_file()).ok_or_else(|| lacking(name, unpacked))
    };
    let mut wanted: Vec<String> = vec!["ld-linux-aarch64.so.1".to_owned()];
    let mut done = BTreeSet::new();
    for name in PROGRAMS {
        let file = find(name, &["bin", "usr/bin", "sbin", "usr/sbin"])?;
        wanted.extend(libraries_of(&file)?);
        let to = root.join(if name == "busybox" { "bin" } else { "usr/bin" }).join(name);
        write(&to, &fs::read(&file).map_err(at(&file))?, 0o755)?;
    }
    while let Some(name) = wanted.pop() {
        if !done.insert(name.clone()) {
            continue;
        }
        let file = find(&name, &LIBRARIES)?;
        wanted.extend(libraries_of(&file)?);
        write(&root.join("lib").join(&name), &fs::read(&file).map_err(at(&file))?, 0o755)?;
    }
    // modprobe by this name is what the kernel calls for what a module wants at run time: ext4 its crc32c.
    write(&root.join("sbin/modprobe"), b"#!/bin/busybox sh\nexec /bin/busybox modprobe \"$@\"\n", 0o755)
}

fn libraries_of(elf: &Path) -> Result<Vec<String>, ImageError> {
    let dynamic = tool::run(Command::new("readelf").arg("-d").arg(elf))?;
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    Ok(needed.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect())
}

/// The modules and what they depend on, with an index of their own.
fn modules(unpacked: &Path, root: &Path) -> Result<(), ImageError> {
    let versions = unpacked.join("lib/modules");
    let from = entries(&versions)?.into_iter().next().ok_or_else(|| lacking("modules", &versions))?;
    let version = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let depmod = crate::process::program("depmod");
    tool::run(Command::new(&depmod).arg("-b").arg(unpacked).arg(&version))?;
    let index = from.join("modules.dep");
    let index = fs::read_to_string(&index).map_err(at(&index))?;
    let builtin = from.join("modules.builtin");
    let builtin = fs::read_to_string(&builtin).map_err(at(&builtin))?;
    let to = root.join("lib/modules").join(&version);
    for name in MODULES {
        let is_it = |path: &str| module_name(path) == name;
        let Some((file, needs)) = index.lines().filter_map(|line| line.split_once(':')).find(|(f, _)| is_it(f)) else {
            if builtin.lines().any(is_it) {
                continue;
            }
            return Err(lacking(name, &from));
        };
        for path in needs.split_whitespace().chain([file]) {
            module(&from.join(path), &to.join(path))?;
        }
    }
    // crc32c is asked for by its alias, not as a dependency.
    for line in index.lines().filter_map(|line| line.split_once(':')) {
        if matches!(module_name(line.0), "crc32c_generic" | "libcrc32c") {
            module(&from.join(line.0), &to.join(line.0))?;
        }
    }
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        let path = from.join(list);
        write(&to.join(list), &fs::read(&path).map_err(at(&path))?, 0o644)?;
    }
    tool::run(Command::new(&depmod).arg("-b").arg(root).arg(&version))?;
    Ok(())
}

/// `kernel/net/can/can-raw.ko.xz` is `can_raw`.
fn module_name(path: &str) -> &'static str {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split_once(".ko").map_or(file, |(stem, _)| stem).replace('-', "_");
    let known = MODULES.into_iter().chain(["crc32c_generic", "libcrc32c"]);
    known.into_iter().find(|name| *name == stem).unwrap_or("")
}

fn module(from: &Path, to: &Path) -> Result<(), ImageError> {
    let text = from.to_string_lossy();
    // busybox reads no compressed modules.
    let data = if text.ends_with(".xz") {
        let plain = Command::new("xz").arg("-dc").arg(from).output().map_err(at(from))?;
        plain.stdout
    } else {
        fs::read(from).map_err(at(from))?
    };
    let to = PathBuf::from(to.to_string_lossy().trim_end_matches(".xz"));
    write(&to, &data, 0o644)
}

/// A gzipped cpio archive that is the same for the same files: sorted, of root, without times.
fn archive(root: &Path, to: &Path) -> Result<(), ImageError> {
    let script = r#"cd "$0" && find . -exec touch -h -d @0 {} + && find . | LC_ALL=C sort |
        cpio --quiet --reproducible -o -H newc -R 0:0 | gzip -n -1 > "$1""#;
    tool::run(Command::new("bash").args(["-o", "pipefail", "-c", script]).arg(root).arg(to))?;
    Ok(())
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), ImageError> {
    if let Some(parent) = path.parent() {
        ensure(parent)?;
    }
    fs::write(path, content).and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode))).map_err(at(path))
}

fn ensure(dir: &Path) -> Result<PathBuf, ImageError> {
    fs::create_dir_all(dir).map_err(at(dir))?;
    Ok(dir.to_owned())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let listed = fs::read_dir(dir).map_err(at(dir))?;
    let mut paths =
        listed.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(at(dir))?;
    paths.sort();
    Ok(paths)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ImageError + use<> {
    let path = path.to_owned();
    move |source| ImageError::File { path, source }
}

fn lacking(what: &str, place: &Path) -> ImageError {
    ImageError::Lacking { what: what.to_owned(), place: place.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_known_by_the_kernels_name() {
        assert_eq!(module_name("kernel/net/can/can-raw.ko"), "can_raw");
        assert_eq!(module_name("kernel/fs/ext4/ext4.ko.xz"), "ext4");
        assert_eq!(module_name("kernel/fs/xfs/xfs.ko"), "");
    }

    #[test]
    fn the_same_files_make_the_same_archive() {
        let archive_of = |delay| {
            let overlay = Overlay::new().expect("a temporary directory");
            overlay.put("/etc/one", b"1", 0o600).and_then(|()| overlay.put("two", b"2", 0o755)).expect("writable");
            std::thread::sleep(delay);
            let base = overlay.root().with_extension("base");
            fs::write(&base, b"base").expect("writable");
            let to = overlay.root().with_extension("gz");
            overlay.over(&base, &to).expect("cpio and gzip are there");
            let whole = fs::read(&to).expect("it was written");
            for file in [base, to.with_extension("overlay"), to] {
                fs::remove_file(file).expect("it was ours");
            }
            whole
        };
        let (one, other) = (archive_of(std::time::Duration::ZERO), archive_of(std::time::Duration::from_millis(1100)));
        assert!(one.starts_with(b"base") && one == other);
    }
}
