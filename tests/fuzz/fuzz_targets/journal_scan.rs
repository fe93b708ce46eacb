//! Any bytes as the file of a damaged segment: no panic, an end, and no chunk twice. The frames in them get the checksum that
//! they must have, so that what is inside of them is read, too.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use v2g_edge::journal::fuzz::{mend_checksums, scan};

/// In memory, where there is such a place: written anew for each input.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let shm = PathBuf::from("/dev/shm");
    let dir = if shm.is_dir() { shm } else { std::env::temp_dir() };
    dir.join(format!("v2g-edge-fuzz-{}", std::process::id()))
});

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    for _ in 0..2 {
        std::fs::write(&*FILE, &bytes).expect("room for a file");
        std::hint::black_box(scan(&FILE).expect("our own file"));
        mend_checksums(&mut bytes);
    }
});
