//! What a box has beside the binary (`configs/system`): systemd and nftables of this machine take it, and it does what it says.

#[path = "system/exposure.rs"]
mod exposure;
#[path = "system/files.rs"]
mod files;
#[path = "system/firewall.rs"]
mod firewall;

use std::path::{Path, PathBuf};

/// A path below `configs/system`.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/system").join(name)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a directory, sorted.
fn files_of(name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(shipped(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}
