//! A container's status (runtime.md, "State"), from what is true now.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::foreign::is_process_of;
use super::gate::Position;
use super::{Container, Lock, Record};
use crate::cgroups;
use crate::error::{Context as _, Result, bail};
use crate::sys::fd::pidfd_open;
use crate::sys::proc_stat;

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `create` has begun and has not ended.
    Creating,
    /// Init waits for `start`.
    Created,
    /// The program runs.
    Running,
    /// Its cgroup is frozen, whether its program runs or waits for `start`: runc's addition to the
    /// specification's words.
    Paused,
    /// Init is gone, or a zombie.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

impl Container {
    /// Works out the status of a container whose record was just read, for a caller that has not
    /// locked it.
    pub fn status(&self, record: &Record) -> Result<Status> {
        if record.init_process_pid == 0 {
            // No lock: the maker died on the way.
            return Ok(if self.is_locked()? { Status::Creating } else { Status::Stopped });
        }
        with_init(record, || self.gate_position(), || self.is_locked())
    }

    /// The status for the holder of the lock: nobody else is creating the container.
    pub fn status_locked(&self, record: &Record, _: &Lock) -> Result<Status> {
        match record.init_process_pid {
            0 => Ok(Status::Stopped),
            _ => with_init(record, || self.gate_position(), || Ok(false)),
        }
    }
}

/// The status of a container that has come to have an init. `has_maker`: whether somebody may still
/// be creating it.
pub(super) fn with_init(
    record: &Record,
    position: impl FnOnce() -> Result<Position>,
    has_maker: impl FnOnce() -> Result<bool>,
) -> Result<Status> {
    let Some(state) = living(record.init_process_pid, record.init_process_start)? else { return Ok(Status::Stopped) };
    let started = match position()? {
        Position::Unfinished if has_maker()? => return Ok(Status::Creating),
        position => position == Position::Open,
    };
    if cgroups::is_frozen(&record.cgroup, state)? {
        return Ok(Status::Paused);
    }
    Ok(if started { Status::Running } else { Status::Created })
}

/// The container's init, by a pidfd: nothing that came to have its number is touched. `None`: it is
/// gone.
pub fn open_init(record: &Record) -> Result<Option<OwnedFd>> {
    let pid = record.init_process_pid;
    if pid == 0 {
        return Ok(None);
    }
    let opened = open_process(pid, record.init_process_start)?;
    if let (Some(foreign), Some(_)) = (&record.foreign, &opened)
        && !is_process_of(pid, foreign.owner)?
    {
        bail!(
            "container {:?}: its record belongs to user id {}, but process {pid}, which it names as init, does not",
            record.id,
            foreign.owner
        );
    }
    Ok(opened)
}

/// Opens the process with this id that started at this time; `None` if it is gone.
pub fn open_process(pid: i32, start: u64) -> Result<Option<OwnedFd>> {
    let pidfd = match pidfd_open(pid) {
        Err(Errno::ESRCH) => return Ok(None),
        result => result.with_context(|| format!("pidfd_open {pid}"))?,
    };
    // The number may have come to mean another process before it was opened, but cannot any more.
    Ok((start_time(pid)? == Some(start)).then_some(pidfd))
}

/// The state (proc_pid_stat(5)) of a process with this id that started at this time, if it has not
/// ended.
fn living(pid: i32, start: u64) -> Result<Option<u8>> {
    let alive = |&(state, at): &(u8, u64)| at == start && !matches!(state, b'Z' | b'X');
    Ok(read_stat(pid)?.filter(alive).map(|(state, _)| state))
}

/// Returns whether a process has executed a program since it was made; a zombie still tells. `None`
/// if it is gone, or if another one has its id by now.
pub fn has_executed(pid: i32, start: Option<u64>) -> Result<Option<bool>> {
    /// PF_FORKNOEXEC of linux/sched.h: set by fork(2), cleared by execve(2) before it closes
    /// descriptors.
    const NOT_EXECUTED: u64 = 0x40;
    let path = format!("/proc/{pid}/stat");
    let mut buffer = [0; proc_stat::LONGEST];
    let Some(stat) = find_stat(&path, &mut buffer)? else { return Ok(None) };
    let field = |number| proc_stat::field(stat, number)?.parse::<u64>().ok();
    let flags = field(9).filter(|_| start.is_none() || field(22) == start);
    Ok(flags.map(|flags| flags & NOT_EXECUTED == 0))
}

/// When a process started, in clock ticks since boot; `None` if it is gone.
pub fn start_time(pid: i32) -> Result<Option<u64>> {
    Ok(read_stat(pid)?.map(|(_, start)| start))
}

fn read_stat(pid: i32) -> Result<Option<(u8, u64)>> {
    let path = format!("/proc/{pid}/stat");
    let mut buffer = [0; proc_stat::LONGEST];
    let Some(stat) = find_stat(&path, &mut buffer)? else { return Ok(None) };
    parse_stat(stat).with_context(|| format!("{path}: has no state and start time")).map(Some)
}

fn find_stat<'a>(path: &str, buffer: &'a mut [u8; proc_stat::LONGEST]) -> Result<Option<&'a [u8]>> {
    match proc_stat::read(path, buffer) {
        Ok(stat) => Ok(Some(stat)),
        // ESRCH: it ended between open and read.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        // Nothing is told by the absence of a process where there are none.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) && Path::new("/proc/self/stat").exists() => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {path}")),
    }
}

/// The state and the start time.
fn parse_stat(stat: &[u8]) -> Option<(u8, u64)> {
    let state = *proc_stat::field(stat, 3)?.as_bytes().first()?;
    Some((state, proc_stat::field(stat, 22)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_cannot_forge_its_state() {
        let stat = b"7 (a) Z 1 (b) R 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 0 0";
        assert_eq!(parse_stat(stat), Some((b'R', 4711)));
    }

    #[test]
    fn a_process_that_was_only_forked_has_executed_nothing() {
        let own = std::process::id() as i32;
        assert_eq!(has_executed(own, start_time(own).unwrap()).unwrap(), Some(true));
        assert_eq!(has_executed(own, Some(1)).unwrap(), None);
        assert_eq!(has_executed(i32::MAX, None).unwrap(), None);
    }

    #[test]
    fn this_process_is_alive_and_its_number_alone_is_not_enough() {
        let pid = std::process::id() as i32;
        let start = start_time(pid).unwrap().unwrap();
        assert!(living(pid, start).unwrap().is_some());
        assert_eq!(living(pid, start + 1).unwrap(), None);
        assert_eq!(start_time(i32::MAX).unwrap(), None);
    }
}
