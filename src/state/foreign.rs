//! Records of another user, as in `sudo tare --root ~/x delete -f`: nothing in them is believed.
//!
//! The writer may name any process, cgroup, mount or hook, and have the caller kill, remove or run
//! it. Of such a record remain the processes and cgroups that are its writer's anyway; what else it
//! names is left alone, and said.

use std::fs::{File, read_to_string};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use nix::errno::Errno;

use super::Record;
use crate::cgroups;
use crate::error::{Context as _, Result, bail};
use crate::root::on_host;
use crate::sys::process::{parent_user_namespace, user_namespace_owner};

/// User namespaces nest no deeper (user_namespaces(7)).
const DEEPEST: usize = 32;

/// What the caller knows of a record that another user wrote.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// The writer's user id.
    pub owner: u32,
    /// What the record names and the caller leaves alone, each with the reason.
    pub left: Vec<String>,
    /// It names poststop hooks, which are not run.
    pub has_hooks: bool,
}

impl Record {
    /// Takes out of a record what only its writer can vouch for.
    ///
    /// # Errors
    /// Those of looking at what it names.
    pub(super) fn distrust(&mut self, owner: u32) -> Result<()> {
        let mut left = Vec::new();
        let has_hooks = self.hooks.take().is_some();
        if let Some(before) = self.mounts_before.take()
            && on_host::count(&self.rootfs)? > before
        {
            left.push(format!("mounts on {:?}", self.rootfs));
        }
        if self.intel_rdt.take().is_some() {
            left.push("a resctrl group".to_owned());
        }
        let (placement, refused) = cgroups::of_owner(&self.cgroup, owner, |pid| is_process_of(pid, owner))?;
        self.cgroup = placement;
        left.extend(refused);
        self.foreign = Some(Foreign { owner, left, has_hooks });
        Ok(())
    }

    /// Refuses a record of another user, for a command that would run what it names or that changes
    /// it.
    pub fn ensure_own(&self) -> Result<()> {
        if let Some(foreign) = &self.foreign {
            bail!(
                "container {:?}: its record belongs to user id {}, which may name any process and program: run the \
                 command as that user",
                self.id,
                foreign.owner
            );
        }
        Ok(())
    }
}

impl Foreign {
    /// Says what is left of a container that is about to be removed.
    ///
    /// # Errors
    /// There is something, so that the record has to stay.
    pub fn report(&self, id: &str) -> Result<()> {
        if self.has_hooks {
            log::warn!("container {id:?}: its record belongs to user id {}: its hooks are not run", self.owner);
        }
        if !self.left.is_empty() {
            let left = self.left.join(", ");
            bail!(
                "container {id:?}: its record belongs to user id {}, and what is not that user's is left alone: {left}: \
                 run the command as that user, or remove the directory",
                self.owner
            );
        }
        Ok(())
    }
}

/// Returns whether a user may signal this process anyway: it is theirs, or in a user namespace of theirs.
pub(super) fn is_process_of(pid: i32, owner: u32) -> Result<bool> {
    let status = match read_to_string(format!("/proc/{pid}/status")) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(false),
        result => result.with_context(|| format!("read /proc/{pid}/status"))?,
    };
    // Real, effective, saved and filesystem user id; kill(2) asks for the real or the saved one.
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let mut ids = ids.split_whitespace();
    if [ids.next(), ids.nth(1)].into_iter().flatten().any(|id| id.parse() == Ok(owner)) {
        return Ok(true);
    }
    is_in_namespace_of(pid, owner)
}

fn is_in_namespace_of(pid: i32, owner: u32) -> Result<bool> {
    let open = |path: &str| File::open(path).with_context(|| format!("open {path}"));
    let own = open("/proc/self/ns/user")?.metadata().context("stat /proc/self/ns/user")?;
    let mut namespace = match File::open(format!("/proc/{pid}/ns/user")) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(false),
        result => result.with_context(|| format!("open /proc/{pid}/ns/user"))?,
    };
    for _ in 0..=DEEPEST {
        let this = namespace.metadata().context("stat a user namespace")?;
        if (this.dev(), this.ino()) == (own.dev(), own.ino()) {
            return Ok(false);
        }
        if user_namespace_owner(namespace.as_fd()).context("NS_GET_OWNER_UID")? == owner {
            return Ok(true);
        }
        namespace = match parent_user_namespace(namespace.as_fd()) {
            // It is not below the caller's.
            Err(Errno::EPERM) => return Ok(false),
            result => File::from(result.context("NS_GET_PARENT")?),
        };
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::getuid;

    #[test]
    fn a_process_belongs_to_its_user() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(is_process_of(own, getuid().as_raw()).unwrap());
        assert!(!is_process_of(own, getuid().as_raw() + 1).unwrap());
        assert!(!is_process_of(i32::MAX, getuid().as_raw()).unwrap());
    }
}
