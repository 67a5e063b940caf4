//! seccomp(2), the notification fd, and the kernel's identity for the filter cache.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// Logs every action but ALLOW (Linux 4.14).
pub const FILTER_FLAG_LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
/// Leaves the speculative store bypass mitigation off (Linux 4.17).
pub const FILTER_FLAG_SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
/// Returns a notification fd (Linux 5.0).
pub const FILTER_FLAG_NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
/// A notified process that waits for its answer dies of fatal signals only (Linux 5.19).
pub const FILTER_FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The bytes of one classic BPF instruction (`struct sock_filter`).
pub const INSTRUCTION: usize = size_of::<libc::sock_filter>();

/// Installs a filter on the calling thread: `program` is an array of `struct sock_filter` in the machine's byte order.
/// Makes this one system call and allocates nothing. Returns the notification fd if `FILTER_FLAG_NEW_LISTENER` is set.
///
/// # Errors
/// The errno of seccomp(2): EACCES without no_new_privs and CAP_SYS_ADMIN, EINVAL for a program or flag that the
/// kernel refuses, EBUSY when a filter with a listener is installed already.
pub fn set_mode_filter(flags: u32, program: &[u8]) -> nix::Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len() / INSTRUCTION).map_err(|_| Errno::EINVAL)?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: fprog and the `len` instructions it points to outlive the call; the kernel only reads them, bytewise.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&fprog)) };
    let fd = Errno::result(result)?;
    if flags & FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with NEW_LISTENER a result that is no error is a new fd that nobody else owns; fds fit an i32.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
}

/// Whether the kernel knows these filter flags: it looks at them before it reads the program, so a known flag with no
/// program gives EFAULT.
pub fn flags_supported(flags: u32) -> bool {
    let nothing = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: a null program installs nothing, the call cannot succeed.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, nothing) };
    Errno::result(result) == Err(Errno::EFAULT)
}

/// Duplicates the fd `fd` of the process `pidfd` into this one, close-on-exec (Linux 5.6).
///
/// # Errors
/// The errno of pidfd_getfd(2): EPERM without ptrace access, EBADF, ESRCH.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, fd: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: three integers go in, a new fd that nobody else owns comes out.
    unsafe {
        let result = libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0);
        Ok(OwnedFd::from_raw_fd(Errno::result(result)? as RawFd))
    }
}

/// Appends the kernel's release and build (`uname -rv`) to `to`: one cheap call that changes whenever the set of
/// seccomp actions can.
pub fn append_kernel_build(to: &mut Vec<u8>) {
    // SAFETY: utsname is plain bytes, all zeroes is a value of it.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: name is valid for writing; uname(2) fails for a bad address only, and then the fields stay empty.
    unsafe { libc::uname(&mut name) };
    for field in [&name.release, &name.version] {
        to.extend(field.iter().take_while(|&&c| c != 0).map(|&c| c as u8));
        to.push(0);
    }
}

#[cfg(test)]
pub(crate) mod child {
    //! Forked children for tests that load real filters.

    use std::io::IoSliceMut;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
    use std::os::unix::net::UnixStream;

    use nix::errno::Errno;
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, Pid, fork};

    /// Forks a child that runs `act` and exits with its result. The test harness has threads: `act` must not allocate.
    pub(crate) fn spawn(act: impl FnOnce() -> i32) -> Pid {
        // SAFETY: the child makes system calls only, and ends by _exit.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                // SAFETY: integers only; a child that dies of SIGSYS shall leave no core file.
                unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
                let code = act();
                // SAFETY: ends the child without running the harness's exit handlers.
                unsafe { libc::_exit(code) }
            }
        }
    }

    /// Runs `act` in a child to its end.
    pub(crate) fn run(act: impl FnOnce() -> i32) -> WaitStatus {
        waitpid(spawn(act), None).unwrap()
    }

    /// One system call: 0 or its errno.
    pub(crate) fn call(number: libc::c_long, args: [u64; 3]) -> i32 {
        // SAFETY: the tests pass calls that touch no memory: invalid addresses, or integers only.
        match unsafe { libc::syscall(number, args[0], args[1], args[2]) } {
            -1 => Errno::last_raw(),
            _ => 0,
        }
    }

    /// Makes SIGSYS end the process with the status `code`: a trapped call then differs from a killed one.
    pub(crate) fn exit_on_sigsys() {
        extern "C" fn leave(_: libc::c_int) {
            // SAFETY: _exit is async-signal-safe.
            unsafe { libc::_exit(TRAPPED) }
        }
        // SAFETY: the handler only calls _exit.
        unsafe { libc::signal(libc::SIGSYS, leave as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }

    /// A pidfd of a child.
    pub(crate) fn pidfd(pid: Pid) -> OwnedFd {
        // SAFETY: integers go in, a new fd that nobody else owns comes out.
        unsafe { OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) as RawFd) }
    }

    /// One message with one fd.
    pub(crate) fn receive(connection: &UnixStream) -> (Vec<u8>, OwnedFd) {
        let mut buffer = vec![0; 65536];
        let mut control = nix::cmsg_space!([RawFd; 1]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()).unwrap();
        let length = message.bytes;
        let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else { panic!("no fd") };
        // SAFETY: the kernel has just made this fd for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fds[0]) };
        buffer.truncate(length);
        (buffer, fd)
    }

    /// The exit status of a child whose SIGSYS handler ran.
    pub(crate) const TRAPPED: i32 = 177;
}
