//! A container's lock: its holder may change the container, and nothing else may.
//!
//! The lock is an flock(2) on the container's directory. It belongs to the directory, not to the
//! path: the holder checks that the path still leads to the directory that it locked, because
//! another command may have removed that one meanwhile and a third made a new one. Only the holder
//! removes, and it removes what it locked.

use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::gate::Position;
use super::{Container, RECORD, kept};
use crate::error::{Context as _, Error, Result, anyhow, bail};
use crate::sys::fd::{FlockOperation, flock};

/// How long a command waits for another one that holds the lock. Nothing that the holder does takes
/// longer, unless it is stopped or waits for the kernel.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest time between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// How often the directory is emptied before it is removed: another process may record a hook in it
/// meanwhile.
const TRIES: u32 = 10;

/// The exclusive right to change a container, held until it is dropped or its holder dies.
#[derive(Debug)]
pub struct Lock {
    directory: OwnedFd,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Not only closed: a hook that is about to be executed may still have a copy of the
        // descriptor.
        let _ = flock(self.directory.as_fd(), FlockOperation::Unlock);
    }
}

impl Lock {
    /// The descriptor's number, for init to close its copy.
    pub fn number(&self) -> i32 {
        std::os::fd::AsRawFd::as_raw_fd(&self.directory)
    }
}

/// The outcome of an attempt to lock a container.
#[derive(Debug)]
pub enum Attempt {
    /// The caller has the lock.
    Held(Lock),
    /// Another command has it.
    Busy,
    /// The directory is not the container's any more: it was removed.
    Gone,
}

impl Container {
    /// Tries to lock the container.
    pub fn try_lock(&self) -> Result<Attempt> {
        let Some(directory) = self.open_for_lock()? else { return Ok(Attempt::Gone) };
        match flock(directory.as_fd(), FlockOperation::TryExclusive) {
            Err(Errno::EWOULDBLOCK) => return Ok(Attempt::Busy),
            result => result.with_context(|| format!("lock {:?}", self.path))?,
        }
        let lock = Lock { directory };
        Ok(if self.is_in_place()? { Attempt::Held(lock) } else { Attempt::Gone })
    }

    /// Whether a command has the lock. Those that only ask are not in each other's way.
    pub(super) fn is_locked(&self) -> Result<bool> {
        let Some(directory) = self.open_for_lock()? else { return Ok(false) };
        match flock(directory.as_fd(), FlockOperation::TryShared) {
            Err(Errno::EWOULDBLOCK) => Ok(true),
            result => result.map(|()| false).with_context(|| format!("lock {:?}", self.path)),
        }
    }

    /// Opens the directory once more: a lock belongs to an open file, and init may inherit the
    /// other descriptor.
    fn open_for_lock(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match openat(&self.dir, c".", flags, Mode::empty()) {
            Err(Errno::ENOENT) => Ok(None),
            result => result.map(Some).with_context(|| format!("open {:?} to lock it", self.path)),
        }
    }

    /// Locks a container whose creation has ended.
    ///
    /// # Errors
    /// It is still being created; it is gone; another command holds the lock for too long.
    pub fn lock(&self) -> Result<Lock> {
        let refuse = |_| match self.is_being_created()? {
            true => bail!(
                "container {:?} is still being created: wait until it is, or remove it with \"delete --force\"",
                self.id
            ),
            false => Ok(()),
        };
        self.wait_for_lock(refuse)?.ok_or_else(|| anyhow!("container {:?} does not exist", self.id))
    }

    /// Waits for the lock; `None`: the container is gone. `meanwhile` is called after each attempt,
    /// with the time that has passed.
    ///
    /// # Errors
    /// Those of `meanwhile`, and a holder that keeps the lock for too long, which is named.
    pub fn wait_for_lock(&self, mut meanwhile: impl FnMut(Duration) -> Result<()>) -> Result<Option<Lock>> {
        let begin = Instant::now();
        let mut pause = Duration::from_micros(100);
        loop {
            match self.try_lock()? {
                Attempt::Held(lock) => return Ok(Some(lock)),
                Attempt::Gone => return Ok(None),
                Attempt::Busy => meanwhile(begin.elapsed())?,
            }
            if begin.elapsed() > PATIENCE {
                bail!("container {:?} is locked by {} for {} s", self.id, self.holder(), PATIENCE.as_secs());
            }
            sleep(pause);
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// Locks a directory that was made for a new container; `None`: it is gone.
    ///
    /// # Errors
    /// It is another container's: the one that was made may have been removed before it was opened,
    /// and another command may have made the next.
    pub(super) fn claim(&self) -> Result<Option<Lock>> {
        let Some(lock) = self.wait_for_lock(|_| Ok(()))? else { return Ok(None) };
        match is_empty(&lock.directory).with_context(|| format!("read {:?}", self.path))? {
            true => Ok(Some(lock)),
            false => Err(exists(&self.id)),
        }
    }

    /// Whether another command, which has the lock, is creating the container.
    fn is_being_created(&self) -> Result<bool> {
        // Without a record it is about to be written, or about to go: the next look tells.
        let Some(record) = self.load()? else { return Ok(false) };
        let is_begun = record.init_process_pid == 0 || self.gate_position()? == Position::Unfinished;
        Ok(is_begun && self.is_locked()?)
    }

    /// Whether the path leads to this directory.
    fn is_in_place(&self) -> Result<bool> {
        let own = fstat(&self.dir).with_context(|| format!("stat {:?}", self.path))?;
        match fstatat(AT_FDCWD, &self.path, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) => Ok(same(&own, &there)),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno).with_context(|| format!("stat {:?}", self.path)),
        }
    }

