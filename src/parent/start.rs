//! The story of `start`: from a waiting init to a running program.

use oci_spec::runtime::ContainerState;

use super::delete::kill_init;
use crate::error::{Result, bail};
use crate::hooks::{self, Point};
use crate::state::{Container, Record, Status};
use crate::timing::phase;

/// Starts a created container that the caller has locked.
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
        if let Err(error) = hooks::run(Point::Poststart, record.hooks.as_ref(), &state, &[]) {
            // Stopped, for `delete` to take away (runtime.md, "Lifecycle", step 9).
            kill_init(record)?;
            return Err(error);
        }
    }
    Ok(())
}
