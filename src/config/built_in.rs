//! The files of `configs/devices` that are part of the program: profiles, and the DBC files that they name.
//!
//! They lie in it as one zstd frame (RFC 8878), 23 KB in place of 150, which is unpacked whenever one is asked for: that takes less
//! than a millisecond, a configuration asks once for each profile, and a running gateway has none of them in memory.

/// Made by `configs/devices/pack.rs`: names, sorted, and how long their content is. In this order they lie in the block.
const FILES: &[(&str, usize)] = &include!(concat!(env!("OUT_DIR"), "/built_in.rs"));
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/built_in.zst"));

/// The folder, as messages name it.
pub(super) const FOLDER: &str = "configs/devices";

/// The names of all files, sorted, with their ending.
fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The names of all profiles, sorted.
pub(super) fn profile_names() -> impl Iterator<Item = &'static str> {
    names().filter_map(|name| name.strip_suffix(".toml"))
}

/// The names of all DBC files, sorted.
pub(super) fn dbc_names() -> impl Iterator<Item = &'static str> {
    names().filter(|name| name.strip_suffix(".dbc").is_some())
}

/// The content of a file.
pub(super) fn text(name: &str) -> Option<String> {
    let index = names().position(|known| known == name)?;
    let length = |files: &[(&str, usize)]| files.iter().map(|(_, length)| length).sum::<usize>();
    let block = zstd::bulk::decompress(PACKED, length(FILES)).expect("the build script has packed it");
    let (begin, end) = (length(&FILES[..index]), length(&FILES[..=index]));
    let content = block.get(begin..end).expect("the build script has measured it");
    Some(String::from_utf8(content.to_vec()).expect("the build script has read it as text"))
}

/// The DBC file of this name that is built into the program.
#[must_use]
pub fn built_in_dbc(name: &str) -> Option<String> {
    name.strip_suffix(".dbc").and_then(|_| text(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_built_in_as_it_is() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
        let entries = std::fs::read_dir(&folder).expect("it is there").map(|entry| entry.expect("it can be read"));
        let mut on_disk: Vec<String> = entries.map(|entry| entry.file_name().into_string().expect("a name")).collect();
        on_disk.retain(|name| name != "pack.rs");
        on_disk.sort();
        assert_eq!(names().collect::<Vec<_>>(), on_disk);
        for name in on_disk {
            let content = std::fs::read_to_string(folder.join(&name)).expect("it can be read");
            assert_eq!(text(&name).as_deref(), Some(&*content), "{name}");
        }
        assert_eq!(text("eastron-sdm630"), None);
        assert_eq!(built_in_dbc("eastron-sdm630.toml"), None);
    }
}
