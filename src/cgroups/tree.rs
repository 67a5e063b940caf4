//! A cgroup's directory and those below it, the same on v1 and v2.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::file;
use super::spared::Spared;
use crate::error::{Context, Error, Result, bail, errno};
use crate::sys::fd::{FlockOperation, flock};

/// Whether a directory is there. Only ENOENT and ENODEV say that it is not: a failure to look does
/// not mean that it is gone.
pub(super) fn is_there(dir: &Path) -> Result<bool> {
    match fs::symlink_metadata(dir) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("stat {}", dir.display())),
    }
}

/// Whatever the umask is: containerd's shim has 0, and nobody else may make sub-cgroups.
fn make_dir(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(dir)
}

/// Makes a directory and its missing ancestors; those that it made are appended to `made`,
/// outermost first. Tells whether the directory itself is new.
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

/// The sub-cgroups. A directory of a cgroup file system counts its subdirectories in st_nlink: the
/// usual one has none and its thirty files need not be listed.
pub(super) fn children(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
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

/// The processes of a cgroup.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// Their ids.
    pub(super) pids: Vec<i32>,
    /// How many have no id here, because they are of another pid namespace.
    pub(super) unseen: usize,
}

impl Members {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.pids.len() + self.unseen
    }
}

/// The processes of a cgroup and of those below it; none if it is gone.
pub(super) fn pids(dir: &Path) -> Result<Vec<i32>> {
    members(dir, &Spared::default()).map(|members| members.pids)
}

/// The processes of a cgroup and of those below it that are not another container's.
pub(super) fn members(dir: &Path, spared: &Spared) -> Result<Members> {
    let mut members = Members::default();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        let add = if spared.is_empty() { add_own } else { add_own_alone };
        if spared.has(&dir) || !add(&dir, &mut members)? {
            continue; // or it was removed during the walk
        }
        match children(&dir) {
            Ok(children) => pending.extend(children),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("list {}", dir.display())),
        }
    }
    Ok(members)
}

/// Whether a cgroup has neither processes nor sub-cgroups.
pub(super) fn is_idle(dir: &Path) -> Result<bool> {
    let mut members = Members::default();
    if !add_own(dir, &mut members)? {
        return Ok(true);
    }
    match children(dir) {
        Ok(children) => Ok(members.count() == 0 && children.is_empty()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("list {}", dir.display())),
    }
}

/// Adds the processes of this one cgroup; `false` if it is gone.
pub(super) fn add_own(dir: &Path, members: &mut Members) -> Result<bool> {
    let text = match file::read_if_there(dir, "cgroup.procs") {
        // A threaded v2 cgroup lists threads only.
        Err(error) if errno(&error) == Some(Errno::EOPNOTSUPP) => file::read_if_there(dir, "cgroup.threads")?,
        result => result?,
    };
    let Some(text) = text else { return Ok(false) };
    for line in text.lines() {
        let pid = line.parse().with_context(|| format!("cgroup.procs of {}: {line:?} is no pid", dir.display()))?;
        // 0 is a process of another pid namespace: to signal it would signal the own process group.
        match pid {
            0 => members.unseen += 1,
            pid => members.pids.push(pid),
        }
    }
    Ok(true)
}

/// Takes a cgroup for a new container: of two creates at once that both found it empty, one gets
/// it. The lock is held by the descriptor, a copy of which init has until it is in.
///
/// # Errors
///
/// Another create has the lock, or its init is in already.
pub(super) fn claim(descriptor: BorrowedFd<'_>, dir: &Path) -> Result<()> {
    match flock(descriptor, FlockOperation::TryExclusive) {
        Err(Errno::EWOULDBLOCK) => {
            bail!("linux.cgroupsPath: another container is getting the cgroup {}", dir.display())
        }
        result => result.with_context(|| format!("linux.cgroupsPath: lock {}", dir.display()))?,
    }
    let mut members = Members::default();
    add_own(dir, &mut members)?;
    refuse_members(&members, dir).context("linux.cgroupsPath")
}

/// Refuses a cgroup that has processes.
pub(super) fn refuse_members(members: &Members, dir: &Path) -> Result<()> {
    match members.count() {
        0 => Ok(()),
        count => bail!("container's cgroup is not empty: {count} process(es) found in {}", dir.display()),
    }
}

/// The same without those of threaded v2 cgroups below it, which `cgroup.procs` lists as well: by
/// its threads.
fn add_own_alone(dir: &Path, members: &mut Members) -> Result<bool> {
    let Some(text) = file::read_if_there(dir, "cgroup.threads")? else { return add_own(dir, members) };
    for line in text.lines() {
        let thread: i32 =
            line.parse().with_context(|| format!("cgroup.threads of {}: {line:?} is no id", dir.display()))?;
        match process_of(thread) {
            _ if thread == 0 => members.unseen += 1,
            Some(pid) if !members.pids.contains(&pid) => members.pids.push(pid),
            _ => {} // it has ended
        }
    }
    Ok(true)
}

/// The process that a thread is of (proc_pid_status(5)).
fn process_of(thread: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// SIGKILL to all processes of a cgroup until no new ones appear: a process may fork between two
/// readings, but what was killed forks no more. Bounded. Spares other containers' and this process
/// itself.
pub(super) fn kill_all(dir: &Path, spared: &Spared) -> Result<()> {
    const ROUNDS: usize = 100;
    let mut killed: Vec<i32> = vec![own_pid()];
    for _ in 0..ROUNDS {
        let mut news = members(dir, spared)?.pids;
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

/// This process's id.
pub(super) fn own_pid() -> i32 {
    getpid().as_raw()
}
