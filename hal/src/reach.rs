//! Why something outside cannot be reached, told by what the system said: one cure for each, and not one for all.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Where Linux lists serial adapters by names that stay.
const BY_ID: &str = "/dev/serial/by-id";
/// Adapters named in a message.
const NAMED_MAX: usize = 4;
/// Where Linux lists processes.
const PROC: &str = "/proc";
/// Processes looked at when somebody is looked for: a small box has a hundred.
const PROCESSES_MAX: usize = 4096;
/// Open files of one process looked at.
const FILES_MAX: usize = 4096;

/// A process of this system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, as `ps` shows it.
    pub name: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Who has a port, as far as this user may look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// No process has it.
    Nobody,
    /// This one has it.
    Process(Holder),
    /// Some process of this user has it, and which one may not be looked at.
    User(u32),
    /// None that may be looked at has it. So many processes of other users may not.
    Unclear(usize),
}

/// Which other process has this device open.
#[must_use]
pub fn holder_of(device: &Path) -> Holding {
    let Ok(device) = fs::metadata(device) else { return Holding::Nobody };
    let (rdev, same) = (device.rdev(), (device.dev(), device.ino()));
    let is_open = |path: &Path| {
        fs::metadata(path)
            .is_ok_and(|open| if rdev == 0 { (open.dev(), open.ino()) == same } else { open.rdev() == rdev })
    };
    match find_process(Path::new(PROC), |pid| pid != std::process::id(), is_open) {
        Ok(holder) => Holding::Process(holder),
        Err(0) => Holding::Nobody,
        Err(unseen) => Holding::Unclear(unseen),
    }
}

/// Which process listens on this TCP port, this one among them.
#[must_use]
pub fn listener_on(port: u16) -> Holding {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let sockets: Vec<(u32, String)> = tables.iter().flat_map(|table| listening(table, port)).collect();
    // Whose a socket is the kernel tells to everybody, and which process has it to its own user.
    let Some((user, _)) = sockets.first() else { return Holding::Nobody };
    let is_one =
        |path: &Path| fs::read_link(path).is_ok_and(|to| sockets.iter().any(|(_, link)| Path::new(link) == to));
    find_process(Path::new(PROC), |_| true, is_one).map_or(Holding::User(*user), Holding::Process)
}

/// The user and the name (as the links in `/proc/PID/fd` have it) of each socket in a table of the kernel (proc_net_tcp(5)) that
/// listens on this port.
fn listening(table: &str, port: u16) -> Vec<(u32, String)> {
    const LISTEN: &str = "0A";
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, user, inode) = (fields.get(1)?, fields.get(3)?, fields.get(7)?, fields.get(9)?);
        let at = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (at == port && *state == LISTEN).then_some(())?;
        Some((user.parse().ok()?, format!("socket:[{inode}]")))
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

/// The first process of these of which an open file passes; else how many could not be looked at.
fn find_process(proc: &Path, of: impl Fn(u32) -> bool, is_it: impl Fn(&Path) -> bool) -> Result<Holder, usize> {
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // Mounted with hidepid, it does not even list those of others.
    let mut unseen = usize::from(!proc.join("1").exists());
    for pid in pids.filter(|pid| of(*pid)).take(PROCESSES_MAX) {
        let of_process = proc.join(pid.to_string());
        match fs::read_dir(of_process.join("fd")) {
            Ok(files) => {
                if files.flatten().take(FILES_MAX).any(|file| is_it(&file.path())) {
                    let name = fs::read_to_string(of_process.join("comm")).unwrap_or_default();
                    return Ok(Holder { pid, name: name.trim_end().to_owned() });
                }
            }
            // It has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {}
            // The kernel's own threads have no command line, and no port.
            Err(_) => unseen += usize::from(fs::read(of_process.join("cmdline")).is_ok_and(|line| !line.is_empty())),
        }
    }
    Err(unseen)
}

