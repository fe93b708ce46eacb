//! The build script: makes one compressed block of the profiles and DBC files beside this file, and a list of how long each is.
//! `src/config/built_in.rs` reads both. As plain text the files take 150 KB of the firmware.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The smallest that there is; it takes a tenth of a second.
const LEVEL: i32 = 22;

fn main() -> io::Result<()> {
    let folder = Path::new("configs/devices");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml" || ending == "dbc"));
    paths.sort();

    let (mut block, mut list) = (Vec::new(), "[\n".to_owned());
    for path in paths {
        let (name, content) = (path.file_name().expect("a file's").to_string_lossy(), fs::read_to_string(&path)?);
        let _ = writeln!(list, "    ({name:?}, {}),", content.len());
        block.extend_from_slice(content.as_bytes());
    }
    list.push(']');

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("built_in.zst"), zstd::bulk::compress(&block, LEVEL)?)?;
    fs::write(out.join("built_in.rs"), list)
}
