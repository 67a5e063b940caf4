//! Paths below the rootfs. Each is resolved by the kernel as if the rootfs were the root (openat2(2), RESOLVE_IN_ROOT, or
//! by pathrs where the kernel cannot), once, to a descriptor that all further steps act on: a link swapped in between
//! changes nothing (CVE-2019-16884, CVE-2021-30465, CVE-2025-52565).

use std::borrow::Cow;
use std::fs::Permissions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};
use pathrs::RootRef;
use pathrs::flags::OpenFlags;

use crate::error::{Context as _, Result, anyhow, ensure, from_pathrs, pathrs_errno};

/// How many links to nothing a path may lead over, as many as the kernel follows.
pub(super) const MOST_LINKS: usize = 40;

/// How often a resolution that the kernel gave up is tried again.
const MOST_TRIES: usize = 128;

/// The rootfs, open at the mount that becomes `/`.
#[derive(Debug)]
pub struct Rootfs(OwnedFd);

impl Rootfs {
    /// Takes a descriptor of the rootfs's directory.
    pub fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// The directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens what is at `path` as a location (O_PATH), links followed inside the rootfs; `None` if nothing is there.
    pub fn find(&self, path: &Path) -> Result<Option<OwnedFd>> {
        match self.open(path, OFlag::empty(), ResolveFlag::empty()) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            // Before Linux 5.6, or behind a seccomp profile older than that: pathrs walks the path itself.
            Err(Errno::ENOSYS | Errno::EPERM) => self.walk(path),
            Err(errno) => Err(errno).with_context(|| format!("resolve {path:?} in the rootfs")),
        }
    }

    /// The very call that pathrs makes, with the same flags, so it is as safe. What it leaves out is what pathrs adds to
    /// an error: ten calls to describe it, and most of the paths asked for are not there.
    pub(super) fn open(&self, path: &Path, flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | resolve);
        for _ in 0..MOST_TRIES {
            match openat2(&self.0, path, how) {
                // Something on the host was renamed or mounted while the kernel followed `..`.
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                result => return result,
            }
        }
        Err(Errno::EAGAIN)
    }

    fn walk(&self, path: &Path) -> Result<Option<OwnedFd>> {
        match self.root().resolve(path) {
            Ok(handle) => Ok(Some(handle.into())),
            Err(error) if matches!(pathrs_errno(&error), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(None),
            Err(error) => Err(from_pathrs(error)).with_context(|| format!("resolve {path:?} in the rootfs")),
        }
    }

    /// Opens the directory at `path`, made with its parents where they are missing.
    pub fn directory(&self, path: &Path) -> Result<OwnedFd> {
        if let Some(found) = self.find(path)? {
            return Ok(found);
        }
        let describe = || format!("make directory {path:?} in the rootfs");
        let (parent, name) = self.parent_and_name(path)?;
        match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            // A link to nothing, or somebody else makes it at this moment.
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).with_context(describe),
            Ok(()) => {
                // One name in a directory in hand, no link followed: it is what was just made, or another directory that
                // took its place in the same one.
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                return openat(&parent, name, flags, Mode::empty()).with_context(describe);
            }
        }
        let path = self.past_dangling_links(path)?;
        let made = self.root().mkdir_all(&path, &Permissions::from_mode(0o755)).map_err(from_pathrs);
        made.map(OwnedFd::from).with_context(describe)
    }

    /// Opens the file at `path`, made empty, with its parents, where it is missing: a place to mount a file on.
    pub fn file(&self, path: &Path) -> Result<OwnedFd> {
        if let Some(found) = self.find(path)? {
            return Ok(found);
        }
        let describe = || format!("make file {path:?} in the rootfs");
        let (parent, name) = self.parent_and_name(path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&parent, name, flags, Mode::from_bits_truncate(0o644)) {
            Err(Errno::EEXIST) => {}
            result => return result.with_context(describe),
        }
        let path = &self.past_dangling_links(path)?;
        self.parent_and_name(path)?;
        let made = self
            .root()
            .create_file(path, OpenFlags::O_RDONLY | OpenFlags::O_NONBLOCK, &Permissions::from_mode(0o644))
            .map_err(from_pathrs);
        made.map(OwnedFd::from).with_context(describe)
    }

    /// The path that a path with links to nothing means: an image may bring a link whose target is still to be made. What
    /// is made there is in the rootfs all the same, whatever the links say by then.
    fn past_dangling_links(&self, path: &Path) -> Result<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let dangling = path.ancestors().find_map(|ancestor| Some((ancestor, self.dangling_target(ancestor)?)));
            let Some((link, target)) = dangling else { return Ok(path) };
            let rest = path.strip_prefix(link).unwrap_or(Path::new(""));
            path = clean(&link.parent().unwrap_or(Path::new("/")).join(target).join(rest)).into_owned();
        }
        Err(Errno::ELOOP).with_context(|| format!("resolve {path:?} in the rootfs"))
    }

    /// Is there a symbolic link at `path`, wherever it leads?
    pub fn is_link(&self, path: &Path) -> bool {
        self.root().readlink(path).is_ok()
    }

    /// Where a link leads that leads to nothing.
    fn dangling_target(&self, path: &Path) -> Option<PathBuf> {
        let target = self.root().readlink(path).ok()?;
        self.root().resolve(path).is_err().then_some(target)
    }

    /// The directory that `path` is in, made where missing, and its last name.
    pub fn parent_and_name<'path>(&self, path: &'path Path) -> Result<(OwnedFd, &'path Path)> {
        let name = path.file_name().ok_or_else(|| anyhow!("{path:?} does not name a file"))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.directory(parent)?, Path::new(name)))
    }

    pub(super) fn root(&self) -> RootRef<'_> {
        RootRef::from_fd(self.0.as_fd())
    }
}

