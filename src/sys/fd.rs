//! Descriptors: pidfds, waiting for them, and closing what must not reach the container.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use super::check;

/// Closes every descriptor from `first` on that is not one of those kept (Linux 5.9). For a process that never gets back
/// to where their owners would close them again.
pub fn close_from(first: RawFd, kept: &[RawFd]) -> nix::Result<()> {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut from = first;
    for fd in kept.into_iter().filter(|&fd| fd >= first) {
        if from < fd {
            close_range(from as libc::c_uint, (fd - 1) as libc::c_uint)?;
        }
        from = fd + 1;
    }
    close_range(from as libc::c_uint, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> nix::Result<()> {
    // SAFETY: no pointers are passed. The owners of what is closed are never dropped, as the callers have it.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// What [`flock`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlockOperation {
    /// Locks, and waits until no other open file has the lock.
    Exclusive,
    /// Locks, or fails at once with EWOULDBLOCK.
    TryExclusive,
    /// Locks together with others that do so, or fails at once with EWOULDBLOCK.
    TryShared,
    /// Gives the lock up, whoever has a copy of the descriptor.
    Unlock,
}

/// flock(2) on an open file.
pub fn flock(file: BorrowedFd<'_>, operation: FlockOperation) -> nix::Result<()> {
    let operation = match operation {
        FlockOperation::Exclusive => libc::LOCK_EX,
        FlockOperation::TryExclusive => libc::LOCK_EX | libc::LOCK_NB,
        FlockOperation::TryShared => libc::LOCK_SH | libc::LOCK_NB,
        FlockOperation::Unlock => libc::LOCK_UN,
    };
    // SAFETY: no pointers are passed.
    check(unsafe { libc::flock(file.as_raw_fd(), operation) }.into()).map(drop)
}

/// A pidfd of a running process (Linux 5.3), close-on-exec.
pub fn pidfd_open(pid: libc::pid_t) -> nix::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: pidfd_open returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Kills a child and waits until it is gone; one that is gone already is as good.
pub fn end_child(pidfd: BorrowedFd<'_>) {
    match pidfd_send_signal(pidfd, libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        // It may live on, and would be waited for without end.
        Err(_) => return,
    }
    let _ = waitid(Id::PIDFd(pidfd), WaitPidFlag::WEXITED);
}

/// Sends a signal, by number so that real-time signals work, to the very process that the pidfd was opened for.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> nix::Result<()> {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null siginfo is what kill(2) would pass.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) }).map(drop)
}

/// Sends a signal to one process by its id, by number so that real-time signals work.
pub fn kill(pid: libc::pid_t, signal: libc::c_int) -> nix::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Writes bytes at once to a descriptor by its number, which need not be open. write(2) is the one call that every usable
/// seccomp profile allows; what there is to say of an unusable one may get through by another.
pub fn write_by_any_call(fd: RawFd, bytes: &[u8]) -> nix::Result<()> {
    // SAFETY: the pointer and the length describe one slice; a number that is not open is EBADF.
    let written = Errno::result(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) });
    let Err(errno) = written else { return Ok(()) };
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: as above; the call only reads what the one part describes.
    if unsafe { libc::writev(fd, &raw const part, 1) } >= 0 {
        return Ok(());
    }
    // SAFETY: as above.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    Errno::result(sent).map(drop).map_err(|_| errno)
}

/// Reads one byte, or the end, as [`write_by_any_call`] writes.
pub fn read_byte_by_any_call(fd: BorrowedFd<'_>) -> nix::Result<()> {
    let mut byte = [0u8];
    // SAFETY: the buffer has room for the one byte that is asked for.
    let read = Errno::result(unsafe { libc::read(fd.as_raw_fd(), byte.as_mut_ptr().cast(), 1) });
    match read {
        Ok(_) | Err(Errno::EINTR) => return read.map(drop),
        Err(_) => {}
    }
    let part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: as above.
    Errno::result(unsafe { libc::readv(fd.as_raw_fd(), &raw const part, 1) }).map(drop)
}

/// Returns whether this process was handed a descriptor of that number (`--preserve-fds`, LISTEN_FDS). Those that it has
/// opened itself are close-on-exec.
pub fn is_handed_over(fd: libc::c_int) -> bool {
    // SAFETY: F_GETFD only reads a flag, and fails on a descriptor that is not open.
    unsafe { libc::fcntl(fd, libc::F_GETFD) == 0 }
}
