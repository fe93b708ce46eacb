//! The `v2g-edge` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    v2g_edge::cli::main()
}
