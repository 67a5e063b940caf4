//! The rootfs becomes `/`: pivot_root(2), or, with `--no-pivot`, a moved mount and chroot(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::Rootfs;
use crate::error::{Context as _, Result};
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

/// `--no-pivot`: for a root that cannot be pivoted away from, such as an initramfs.
pub fn move_root(rootfs: BorrowedFd<'_>) -> Result<()> {
    fchdir(rootfs).context("chdir to the rootfs")?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("--no-pivot: move the rootfs to /")?;
    chroot(".").context("--no-pivot: chroot")?;
    chdir("/").context("chdir to /")
}
