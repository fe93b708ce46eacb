//! Where a test runs: in a process of its own, with mounts of its own.

use std::path::Path;
use std::process::{Command, Output};

/// Set in the process that runs a test inside of its namespace.
const INSIDE: &str = "V2G_JOURNAL_FAULTS_INSIDE";

/// Runs this test again, below `with`, and answers `true` there. In the process that asks it waits, fails as that one
/// does, and answers `false`.
pub(crate) fn inside(test: &str, with: &[&str]) -> bool {
    if std::env::var(INSIDE).is_ok_and(|name| name == test) {
        return true;
    }
    let program = std::env::current_exe().expect("the test's own program");
    let mut command = Command::new(with[0]);
    command.args(&with[1..]).arg(program).args(["--exact", test, "--nocapture"]).env(INSIDE, test);
    let output = run(&mut command);
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "{test} failed below {}. If that is because it may not mount: it needs root, or user namespaces",
        with.join(" ")
    );
    false
}

/// What runs a test with mounts that nobody else sees, and that go with it. Who is not root is root there.
pub(crate) fn own_mounts() -> &'static [&'static str] {
    if is_root() { &["unshare", "--mount", "--"] } else { &["unshare", "--map-root-user", "--mount", "--"] }
}

pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("Uid:\t0\t"))
}

/// Mounts a small file system in memory.
pub(crate) fn mount_tmpfs(at: &Path, size: &str) {
    std::fs::create_dir_all(at).expect("a place to mount");
    mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "none"], at);
}

/// Makes a file system read-only.
pub(crate) fn remount_read_only(at: &Path) {
    mount(&["-o", "remount,ro"], at);
}

/// Makes a file that can be written, and not removed.
pub(crate) fn hold_in_place(at: &Path) {
    mount(&["--bind", &at.display().to_string()], at);
}

/// Makes it writable again.
pub(crate) fn remount_writable(at: &Path) {
    mount(&["-o", "remount,rw"], at);
}

/// Compiles a library that stands before the system's own. Whoever builds Rust has a C compiler: it links.
pub(crate) fn compile(source: &Path, library: &Path) {
    let output = run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(library).arg(source).arg("-ldl"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn mount(arguments: &[&str], at: &Path) {
    let output = run(Command::new("mount").args(arguments).arg(at));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "this test mounts a file system and needs root for it: {said}");
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"))
}
