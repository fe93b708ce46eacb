//! How many files the agent may have open, and what to do when they are too few.

use std::io;

/// errno(3), the same for every Linux: of this process, and of the whole machine.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// What a person can do about an error that says that no more files may be open; `None` for any other error.
#[must_use]
pub fn out_of_files(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error() {
        Some(EMFILE) => {
            Some("let the agent open more files: LimitNOFILE= in its unit (systemctl edit v2g-edge), or ulimit -n")
        }
        Some(ENFILE) => {
            Some("the whole machine has too many files open: look who has them (lsof), or raise fs.file-max")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_of_too_many_files_has_that_cure() {
        let cure = |code| out_of_files(&io::Error::from_raw_os_error(code));
        assert!(cure(EMFILE).is_some_and(|cure| cure.contains("LimitNOFILE")));
        assert!(cure(ENFILE).is_some_and(|cure| cure.contains("file-max")));
        assert_eq!((cure(2), out_of_files(&io::Error::other("x"))), (None, None));
    }
}
