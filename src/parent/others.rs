//! The cgroup of a container among those of other containers: one may lie below another's, or be
//! the same directory.

use crate::cgroups::{self, Manager, Placement, Spared};
use crate::error::Result;
use crate::state::{self, Container, Root, Status};

/// Opens a container's cgroup, to signal what is in it or to remove it. What the records of other
/// containers of the same root name there is spared.
pub fn cgroup_beside(container: &Container, own: &Placement) -> Result<Box<dyn Manager>> {
    let cgroup = cgroups::reopen(own)?;
    // The usual one has nothing left in it when init has ended: the other records need not be read.
    if cgroup.is_idle()? {
        return Ok(cgroup);
    }
    cgroup_sparing_others(container, own)
}

/// The same for a failed `create`: even in an empty cgroup another container may just be made.
pub fn cgroup_sparing_others(container: &Container, own: &Placement) -> Result<Box<dyn Manager>> {
    cgroups::reopen_sparing(own, spared(container, own)?)
}

fn spared(container: &Container, own: &Placement) -> Result<Spared> {
    let mut spared = Spared::default();
    let Some(root) = container.path().parent() else { return Ok(spared) };
    let root = Root::named(root.to_owned()).quiet(); // whoever opened the container was warned
    for id in state::ids(&root)? {
        if id == container.id() {
            continue;
        }
        // One that is just being made or removed, or is no container, names nothing.
        let Ok(other) = Container::open(&root, &id) else { continue };
        let Ok(Some(named)) = other.load() else { continue };
        let is_alive = || other.status(&named).map_or(true, |status| status != Status::Stopped);
        spared.add(own, &id, &named.cgroup, is_alive);
    }
    Ok(spared)
}
