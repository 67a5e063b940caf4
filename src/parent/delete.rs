//! The story of `delete`: whatever is left of a container goes, whenever and however it was left.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use oci_spec::runtime::ContainerState;

use super::damaged;
use super::others;
use crate::cgroups;
use crate::error::{Context as _, Error, Result, anyhow, bail};
use crate::hooks::{self, Caller, Point, ends_before};
use crate::linux::intel_rdt;
use crate::root::on_host;
use crate::state::gate::Position;
use crate::state::{Container, Damaged, Lock, Record, Status, status};
use crate::sys::fd::pidfd_send_signal;
use crate::timing::phase;

/// How long a killed init may take to end; the kernel needs a moment for large memory.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a poststop hook may keep `delete --force` waiting: unlike the others it is part of a
/// removal.
const HOOK_PATIENCE: Duration = Duration::from_secs(5);

/// When `delete --force` kills all in the cgroup, of a container whose lock another command holds.
const KILL_ALL_AFTER: Duration = Duration::from_secs(1);

/// Deletes a container; `force` kills it first if it runs.
pub fn delete(container: &Container, force: bool) -> Result<()> {
    phase("delete: lock");
    let lock = container.wait_for_lock(|waited| match force {
        true => end_what_the_holder_waits_for(container, waited),
        false => match container.load()? {
            Some(record) => check_may_go(&record, container.status(&record)?),
            None => Ok(()),
        },
    })?;
    let Some(lock) = lock else {
        // Another command was faster, which is what was asked for.
        return if force { Ok(()) } else { Err(anyhow!("container {:?} does not exist", container.id())) };
    };
    let record = match container.load() {
        // Whatever else keeps it from being read may be gone the next time: all that is needed then
        // stays.
        Err(error) if force && error.is::<Damaged>() => return damaged::delete(container, &error, &lock),
        result => result?,
    };
    let Some(record) = record else {
        // Usually its making ended before anything but the directory was there. An init that waits
        // has lost its record.
        return match container.find_init()? {
            None => container.remove(&lock),
            Some(_) if force => damaged::delete(container, &missing(), &lock),
            Some(_) => Err(missing()),
        };
    };
    if !force {
        check_may_go(&record, container.status_locked(&record, &lock)?)?;
    } else if !Point::Poststart.of(record.hooks.as_ref()).is_empty()
        || container.gate_position()? == Position::Unfinished
    {
        container.kill_hooks(|point| point != Point::Poststop.name())?;
    }
    destroy(container, &record, &lock)
}

fn missing() -> Error {
    anyhow!("state.json is missing, of a container that waits to be started")
}

/// Refuses a container that has to be stopped first.
fn check_may_go(record: &Record, status: Status) -> Result<()> {
    match status {
        Status::Stopped | Status::Created => Ok(()),
        status => bail!("cannot delete container {:?} that is not stopped: {status}", record.id),
    }
}

/// Ends what can make the lock's holder wait for ever: its hooks, and init. `create` then cleans up
/// itself.
fn end_what_the_holder_waits_for(container: &Container, waited: Duration) -> Result<()> {
    let Some(record) = container.load()? else { return Ok(()) };
    container.kill_hooks(|point| point != Point::Poststop.name() || waited > HOOK_PATIENCE)?;
    if let Some(pidfd) = status::open_init(&record)? {
        // ESRCH: it ended on its own.
        let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        // Best effort: the holder may be removing the cgroup.
        let _ = cgroups::reopen(&record.cgroup).and_then(|cgroup| cgroup.thaw_the_killed());
    }
    if waited > KILL_ALL_AFTER {
        // `exec` may wait for its own process, which does not end with init where they share a pid
        // namespace with others.
        let _ = cgroups::reopen(&record.cgroup).and_then(|cgroup| cgroup.kill());
    }
    Ok(())
}

/// Deletes a container whose init has ended, or is to be killed without a question.
pub fn delete_killed(container: &Container) -> Result<()> {
    phase("delete: kill init");
    let Some(lock) = container.wait_for_lock(|_| Ok(()))? else { return Ok(()) };
    let Some(record) = container.load()? else { return container.remove(&lock) };
    destroy(container, &record, &lock)
}

/// Kills init and removes the container.
fn destroy(container: &Container, record: &Record, lock: &Lock) -> Result<()> {
    kill_init(record)?;
    remove(container, record, lock)
}

/// Removes what a container that has ended still has: its cgroup, with whatever runs in it, and its
/// directory.
fn remove(container: &Container, record: &Record, lock: &Lock) -> Result<()> {
    phase("delete: cgroup");
    others::cgroup_beside(container, &record.cgroup)?.remove_all()?;
    phase("delete: poststop, state directory");
    on_host::unmount(record)?;
    intel_rdt::remove(record)?;
    if !Point::Poststop.of(record.hooks.as_ref()).is_empty() {
        let state = record.state(ContainerState::Stopped)?;
        hooks::run_all_and_warn(Point::Poststop, record.hooks.as_ref(), &state, Caller::Parent(container));
    }
    if let Some(foreign) = &record.foreign {
        foreign.report(&record.id)?;
    }
    container.remove(lock)
}

/// Kills init and waits for its end.
fn kill_init(record: &Record) -> Result<()> {
    let Some(pidfd) = status::open_init(record)? else { return Ok(()) };
    match pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {} // it ended on its own
        Err(errno) => return Err(errno).with_context(|| format!("kill init (pid {})", record.init_process_pid)),
    }
    cgroups::reopen(&record.cgroup)?.thaw_the_killed()?;
    if !ends_before(&pidfd, Instant::now() + PATIENCE).context("wait for init's end")? {
        let pid = record.init_process_pid;
        bail!("container {:?}: init (pid {pid}) did not end {} s after SIGKILL", record.id, PATIENCE.as_secs());
    }
    Ok(())
}
