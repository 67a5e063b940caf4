//! The story of `start`: from a waiting init to a running program.

use oci_spec::runtime::ContainerState;

use super::delete::destroy;
use crate::error::{Result, bail, one_line};
use crate::hooks::{self, Point};
use crate::state::{Container, Record, Status};
use crate::timing::phase;

/// Starts a created container that the caller has locked. [`hooks::Failed`]: it is to be destroyed now.
pub fn start(container: &Container, record: &Record) -> Result<()> {
    phase("start: status");
    match container.status(record)? {
        Status::Created => {}
        Status::Running | Status::Paused => bail!("cannot start an already running container"),
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Creating => bail!("cannot start a container that is still being created"),
    }
    phase("start: open the gate");
    container.open_gate()?;
    log::debug!("the program of {:?} runs", record.id);
    phase("hooks: poststart");
    if !Point::Poststart.of(record.hooks.as_ref()).is_empty() {
        let state = record.state(ContainerState::Running)?;
        hooks::run(Point::Poststart, record.hooks.as_ref(), &state, &[])
            .map_err(|error| hooks::Failed(one_line(&error)))?;
    }
    Ok(())
}

/// Starts a container, or destroys it if one of its hooks fails (runtime.md, "Lifecycle", steps 7 and 9).
pub fn start_or_destroy(container: &Container, record: &Record) -> Result<()> {
    let started = start(container, record);
    if started.as_ref().is_err_and(|error| error.is::<hooks::Failed>())
        && let Err(left) = destroy(container, record)
    {
        log::warn!("container {:?} is left for `delete`: {}", record.id, one_line(&left));
    }
    started
}
