//! A container without a mount namespace of its own: its mounts are made in the runtime's, on a mount of the rootfs on
//! itself, and outlive its processes. So they are taken away with the container.

use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::mount::{MntFlags, umount2};
use nix::unistd::{chdir, chroot, fchdir};

use crate::error::{Context as _, Result};
use crate::state::Record;

const MOUNTS: &str = "/proc/self/mountinfo";

/// How many mounts lie on this very directory. Counted before the container's own comes: the engine may have mounted the
/// rootfs there, and that one must stay.
pub fn count(rootfs: &Path) -> Result<usize> {
    let table = fs::read(MOUNTS).with_context(|| format!("read {MOUNTS}"))?;
    let wanted = escape(rootfs.as_os_str().as_bytes());
    let point = |line: &&[u8]| line.split(|&byte| byte == b' ').nth(4) == Some(wanted.as_slice());
    Ok(table.split(|&byte| byte == b'\n').filter(point).count())
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn escape(path: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.len());
    for &byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend(format!("\\{byte:03o}").into_bytes()),
            _ => text.push(byte),
        }
    }
    text
}

/// Makes the rootfs `/` of this process alone: the mount namespace's own is the host's.
pub fn enter(rootfs: BorrowedFd<'_>) -> Result<()> {
    fchdir(rootfs).context("chdir to the rootfs")?;
    chroot(".").context("chroot to the rootfs")?;
    chdir("/").context("chdir to /")
}

/// Takes away what is mounted on the rootfs and below it since the record was made; nothing, if the container had a mount
/// namespace.
pub fn unmount(record: &Record) -> Result<()> {
    let Some(before) = record.mounts_before else { return Ok(()) };
    // Counted anew each time: below a shared mount one unmount takes several away.
    while count(&record.rootfs)? > before {
        umount2(&record.rootfs, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .with_context(|| format!("unmount {:?}", record.rootfs))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_found_by_its_whole_path() {
        assert_eq!(count(Path::new("/")).unwrap(), 1);
        assert_eq!(count(Path::new("/no such")).unwrap(), 0);
        assert_eq!(escape(b"/a b\\c"), b"/a\\040b\\134c");
    }
}