    /// The process that has the lock, as far as the kernel tells (proc_locks(5)).
    fn holder(&self) -> String {
        let unknown = || "another command".to_owned();
        let Ok(stat) = fstat(&self.dir) else { return unknown() };
        let file = format!("{:02x}:{:02x}:{}", major(stat.st_dev), minor(stat.st_dev), stat.st_ino);
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let pid = locks.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&file.as_str())).then(|| fields[4].to_owned())
        });
        let Some(pid) = pid else { return unknown() };
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let mut holder = format!("pid {pid}");
        if !command.trim().is_empty() {
            let _ = write!(holder, " ({})", command.trim()); // writing to a String cannot fail
        }
        holder
    }

    /// Removes the directory that the caller has locked, and what is in it. Another directory that
    /// has come to its path stays.
    pub fn remove(&self, lock: &Lock) -> Result<()> {
        let explain = || format!("remove {:?}", self.path);
        // Usually there is nothing but these, and no need to list the directory. The record goes
        // first: without it the rest is removed by whoever deletes the container again.
        for file in [RECORD, kept::KEPT, kept::FILTER] {
            let _ = unlinkat(&lock.directory, file, UnlinkatFlags::NoRemoveDir);
        }
        for _ in 0..TRIES {
            if !self.is_in_place()? {
                return empty(&lock.directory).with_context(explain);
            }
            match unlinkat(AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => empty(&lock.directory).with_context(explain)?,
                Err(errno) => return Err(errno).with_context(explain),
            }
        }
        Err(Errno::ENOTEMPTY).with_context(explain)
    }
}

fn same(one: &FileStat, other: &FileStat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// What a `create` is told whose id another container has.
pub(super) fn exists(id: &str) -> Error {
    anyhow!("container with given ID already exists: {id:?} (delete it first, or choose another id)")
}

/// Whether there is nothing in a directory.
fn is_empty(directory: &OwnedFd) -> nix::Result<bool> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(directory, c".", flags, Mode::empty())?;
    for entry in listing.iter() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes all that is in a directory, by its descriptor: no path is looked up.
fn empty(directory: &OwnedFd) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(directory, c".", flags, Mode::empty())?;
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => continue,
            result => result?,
        };
        let how = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR {
            true => {
                empty(&openat(directory, name, flags, Mode::empty())?)?;
                UnlinkatFlags::RemoveDir
            }
            false => UnlinkatFlags::NoRemoveDir,
        };
        match unlinkat(directory, name, how) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::state::Root;

    fn root(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("tare-lock-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_lock_of_a_directory_that_is_gone_is_none_and_removes_no_other() {
        let root = root("gone");
        let (old, lock) = Container::create(&Root::named(root.clone()), "x").unwrap();
        let waiting = Container::open(&Root::named(root.clone()), "x").unwrap();
        assert!(matches!(waiting.try_lock().unwrap(), Attempt::Busy));
        fs::rename(root.join("x"), root.join("elsewhere")).unwrap();
        let (new, _) = Container::create(&Root::named(root.clone()), "x").unwrap();
        old.remove(&lock).unwrap();
        drop(lock);
        assert!(matches!(waiting.try_lock().unwrap(), Attempt::Gone));
        assert!(waiting.lock().unwrap_err().to_string().contains("does not exist"));
        assert!(matches!(new.try_lock().unwrap(), Attempt::Held(_)));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_directory_that_another_container_has_got_is_not_claimed() {
        let root = root("claim");
        let (container, lock) = Container::create(&Root::named(root.clone()), "x").unwrap();
        fs::write(container.path().join(kept::KEPT), "").unwrap();
        drop(lock);
        let other = Container::open(&Root::named(root.clone()), "x").unwrap();
        assert!(other.claim().unwrap_err().to_string().contains("already exists"));
        assert!(matches!(container.try_lock().unwrap(), Attempt::Held(_)));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn whatever_is_in_the_directory_goes_with_it() {
        let root = root("full");
        let (container, lock) = Container::create(&Root::named(root.clone()), "x").unwrap();
        fs::create_dir_all(container.path().join("notify/deep")).unwrap();
        fs::write(container.path().join("notify/deep/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", container.path().join("link")).unwrap();
        container.remove(&lock).unwrap();
        assert!(!container.path().exists() && Path::new("/etc").exists());
        fs::remove_dir_all(root).unwrap();
    }
}
