//! Making init: one clone3, with its namespaces and, on cgroup v2, in its cgroup.

use std::os::fd::OwnedFd;

use oci_spec::runtime::Spec;

use crate::cgroups::Entry;
use crate::error::{Context as _, Result};
use crate::linux::namespaces::Namespaces;
use crate::sys::clone::{Side, fork};

/// A running init, as the parent knows it.
#[derive(Debug)]
pub struct Process {
    /// Its id in the parent's pid namespace.
    pub pid: i32,
    /// The process itself: unlike the id it cannot come to mean another.
    pub pidfd: OwnedFd,
}

/// Starts init, which runs `story` in a copy of this process's memory.
pub fn spawn(spec: &Spec, namespaces: &Namespaces, cgroup: &Entry, story: impl FnOnce()) -> Result<Process> {
    let side = namespaces.for_child(spec, || {
        let side = fork(namespaces.clone_flags(), cgroup.into_dir(), false)
            .with_context(|| format!("clone init with {:?}", namespaces.clone_flags()));
        // Init must not come back to where the parent cleans up.
        if let Ok(Side::Child) = side {
            story();
            crate::sys::process::exit(1);
        }
        side
    })?;
    match side {
        Side::Parent(pid, pidfd) => Ok(Process { pid, pidfd }),
        Side::Child => crate::sys::process::exit(1),
    }
}
