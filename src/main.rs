//! The `v2g-edge` binary.

use std::process::ExitCode;

use v2g_edge::journal::{BUFFER_ALIGN, BUFFER_BYTES};

#[global_allocator]
static HEAP: hal::KeepingHeap<BUFFER_BYTES, BUFFER_ALIGN> = hal::KeepingHeap::new();

fn main() -> ExitCode {
    v2g_edge::cli::main()
}
