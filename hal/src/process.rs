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

/// If this thread has a real-time policy, threads that it makes from now on have the normal one, and so have theirs.
/// Answers whether it has. Nobody can take that back without a privilege.
///
/// # Errors
/// The kernel refuses.
pub fn keep_real_time_to_this_thread() -> std::io::Result<bool> {
    // SAFETY: sched_getscheduler takes an integer and touches no memory of ours; 0 is this thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    if !matches!(policy & !libc::SCHED_RESET_ON_FORK, libc::SCHED_FIFO | libc::SCHED_RR) {
        return if policy < 0 { Err(std::io::Error::last_os_error()) } else { Ok(false) };
    }
    let mut parameters = with_priority(0);
    // SAFETY: `parameters` is a valid sched_param that outlives both calls; 0 is this thread.
    let done = unsafe {
        libc::sched_getparam(0, &raw mut parameters) == 0
            && libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &raw const parameters) == 0
    };
    if done { Ok(true) } else { Err(std::io::Error::last_os_error()) }
}

/// musl's has fields that glibc's has not.
fn with_priority(sched_priority: libc::c_int) -> libc::sched_param {
    // SAFETY: plain numbers, of which all zero is a value, in either C library.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = sched_priority;
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: sched_getscheduler takes an integer and touches no memory of ours; 0 is this thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn a_real_time_thread_makes_normal_threads_and_stays_what_it_is() {
        std::thread::spawn(|| {
            let parameters = with_priority(1);
            // SAFETY: `parameters` is a valid sched_param that outlives the call; 0 is this thread.
            let is_allowed = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } == 0;
            assert_eq!(keep_real_time_to_this_thread().expect("allowed"), is_allowed);
            let own = if is_allowed { libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK } else { libc::SCHED_OTHER };
            assert_eq!(policy(), own);
            assert_eq!(std::thread::spawn(policy).join().expect("it ends"), libc::SCHED_OTHER);
        })
        .join()
        .expect("it ends");
    }

    #[test]
    fn this_process_has_some_memory() {
        assert!(rss_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
