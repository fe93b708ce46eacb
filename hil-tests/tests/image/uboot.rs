//! U-Boot's script and its state in two copies, of which one may be torn: U-Boot itself decides, and libubootenv, by which Linux
//! and RAUC read and write the same two copies, agrees.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hil_tests::process::{Process, program, tail};
use hil_tests::wait::wait_for;
use hil_tests::{gpt, tool};

const STATE_BYTES: usize = 0x4000;
/// Behind the CRC.
const NUMBER_AT: usize = 4;
/// U-Boot takes 3 s to its script on a quiet machine.
const START_WITHIN: Duration = Duration::from_secs(120);

/// A copy of the state: its number, order, how often each slot may be tried.
#[derive(Clone, Copy)]
struct State(u8, &'static str, u8, u8);

/// What a copy may be.
#[derive(Clone, Copy)]
enum StateCopy {
    Good(State),
    /// A write was cut short.
    Torn(State),
    /// As flashed.
    Empty,
}
use StateCopy::{Empty, Good, Torn};

#[test]
fn the_newer_copy_that_holds_decides_and_the_other_one_is_written() {
    let cases: [(StateCopy, StateCopy, &str); 9] = [
        (Empty, Empty, "slot A, order A B, left A 2 B 3, state none 1"),
        (Good(State(1, "A B", 2, 3)), Empty, "slot A, order A B, left A 1 B 3, state a 2"),
        (Good(State(7, "A B", 3, 3)), Good(State(6, "B A", 3, 3)), "slot A, order A B, left A 2 B 3, state a 8"),
        (Good(State(7, "A B", 3, 3)), Good(State(8, "B A", 3, 3)), "slot B, order B A, left A 3 B 2, state b 9"),
        // Numbers go round.
        (Good(State(0xff, "A B", 3, 3)), Good(State(0, "B A", 3, 3)), "slot B, order B A, left A 3 B 2, state b 1"),
        (Good(State(0, "A B", 3, 3)), Good(State(0xff, "B A", 3, 3)), "slot A, order A B, left A 2 B 3, state a 1"),
        // The power went while the newer one was written.
        (Torn(State(9, "B A", 3, 3)), Good(State(8, "A B", 1, 0)), "slot A, order A B, left A 0 B 0, state b 9"),
        // A slot without tries is passed over; with none left there are new ones; an order that names no slot is none.
        (Good(State(3, "B A", 1, 0)), Torn(State(4, "A B", 3, 3)), "slot A, order B A, left A 0 B 0, state a 4"),
        (Good(State(3, "B A", 0, 0)), Empty, "slot B, order B A, left A 3 B 2, state a 4"),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    for (number, (a, b, expected)) in cases.into_iter().enumerate() {
        let (said, state) = start(&dir.path().join(number.to_string()), a, b);
        assert_eq!(said, format!("boot: {expected}"));
        for (name, value) in [("BOOT_ORDER", "order "), ("BOOT_A_LEFT", "left A "), ("BOOT_B_LEFT", " B ")] {
            let of_linux = state.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).expect(name);
            assert!(expected.contains(&format!("{value}{of_linux}")), "{expected}; Linux reads {state}");
        }
    }
}

#[test]
fn an_order_that_names_no_slot_starts_the_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let (said, _) = start(&dir.path().join("0"), Good(State(1, "C", 3, 3)), Empty);
    assert_eq!(said, "boot: slot A, order A B, left A 2 B 3, state a 2");
}

/// Starts the image with these copies of the state: what the script says, and what Linux reads afterwards.
fn start(dir: &Path, a: StateCopy, b: StateCopy) -> (String, String) {
    fs::create_dir(dir).expect("made");
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/image/disk.img");
    let path = dir.join("disk");
    tool::run(Command::new("cp").arg("--sparse=always").arg(&image).arg(&path)).expect("hil-tests/image has built it");
    let disk = File::options().read(true).write(true).open(&path).expect("a disk");
    let mut places = Vec::new();
    for (name, copy) in [("state-a", a), ("state-b", b)] {
        let (begin, length) = gpt::partition(&disk, name).expect(name);
        assert_eq!(length, STATE_BYTES as u64);
        disk.write_all_at(&bytes_of(dir, copy), begin).expect("written");
        places.push(format!("{} {begin:#x} {STATE_BYTES:#x}\n", path.display()));
    }
    drop(disk);

    let console = dir.join("console");
    let mut command = Command::new(program("qemu-system-aarch64"));
    command.args(["-M", "virt,gic-version=3", "-cpu", "cortex-a53", "-m", "512", "-nodefaults", "-no-user-config"]);
    command.args(["-display", "none", "-bios", "/usr/lib/u-boot/qemu_arm64/u-boot.bin"]);
    command.args(["-serial", &format!("file:{}", console.display())]);
    command.args(["-drive", &format!("if=none,id=disk,format=raw,file={}", path.display())]);
    command.args(["-device", "virtio-blk-pci,drive=disk"]);
    let mut qemu = Process::start("qemu", &mut command, &dir.join("qemu.log")).expect("it starts");
    let said = wait_for(START_WITHIN, "what U-Boot starts", || {
        let text = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
        let mut whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::trim);
        whole.find(|line| line.starts_with("boot: slot")).map(str::to_owned).ok_or_else(|| tail(&console))
    });
    qemu.kill9().expect("it was ours");
    let config = dir.join("fw_env.config");
    fs::write(&config, places.concat()).expect("written");
    let state = tool::run(Command::new("fw_printenv").arg("-c").arg(&config)).expect("a copy holds");
    (said.expect("U-Boot starts something"), state)
}

fn bytes_of(dir: &Path, copy: StateCopy) -> Vec<u8> {
    let (Good(State(number, order, a, b)) | Torn(State(number, order, a, b))) = copy else {
        return vec![0; STATE_BYTES];
    };
    let (text, made) = (dir.join("state.txt"), dir.join("state.bin"));
    fs::write(&text, format!("BOOT_ORDER={order}\nBOOT_A_LEFT={a}\nBOOT_B_LEFT={b}\n")).expect("written");
    let mut make = Command::new("mkenvimage");
    make.args(["-r", "-s", &STATE_BYTES.to_string(), "-o"]).arg(&made).arg(&text);
    tool::run(&mut make).expect("u-boot-tools has it");
    let mut bytes = fs::read(&made).expect("made");
    bytes[NUMBER_AT] = number;
    if matches!(copy, Torn(_)) {
        // The first block is the new one, the last is not.
        bytes[STATE_BYTES - 1] ^= 1;
    }
    bytes
}
