//! What a process is made of and nix has no call for: its session keyring, limits and domain name.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, umask};

use super::check;
use crate::error::{Context as _, Result};

/// What has to be so before anything else is done: the standard descriptors are open, so that no file that is opened later
/// takes the place of one, writing to a pipe that nobody reads is an error, not the end, and nobody asks for a backtrace, which
/// there are no tables for (build.rs).
///
/// The caller must have one thread.
///
/// # Errors
/// A standard descriptor is closed, and /dev/null cannot be opened in its place.
pub fn begin() -> Result<()> {
    let mut standard = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: the pointer and the length describe one array.
    check(unsafe { libc::poll(standard.as_mut_ptr(), 3, 0) }.into()).context("poll the standard streams")?;
    for closed in standard.iter().filter(|one| one.revents & libc::POLLNVAL != 0) {
        // SAFETY: the path is a C string. It gets the lowest free number.
        check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) }.into()).with_context(|| {
            let name = ["input", "output", "error"][closed.fd as usize % 3];
            format!("standard {name} is closed: open /dev/null in its place")
        })?;
    }
    for variable in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        // SAFETY: no other thread reads the environment (documented).
        unsafe { std::env::remove_var(variable) };
    }
    // The kernel reaps the children of a process that ignores their end, and nobody could wait for them.
    // SAFETY: no handler of ours is replaced or installed.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    // SAFETY: as above.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigIgn) }?;
    Ok(())
}

/// The umask that the commands begin with which this process starts; as its own is, if it has never
/// been set.
static UMASK_OF_COMMANDS: AtomicU32 = AtomicU32::new(u32::MAX);

/// Keeps what this process makes from being written by others (a umask of 0), and has it usable by
/// its owner (a umask of 0777). What a stricter umask denies to others stays denied, and commands
/// begin with the caller's.
pub fn restrict_umask() {
    let least = Mode::from_bits_truncate(0o022);
    let callers = umask(least);
    let needed = callers & Mode::from_bits_truncate(0o077) | least;
    if needed != least {
        umask(needed);
    }
    UMASK_OF_COMMANDS.store(callers.bits(), Ordering::Relaxed);
}

/// Sets the umask of this process and of the commands that it starts.
pub fn set_umask(mask: Mode) {
    umask(mask);
    UMASK_OF_COMMANDS.store(mask.bits(), Ordering::Relaxed);
}

/// Gives every signal its default meaning: what is ignored stays so in execve(2), and the caller's
/// choice is not the program's. A write to a pipe that nobody reads stays an error until then, by a
/// handler, which execve(2) takes away.
pub fn default_signals() -> nix::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    for signal in 1..=LAST_SIGNAL {
        if !matches!(signal, libc::SIGKILL | libc::SIGSTOP | libc::SIGPIPE) {
            set_default(signal)?;
        }
    }
    let handler = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGPIPE, &handler) }.map(drop)
}

/// The kernel's _NSIG; the C library refuses two of them that it uses itself.
const LAST_SIGNAL: libc::c_int = 64;

fn set_default(signal: libc::c_int) -> nix::Result<()> {
    // The kernel's struct sigaction, of which no architecture has more: handler, flags, restorer,
    // mask. SIG_DFL is 0.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK: usize = size_of::<u64>();
    let none: *const u64 = std::ptr::null();
    // SAFETY: the new action is readable in full, no old one is asked for, and no handler is
    // installed.
    check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), none, MASK) }).map(drop)
}

/// Has a command begin with every signal's default meaning, and with the umask that is not the
/// runtime's own.
pub fn begin_afresh(command: &mut Command) {
    let begin = || {
        match UMASK_OF_COMMANDS.load(Ordering::Relaxed) {
            u32::MAX => {}
            mask => drop(umask(Mode::from_bits_truncate(mask))),
        }
        default_signals().map_err(Into::into)
    };
    // SAFETY: it runs in a copy of this process and makes system calls only.
    unsafe { command.pre_exec(begin) };
}

/// Joins a new session keyring of this name (keyctl(2)), so that the container cannot read the caller's keys.
pub fn join_session_keyring(name: &CStr) -> nix::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the name is a valid C string for the duration of the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) }).map(drop)
}

/// struct __user_cap_header_struct of linux/capability.h, which libc has not.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

/// Version 3, of this process.
static OWN: CapabilityHeader = CapabilityHeader { version: 0x2008_0522, pid: 0 };

/// struct __user_cap_data_struct: one for the lower and one for the upper 32 bits.
#[repr(C)]
#[derive(Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets this process's effective, permitted and inheritable capabilities, a bit each (capset(2)).
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> nix::Result<()> {
    let half = |shift: u32| CapabilityData {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: both are what the kernel reads for this version: a header and two parts.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const OWN, data.as_ptr()) }).map(drop)
}

/// This process's permitted capabilities, a bit each (capget(2)).
pub fn permitted_capabilities() -> nix::Result<u64> {
    let mut header = CapabilityHeader { ..OWN }; // where another version is asked for, the kernel writes the one that it wants
    let mut data = [CapabilityData::default(), CapabilityData::default()];
    // SAFETY: both are what the kernel reads and writes for this version: a header and two parts.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(u64::from(data[1].permitted) << 32 | u64::from(data[0].permitted))
}

