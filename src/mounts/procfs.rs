//! A procfs of the runtime's own, for what it writes there once the container's root is its root: the container's /proc may
//! be missing, covered, or another filesystem (CVE-2019-16884, CVE-2025-52881).

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::PROC_SUPER_MAGIC;

use super::destination::PROC_ROOT_INODE;
use super::filesystem;
use crate::error::{Context as _, Result, ensure};
use crate::sys::mount::{clone_tree, filesystem_type};

/// The root of a procfs.
#[derive(Debug)]
pub struct Procfs(OwnedFd);

impl Procfs {
    /// Opens a procfs that is attached nowhere, so that nothing covers a part of it. The kernel gives a new one to a user
    /// namespace only where it sees a whole one already: then it is the container's own, without what is mounted on it.
    ///
    /// # Errors
    /// There is none at all, or something else is in its place.
    pub fn new() -> Result<Self> {
        let procfs = match filesystem::open("proc", "proc", &[], 0) {
            Ok(new) => new,
            Err(error) => of_the_container().map_err(|_| error)?,
        };
        let is_procfs = filesystem_type(procfs.as_fd()).context("statfs")? == PROC_SUPER_MAGIC
            && fstat(&procfs).context("stat")?.st_ino == PROC_ROOT_INODE;
        ensure!(is_procfs, "/proc is not a procfs");
        Ok(Self(procfs))
    }

    /// Opens a file below it for writing. The kernel's own links are followed (`thread-self`), and no mount is entered.
    ///
    /// # Errors
    /// Those of openat2(2); EXDEV for a path that leads out.
    pub fn write_to(&self, path: &Path) -> nix::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let within = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let file = match openat2(&self.0, path, OpenHow::new().flags(flags).resolve(within)) {
            // Before Linux 5.6: what is attached nowhere has nothing mounted on it.
            Err(Errno::ENOSYS) => openat(&self.0, path, flags, Mode::empty()),
            result => result,
        };
        file.map(File::from)
    }
}

fn of_the_container() -> nix::Result<OwnedFd> {
    match clone_tree(AT_FDCWD, c"/proc", false) {
        // What is mounted on it is locked: it is left where it is, and not entered.
        Err(Errno::EINVAL) => open("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_beyond_it_is_opened() {
        let Ok(procfs) = open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map(Procfs) else { return };
        assert!(procfs.write_to(Path::new("thread-self/comm")).is_ok());
        for path in ["self/root/etc/passwd", "../etc/passwd", "/proc/self/comm"] {
            assert!(procfs.write_to(Path::new(path)).is_err(), "{path}");
        }
    }
}