/// What to do about a serial port that cannot be opened, or about a server that cannot be reached. `address` is the path of
/// the one, or host and port of the other.
#[must_use]
pub fn cure(address: &str, error: &io::Error) -> String {
    if let Some(libc::EMFILE | libc::ENFILE) = error.raw_os_error() {
        return "let the agent open more files: LimitNOFILE= in its unit, or ulimit -n".to_owned();
    }
    if address.starts_with('/') { cure_of_port(Path::new(address), error) } else { cure_of_server(error) }
}

fn cure_of_port(port: &Path, error: &io::Error) -> String {
    // The library of serial ports hands on the words and not the number: EBUSY comes as "not found", too.
    if error.raw_os_error() == Some(libc::EBUSY) || error.to_string().contains("busy") {
        return match holder_of(port) {
            Holding::Process(holder) if holder.name.starts_with("v2g-edge") => {
                format!("the agent itself, {holder}, has it: see `v2g-edge status`, or stop it while you ask yourself")
            }
            Holding::Process(holder) => format!("{holder} has it: stop that, a line has one master"),
            _ => "another program has it: stop that (`sudo fuser` names it), a line has one master".to_owned(),
        };
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "this user may not open it: add the user to the port's group (usually dialout: \
            `usermod -aG dialout USER`, or SupplementaryGroups=dialout in the unit)"
                .to_owned()
        }
        _ if !port.exists() => no_port(Path::new(BY_ID)),
        _ => "is it a serial port, and does it take that baud rate, parity and stop bits?".to_owned(),
    }
}

/// There is no such port: which ones there are.
fn no_port(by_id: &Path) -> String {
    let links = fs::read_dir(by_id).into_iter().flatten().flatten();
    let mut there: Vec<String> = links.map(|link| link.path().display().to_string()).collect();
    there.sort_unstable();
    let more = there.len().saturating_sub(NAMED_MAX);
    there.truncate(NAMED_MAX);
    if there.is_empty() {
        return "there is no such port, and no USB adapter at all: plug it in again, and look into the kernel's log (dmesg)"
            .to_owned();
    }
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "there is no such port: the adapter is unplugged or has another name. There is {}{more}: such a name stays, write it in \
         place of the port",
        there.join(", ")
    )
}

fn cure_of_server(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    let text = match error.kind() {
        Kind::ConnectionRefused => {
            "the box at that address is there and takes no connection: check the port, and that its server is on and not held \
             by another client"
        }
        Kind::NetworkUnreachable => {
            "this box has no route there: check its own address, mask and gateway (`ip addr`, `ip route`)"
        }
        Kind::HostUnreachable => {
            "nobody has that address in the network it should be in: check the address, the cable and the power; and whether the \
             packet filter of this box refuses it (`nft list ruleset`)"
        }
        Kind::PermissionDenied => "a firewall of this box forbids it (`nft list ruleset`)",
        Kind::TimedOut => "nobody answers at that address: check it, the cable and the power, and firewalls between",
        _ => unresolved(error).unwrap_or("check address or port, cable and whether the device is powered"),
    };
    text.to_owned()
}

