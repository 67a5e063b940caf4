//! The story of `start`: from a waiting init to a running program.

use oci_spec::runtime::ContainerState;

use super::delete::delete_killed;
use crate::error::{Result, bail, ensure, one_line};
use crate::hooks::{self, Caller, Point};
use crate::state::{Container, Lock, Record, Status, status};
use crate::timing::phase;

/// Starts a created container, whose lock is given up as soon as nobody else can start it.
/// [`hooks::Failed`]: it is to be destroyed now.
pub fn start(container: &Container, record: &Record, lock: Lock) -> Result<()> {
    phase("start: status");
    match container.status_locked(record, &lock)? {
        Status::Created => {}
        Status::Running => bail!("cannot start an already running container"),
        Status::Paused => bail!("cannot start a container in the paused state"),
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Creating => bail!("cannot start a container that is still being created"),
    }
    phase("start: open the gate");
    let opened = container.open_gate(&lock)?;
    // Hooks and a frozen cgroup may make the rest last for ever, and others have to be able to end
    // it.
    drop(lock);
    let was_about_to = opened.wait()?;
    // A signal can end init in the middle of execve(2). One that was waited for since has ended as
    // a program, for all that is known.
    let executed = status::has_executed(record.init_process_pid, Some(record.init_process_start))?;
    ensure!(executed.unwrap_or(was_about_to), "init was killed before it executed the program");
    log::debug!("the program of {:?} runs", record.id);
    phase("hooks: poststart");
    if !Point::Poststart.of(record.hooks.as_ref()).is_empty() {
        let state = record.state(ContainerState::Running)?;
        hooks::run(Point::Poststart, record.hooks.as_ref(), &state, Caller::Parent(container))
            .map_err(|error| hooks::Failed(one_line(&error)))?;
    }
    Ok(())
}

/// Starts a container, or destroys it if one of its hooks fails (runtime.md, "Lifecycle", steps 7
/// and 9).
pub fn start_or_destroy(container: &Container, record: &Record, lock: Lock) -> Result<()> {
    let started = start(container, record, lock);
    if started.as_ref().is_err_and(|error| error.is::<hooks::Failed>())
        && let Err(left) = delete_killed(container)
    {
        log::warn!("container {:?} is left for `delete`: {}", record.id, one_line(&left));
    }
    started
}
