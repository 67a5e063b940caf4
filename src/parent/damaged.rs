//! Deletes a container whose record is damaged, as far as what belongs to it can still be told.

use std::os::fd::AsFd as _;
use std::time::Instant;

use super::delete::PATIENCE;
use super::others;
use crate::cgroups;
use crate::error::{Context as _, Error, Result, bail, one_line};
use crate::hooks::ends_before;
use crate::state::{Container, Lock, status};
use crate::sys::fd::pidfd_send_signal;

/// Kills init and its cgroup and removes the directory, which the caller has locked.
///
/// # Errors
/// No init is found: one may run all the same, so that the directory stays. What cannot be killed
/// or removed.
pub fn delete(container: &Container, damage: &Error, lock: &Lock) -> Result<()> {
    let Some(init) = container.find_init()? else {
        bail!(
            "{}: no process of the container is found without its record: end what is left of it, then remove {:?}",
            one_line(damage),
            container.path()
        );
    };
    log::warn!("{}: its init is found (pid {}); no hooks run, no mounts are removed", one_line(damage), init.pid);
    let placement = cgroups::of_process(init.pid, container.id())?;
    let Some(pidfd) = status::open_process(init.pid, init.start)? else {
        bail!("init (pid {}) ended while it was looked at: try again", init.pid);
    };
    pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL).with_context(|| format!("kill init (pid {})", init.pid))?;
    let cgroup = others::cgroup_beside(container, &placement)?;
    cgroup.thaw_the_killed()?;
    if !ends_before(&pidfd, Instant::now() + PATIENCE).context("wait for init's end")? {
        bail!("container {:?}: init (pid {}) did not end after SIGKILL", container.id(), init.pid);
    }
    cgroup.remove_all()?;
    container.remove(lock)
}
