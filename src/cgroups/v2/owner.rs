//! The cgroup's owner (config-linux.md, "Cgroup ownership"): a container that may write to its cgroup makes its own
//! cgroups below it.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Uid, chown};

use crate::error::{Context as _, Result};

/// Gives the directory, and the files that the kernel lists as safe to delegate, to a user of the host. Those that limit
/// the cgroup itself stay whose they were.
pub(super) fn set(dir: &Path, owner: u32) -> Result<()> {
    let list = fs::read_to_string("/sys/kernel/cgroup/delegate"); // Linux 4.15
    let files = list.as_deref().unwrap_or("cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
    give(dir, owner)?;
    for file in files.lines() {
        give(&dir.join(file), owner)?;
    }
    Ok(())
}

fn give(path: &Path, owner: u32) -> Result<()> {
    match chown(path, Some(Uid::from_raw(owner)), None) {
        // A file that this cgroup does not have.
        Err(Errno::ENOENT) => Ok(()),
        result => result.with_context(|| format!("linux.cgroupsPath: chown {} to {owner}", path.display())),
    }
}
