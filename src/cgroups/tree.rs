//! A cgroup's directory and those below it, the same on v1 and v2.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::file;
use crate::error::{Context, Error, Result, errno};

/// Whatever the umask is: containerd's shim has 0, and nobody else may make sub-cgroups.
fn make_dir(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(dir)
}

/// Makes a directory and its missing ancestors; those that it made are appended to `made`, outermost first. Tells
/// whether the directory itself is new.
pub(super) fn make(dir: &Path, made: &mut Vec<PathBuf>) -> Result<bool> {
    match make_dir(dir) {
        Ok(()) => {
            made.push(dir.to_owned());
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = dir.parent().with_context(|| format!("mkdir {}", dir.display()))?;
            make(parent, made)?;
            match make_dir(dir) {
                Ok(()) => made.push(dir.to_owned()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
                Err(error) => return Err(error).with_context(|| format!("mkdir {}", dir.display())),
            }
            Ok(true)
        }
        Err(error) => Err(error).with_context(|| format!("mkdir {}", dir.display())),
    }
}

/// Removes what [`make`] made, as far as nobody moved in meanwhile.
pub(super) fn unmake(made: &[PathBuf]) {
    for dir in made.iter().rev() {
        let _ = fs::remove_dir(dir); // the error that led here is the one to report
    }
}

/// The sub-cgroups. A directory of a cgroup file system counts its subdirectories in st_nlink: the usual one has none
/// and its thirty files need not be listed.
fn children(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    if fs::symlink_metadata(dir)?.nlink() <= 2 {
        return Ok(Vec::new());
    }
    let mut children = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            children.push(entry.path());
        }
    }
    Ok(children)
}

/// The processes of a cgroup and of those below it; none if it is gone.
pub(super) fn pids(dir: &Path) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        if !own_pids(&dir, &mut pids)? {
            continue; // removed while we walk
        }
        match children(&dir) {
            Ok(children) => pending.extend(children),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("list {}", dir.display())),
        }
    }
    Ok(pids)
}

/// The processes of one cgroup; `false` if it is gone.
fn own_pids(dir: &Path, pids: &mut Vec<i32>) -> Result<bool> {
    let text = match file::read_if_there(dir, "cgroup.procs") {
        // A threaded v2 cgroup lists threads only.
        Err(error) if errno(&error) == Some(Errno::EOPNOTSUPP) => file::read_if_there(dir, "cgroup.threads")?,
        result => result?,
    };
    let Some(text) = text else { return Ok(false) };
    for line in text.lines() {
        let pid = line.parse().with_context(|| format!("cgroup.procs of {}: {line:?} is no pid", dir.display()))?;
        // 0 is a process of another pid namespace than ours: to signal it would signal our own group.
        if pid > 0 {
            pids.push(pid);
        }
    }
    Ok(true)
}

/// SIGKILL to all processes of a cgroup until no new ones appear: a process may fork between two readings, but what was
/// killed forks no more. Bounded.
pub(super) fn kill_all(dir: &Path) -> Result<()> {
    const ROUNDS: usize = 100;
    let mut killed: Vec<i32> = Vec::new();
    for _ in 0..ROUNDS {
        let mut news = pids(dir)?;
        news.retain(|pid| !killed.contains(pid));
        if news.is_empty() {
            return Ok(());
        }
        for pid in &news {
            match kill(Pid::from_raw(*pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(Error::new(errno).context(format!("kill {pid}"))),
            }
        }
        killed.append(&mut news);
    }
    Err(Error::msg(format!("{} still gets new processes after {ROUNDS} rounds of SIGKILL", dir.display())))
}

/// How long killed processes may take to leave: each has to be given processor time to die, of which there may be little.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes a cgroup and those below it. A process that was killed leaves its cgroup a moment after its parent has seen
/// it end: EBUSY is tried again.
pub(super) fn remove(dir: &Path) -> Result<()> {
    remove_until(dir, Instant::now() + PATIENCE)
}

fn remove_until(dir: &Path, end: Instant) -> Result<()> {
    let mut pause = Duration::ZERO;
    loop {
        let error = match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => error,
        };
        // EBUSY means sub-cgroups or processes. A read-only mount says EROFS of a directory that is not there, too.
        match children(dir) {
            Ok(children) => children.iter().try_for_each(|child| remove_until(child, end))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("list {}", dir.display())),
        }
        if error.raw_os_error() != Some(Errno::EBUSY as i32) || Instant::now() > end {
            return Err(error).with_context(|| format!("rmdir {}", dir.display()));
        }
        sleep(pause); // the first time not at all: what was below may have been all
        pause = (pause * 2).clamp(Duration::from_micros(100), Duration::from_millis(50));
    }
}
