//! The rootfs becomes `/`: pivot_root(2), or, with `--no-pivot`, a moved mount and chroot(2).

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::Rootfs;
use crate::error::{Context as _, Result};
use crate::mounts::mountinfo::Line;
use crate::sys::mount::{Attributes, attach, clone_tree, set_attributes};

/// Gives the host's mounts in the new mount namespace this propagation.
pub fn cut_host_propagation(propagation: MsFlags) -> Result<()> {
    let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context("open /")?;
    propagate(root.as_fd(), propagation, true).context("set the propagation of the host's mounts")
}

/// Mounts the rootfs on itself, so that it is a mount of its own with its own attributes.
pub fn mount_rootfs(path: &Path, host: MsFlags) -> Result<Rootfs> {
    let describe = || format!("root.path: mount {path:?} on itself");
    if host == MsFlags::MS_SHARED {
        part_from_host(path)?;
    }
    let place = open_directory(path)?;
    let tree = clone_tree(place.as_fd(), c"", true).with_context(describe)?;
    attach(tree.as_fd(), place.as_fd()).with_context(describe)?;
    // pivot_root(2) refuses a shared root, and what is mounted below it must not reach the host's directory.
    let own = if host == MsFlags::MS_SLAVE { MsFlags::MS_SLAVE } else { MsFlags::MS_PRIVATE };
    propagate(tree.as_fd(), own, true).with_context(describe)?;
    Ok(Rootfs::new(tree))
}

/// Makes the mount that the rootfs is in private: a mount on a directory of a shared one would show on the host.
fn part_from_host(path: &Path) -> Result<()> {
    for ancestor in path.ancestors() {
        match propagate(open_directory(ancestor)?.as_fd(), MsFlags::MS_PRIVATE, false) {
            // A directory, not the root of a mount: that is further up.
            Err(Errno::EINVAL) => continue,
            result => return result.with_context(|| format!("root.path: make the mount at {ancestor:?} private")),
        }
    }
    Ok(())
}

/// After chroot(2) the host's mounts are still in the namespace: with one of its procfs or sysfs among them that nothing
/// covers, the kernel lets the container's user namespaces mount one that shows all that is masked (runc does the same).
fn hide_bare_filesystems(rootfs: &Path) -> Result<()> {
    let explain = "--no-pivot: hide the host's";
    let table = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    for place in table.lines().filter_map(bare_filesystem).filter(|place| !place.starts_with(rootfs)) {
        match mount(NONE, &place, NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE) {
            // It was below another one.
            Err(Errno::ENOENT | Errno::EINVAL) => continue,
            result => result.with_context(|| format!("{explain} {place:?}: cut its propagation"))?,
        }
        match umount2(&place, MntFlags::MNT_DETACH) {
            // Locked, in a mount namespace of less privilege than the mount's own.
            Err(Errno::EINVAL | Errno::EPERM) => mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), NONE),
            result => result,
        }
        .with_context(|| format!("{explain} {place:?}"))?;
    }
    Ok(())
}

const NONE: Option<&str> = None;

/// Where a line of mountinfo mounts the whole of a procfs or sysfs.
fn bare_filesystem(line: &str) -> Option<PathBuf> {
    let line = Line::parse(line)?;
    (line.root == "/" && matches!(line.fstype, "proc" | "sysfs")).then(|| line.point.into())
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("root.path: open {path:?}"))
}

fn propagate(mount: BorrowedFd<'_>, propagation: MsFlags, recursive: bool) -> nix::Result<()> {
    set_attributes(mount, &Attributes { propagation: propagation.bits(), ..Attributes::default() }, recursive)
}

/// Makes the rootfs `/` and takes the host's tree away.
pub fn pivot(rootfs: &Rootfs, host: MsFlags) -> Result<()> {
    let old = open_directory(Path::new("/"))?;
    fchdir(rootfs.fd()).context("chdir to the rootfs")?;
    // The old root is stacked on the new one, which needs no directory for it in the container.
    pivot_root(".", ".").context("pivot_root")?;
    if host == MsFlags::MS_SHARED {
        // The unmount below would reach the host.
        propagate(old.as_fd(), MsFlags::MS_SLAVE, true).context("cut the propagation of the host's root")?;
    }
    umount2(".", MntFlags::MNT_DETACH).context("unmount the host's root")?;
    chdir("/").context("chdir to /")
}

/// `--no-pivot`: for a root that cannot be pivoted away from, such as an initramfs. `path` is the rootfs's on the host.
pub fn move_root(rootfs: BorrowedFd<'_>, path: &Path) -> Result<()> {
    hide_bare_filesystems(path)?;
    fchdir(rootfs).context("chdir to the rootfs")?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("--no-pivot: move the rootfs to /")?;
    chroot(".").context("--no-pivot: chroot")?;
    chdir("/").context("chdir to /")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_procfs_or_sysfs_is_found_by_its_line() {
        let bare = |line| bare_filesystem(line).map(|path| path.display().to_string());
        assert_eq!(bare("1 2 0:5 / /a\\040b rw shared:1 - proc proc rw").as_deref(), Some("/a b"));
        assert_eq!(bare("1 2 0:5 / /sys rw - sysfs sysfs rw").as_deref(), Some("/sys"));
        assert_eq!(bare("1 2 0:5 /sys /x rw - proc proc rw"), None);
        assert_eq!(bare("1 2 0:5 / /x rw - tmpfs proc rw"), None);
        assert_eq!(bare(""), None);
    }
}
