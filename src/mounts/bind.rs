//! Bind mounts: `bind` and `rbind`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::PROC_SUPER_MAGIC;
use oci_spec::runtime::Mount;

use super::options::Options;
use super::{Surroundings, destination, flags, place, sources};
use crate::error::{Context as _, Result, ensure};
use crate::sys::mount::{clone_tree, filesystem_type};

/// Mounts a file or a directory of the host. A missing destination is made of the source's kind.
pub fn mount(index: usize, mount: &Mount, options: &Options<'_>, path: &Path, around: Surroundings<'_>) -> Result<()> {
    let tree = sources::open_in_init(index, mount, options, around)?;
    flags::set(tree.as_fd(), options)?;
    attach(tree.as_fd(), path, around)
}

/// Attaches a detached tree of the host's.
pub fn attach(tree: BorrowedFd<'_>, path: &Path, around: Surroundings<'_>) -> Result<()> {
    if path == Path::new("/proc") {
        let found = filesystem_type(tree).context("statfs the source")?;
        ensure!(found == PROC_SUPER_MAGIC, "the source is no procfs, and nothing else can be mounted on /proc");
    }
    let onto = place_for(tree, path, around)?;
    place(tree, onto.as_fd())
}

/// The place for a tree: a directory for a directory, a file for anything else.
fn place_for(tree: BorrowedFd<'_>, path: &Path, around: Surroundings<'_>) -> Result<OwnedFd> {
    let mode = SFlag::from_bits_truncate(fstat(tree).context("stat the source")?.st_mode & SFlag::S_IFMT.bits());
    match mode {
        SFlag::S_IFDIR => destination::directory(around.rootfs, path),
        _ => destination::file(around.rootfs, path),
    }
}

/// A device of the host as a detached mount: the way to give it to a container that may not make it.
pub fn device(path: &Path) -> Result<OwnedFd> {
    let node = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("open {path:?}"))?;
    clone_tree(node.as_fd(), c"", false).with_context(|| format!("clone the mount of {path:?}"))
}
