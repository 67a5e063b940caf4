//! The story of `delete`: whatever is left of a container goes, whenever and however it was left.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use oci_spec::runtime::ContainerState;

use super::create::Created;
use crate::cgroups;
use crate::error::{Context as _, Result, bail, one_line};
use crate::hooks::{self, Point, ends_before};
use crate::linux::intel_rdt;
use crate::root::on_host;
use crate::state::{Container, Record, Status, status};
use crate::sys::fd::pidfd_send_signal;
use crate::timing::phase;

/// How long a killed init may take to end; the kernel needs a moment for large memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Deletes a container; `force` kills it first if it runs.
pub fn delete(container: &Container, force: bool) -> Result<()> {
    let record = match container.load() {
        Err(error) if force => {
            log::warn!("{}; only the directory can be removed", one_line(&error));
            return container.remove();
        }
        result => result?,
    };
    let Some(record) = record else {
        // Its making ended before anything but the directory was there, or another `delete` was faster.
        let _lock = container.lock()?;
        return if container.load()?.is_some() { delete(container, force) } else { container.remove() };
    };
    match container.status(&record)? {
        Status::Stopped => {}
        Status::Created => kill_init(&record)?,
        Status::Running | Status::Paused | Status::Creating if force => kill_init(&record)?,
        status => bail!("cannot delete container {:?} that is not stopped: {status}", record.id),
    }
    delete_killed(container)
}

/// Deletes a container whose init has ended, or is to be killed without a question.
pub fn delete_killed(container: &Container) -> Result<()> {
    // A maker whose init was just killed cleans up itself, while it holds the lock.
    phase("delete: kill init");
    let _lock = container.lock()?;
    let Some(record) = container.load()? else { return container.remove() };
    destroy(container, &record)
}

/// Kills init and removes the container, which the caller has locked.
pub fn destroy(container: &Container, record: &Record) -> Result<()> {
    kill_init(record)?;
    remove(container, record)
}

/// Removes what a container that has ended still has: its cgroup, with whatever runs in it, and its directory.
fn remove(container: &Container, record: &Record) -> Result<()> {
    phase("delete: cgroup");
    let cgroup = cgroups::reopen(&record.cgroup)?;
    cgroup.kill()?;
    cgroup.destroy()?;
    phase("delete: poststop, state directory");
    on_host::unmount(record)?;
    intel_rdt::remove(record)?;
    if !Point::Poststop.of(record.hooks.as_ref()).is_empty() {
        let state = record.state(ContainerState::Stopped)?;
        hooks::run_all_and_warn(Point::Poststop, record.hooks.as_ref(), &state);
    }
    container.remove()
}

/// Kills init and waits for its end.
fn kill_init(record: &Record) -> Result<()> {
    let Some(pidfd) = status::open_init(record)? else { return Ok(()) };
    // ESRCH: it ended on its own.
    let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    cgroups::reopen(&record.cgroup)?.thaw_the_killed()?;
    if !ends_before(&pidfd, Instant::now() + PATIENCE).context("wait for init's end")? {
        let pid = record.init_process_pid;
        bail!("container {:?}: init (pid {pid}) did not end {} s after SIGKILL", record.id, PATIENCE.as_secs());
    }
    Ok(())
}

/// Deletes a container that could not be started, by the one that created it.
pub fn abandon(created: Created) -> Result<()> {
    drop(created.lock);
    delete(&created.container, true)
}
