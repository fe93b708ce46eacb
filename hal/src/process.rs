//! This process and others.

/// Resident memory of this process, bytes; `None` if `/proc` does not tell.
#[must_use]
pub fn rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Sends SIGTERM to a process that we have started.
///
/// # Errors
/// There is no such process, or it is not ours.
pub fn terminate(pid: u32) -> std::io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    // SAFETY: kill takes two integers and touches no memory of ours.
    match unsafe { libc::kill(pid, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Columns and rows of the terminal that stdout is; `None` if it is none, or does not tell.
#[must_use]
pub fn terminal_size() -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call writes one winsize that outlives it.
    let told = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (told == 0 && size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// How many files this process may have open at once, after it has asked for `wanted` as far as it may.
///
/// # Errors
/// The kernel does not tell.
pub fn open_files_max(wanted: usize) -> std::io::Result<usize> {
    // 32 bits wide where a word is.
    let wanted = libc::rlim_t::try_from(wanted).unwrap_or(libc::rlim_t::MAX);
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes one rlimit that outlives it.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    if limit.rlim_cur < wanted && limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), ..limit };
        // SAFETY: the call reads one rlimit that outlives it.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// If this thread has a real-time policy, threads that it makes from now on have the normal one, and so have theirs.
/// Answers whether it has. Nobody can take that back without a privilege.
///
/// # Errors
/// The kernel refuses.
pub fn keep_real_time_to_this_thread() -> std::io::Result<bool> {
    let policy = policy()?;
    if !matches!(policy & !libc::SCHED_RESET_ON_FORK, libc::SCHED_FIFO | libc::SCHED_RR) {
        return Ok(false);
    }
    let mut priority: libc::c_int = 0;
    // SAFETY: the call writes one int (sched_param of the kernel's own interface) that outlives it; 0 is this thread.
    let told = unsafe { libc::syscall(libc::SYS_sched_getparam, 0, &raw mut priority) };
    if told != 0 {
        return Err(std::io::Error::last_os_error());
    }
    set_policy(policy | libc::SCHED_RESET_ON_FORK, priority).map(|()| true)
}

/// The policy of this thread, by the kernel: musl's own functions only say that they are not there.
fn policy() -> std::io::Result<libc::c_int> {
    // SAFETY: the call takes an integer and touches no memory of ours; 0 is this thread.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    libc::c_int::try_from(policy).ok().filter(|policy| *policy >= 0).ok_or_else(std::io::Error::last_os_error)
}

fn set_policy(policy: libc::c_int, priority: libc::c_int) -> std::io::Result<()> {
    // SAFETY: the call reads one int (sched_param of the kernel's own interface) that outlives it; 0 is this thread.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_time_thread_makes_normal_threads_and_stays_what_it_is() {
        std::thread::spawn(|| {
            let is_allowed = set_policy(libc::SCHED_FIFO, 1).is_ok();
            assert_eq!(keep_real_time_to_this_thread().expect("allowed"), is_allowed);
            let own = if is_allowed { libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK } else { libc::SCHED_OTHER };
            assert_eq!(policy().expect("every thread has one"), own);
            let of_another = std::thread::spawn(|| policy().expect("every thread has one"));
            assert_eq!(of_another.join().expect("it ends"), libc::SCHED_OTHER);
        })
        .join()
        .expect("it ends");
    }

    #[test]
    fn files_that_may_be_open_are_raised_as_far_as_they_may_and_never_lowered() {
        let before = open_files_max(0).expect("Linux tells");
        assert!(open_files_max(before + 1).expect("Linux tells") >= before);
        assert!(open_files_max(1).expect("Linux tells") >= before);
    }

    #[test]
    fn this_process_has_some_memory() {
        assert!(rss_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