/// Takes the capability of this number out of this process's bounding set (PR_CAPBSET_DROP); EINVAL: the kernel knows none.
pub fn drop_from_bounding_set(capability: u8) -> nix::Result<()> {
    // SAFETY: the call takes a number.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability)) }.into()).map(drop)
}

/// Is the capability of this number in this process's bounding set (PR_CAPBSET_READ)?
pub fn is_in_bounding_set(capability: u8) -> nix::Result<bool> {
    // SAFETY: the call takes a number.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability)) }.into()).map(|is| is != 0)
}

/// Sets a resource limit of another process (prlimit(2)); `resource` is an RLIMIT_* number.
pub fn set_limit(pid: libc::pid_t, resource: libc::c_int, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let old: *mut libc::rlimit64 = std::ptr::null_mut();
    // SAFETY: the new limit is a valid struct and a null old limit asks for nothing.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, old) }).map(drop)
}

/// Returns the hard limit of another process (prlimit(2)), 0 for the caller's own.
pub fn hard_limit(pid: libc::pid_t, resource: libc::c_int) -> nix::Result<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new: *const libc::rlimit64 = std::ptr::null();
    // SAFETY: the kernel writes one struct, and a null new limit sets nothing.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, new, &raw mut limit) })?;
    Ok(limit.rlim_max)
}

/// setdomainname(2).
pub fn set_domain_name(name: &str) -> nix::Result<()> {
    // SAFETY: the pointer and the length describe one string.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// Overwrites this process's environment with zeroes, for a copy of it that others may read (/proc/<pid>/environ, mem).
///
/// The caller must have one thread.
pub fn forget_environment() {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    // SAFETY: the C library's array of writable C strings ends in null, and no other thread uses it (documented).
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            std::ptr::write_bytes(*entry, 0, libc::strlen(*entry));
            entry = entry.add(1);
        }
    }
}

/// Replaces this program by the one behind a descriptor (execveat(2) with AT_EMPTY_PATH).
pub fn execute(program: BorrowedFd<'_>, args: &[&CStr], env: &[&CStr]) -> Errno {
    let args: Vec<_> = args.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
    let env: Vec<_> = env.iter().map(|var| var.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: both arrays end in null and point to C strings that live until the call returns, which is on failure only.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Errno::last()
}

/// Replaces this program (execve(2)); returns only when that failed.
pub fn execve(program: &CStr, args: &[*const libc::c_char], env: &[*const libc::c_char]) -> Errno {
    debug_assert!(args.last().is_some_and(|last| last.is_null()) && env.last().is_some_and(|last| last.is_null()));
    // SAFETY: both arrays end in null (built by `pointers`) and point to C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Errno::last()
}

/// The null-terminated array of pointers that execve(2) takes. The strings must outlive it.
pub fn pointers(strings: &[std::ffi::CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// The CLONE_NEW* flag of the namespace behind a descriptor (NS_GET_NSTYPE, Linux 4.11).
pub fn namespace_type(namespace: BorrowedFd<'_>) -> nix::Result<libc::c_int> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the descriptor is open; this request takes no argument.
    check(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE) }.into()).map(|flag| flag as libc::c_int)
}

/// Has these signals end this process, unless they are ignored: the first process of a pid namespace gets none that it has
/// no handler for. execve(2) takes the handlers away.
pub fn end_on(signals: &[Signal]) -> nix::Result<()> {
    extern "C" fn end(signal: libc::c_int) {
        exit(128 + signal)
    }
    let handler = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    for &signal in signals {
        // SAFETY: the handler makes one call, _exit, which is async-signal-safe.
        let before = unsafe { sigaction(signal, &handler) }?;
        if matches!(before.handler(), SigHandler::SigIgn) {
            // SAFETY: it was in force a moment ago, and is no handler.
            unsafe { sigaction(signal, &before) }?;
        }
    }
    Ok(())
}

/// The C library's words for a signal.
pub fn signal_words(signal: libc::c_int) -> String {
    // SAFETY: strsignal takes any number; what it returns is a C string that lives until the next call, in this thread.
    let words = unsafe { libc::strsignal(signal) };
    if words.is_null() {
        return format!("signal {signal}");
    }
    // SAFETY: as above, and not null.
    unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
}

/// Ends this process at once: a copy of the parent must not run what the parent registered for its own exit.
pub fn exit(status: libc::c_int) -> ! {
    // SAFETY: _exit takes any status and never returns.
    unsafe { libc::_exit(status) }
}

/// The user id that made the user namespace behind a descriptor (NS_GET_OWNER_UID, Linux 4.11).
pub fn user_namespace_owner(namespace: BorrowedFd<'_>) -> nix::Result<u32> {
    const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;
    let mut owner: libc::uid_t = 0;
    // SAFETY: the descriptor is open, and the request writes one uid_t to the place that it is given.
    check(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID, &raw mut owner) }.into())?;
    Ok(owner)
}

/// Opens the user namespace above the one behind a descriptor (NS_GET_PARENT, Linux 4.9).
///
/// # Errors
/// EPERM if that one is not the caller's or below it.
pub fn parent_user_namespace(namespace: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    const NS_GET_PARENT: libc::c_ulong = 0xb702;
    // SAFETY: the descriptor is open; this request takes no argument.
    let parent = check(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) }.into())?;
    // SAFETY: the kernel has just made the descriptor (close-on-exec) for this call alone; it fits an int.
    Ok(unsafe { OwnedFd::from_raw_fd(parent as libc::c_int) })
}
