//! The program enters a container only from a file that cannot be written: /proc/<pid>/exe of a process in a container
//! leads to the runtime on the host, and overwriting it there would be root on the next start (CVE-2019-5736).
//!
//! The program runs on from a detached read-only clone of its own mount, by exchanging the file beneath itself. Where that is
//! refused it executes itself from the clone, or, where that is refused, from a sealed copy in memory.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use caps::CapSet;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, stat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::FsFlags;
use nix::unistd::geteuid;

use crate::error::{Context as _, Result};
use crate::sys::exe_file::exchange;
use crate::sys::mount::{Attributes, attr, clone_tree, set_attributes};
use crate::sys::process::execute;
use crate::timing;

/// It was found out that it is: the second who asks need not look.
static SEALED: AtomicBool = AtomicBool::new(false);

/// The clone that the program runs from, as long as somebody holds it in hand.
static CLONE: Mutex<Option<OwnedFd>> = Mutex::new(None);

const SELF: &str = "/proc/self/exe";

/// Makes sure that this program cannot be written; returns when it cannot, having executed itself once if there is no other
/// way. There must be one thread.
pub fn ensure_sealed() -> Result<()> {
    if !SEALED.load(Ordering::Relaxed) && !is_beyond_reach()? {
        seal()?;
    }
    SEALED.store(true, Ordering::Relaxed);
    Ok(())
}

fn seal() -> Result<()> {
    let began = timing::is_asked().then(timing::now);
    let exe = open(SELF, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).with_context(|| format!("open {SELF}"))?;
    if is_sealed(&exe)? {
        return Ok(());
    }
    let sealed = match read_only_clone(&exe) {
        Ok(clone) => match run_from(&clone) {
            Ok(()) => {
                hold(Some(clone));
                began.into_iter().for_each(timing::began);
                return Ok(());
            }
            // A kernel without checkpoint and restore, or a security module.
            Err(_) => clone,
        },
        // No CAP_SYS_ADMIN, or a seccomp profile around the runtime itself.
        Err(_) => sealed_copy().context("copy the program to memory")?,
    };
    execute_again(&sealed, began)
}

/// Executes this program with its own arguments from another file; comes back only if that fails.
fn execute_again(sealed: &OwnedFd, began: Option<u64>) -> Result<()> {
    let begin = began.map(|began| OsString::from(format!("{}={began}", timing::BEGIN)));
    let c_string = |string: OsString| CString::new(string.into_vec());
    let args: Vec<CString> = std::env::args_os().map(c_string).collect::<std::result::Result<_, _>>()?;
    let env: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| name != timing::BEGIN)
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            c_string(name)
        })
        .chain(begin.map(c_string))
        .collect::<std::result::Result<_, _>>()?;
    let args: Vec<_> = args.iter().map(CString::as_c_str).collect();
    let env: Vec<_> = env.iter().map(CString::as_c_str).collect();
    let errno = execute(sealed.as_fd(), &args, &env);
    Err(errno).context("execute the sealed program")
}

/// Closes the clone, which the program runs on from all the same. The last one to close a detached mount waits for all
/// processors (synchronize_rcu_expedited in the kernel's namespace_unlock): so the process in the container does it first of
/// all, when it is not the last, and the parent when it would only wait.
pub fn let_go() {
    hold(None);
}

fn hold(clone: Option<OwnedFd>) {
    // There is one thread: nobody can have panicked with it.
    if let Ok(mut held) = CLONE.lock() {
        *held = clone;
    }
}

fn is_sealed(exe: &OwnedFd) -> Result<bool> {
    let filesystem = fstatfs(exe).with_context(|| format!("statfs {SELF}"))?;
    if filesystem.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(true);
    }
    if filesystem.filesystem_type() != TMPFS_MAGIC {
        return Ok(false); // only a file in memory can have seals
    }
    let exe = open(SELF, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).with_context(|| format!("open {SELF}"))?;
    let seals = fcntl(&exe, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate);
    Ok(seals.is_ok_and(|seals| seals.contains(SealFlag::F_SEAL_WRITE)))
}

/// An ordinary user cannot write a file of root's, and can put no id of root's into a container: who is root there has only
/// the user's own id and those that root has set aside for the user. It saves every such start a copy of the program.
fn is_beyond_reach() -> Result<bool> {
    if geteuid().is_root() || !caps::read(None, CapSet::Permitted).context("capget")?.is_empty() {
        return Ok(false);
    }
    let file = stat(SELF).with_context(|| format!("stat {SELF}"))?;
    // An access control list that lets somebody write shows in the group's bits.
    let writable = Mode::from_bits_truncate(file.st_mode).intersects(Mode::S_IWGRP | Mode::S_IWOTH);
    Ok(file.st_uid == 0 && !writable)
}

fn read_only_clone(exe: &OwnedFd) -> Result<OwnedFd, Errno> {
    let clone = clone_tree(exe.as_fd(), c"", false)?;
    set_attributes(clone.as_fd(), &Attributes { set: attr::RDONLY, ..Attributes::default() }, false)?;
    Ok(clone)
}

/// Executing the program once more would be a second start of a process: a tenth of a container's.
fn run_from(clone: &OwnedFd) -> io::Result<()> {
    let file = File::open(format!("/proc/self/fd/{}", clone.as_raw_fd()))?;
    exchange(file.as_fd())
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let memory = memfd_create(c"tare", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut copy = File::from(memory);
    io::copy(&mut File::open(SELF)?, &mut copy)?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_copy_in_memory_cannot_be_written() {
        let mut copy = File::from(sealed_copy().unwrap());
        assert_eq!(copy.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn a_read_only_clone_cannot_be_opened_for_writing() {
        let exe = open(SELF, OFlag::O_PATH, Mode::empty()).unwrap();
        let Ok(clone) = read_only_clone(&exe) else {
            println!("skipped: open_tree is not permitted here");
            return;
        };
        let path = format!("/proc/self/fd/{}", clone.as_raw_fd());
        let error = File::options().write(true).open(path).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EROFS | libc::ETXTBSY)), "{error}");
    }
}
