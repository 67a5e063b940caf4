//! `linux.devices`, and the devices and links that every container has (config-linux.md, "Default Devices").

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use super::ids;
use crate::error::{Context as _, Result, bail, ensure};
use crate::mounts;
use crate::root::Rootfs;
use crate::root::path::{check_absolute, clean};
use crate::sys::mount::attach;

/// A device node to be made.
#[derive(Clone, Copy)]
struct Node<'a> {
    path: &'a Path,
    kind: SFlag,
    device: libc::dev_t,
    mode: Mode,
    owner: Option<(u32, u32)>,
}

/// The default devices: character devices of mode 0666.
const DEFAULT: &[(&str, u64, u64)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

/// Types and paths are ones that can be made.
pub fn check(spec: &Spec) -> Result<()> {
    for (index, device) in configured(spec).enumerate() {
        let path = device.path();
        check_absolute(path).with_context(|| format!("linux.devices[{index}].path"))?;
        ensure!(clean(path).file_name().is_some(), "linux.devices[{index}].path: {path:?} does not name a file");
        ensure!(kind(device.typ()).is_some(), "linux.devices[{index}].type: must be one of c, b, u, p");
        // Nine bits, as the schema says. Podman gives those of the host's device, with its type in the upper ones.
        ensure!(
            device.file_mode().is_none_or(|mode| mode & !libc::S_IFMT <= 0o777),
            "linux.devices[{index}].fileMode: {} is more than 511",
            device.file_mode().unwrap_or_default()
        );
        for (name, id) in [("uid", device.uid()), ("gid", device.gid())] {
            id.map_or(Ok(()), ids::check).with_context(|| format!("linux.devices[{index}].{name}"))?;
        }
        let is_number = |number: i64| u32::try_from(number).is_ok();
        ensure!(
            device.typ() == LinuxDeviceType::P || is_number(device.major()) && is_number(device.minor()),
            "linux.devices[{index}]: major {} and minor {} must be numbers of a device",
            device.major(),
            device.minor()
        );
    }
    Ok(())
}

/// Makes the devices and links, unless /dev is a bind mount and so somebody else's.
pub fn make(spec: &Spec, rootfs: &Rootfs) -> Result<()> {
    if mounts::is_bound(spec, Path::new("/dev")) {
        return Ok(());
    }
    let dev = rootfs.directory_unlinked(Path::new("/dev")).context("default devices")?;
    make_default(spec, &dev)?;
    for (index, device) in configured(spec).enumerate() {
        let path = clean(device.path());
        if path.as_os_str() == "/dev/ptmx" {
            continue; // made below, for everybody
        }
        let node = configured_node(device, &path);
        rootfs
            .parent_and_name_unlinked(&path)
            .and_then(|(parent, name)| make_node(node, &parent, name))
            .with_context(|| format!("linux.devices[{index}] ({})", device.path().display()))?;
    }
    for (name, target) in LINKS {
        link(&dev, name, target)?;
    }
    // The multiplexer is the one of the container's own devpts, whatever the image brought.
    match unlinkat(&dev, "ptmx", UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => link(&dev, "ptmx", "pts/ptmx"),
        Err(errno) => Err(errno).context("default devices: remove /dev/ptmx"),
    }
}

/// Makes a link in /dev; what is there already stays.
fn link(dev: &OwnedFd, name: &str, target: &str) -> Result<()> {
    match symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("default devices: link /dev/{name} to {target}")),
    }
}

fn make_default(spec: &Spec, dev: &OwnedFd) -> Result<()> {
    for &(name, major, minor) in DEFAULT {
        let path = &Path::new("/dev").join(name);
        if configured(spec).any(|device| clean(device.path()).as_os_str() == path.as_os_str()) {
            continue;
        }
        let mode = Mode::from_bits_truncate(0o666);
        let node = Node { path, kind: SFlag::S_IFCHR, device: makedev(major, minor), mode, owner: None };
        make_node(node, dev, Path::new(name)).with_context(|| format!("default device {path:?}"))?;
    }
    Ok(())
}

fn configured_node<'a>(device: &LinuxDevice, path: &'a Path) -> Node<'a> {
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    Node {
        path,
        // Both were checked when config.json was read.
        kind: kind(device.typ()).unwrap_or(SFlag::S_IFCHR),
        device: makedev(number(device.major()), number(device.minor())),
        mode: Mode::from_bits_truncate(device.file_mode().unwrap_or(0o666) & 0o777),
        owner: Some((device.uid().unwrap_or(0), device.gid().unwrap_or(0))).filter(|&owner| owner != (0, 0)),
    }
}

fn kind(device: LinuxDeviceType) -> Option<SFlag> {
    match device {
        LinuxDeviceType::B => Some(SFlag::S_IFBLK),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(SFlag::S_IFCHR),
        LinuxDeviceType::P => Some(SFlag::S_IFIFO),
        LinuxDeviceType::A => None,
    }
}

fn make_node(node: Node<'_>, parent: &OwnedFd, name: &Path) -> Result<()> {
    // The umask is 0 here: the mode is exactly the one that is asked for.
    match mknodat(parent, name, node.kind, node.mode, node.device) {
        Err(Errno::EEXIST) => return check_existing(node, parent, name),
        // Not allowed in a user namespace, but a device of the host's can be lent.
        Err(Errno::EPERM) => {
            return lend(node, parent, name).context("mknod is not permitted, and the host's device cannot be lent");
        }
        result => result.context("mknod")?,
    }
    if let Some((uid, gid)) = node.owner {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(parent, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW).context("chown")?;
    }
    Ok(())
}

/// The specification asks for an error where something else is in a device's place; the image's own node is fine.
fn check_existing(node: Node<'_>, parent: &OwnedFd, name: &Path) -> Result<()> {
    let found = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).context("stat what is there")?;
    let same = found.st_mode & libc::S_IFMT == node.kind.bits() & libc::S_IFMT
        && (node.kind == SFlag::S_IFIFO || found.st_rdev == node.device);
    if !same {
        bail!("there is a file of another type or device already");
    }
    Ok(())
}

/// Mounts the host's device of the same name, if it is the same device.
fn lend(node: Node<'_>, parent: &OwnedFd, name: &Path) -> Result<()> {
    let host: PathBuf = node.path.to_owned();
    let mount = mounts::bind::device(&host)?;
    let found = fstat(&mount).with_context(|| format!("stat {host:?} of the host"))?;
    ensure!(found.st_rdev == node.device, "mknod is not permitted, and {host:?} of the host is another device");
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let place = openat(parent, name, flags, Mode::from_bits_truncate(0o666)).context("make a file for it")?;
    attach(mount.as_fd(), place.as_fd()).context("attach it")
}

fn configured(spec: &Spec) -> impl Iterator<Item = &LinuxDevice> {
    spec.linux().iter().flat_map(|linux| linux.devices()).flatten()
}
