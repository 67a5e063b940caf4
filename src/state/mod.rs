//! What outlives a command: a container's directory below `--root`, its record, its lock, its start
//! gate.
//!
//! The status is never stored. It is worked out from what is true now: is init alive (pid and start
//! time), is it still waiting behind its start gate (the fifo exists).

pub mod damaged;
pub mod foreign;
pub mod gate;
mod hook_record;
pub mod id;
pub mod kept;
mod lock;
pub mod pid_file;
pub mod record;
pub mod root;
pub mod status;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Context as _, Result, anyhow, bail};

pub use damaged::Damaged;
pub use kept::Kept;
pub use lock::{Attempt, Lock};
pub use record::Record;
pub use root::Root;
pub use status::Status;

const RECORD: &str = "state.json";
/// How often a directory is made that another command removes before it is locked.
const TRIES: u32 = 100;
const STAGED: &str = ".state.json.new";
/// The longest record in bytes: annotations, hooks and limits of the largest configuration.
const LONGEST_RECORD: u64 = 32 << 20;

/// A container's directory, open.
#[derive(Debug)]
pub struct Container {
    id: String,
    path: PathBuf,
    dir: OwnedFd,
    /// The user id that the directory belongs to.
    owner: u32,
}

impl Container {
    /// Makes the directory of a new container below `root`, which is made too, and locks it.
    pub fn create(root: &Root, id: &str) -> Result<(Self, Lock)> {
        id::check(id)?;
        let parent = root.make()?;
        // Between mkdir and the lock the directory is as one that a killed `create` has left:
        // `delete` may remove it.
        for _ in 0..TRIES {
            // Nobody else needs it: init takes its side of the gate as the directory's owner,
            // before any change of user.
            match mkdirat(&parent, id, Mode::from_bits_truncate(0o700)) {
                Err(Errno::EEXIST) => return Err(lock::exists(id)),
                result => result.with_context(|| format!("mkdir {:?}", root.path().join(id)))?,
            }
            let claim = |container: Self| Ok(container.claim()?.map(|lock| (container, lock)));
            match Self::open_at(root, &parent, id).and_then(claim) {
                Ok(Some(locked)) => return Ok(locked),
                Ok(None) => {}
                Err(error) if crate::error::errno(&error) == Some(Errno::ENOENT) => {}
                Err(error) => {
                    // Empty still: if it is another's meanwhile, with something in it, it stays.
                    let _ = unlinkat(&parent, id, UnlinkatFlags::RemoveDir);
                    return Err(error);
                }
            }
        }
        bail!("container {id:?}: another command removed its directory {TRIES} times before it was locked")
    }

    /// Opens an existing container.
    ///
    /// # Errors
    /// It does not exist, cannot be reached, or others may have written its record ([`Root`]).
    pub fn open(root: &Root, id: &str) -> Result<Self> {
        Self::find(root, id)?.ok_or_else(|| anyhow!("container {id:?} does not exist"))
    }

    /// Opens a container; `None` if it does not exist.
    ///
    /// # Errors
    /// As [`Container::open`].
    pub fn find(root: &Root, id: &str) -> Result<Option<Self>> {
        id::check(id)?;
        let Some(parent) = root.open()? else { return Ok(None) };
        match Self::open_at(root, &parent, id) {
            Err(error) if crate::error::errno(&error) == Some(Errno::ENOENT) => Ok(None),
            result => result.map(Some),
        }
    }

    fn open_at(root: &Root, parent: &OwnedFd, id: &str) -> Result<Self> {
        let path = root.path().join(id);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::openat(parent, id, flags, Mode::empty()).with_context(|| format!("open {path:?}"))?;
        let stat = fstat(&dir).with_context(|| format!("stat {path:?}"))?;
        root.check_container(id, &stat)?;
        Ok(Self { id: id.to_owned(), path, dir, owner: stat.st_uid })
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory for this process alone, by a path of few bytes.
    pub fn short_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()))
    }

    /// Writes the record so that a reader sees the old one or the new one, whole.
    pub fn save(&self, record: &Record) -> Result<()> {
        self.stage(record).and_then(|()| self.commit())
    }

    /// Writes a new record beside the one that is in force: what can fail for lack of room fails
    /// here.
    pub fn stage(&self, record: &Record) -> Result<()> {
        let json = serde_json::to_vec(record).context("state.json")?;
        let write = || -> std::io::Result<()> {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = nix::fcntl::openat(&self.dir, STAGED, flags, Mode::from_bits_truncate(0o600))?;
            File::from(file).write_all(&json)
        };
        write().inspect_err(|_| self.unstage()).with_context(|| format!("write {:?}", self.path.join(RECORD)))
    }

    /// Puts the staged record in force.
    pub fn commit(&self) -> Result<()> {
        nix::fcntl::renameat(&self.dir, STAGED, &self.dir, RECORD)
            .with_context(|| format!("replace {:?}", self.path.join(RECORD)))
    }

    /// Forgets the staged record. One that is left is overwritten by the next, or goes with the
    /// directory.
    pub fn unstage(&self) {
        let _ = unlinkat(&self.dir, STAGED, UnlinkatFlags::NoRemoveDir);
    }

    /// Reads the record. A container that is gone, or whose making died before its first record,
    /// has none.
    pub fn load(&self) -> Result<Option<Record>> {
        load(&self.dir, Path::new(RECORD), self.owner, &self.id).with_context(|| format!("{:?}", self.path))
    }

    /// Reads the record of a container that has to have one.
    pub fn record(&self) -> Result<Record> {
        self.load()?.ok_or_else(|| anyhow!("container {:?} does not exist", self.id))
    }
}

