//! Making a process that goes into a container: one clone3, with its namespaces and, on cgroup v2, in its cgroup.

use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;

use crate::cgroups::Entry;
use crate::error::{Context as _, Result};
use crate::sys::clone::{Side, fork};

/// A process in a container, as the parent knows it.
#[derive(Debug)]
pub struct Process {
    /// Its id in the parent's pid namespace.
    pub pid: i32,
    /// The process itself: unlike the id it cannot come to mean another.
    pub pidfd: OwnedFd,
}

/// Starts a process that runs `story` in a copy of this process's memory.
pub fn spawn(namespaces: CloneFlags, cgroup: &Entry, story: impl FnOnce()) -> Result<Process> {
    let side = fork(namespaces, cgroup.into_dir(), false).with_context(|| format!("clone with {namespaces:?}"))?;
    match side {
        Side::Parent(pid, pidfd) => Ok(Process { pid, pidfd }),
        Side::Child => {
            story();
            // It must not come back to where the parent cleans up.
            crate::sys::process::exit(1)
        }
    }
}
