//! `tare pause`

use crate::cgroups;
use crate::error::{Result, bail};
use crate::state::{Container, Root, Status};

/// Freezes the container's cgroup, whether its program runs or waits for `start`.
pub fn run(root: &Root, id: &str) -> Result<()> {
    let container = Container::open(root, id)?;
    let lock = container.lock()?;
    let record = container.record()?;
    match container.status_locked(&record, &lock)? {
        Status::Running | Status::Created => cgroups::reopen(&record.cgroup)?.freeze(true),
        status => bail!("container not running or created: {status}"),
    }
}
