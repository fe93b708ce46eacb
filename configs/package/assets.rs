//! What a package has beside the program, made from the program's own command line: man pages, and completions for three shells.
//!
//! `cargo run --no-default-features --example assets -- DIR`. The firmware does not carry any of it.

use std::error::Error;
use std::path::Path;
use std::{fs, io};

use clap_complete::Shell;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("a directory is needed")?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    let mut command = v2g_edge::cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "v2g-edge", directory)?;
    }
    command.build();
    pages(&command, "v2g-edge", "v2g-edge", directory)?;
    Ok(())
}

/// A page for the command, and for each below it. `typed` is how it is called.
fn pages(command: &clap::Command, name: &str, typed: &str, directory: &Path) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone().name(name.to_owned().leak() as &str).bin_name(typed))
        .title(name)
        .section("1")
        .manual("v2g-edge");
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(directory.join(format!("{name}.1")), text)?;
    for below in command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
        let below_name = below.get_name();
        pages(below, &format!("{name}-{below_name}"), &format!("{typed} {below_name}"), directory)?;
    }
    Ok(())
}
