//! clone3(2): one call makes init in its namespaces, in its cgroup, with a pidfd.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::heap;

/// Which of the two processes is running after [`fork`].
#[derive(Debug)]
pub enum Side {
    /// The caller, with the new process's id in the caller's pid namespace and a pidfd (close-on-exec).
    Parent(libc::pid_t, OwnedFd),
    /// The new process.
    Child,
}

/// The flags of [`fork_sibling`], for who has to know whether a seccomp filter allows them.
pub const SIBLING: u64 = libc::CLONE_PARENT as u64;

/// Forks by clone(2), which profiles allow that do not know clone3(2). The new process is a child of the caller's parent
/// (CLONE_PARENT). Returns its id in the caller's pid namespace, and `None` in the new process.
///
/// The caller must have one thread: the child goes on in a copy of its memory.
pub fn fork_sibling() -> nix::Result<Option<libc::pid_t>> {
    // SAFETY: no stack is given and CLONE_VM is not set, so this is a fork: the child has its own copy of all memory. No
    // flag makes the kernel use the pointers. The caller is single-threaded (documented).
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, SIBLING, 0, 0, 0, 0) })?;
    heap::after_fork();
    Ok((pid != 0).then_some(pid as libc::pid_t))
}

/// Forks with namespace flags; `cgroup` is a directory of the v2 hierarchy to be born in (CLONE_INTO_CGROUP, Linux 5.7),
/// `sibling` makes the new process a child of the caller's parent (CLONE_PARENT).
///
/// The caller must have one thread: the child goes on in a copy of its memory.
pub fn fork(namespaces: CloneFlags, cgroup: Option<BorrowedFd<'_>>, sibling: bool) -> nix::Result<Side> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is a plain struct of integers, for which all zeroes is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces.bits() as u32 as u64 | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    if sibling {
        // The exit signal is the parent's own with CLONE_PARENT and must be left out.
        args.flags |= libc::CLONE_PARENT as u64;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no stack is given and CLONE_VM is not set, so this is a fork: the child has its own copy of all memory.
    // The caller is single-threaded (documented), so no lock can be held by a thread that is missing in the child.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    let pid = Errno::result(pid)?;
    heap::after_fork();
    match pid {
        0 => Ok(Side::Child),
        // SAFETY: the kernel stored a new descriptor, which nothing else owns, before it returned in the parent.
        pid => Ok(Side::Parent(pid as libc::pid_t, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}
