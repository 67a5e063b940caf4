//! `linux.maskedPaths`: a file becomes /dev/null, a directory an empty one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, makedev};
use oci_spec::runtime::{LinuxNamespaceType as Type, Spec};

use super::{mount_label, namespaces};
use crate::error::{Context as _, Result, ensure};
use crate::mounts::filesystem;
use crate::root::Rootfs;
use crate::root::path::{check_absolute, clean};
use crate::sys::mount::{Attributes, attach, attr, clone_tree, set_attributes};

/// Every path is absolute. Without a mount namespace the mask would be the host's.
pub fn check(spec: &Spec) -> Result<()> {
    let possible = namespaces::has(spec, Type::Mount) || configured(spec).next().is_none();
    ensure!(possible, "linux.maskedPaths: unable to restrict paths without a mount namespace of the container's own");
    configured(spec).try_for_each(|path| check_absolute(Path::new(path))).context("linux.maskedPaths")
}

/// Masks each path that is there. It happens before the host's root goes away, because the mask of a file is the host's
/// /dev/null: the container's own could be anything (CVE-2025-31133).
pub fn apply(spec: &Spec, rootfs: &Rootfs) -> Result<()> {
    let mut mask = Mask { context: mount_label::option("tmpfs", mount_label::of(spec)), ..Mask::default() };
    configured(spec).try_for_each(|path| mask.hide(path, rootfs).with_context(|| format!("linux.maskedPaths {path:?}")))
}

/// What is mounted over masked paths, made when the first of its kind is needed.
#[derive(Default)]
struct Mask {
    null: Option<OwnedFd>,
    /// One empty, read-only filesystem for all directories: each of its own would cost a superblock.
    directory: Option<OwnedFd>,
    /// Its mount option of `linux.mountLabel`.
    context: Option<String>,
}

impl Mask {
    fn hide(&mut self, path: &str, rootfs: &Rootfs) -> Result<()> {
        let Some(place) = rootfs.find_unlinked(&clean(Path::new(path)))? else { return Ok(()) };
        let is_directory = fstat(&place).context("stat it")?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let mask = if is_directory { &mut self.directory } else { &mut self.null };
        if let Some(mask) = mask {
            let mount = clone_tree(mask.as_fd(), c"", false).context("clone the mask")?;
            return attach(mount.as_fd(), place.as_fd()).context("attach the mask");
        }
        let new = if is_directory { empty_directory(self.context.as_deref())? } else { null_device()? };
        attach(mask.insert(new).as_fd(), place.as_fd()).context("attach the mask")
    }
}

/// Flags of every mask. A user namespace inside can take none of them away, nor use the mount for anything that they forbid.
const SAFE: u64 = attr::RDONLY | attr::NOSUID | attr::NOEXEC;

fn empty_directory(context: Option<&str>) -> Result<OwnedFd> {
    let wanted: Vec<&str> = ["nr_blocks=1", "nr_inodes=1", "mode=755"].into_iter().chain(context).collect();
    filesystem::open("tmpfs", "tmpfs", &wanted, SAFE | attr::NODEV)
}

/// A mount of the host's /dev/null. It can still be opened and written to: a read-only mount is for files, not for devices.
fn null_device() -> Result<OwnedFd> {
    let mask = clone_tree(open_null()?.as_fd(), c"", false).context("clone the mount of /dev/null")?;
    let attributes = Attributes { set: SAFE, ..Attributes::default() };
    set_attributes(mask.as_fd(), &attributes, false).context("make the mask read-only")?;
    Ok(mask)
}

/// The host's /dev/null, if it is the null device.
fn open_null() -> Result<OwnedFd> {
    let null = open("/dev/null", OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .context("open /dev/null")?;
    let found = fstat(&null).context("stat /dev/null")?;
    let is_null = found.st_mode & libc::S_IFMT == libc::S_IFCHR && found.st_rdev == makedev(1, 3);
    ensure!(is_null, "/dev/null of the host is not the null device");
    Ok(null)
}

fn configured(spec: &Spec) -> impl Iterator<Item = &String> {
    spec.linux().iter().flat_map(|linux| linux.masked_paths()).flatten()
}
