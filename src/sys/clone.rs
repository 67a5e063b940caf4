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

/// A fork that the new process cannot repeat, for a seccomp filter that allows this one form of
/// clone(2) alone.
///
/// The kernel stores the new process's pidfd at an address that is a page of the caller's. The new
/// process does not have that page (MADV_DONTFORK), so the same call is EFAULT for it, whoever
/// controls it.
#[derive(Debug)]
pub struct OnlyFork {
    flags: u64,
    page: std::ptr::NonNull<libc::c_void>,
}

/// No kernel has smaller pages, and it rounds up.
const PAGE: usize = 4096;

impl OnlyFork {
    /// Prepares a fork with namespace flags.
    pub fn new(namespaces: CloneFlags) -> nix::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, access, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let page = std::ptr::NonNull::new(page).ok_or(Errno::ENOMEM)?;
        let flags = u64::from(namespaces.bits() as u32) | libc::CLONE_PIDFD as u64 | libc::SIGCHLD as u64;
        Ok(Self { flags, page })
    }

    /// Returns the first argument of the call.
    pub fn flags(&self) -> u64 {
        self.flags
    }

    /// Returns the third argument of the call.
    pub fn address(&self) -> u64 {
        self.page.as_ptr() as u64
    }

    /// Takes the page out of what is forked from now on. Before a filter that refuses madvise(2).
    pub fn seal(&self) -> nix::Result<()> {
        // SAFETY: the page is this object's own; its content stays in this process.
        Errno::result(unsafe { libc::madvise(self.page.as_ptr(), PAGE, libc::MADV_DONTFORK) }).map(drop)
    }

    /// Forks. The new process must not drop its copy of this object.
    ///
    /// The caller must have one thread: the child goes on in a copy of its memory.
    pub fn fork(&self) -> nix::Result<Side> {
        let pidfd = self.page.as_ptr().cast::<libc::c_int>();
        // SAFETY: no stack is given and CLONE_VM is not set, so this is a fork: the child has its
        // own copy of all other memory. The third argument is where the kernel stores the pidfd; a
        // page that is missing is EFAULT. The caller is single-threaded (documented).
        let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, self.flags, 0, pidfd, 0, 0) })?;
        heap::after_fork();
        match pid {
            0 => Ok(Side::Child),
            // SAFETY: in the caller the page is mapped, and the kernel has stored a new descriptor
            // there, which nothing else owns.
            pid => Ok(Side::Parent(pid as libc::pid_t, unsafe { OwnedFd::from_raw_fd(pidfd.read()) })),
        }
    }
}

impl Drop for OnlyFork {
    fn drop(&mut self) {
        // SAFETY: the page is this object's own, and no reference to it is left.
        unsafe { libc::munmap(self.page.as_ptr(), PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::WaitStatus;

    use super::*;
    use crate::sys::process::exit;
    use crate::sys::seccomp::child;

    #[test]
    fn a_fork_that_cannot_be_repeated_is_efault_in_the_child() {
        let only = OnlyFork::new(CloneFlags::empty()).unwrap();
        let maker = || {
            if only.seal().is_err() {
                return 1;
            }
            match only.fork() {
                Ok(Side::Child) => exit(if only.fork().is_err_and(|errno| errno == Errno::EFAULT) { 7 } else { 2 }),
                Ok(Side::Parent(pid, _)) => match nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None) {
                    Ok(WaitStatus::Exited(_, code)) => code,
                    _ => 3,
                },
                Err(_) => 4,
            }
        };
        assert!(matches!(child::run(maker), WaitStatus::Exited(_, 7)));
    }
}
