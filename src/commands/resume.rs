//! `tare resume`

use crate::cgroups;
use crate::error::{Result, bail};
use crate::state::{Container, Root, Status};

/// Thaws the container's cgroup.
pub fn run(root: &Root, id: &str) -> Result<()> {
    let container = Container::open(root, id)?;
    let lock = container.lock()?;
    let record = container.record()?;
    match container.status_locked(&record, &lock)? {
        Status::Paused => cgroups::reopen(&record.cgroup)?.freeze(false),
        _ => bail!("container not paused"),
    }
}
