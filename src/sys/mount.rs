//! The descriptor-based mount API: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2) (Linux 5.2) and
//! mount_setattr(2) (Linux 5.12). A mount is an object in hand before it is anywhere in the tree, and it is attached to
//! a directory in hand: no path is looked up twice.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::NixPath;

use super::check;

/// MOUNT_ATTR_* flags of mount_setattr(2) and fsmount(2).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-ID bits and file capabilities are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The bits that hold the access-time mode; `relatime` is the value 0.
    pub const ATIME: u64 = 0x70;
    /// Access times are never updated.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not updated.
    pub const NODIRATIME: u64 = 0x80;
    /// Owners are those of a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symbolic links are not followed (Linux 5.10).
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// struct mount_attr of mount_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    /// Flags to set.
    pub set: u64,
    /// Flags to clear, before the others are set.
    pub clear: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE; 0 leaves the propagation alone.
    pub propagation: u64,
    /// The user namespace of an idmapped mount.
    pub userns_fd: u64,
}

/// A filesystem that is being configured.
#[derive(Debug)]
pub struct FsContext(OwnedFd);

/// Opens a context for a filesystem type.
pub fn fsopen(fstype: &CStr) -> nix::Result<FsContext> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    // SAFETY: the name is a valid C string for the duration of the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })?;
    // SAFETY: fsopen returned a new descriptor that nothing else owns.
    Ok(FsContext(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

impl From<OwnedFd> for FsContext {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for FsContext {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl FsContext {
    /// Returns whether it is of this filesystem type, also where others have it, too. The kernel
    /// names the type when it refuses an option.
    pub fn is_of_type(&self, fstype: &str) -> bool {
        // The kernel keeps eight messages.
        for _ in 0..16 {
            if self.message().is_none() {
                break;
            }
        }
        let refused = self.set_flag(c"tare") == Err(nix::errno::Errno::EINVAL);
        refused && self.message().is_some_and(|said| said == format!("{fstype}: Unknown parameter 'tare'"))
    }

    /// Sets `key=value`. The kernel takes values of at most 255 bytes this way.
    pub fn set_string(&self, key: &CStr, value: &CStr) -> nix::Result<()> {
        self.config(1, Some(key), Some(value))
    }

    /// Sets a flag such as `sync`.
    pub fn set_flag(&self, key: &CStr) -> nix::Result<()> {
        self.config(0, Some(key), None)
    }

    /// Sets an option to what a descriptor stands for.
    pub fn set_fd(&self, key: &CStr, value: BorrowedFd<'_>) -> nix::Result<()> {
        const FSCONFIG_SET_FD: libc::c_uint = 5;
        let (context, value) = (self.0.as_raw_fd(), value.as_raw_fd());
        let nothing = std::ptr::null::<libc::c_char>();
        // SAFETY: the key is a valid C string for the duration of the call; this command takes no other pointer.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_SET_FD, key.as_ptr(), nothing, value) })
            .map(drop)
    }

    /// Makes (or finds) the superblock.
    pub fn create(&self) -> nix::Result<()> {
        self.config(6, None, None)
    }

    /// Makes a mount of the superblock that is attached nowhere yet.
    pub fn mount(&self, attributes: u64) -> nix::Result<OwnedFd> {
        const FSMOUNT_CLOEXEC: libc::c_uint = 1;
        // SAFETY: the descriptor is open for the duration of the call; no pointers are passed.
        let fd = check(unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })?;
        // SAFETY: fsmount returned a new descriptor that nothing else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// What the filesystem itself says about the last failure, such as `overlay: missing 'lowerdir'`.
    pub fn message(&self) -> Option<String> {
        let mut buffer = [0u8; 512];
        let read = nix::unistd::read(&self.0, &mut buffer).ok()?;
        let line = String::from_utf8_lossy(&buffer[..read]);
        Some(line.trim_start_matches("e ").trim().to_owned()).filter(|line| !line.is_empty())
    }

    fn config(&self, command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>) -> nix::Result<()> {
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: both strings are valid C strings or null, as the commands ask for.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, 0) }).map(drop)
    }
}

/// Clones the mount at `path` (relative to `at`, or `at` itself when empty) as a detached tree; with `recursive` all
/// mounts below it too. Symbolic links are followed.
pub fn clone_tree<P: NixPath + ?Sized>(at: BorrowedFd<'_>, path: &P, recursive: bool) -> nix::Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    let fd = path.with_nix_path(|path| {
        // SAFETY: the path is a valid C string for the duration of the call.
        check(unsafe { libc::syscall(libc::SYS_open_tree, at.as_raw_fd(), path.as_ptr(), flags) })
    })??;
    // SAFETY: open_tree returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a detached mount on top of the directory or file `onto`.
pub fn attach(mount: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: both descriptors are open and both paths are empty C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            onto.as_raw_fd(),
            c"".as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Changes the attributes of the mount that `mount` is the root of; with `recursive` of all mounts below it too.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: &Attributes, recursive: bool) -> nix::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the attributes are a struct of the size that is passed, laid out as the kernel's struct mount_attr.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const *attributes,
            size_of::<Attributes>(),
        )
    })
    .map(drop)
}

/// The flags of the mount behind a descriptor (statvfs(3)'s f_flag), as MOUNT_ATTR_* flags. A read-only filesystem makes
/// its mounts look read-only.
pub fn attributes_of(mount: BorrowedFd<'_>) -> nix::Result<u64> {
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the descriptor is open, and the pointer is to memory for the whole struct.
    check(unsafe { libc::fstatvfs(mount.as_raw_fd(), found.as_mut_ptr()) }.into())?;
    // SAFETY: fstatvfs succeeded, so it has filled the whole struct.
    Ok(from_statvfs(unsafe { found.assume_init() }.f_flag))
}

/// ST_* flags of statvfs(3) as MOUNT_ATTR_* flags.
fn from_statvfs(found: u64) -> u64 {
    const ST_RELATIME: u64 = 0x1000;
    // The first four have the same values.
    let mut flags = found & (attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC);
    for (st, flag) in [(0x400, attr::NOATIME), (0x800, attr::NODIRATIME), (0x2000, attr::NOSYMFOLLOW)] {
        if found & st != 0 {
            flags |= flag;
        }
    }
    if flags & attr::NOATIME == 0 && found & ST_RELATIME == 0 {
        flags |= attr::STRICTATIME;
    }
    flags
}

/// Sets an extended attribute of what a descriptor shows, which may be one that cannot be read or written by (O_PATH):
/// those need a path, the kernel's own name of the descriptor.
pub fn set_extended_attribute(of: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> nix::Result<()> {
    format!("/proc/self/fd/{}", of.as_raw_fd())
        .as_str()
        .with_nix_path(|path| {
            // SAFETY: both strings are valid C strings, and the pointer and the length describe one slice.
            check(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }.into())
        })?
        .map(drop)
}

/// The type of the filesystem behind a descriptor (statfs(2)'s f_type).
pub fn filesystem_type(fd: impl AsFd) -> nix::Result<nix::sys::statfs::FsType> {
    Ok(nix::sys::statfs::fstatfs(fd)?.filesystem_type())
}
