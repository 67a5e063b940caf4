//! The host's mounts as a user namespace's root has to see them: in a copy of the host's mount namespace that belongs to
//! another user namespace the kernel locks what the host has set (mount_namespaces(7), "Restrictions on mount namespaces").
//! What is cloned out of it keeps the locks: the container's root can neither make a read-only mount of the host's writable
//! nor take away a mount that hides something. A clone out of the host's own namespace has none.

use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{fchdir, getpid, getppid, pause};

use crate::error::{Context as _, Result};
use crate::sys::clone::{Side, fork};
use crate::sys::fd::end_child;
use crate::sys::process::exit;

/// Does something in such a copy, with the privileges of this process, which needs CAP_SYS_ADMIN on the host.
pub fn within<T>(something: impl FnOnce() -> Result<T>) -> Result<T> {
    let path =
        |path, flags| open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).with_context(|| format!("open {path}"));
    let (own, cwd) = (path("/proc/self/ns/mnt", OFlag::O_RDONLY)?, path(".", OFlag::O_PATH)?);
    let holder = Holder::new().context("clone a holder of the host's mounts")?;
    setns(&holder.0, CloneFlags::CLONE_NEWNS).context("enter a copy of the host's mounts")?;
    let done = something();
    setns(own, CloneFlags::CLONE_NEWNS).context("return to the own mount namespace")?;
    fchdir(cwd).context("return to the working directory")?;
    done
}

/// A process that does nothing but to hold the copy.
struct Holder(OwnedFd);

impl Holder {
    fn new() -> nix::Result<Self> {
        let parent = getpid();
        match fork(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS, None, false)? {
            Side::Parent(_, pidfd) => Ok(Self(pidfd)),
            Side::Child => {
                let _ = prctl::set_death_signal(Signal::SIGKILL as isize).map_err(Errno::from_raw);
                while getppid() == parent {
                    pause();
                }
                exit(0)
            }
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        end_child(self.0.as_fd());
    }
}
