//! `tmpcopyup`: a new tmpfs begins with what the directory below it holds.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

use crate::error::{Context as _, Result, ensure};

/// How deep a tree may be: it is the attacker's.
const DEEPEST: usize = 128;

/// Copies the content of a directory into an empty one, with owners and modes. Nothing is followed out of either.
pub fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let readable = open_at(from.as_fd(), Path::new("."), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let writable = open_at(to.as_fd(), Path::new("."), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    copy_directory(readable, writable, 0).context("tmpcopyup")
}

fn copy_directory(from: OwnedFd, to: OwnedFd, depth: usize) -> Result<()> {
    ensure!(depth < DEEPEST, "the directory is more than {DEEPEST} levels deep");
    let mut entries = Dir::from_fd(from.try_clone().context("dup")?).context("read the directory")?;
    for entry in entries.iter() {
        let entry = entry.context("read the directory")?;
        let name = Path::new(std::ffi::OsStr::new(entry.file_name().to_str().context("a file's name is no text")?));
        if name == Path::new(".") || name == Path::new("..") {
            continue;
        }
        copy_entry(from.as_fd(), to.as_fd(), name, depth).with_context(|| format!("{name:?}"))?;
    }
    let attributes = fstat(&from).context("stat")?;
    if depth == 0 {
        // The filesystem's own root has the mode that its options say.
        let (uid, gid) = (Uid::from_raw(attributes.st_uid), Gid::from_raw(attributes.st_gid));
        return fchown(&to, Some(uid), Some(gid)).context("chown");
    }
    own(to.as_fd(), &attributes)
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &Path, depth: usize) -> Result<()> {
    let found = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).context("stat")?;
    let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
    match kind {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::from_bits_truncate(0o700)).context("mkdir")?;
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            copy_directory(open_at(from, name, flags)?, open_at(to, name, flags)?, depth + 1)
        }
        SFlag::S_IFREG => {
            // It may be another file by now: a fifo is not waited for.
            let mut source = File::from(open_at(from, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
            ensure!(source.metadata().context("stat")?.is_file(), "is not a regular file any more");
            let mut copy = File::from(open_at(to, name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?);
            io::copy(&mut source, &mut copy).context("copy")?;
            own(copy.as_fd(), &found)
        }
        SFlag::S_IFLNK => {
            let target = readlinkat(from, name).context("read the link")?;
            symlinkat(target.as_os_str(), to, name).context("link")?;
            own_unopened(to, name, &found)
        }
        // Something to talk to has nobody behind it in a copy.
        SFlag::S_IFSOCK => Ok(()),
        _ => {
            mknodat(to, name, kind, Mode::from_bits_truncate(found.st_mode), found.st_rdev).context("mknod")?;
            own_unopened(to, name, &found)
        }
    }
}

fn open_at(at: BorrowedFd<'_>, name: &Path, flags: OFlag) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(at, name, flags, Mode::from_bits_truncate(0o600)).with_context(|| format!("open {name:?}"))
}

fn own(copy: BorrowedFd<'_>, like: &FileStat) -> Result<()> {
    fchown(copy, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid))).context("chown")?;
    fchmod(copy, Mode::from_bits_truncate(like.st_mode)).context("chmod")
}

fn own_unopened(at: BorrowedFd<'_>, name: &Path, like: &FileStat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    fchownat(at, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).context("chown")
}
