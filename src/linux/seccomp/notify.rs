//! `linux.seccomp.listenerPath`: the agent that answers notified system calls gets their fd.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::socket::UnixAddr;
use oci_spec::runtime::{ContainerProcessState, LinuxSeccomp, SECCOMP_FD_NAME, State};

use crate::error::{Context, Result, bail};
use crate::sys::peer::Peer;
use crate::sys::seccomp::pidfd_getfd;

/// Takes the notification fd `fd` out of the process that loaded the filter. The process only has to write the number:
/// write(2) is the one call that a profile cannot have notified, sendmsg(2) with the fd in it could wait for an agent
/// that does not have the fd yet.
///
/// # Errors
/// pidfd_getfd(2) (Linux 5.6) with its errno.
pub fn take(pidfd: BorrowedFd<'_>, fd: RawFd) -> Result<OwnedFd> {
    pidfd_getfd(pidfd, fd).with_context(|| format!("linux.seccomp: pidfd_getfd {fd}"))
}

/// Sends the notification fd to `listenerPath` with the container process state (config-linux.md, "The Container
/// Process State"): one connection, one state. `pid` is the process that loaded the filter (exec's, not `state`'s, for
/// exec), `pidfd` ends the wait for a listener that does not read. A relative path starts at the bundle, `@name` is an abstract address, as with runc.
///
/// # Errors
/// The listener cannot be reached or hangs up.
pub fn hand_over(
    seccomp: &LinuxSeccomp,
    notify_fd: impl AsFd,
    (pid, pidfd): (i32, BorrowedFd<'_>),
    state: &State,
) -> Result<()> {
    let Some(path) = seccomp.listener_path() else {
        bail!("linux.seccomp.listenerPath is not set");
    };
    let address = match path.as_os_str().as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name),
        _ => UnixAddr::new(&state.bundle().join(path)),
    };
    let agent = || format!("linux.seccomp.listenerPath: failed to connect with seccomp agent {}", path.display());
    let address = address.with_context(agent)?;
    let peer = Peer::connect(&address, pidfd).with_context(agent)?;

    let mut message = ContainerProcessState::default();
    message.set_version(state.version().clone()).set_fds(vec![SECCOMP_FD_NAME.to_owned()]).set_pid(pid);
    message.set_metadata(seccomp.listener_metadata().clone()).set_state(state.clone());
    let message = serde_json::to_vec(&message).context("encode the container process state")?;
    peer.send(&message, notify_fd.as_fd())
        .with_context(|| format!("linux.seccomp.listenerPath: send the seccomp fd to {}", path.display()))
}
