//! Where a mount goes: the place is made, with its parents, if it is missing, and it is never inside the new /proc.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::statfs::PROC_SUPER_MAGIC;
use oci_spec::runtime::Spec;

use crate::error::{Context as _, Result, bail};
use crate::root::Rootfs;
use crate::root::path::clean;
use crate::sys::mount::filesystem_type;

/// Files of procfs that may be mounted over: they only inform (lxcfs does it), or runc always allowed it.
const ALLOWED_IN_PROC: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// A destination below the rootfs's own path on the host is the place inside: runc and crun have it so, and callers write
/// both.
pub fn strip_rootfs(spec: &mut Spec, rootfs: &Path) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        if let Ok(inside) = clean(mount.destination()).strip_prefix(rootfs) {
            let inside = Path::new("/").join(inside);
            mount.set_destination(inside);
        }
    }
}

/// Opens the directory at `path` to mount something on it.
pub fn directory(rootfs: &Rootfs, path: &Path) -> Result<OwnedFd> {
    let place = rootfs.directory(path)?;
    check(&place, path)?;
    Ok(place)
}

/// Opens the file at `path` to mount a file on it.
pub fn file(rootfs: &Rootfs, path: &Path) -> Result<OwnedFd> {
    let place = rootfs.file(path)?;
    check(&place, path)?;
    Ok(place)
}

/// A mount over a part of /proc could hide from security modules and from the runtime what they rely on
/// (CVE-2019-16884, CVE-2019-19921): the place itself tells where links really led.
fn check(place: &OwnedFd, path: &Path) -> Result<()> {
    if filesystem_type(place.as_fd()).context("statfs the destination")? != PROC_SUPER_MAGIC {
        return Ok(());
    }
    let is_root = nix::sys::stat::fstat(place).context("stat the destination")?.st_ino == PROC_ROOT_INODE;
    if is_root && path == Path::new("/proc") || ALLOWED_IN_PROC.iter().any(|allowed| path == Path::new(allowed)) {
        return Ok(());
    }
    bail!("{path:?} cannot be mounted because it is inside /proc");
}

/// PROC_ROOT_INO: the root of every procfs.
pub(super) const PROC_ROOT_INODE: u64 = 1;
