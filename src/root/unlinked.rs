//! Places of the runtime's own making: devices, the console, masks. A link that the image or a volume brings would move
//! them elsewhere (CVE-2025-31133, CVE-2025-52565), so none is followed. The kernel's own links, of procfs and sysfs, are
//! the exception: `/proc/mounts` has to be masked where it leads to.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC};
use pathrs::flags::ResolverFlags;

use super::Rootfs;
use super::path::{MOST_LINKS, clean};
use crate::error::{Context as _, Result, anyhow, bail, ensure, from_pathrs, pathrs_errno};
use crate::sys::mount::filesystem_type;

impl Rootfs {
    /// Opens what is at `path` as a location (O_PATH); `None` if nothing is there.
    ///
    /// # Errors
    /// A link on the way that is not one of procfs's or sysfs's.
    pub fn find_unlinked(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            match self.open(&path, OFlag::empty(), ResolveFlag::RESOLVE_NO_SYMLINKS) {
                Ok(found) => return Ok(Some(found)),
                Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
                Err(Errno::ELOOP) => path = self.past_a_link_of_the_kernel(&path)?,
                Err(Errno::ENOSYS | Errno::EPERM) => return self.walk_unlinked(&path),
                Err(errno) => return Err(errno).with_context(|| format!("resolve {path:?} in the rootfs")),
            }
        }
        Err(Errno::ELOOP).with_context(|| format!("resolve {path:?} in the rootfs"))
    }

    /// Opens the directory at `path`, made with its parents where they are missing.
    ///
    /// # Errors
    /// As [`Self::find_unlinked`], and what keeps it from being made.
    pub fn directory_unlinked(&self, path: &Path) -> Result<OwnedFd> {
        if let Some(found) = self.find_unlinked(path)? {
            return Ok(found);
        }
        let describe = || format!("make directory {path:?} in the rootfs");
        let (parent, name) = self.parent_and_name_unlinked(path)?;
        match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).with_context(describe),
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&parent, name, flags, Mode::empty()).with_context(describe)
    }

    /// Opens the directory that `path` is in, made where missing, and returns it with the path's last name.
    ///
    /// # Errors
    /// As [`Self::directory_unlinked`].
    pub fn parent_and_name_unlinked<'path>(&self, path: &'path Path) -> Result<(OwnedFd, &'path Path)> {
        let name = path.file_name().ok_or_else(|| anyhow!("{path:?} does not name a file"))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.directory_unlinked(parent)?, Path::new(name)))
    }

    /// Opens the file at `path` to mount one on it, made empty where it is missing.
    ///
    /// # Errors
    /// As [`Self::directory_unlinked`]; a link or a directory in the file's place, or a place in procfs or sysfs.
    pub fn file_unlinked(&self, path: &Path) -> Result<OwnedFd> {
        let (parent, name) = self.parent_and_name_unlinked(path)?;
        let filesystem = filesystem_type(parent.as_fd()).with_context(|| format!("statfs {path:?}"))?;
        ensure!(![PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&filesystem), "{path:?} is in procfs or sysfs");
        let open = |flags| {
            let mode = Mode::from_bits_truncate(0o644);
            openat(&parent, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, mode)
        };
        let file = match open(OFlag::O_PATH) {
            Err(Errno::ENOENT) => open(OFlag::O_CREAT | OFlag::O_EXCL),
            result => result,
        };
        let file = file.with_context(|| format!("make file {path:?} in the rootfs"))?;
        match fstat(&file).with_context(|| format!("stat {path:?}"))?.st_mode & libc::S_IFMT {
            libc::S_IFLNK => bail!("{path:?} is a symbolic link, which is not followed"),
            libc::S_IFDIR => Err(Errno::EISDIR).with_context(|| format!("{path:?}")),
            _ => Ok(file),
        }
    }

    /// The path that is meant by one whose first link is procfs's or sysfs's. A link that leads to what a process holds
    /// open (`/proc/self/fd/3`) has no path.
    fn past_a_link_of_the_kernel(&self, path: &Path) -> Result<PathBuf> {
        for part in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            let describe = || format!("resolve {part:?} in the rootfs");
            let found = self.open(part, OFlag::O_NOFOLLOW, ResolveFlag::RESOLVE_NO_SYMLINKS).with_context(describe)?;
            if fstat(&found).with_context(describe)?.st_mode & libc::S_IFMT != libc::S_IFLNK {
                continue;
            }
            let filesystem = filesystem_type(found.as_fd()).with_context(describe)?;
            let is_of_the_kernel = [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&filesystem);
            ensure!(is_of_the_kernel, "{part:?} is a symbolic link, which is not followed");
            if matches!(self.open(part, OFlag::empty(), ResolveFlag::empty()), Err(Errno::ELOOP)) {
                return Err(Errno::ELOOP).with_context(describe);
            }
            let target = readlinkat(&found, OsStr::new("")).with_context(describe)?;
            let rest = path.strip_prefix(part).unwrap_or(Path::new(""));
            return Ok(clean(&part.parent().unwrap_or(Path::new("/")).join(target).join(rest)).into_owned());
        }
        // It was a link a moment ago.
        Err(Errno::ELOOP).with_context(|| format!("resolve {path:?} in the rootfs"))
    }

    fn walk_unlinked(&self, path: &Path) -> Result<Option<OwnedFd>> {
        match self.root().with_resolver_flags(ResolverFlags::NO_SYMLINKS).resolve(path) {
            Ok(handle) => Ok(Some(handle.into())),
            Err(error) if matches!(pathrs_errno(&error), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(None),
            Err(error) => Err(from_pathrs(error)).with_context(|| format!("resolve {path:?} in the rootfs")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::one_line;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_of_the_images_is_followed_nor_made_over() {
        let dir = std::env::temp_dir().join(format!("tare-unlinked-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("inside")).unwrap();
        symlink("inside", dir.join("link")).unwrap();
        symlink("/inside/file", dir.join("inside/dangling")).unwrap();
        let rootfs = Rootfs::new(std::fs::File::open(&dir).unwrap().into());
        let refused = |error: crate::error::Error| assert!(one_line(&error).contains("symbolic link"), "{error:#}");
        for path in ["/link", "/link/made", "/inside/dangling"] {
            refused(rootfs.find_unlinked(Path::new(path)).unwrap_err());
            refused(rootfs.file_unlinked(Path::new(path)).unwrap_err());
        }
        refused(rootfs.directory_unlinked(Path::new("/link/made")).unwrap_err());
        assert!(rootfs.find_unlinked(Path::new("/inside/none/deep")).unwrap().is_none());
        drop(rootfs.directory_unlinked(Path::new("/inside/made/deep")).unwrap());
        drop(rootfs.file_unlinked(Path::new("/inside/made/file")).unwrap());
        assert!(dir.join("inside/made/deep").is_dir() && dir.join("inside/made/file").is_file());
        assert!(rootfs.file_unlinked(Path::new("/inside/made")).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_link_of_procfs_leads_to_its_target_unless_it_has_no_path() {
        let rootfs = Rootfs::new(std::fs::File::open("/").unwrap().into());
        let found = rootfs.find_unlinked(Path::new("/proc/mounts")).unwrap().unwrap();
        assert_eq!(fstat(&found).unwrap().st_mode & libc::S_IFMT, libc::S_IFREG);
        assert!(rootfs.find_unlinked(Path::new("/proc/self/no-such-file")).unwrap().is_none());
        assert!(rootfs.find_unlinked(Path::new("/proc/self/cwd")).is_err());
    }
}
