//! The rootfs becomes `/`: pivot_root(2), or, with `--no-pivot`, a moved mount and chroot(2).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::Rootfs;
use crate::error::{Context as _, Result};
use crate::sys::mount::{Attributes, attach, clone_tree, set_attributes};

/// Keeps mounts made in the container from reaching the host: the new mount namespace receives the host's changes at
/// most (a private one not even these).
pub fn cut_host_propagation(private: bool) -> Result<()> {
    let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context("open /")?;
    let propagation = if private { MsFlags::MS_PRIVATE } else { MsFlags::MS_SLAVE };
    let attributes = Attributes { propagation: propagation.bits(), ..Attributes::default() };
    set_attributes(root.as_fd(), &attributes, true).context("cut the mount propagation to the host")
}

/// Mounts the rootfs on itself, so that it is a mount of its own with its own attributes.
pub fn mount_rootfs(path: &Path, private: bool) -> Result<Rootfs> {
    let describe = || format!("root.path: mount {path:?} on itself");
    let place = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("root.path: open {path:?}"))?;
    let tree = clone_tree(place.as_fd(), c"", true).with_context(describe)?;
    // A clone of a shared mount is in its peer group again: what is mounted below it would reach the host.
    let propagation = if private { MsFlags::MS_PRIVATE } else { MsFlags::MS_SLAVE };
    let attributes = Attributes { propagation: propagation.bits(), ..Attributes::default() };
    set_attributes(tree.as_fd(), &attributes, true).with_context(describe)?;
    attach(tree.as_fd(), place.as_fd()).with_context(describe)?;
    Ok(Rootfs::new(tree))
}

/// Makes the rootfs `/` and takes the host's tree away.
pub fn pivot(rootfs: &Rootfs) -> Result<()> {
    fchdir(rootfs.fd()).context("chdir to the rootfs")?;
    // The old root is stacked on the new one, which needs no directory for it in the container.
    pivot_root(".", ".").context("pivot_root")?;
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