/// The record and the status of a container below `root`, which is open: for a look at a thousand
/// of them, not even their directories are opened.
pub fn look(root: &Root, directory: &OwnedFd, id: &str) -> Result<Option<(Record, Status)>> {
    id::check(id)?;
    let stat = match fstatat(directory, id, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(None),
        result => result.context("stat")?,
    };
    if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
        bail!("is not a directory");
    }
    root.check_container(id, &stat)?;
    let Some(record) = load(directory, &Path::new(id).join(RECORD), stat.st_uid, id)? else { return Ok(None) };
    let status = match record.init_process_pid {
        0 => Container::open(root, id)?.status(&record)?,
        _ => {
            let position = || gate::position(directory, &Path::new(id).join(gate::FIFO));
            status::with_init(&record, position, || Container::open(root, id)?.is_locked())?
        }
    };
    Ok(Some((record, status)))
}

/// Reads the record at a path, in a directory of this owner.
fn load(directory: &OwnedFd, path: &Path, owner: u32, id: &str) -> Result<Option<Record>> {
    let Some((file, writer)) = open_record(directory, path)? else { return Ok(None) };
    let json = read(file).with_context(|| format!("read {}", path.display()))?;
    let damaged = |error| Damaged(format!("parse {}: {error}", path.display()));
    let mut record: Record = serde_json::from_slice(&json).map_err(damaged)?;
    // Whoever owns the root can give a directory of the caller's another name, but cannot write to
    // it.
    if record.id != id {
        return Err(Damaged(format!("{}: is the record of container {:?}", path.display(), record.id)).into());
    }
    if let Some(stranger) = [owner, writer].into_iter().find(|owner| !root::is_trusted(*owner)) {
        record.distrust(stranger)?;
    }
    Ok(Some(record))
}

/// Opens a record, and tells whose it is; `None` if there is none.
///
/// # Errors
/// [`Damaged`] for what is no file that can be read to its end, and those of open(2).
fn open_record(directory: &OwnedFd, path: &Path) -> Result<Option<(File, u32)>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let damaged = |what: &str| Err(Damaged(format!("{}: {what}", path.display())).into());
    let file = match nix::fcntl::openat(directory, path, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP) => return damaged("is a symlink"),
        // A socket, a device without a driver.
        Err(Errno::ENXIO | Errno::ENODEV) => return damaged("is not a regular file"),
        result => result.with_context(|| format!("open {}", path.display()))?,
    };
    let stat = fstat(&file).with_context(|| format!("stat {}", path.display()))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return damaged("is not a regular file");
    }
    if stat.st_size as u64 > LONGEST_RECORD {
        return damaged("is too large");
    }
    Ok(Some((File::from(file), stat.st_uid)))
}

/// Reads a file with as few calls as it takes: it is at its end where a read gives less than there
/// is room for.
fn read(mut file: File) -> std::io::Result<Vec<u8>> {
    let mut text = vec![0; 4096];
    let mut length = 0;
    loop {
        length += file.read(&mut text[length..])?;
        if length < text.len() {
            text.truncate(length);
            return Ok(text);
        }
        text.resize(2 * length, 0);
    }
}

/// The ids of all containers below `root`, sorted; none if there is no such directory.
pub fn ids(root: &Root) -> Result<Vec<String>> {
    let context = || format!("--root: read {:?}", root.path());
    let Some(directory) = root.open()? else { return Ok(Vec::new()) };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = Dir::openat(&directory, ".", flags, Mode::empty()).with_context(context)?;
    let mut ids = Vec::new();
    for entry in directory.iter() {
        let entry = entry.with_context(context)?;
        // Names with a leading dot are the runtime's own, such as the seccomp cache.
        if let Ok(name) = entry.file_name().to_str()
            && !name.starts_with('.')
        {
            ids.push(name.to_owned());
        }
    }
    ids.sort_unstable();
    Ok(ids)
}