/// What to do about a name that has no address; `None` if it is about something else. The C library tells it in words only.
#[must_use]
pub fn unresolved(error: &io::Error) -> Option<&'static str> {
    let text = error.to_string();
    if !text.contains("failed to lookup address") {
        return None;
    }
    // glibc's and musl's words for EAI_AGAIN.
    let is_resolver = text.contains("Temporary failure") || text.contains("Try again");
    Some(if is_resolver {
        "no name server answers: check the box's DNS (`resolvectl`, /etc/resolv.conf) and its way there, or write an IP address"
    } else {
        "the name server knows no such name: correct the name, or write an IP address"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn each_way_in_which_a_server_cannot_be_reached_has_its_own_cure() {
        let lookup = |why: &str| io::Error::other(format!("failed to lookup address information: {why}"));
        let errors = [
            (os(libc::ECONNREFUSED), "takes no connection"),
            (os(libc::ENETUNREACH), "no route"),
            (os(libc::EHOSTUNREACH), "nobody has that address"),
            (os(libc::EPERM), "firewall of this box"),
            (io::ErrorKind::TimedOut.into(), "nobody answers"),
            (lookup("Temporary failure in name resolution"), "no name server answers"),
            (lookup("Try again"), "no name server answers"),
            (lookup("Name or service not known"), "knows no such name"),
            (lookup("Name does not resolve"), "knows no such name"),
            (os(libc::EIO), "check address or port"),
        ];
        for (error, part) in errors {
            let told = cure("10.0.0.17:502", &error);
            assert!(told.contains(part), "{error}: {told}");
        }
    }

    #[test]
    fn a_port_that_is_not_there_is_told_with_those_that_are() {
        let told = cure("/dev/ttyUSB99", &os(libc::ENOENT));
        assert!(told.starts_with("there is no such port"), "{told}");
        let dir = tempfile::tempdir().expect("a directory");
        assert!(no_port(dir.path()).contains("no USB adapter at all"));
        for n in 0..6 {
            fs::write(dir.path().join(format!("usb-FTDI_{n}")), "").expect("ours");
        }
        let told = no_port(dir.path());
        assert!(told.contains("usb-FTDI_0, ") && told.contains("usb-FTDI_3 and 2 more"), "{told}");
    }

    #[test]
    fn a_port_that_this_user_may_not_open_names_the_group() {
        let told = cure("/dev/null", &os(libc::EACCES));
        assert!(told.contains("usermod -aG dialout"), "{told}");
    }

    #[test]
    fn who_has_a_port_or_a_device_is_named() {
        // `sleep` has it open as its standard input, and nobody else.
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("device");
        fs::write(&path, "").expect("ours");
        assert!(!matches!(holder_of(&path), Holding::Process(_)));
        let file = fs::File::open(&path).expect("ours");
        let mut child = std::process::Command::new("sleep").arg("60").stdin(file).spawn().expect("it starts");
        let holder = holder_of(&path);
        let told = cure(&path.display().to_string(), &os(libc::EBUSY));
        child.kill().expect("ours");
        child.wait().expect("ours");
        assert!(matches!(&holder, Holding::Process(holder) if holder.pid == child.id()), "{holder:?}");
        assert!(told.contains(&format!("(process {}) has it", child.id())), "{told}");
    }

    #[test]
    fn the_sockets_that_listen_on_a_port_are_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0\n\
             1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n\
             2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0\n";
        assert_eq!(listening(table, 8080), [(1_000, "socket:[4711]".to_owned())]);
        assert_eq!(listening(table, 81), []);
        assert_eq!(listening("torn", 81), []);
    }

    /// What another user's process had was told as free.
    #[test]
    fn processes_that_may_not_be_looked_at_are_counted_and_those_of_the_kernel_are_none() {
        let proc = tempfile::tempdir().expect("a directory");
        let process = |pid: &str, command: &str| {
            let dir = proc.path().join(pid);
            fs::create_dir(&dir).expect("made");
            fs::write(dir.join("cmdline"), command).expect("written");
            fs::write(dir.join("comm"), "sensord\n").expect("written");
            dir
        };
        let look = || find_process(proc.path(), |_| true, |path| path.ends_with("7"));
        // Its directory cannot be read; here because it is none.
        fs::write(process("1", "/sbin/init").join("fd"), "").expect("written");
        fs::write(process("2", "").join("fd"), "").expect("written");
        assert_eq!(look(), Err(1));
        let files = process("3", "/usr/bin/sensord").join("fd");
        fs::create_dir(&files).expect("made");
        assert_eq!(look(), Err(1));
        fs::write(files.join("7"), "").expect("written");
        assert_eq!(look(), Ok(Holder { pid: 3, name: "sensord".to_owned() }));
        // hidepid=invisible: not even the first is listed.
        fs::remove_dir_all(proc.path().join("1")).expect("gone");
        fs::remove_dir_all(proc.path().join("3")).expect("gone");
        assert_eq!(look(), Err(1));
    }

    #[test]
    fn who_listens_on_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("ours").port();
        assert!(matches!(listener_on(port), Holding::Process(holder) if holder.pid == std::process::id()));
        assert_eq!(listener_on(0), Holding::Nobody);
    }
}
