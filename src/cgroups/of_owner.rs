//! A placement that another user wrote: only cgroups that are that user's remain in it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::fstatfs;

use super::layout::{MOUNT_POINT, is_cgroup};
use super::manager::{Kind, Placement};
use super::tree;
use crate::error::{Context as _, Result};

/// Splits a placement: what belongs to a user (cgroups in a directory of theirs, with processes of
/// theirs alone), and what does not, each with the reason. A cgroup that is gone is in neither. A
/// unit is not stopped by its name, but goes when its cgroup is empty.
pub fn of_owner(
    placement: &Placement,
    owner: u32,
    is_theirs: impl Fn(i32) -> Result<bool>,
) -> Result<(Placement, Vec<String>)> {
    let mut paths = BTreeMap::new();
    let mut refused = Vec::new();
    for (controller, dir) in &placement.paths {
        match refuse(dir, owner, &is_theirs).with_context(|| format!("cgroup {}", dir.display()))? {
            Verdict::Theirs => drop(paths.insert(controller.clone(), dir.clone())),
            Verdict::Gone => {}
            Verdict::Refused(reason) => refused.push(format!("cgroup {dir:?} ({reason})")),
        }
    }
    let kind = if placement.kind == Kind::Systemd { Kind::Cgroupfs } else { placement.kind };
    Ok((Placement { paths, ..Placement::none(kind) }, refused))
}

enum Verdict {
    Theirs,
    Gone,
    Refused(String),
}

fn refuse(dir: &Path, owner: u32, is_theirs: &impl Fn(i32) -> Result<bool>) -> Result<Verdict> {
    let refused = |reason: &str| Ok(Verdict::Refused(reason.to_owned()));
    let plain = |component: Component<'_>| matches!(component, Component::Normal(_) | Component::RootDir);
    // Above the mount point all is root's: nobody can exchange a part of the path afterwards.
    if !dir.starts_with(MOUNT_POINT) || !dir.components().all(plain) {
        return refused("not below /sys/fs/cgroup");
    }
    let (parent, found) = match open(dir) {
        Ok(found) => found,
        Err(Errno::ENOENT) => return Ok(Verdict::Gone),
        Err(Errno::ENOTDIR | Errno::ELOOP) => return refused("not a directory"),
        Err(errno) => return Err(errno).context("open it"),
    };
    if !is_cgroup(fstatfs(&found).context("statfs")?.filesystem_type()) {
        return refused("not in a cgroup file system");
    }
    // It may have been handed to a user of the container: the directory above tells whose it is
    // then.
    let owners = [fstat(&found).context("stat")?.st_uid, fstat(&parent).context("stat")?.st_uid];
    if !owners.contains(&owner) {
        return Ok(Verdict::Refused(format!("it belongs to user id {}", owners[0])));
    }
    for pid in tree::pids(dir)? {
        if !is_theirs(pid)? {
            return Ok(Verdict::Refused(format!("process {pid} in it is not that user's")));
        }
    }
    Ok(Verdict::Theirs)
}

/// Opens a directory (O_PATH) and the one above it, and follows no symlink on the way.
fn open(path: &Path) -> nix::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = || nix::fcntl::open("/", flags, Mode::empty());
    let (mut above, mut dir) = (root()?, root()?);
    for component in path.components() {
        if let Component::Normal(name) = component {
            let next = openat(&dir, name, flags, Mode::empty())?;
            above = std::mem::replace(&mut dir, next);
        }
    }
    Ok((above, dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn reasons(dir: &str, owner: u32) -> (usize, Vec<String>) {
        let paths = BTreeMap::from([("cpu".to_owned(), PathBuf::from(dir))]);
        let placement = Placement { paths, unit: Some("sshd.service".to_owned()), ..Placement::none(Kind::Systemd) };
        let (left, refused) = of_owner(&placement, owner, |_| Ok(true)).unwrap();
        assert_eq!((left.kind, left.unit), (Kind::Cgroupfs, None));
        (left.paths.len(), refused)
    }

    #[test]
    fn what_is_no_cgroup_of_the_user_is_refused() {
        for (dir, said) in [
            ("/tmp/x", "not below /sys/fs/cgroup"),
            ("/sys/fs/cgroup/../../../tmp", "not below /sys/fs/cgroup"),
            ("sys/fs/cgroup", "not below /sys/fs/cgroup"),
        ] {
            let (left, refused) = reasons(dir, 0);
            assert!(left == 0 && refused[0].contains(said), "{dir}: {refused:?}");
        }
        assert_eq!(reasons("/sys/fs/cgroup/no such cgroup/x", 0), (0, vec![]));
        // Of root's, nothing is another user's.
        if Path::new(MOUNT_POINT).exists() {
            let (left, refused) = reasons(MOUNT_POINT, 12_345);
            assert!(left == 0 && refused.len() == 1, "{refused:?}");
        }
    }
}
