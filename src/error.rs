//! Errors: one line that names the phase, the object and what the kernel said.
//!
//! A leaf is what failed (`open "/x"`), each caller adds what it was for (`linux.maskedPaths`); the line reads from the
//! outside in: `linux.resources.memory.limit: write "4096" to memory.max of /sys/fs/cgroup/x: Device or resource busy`.

use std::fmt::Write as _;

use nix::errno::Errno;

pub use anyhow::{Context, Error, Result, anyhow, bail, ensure};

/// Writes an error and its causes as one line, outermost first, with the kernel's own words for an errno.
pub fn one_line(error: &Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        if !line.is_empty() {
            line.push_str(": ");
        }
        match errno_of(cause) {
            Some(errno) => line.push_str(&words(errno)),
            None => {
                let _ = write!(line, "{cause}"); // writing to a String cannot fail
            }
        }
    }
    line.replace('\n', " ")
}

/// The C library's words for an errno, as strerror(3) gives them.
pub fn words(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    match text.rfind(" (os error") {
        Some(number) => text[..number].to_owned(),
        None => text,
    }
}

/// The errno at the bottom of an error's chain, if a system call is what failed.
pub fn errno(error: &Error) -> Option<Errno> {
    error.chain().find_map(errno_of)
}

fn errno_of(cause: &(dyn std::error::Error + 'static)) -> Option<Errno> {
    if let Some(errno) = cause.downcast_ref::<Errno>() {
        return Some(*errno);
    }
    let raw = cause.downcast_ref::<std::io::Error>()?.raw_os_error()?;
    Some(Errno::from_raw(raw))
}

/// The errno in an error of pathrs.
pub fn pathrs_errno(error: &pathrs::error::Error) -> Option<Errno> {
    match error.kind() {
        pathrs::error::ErrorKind::OsError(Some(errno)) => Some(Errno::from_raw(errno)),
        _ => None,
    }
}

/// An error of pathrs as its errno alone, so that it reads and is matched like any other.
pub fn from_pathrs(error: pathrs::error::Error) -> Error {
    match pathrs_errno(&error) {
        Some(errno) => errno.into(),
        None => Error::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_from_the_outside_in_and_ends_in_the_kernels_words() {
        let error = Error::new(Errno::EBUSY)
            .context("write \"4096\" to memory.max of /sys/fs/cgroup/x")
            .context("linux.resources.memory.limit");
        assert_eq!(
            one_line(&error),
            "linux.resources.memory.limit: write \"4096\" to memory.max of /sys/fs/cgroup/x: Device or resource busy"
        );
        assert_eq!(errno(&error), Some(Errno::EBUSY));
    }

    #[test]
    fn an_io_error_reads_like_an_errno_and_a_line_break_is_folded() {
        let error = Error::new(std::io::Error::from_raw_os_error(libc::ENOENT)).context("open\n\"/x\"");
        assert_eq!(one_line(&error), "open \"/x\": No such file or directory");
    }
}
