//! The state root (`--root`), and whose it has to be.
//!
//! A record names what a later command kills, removes and runs. So a root is used only if nobody
//! but its owner can have put a record there, and the default one only if that owner is the caller:
//! /tmp/tare-UID can be made by anybody.

use std::cell::Cell;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::unistd::geteuid;

use crate::error::{Context as _, Result, anyhow, bail};

/// Write permission for the group or for all others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Where the containers' state is. Nothing is opened until a command needs it.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    /// Nobody named it.
    is_default: bool,
    /// A warning on standard error would be taken for output.
    is_quiet: bool,
    is_warned: Cell<bool>,
}

impl Root {
    /// The root that `--root` names.
    pub fn named(path: PathBuf) -> Self {
        Self { path, is_default: false, is_quiet: false, is_warned: Cell::new(false) }
    }

    /// The root that is used when none is named.
    pub fn default_at(path: PathBuf) -> Self {
        Self { is_default: true, ..Self::named(path) }
    }

    /// Has warnings go to the log file alone, if there is one: callers read standard error and
    /// output as one.
    pub fn quiet(mut self) -> Self {
        self.is_quiet = true;
        self
    }

    /// Its path, for messages and for paths that a container's configuration names.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it (O_PATH); `None` if it does not exist.
    ///
    /// # Errors
    /// It is no directory, cannot be reached, or others than its owner, or for the default than the
    /// caller, may write records there.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let mut flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        if self.is_default {
            flags |= OFlag::O_NOFOLLOW;
        }
        let dir = match open(&self.path, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            // With O_DIRECTORY a symlink that is not followed is no directory.
            Err(Errno::ENOTDIR | Errno::ELOOP) if self.path.is_symlink() && self.is_default => {
                bail!("default state root {:?}: it is a symlink: remove it, or name a directory by --root", self.path)
            }
            result => result.with_context(|| format!("--root: open {:?}", self.path))?,
        };
        self.check(&fstat(&dir).with_context(|| format!("--root: stat {:?}", self.path))?)?;
        Ok(Some(dir))
    }

    /// Opens it, and makes it before if it is not there.
    ///
    /// # Errors
    /// As [`Root::open`]; it cannot be made.
    pub fn make(&self) -> Result<OwnedFd> {
        if let Some(dir) = self.open()? {
            return Ok(dir);
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .with_context(|| format!("--root: mkdir {:?}", self.path))?;
        self.open()?.ok_or_else(|| anyhow!("--root: {:?} was removed while it was made", self.path))
    }

    fn check(&self, stat: &FileStat) -> Result<()> {
        let (path, own) = (&self.path, geteuid().as_raw());
        let which = if self.is_default { "default state root" } else { "--root" };
        let mode = stat.st_mode & 0o7777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            bail!(
                "{which} {path:?}: mode {mode:04o} lets others put records there: run \"chmod go-w\" on it, or name \
                 another directory by --root"
            );
        }
        if is_trusted(stat.st_uid) && !(self.is_default && stat.st_uid != own) {
            return Ok(());
        }
        if self.is_default {
            bail!(
                "{which} {path:?}: it belongs to user id {}, not to the caller's ({own}): remove it, or name another \
                 directory by --root",
                stat.st_uid
            );
        }
        if !self.is_warned.replace(true) && (!self.is_quiet || crate::log::has_file()) {
            log::warn!("{which} {path:?}: it belongs to user id {}, not to the caller's ({own})", stat.st_uid);
        }
        Ok(())
    }

    /// Checks the directory of a container in this root.
    ///
    /// # Errors
    /// Others may write to it, or it is in the default root and belongs to another user.
    pub(super) fn check_container(&self, id: &str, stat: &FileStat) -> Result<()> {
        let mode = stat.st_mode & 0o7777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            bail!("directory {:?}: mode {mode:04o} lets others change the container's record", self.path.join(id));
        }
        if self.is_default && !is_trusted(stat.st_uid) {
            bail!(
                "directory {:?}: it belongs to user id {}, not to the caller's ({})",
                self.path.join(id),
                stat.st_uid,
                geteuid()
            );
        }
        Ok(())
    }
}

/// Returns whether what a user wrote is believed: the caller's own, and root's, who could do anything to
/// the caller.
pub(super) fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}