/// A path as the container sees it: absolute, without `.` and `..`, which cannot climb above the root. What is clean already,
/// as nearly all are, is left as it is; two clean paths are the same where their bytes are.
pub fn clean(path: &Path) -> Cow<'_, Path> {
    let is_clean = |rest: &[u8]| rest.split(|&byte| byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
    if path.as_os_str().as_bytes().strip_prefix(b"/").is_some_and(|rest| rest.is_empty() || is_clean(rest)) {
        return Cow::Borrowed(path);
    }
    let mut cleaned = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Cow::Owned(cleaned)
}

/// Refuses a path that config.json says has to be absolute, and is not.
pub fn check_absolute(path: &Path) -> Result<()> {
    ensure!(path.is_absolute(), "{path:?} is not an absolute path");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_cannot_climb_above_the_root() {
        for (path, cleaned) in [
            ("/a/../../b", "/b"),
            ("a/./b/", "/a/b"),
            ("../..", "/"),
            ("/proc//sys", "/proc/sys"),
            ("", "/"),
            ("/", "/"),
            ("/a/b", "/a/b"),
        ] {
            assert_eq!(clean(Path::new(path)).as_os_str(), cleaned, "{path:?}");
        }
    }

    #[test]
    fn a_link_leads_nowhere_but_into_the_rootfs() {
        let dir = std::env::temp_dir().join(format!("tare-rootfs-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("inside")).unwrap();
        std::os::unix::fs::symlink("/../../inside", dir.join("link")).unwrap();
        let rootfs = Rootfs::new(std::fs::File::open(&dir).unwrap().into());
        drop(rootfs.directory(Path::new("/link/made")).unwrap());
        drop(rootfs.file(Path::new("/link/file")).unwrap());
        assert!(dir.join("inside/made").is_dir());
        assert!(dir.join("inside/file").is_file());
        assert!(rootfs.find(Path::new("/link/none")).unwrap().is_none());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
