//! `tare pause`

use crate::cgroups;
use crate::error::{Result, bail};
use crate::state::{Container, Root, Status};

/// Freezes the container's cgroup.
pub fn run(root: &Root, id: &str) -> Result<()> {
    let container = Container::open(root, id)?;
    let _lock = container.lock()?;
    let record = container.record()?;
    match container.status(&record)? {
        Status::Running | Status::Created => cgroups::reopen(&record.cgroup)?.freeze(true),
        status => bail!("container not running or created: {status}"),
    }
}
