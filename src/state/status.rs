//! A container's status (runtime.md, "State"), from what is true now.

use std::fmt;
use std::fs::File;
use std::io::Read as _;

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::{Container, Record};
use crate::cgroups;
use crate::error::{Context as _, Result};
use crate::sys::fd::pidfd_open;

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its making has begun and its maker is alive.
    Creating,
    /// Init waits for `start`.
    Created,
    /// The program runs.
    Running,
    /// The program runs, but its cgroup is frozen: runc's addition to the specification's words.
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
    /// Works out the status of a container whose record was just read.
    pub fn status(&self, record: &Record) -> Result<Status> {
        if record.init_process_pid == 0 {
            // No lock: the maker died on the way.
            return Ok(if self.try_lock()?.is_none() { Status::Creating } else { Status::Stopped });
        }
        if !is_alive(record.init_process_pid, record.init_process_start)? {
            return Ok(Status::Stopped);
        }
        if self.is_gated()? {
            return Ok(Status::Created);
        }
        Ok(if cgroups::reopen(&record.cgroup)?.is_frozen()? { Status::Paused } else { Status::Running })
    }
}

/// The container's init, by a pidfd: nothing that came to have its number is touched. `None`: it is gone.
pub fn open_init(record: &Record) -> Result<Option<OwnedFd>> {
    let pid = record.init_process_pid;
    if pid == 0 {
        return Ok(None);
    }
    let pidfd = match pidfd_open(pid) {
        Err(Errno::ESRCH) => return Ok(None),
        result => result.with_context(|| format!("pidfd_open {pid}"))?,
    };
    // The number may have come to mean another process before it was opened, but cannot any more.
    Ok((start_time(pid)? == Some(record.init_process_start)).then_some(pidfd))
}

/// Is there still a process with this id that started at this time and has not ended?
fn is_alive(pid: i32, start: u64) -> Result<bool> {
    Ok(read_stat(pid)?.is_some_and(|(state, at)| at == start && !matches!(state, b'Z' | b'X')))
}

/// When a process started, in clock ticks since boot; `None` if it is gone.
pub fn start_time(pid: i32) -> Result<Option<u64>> {
    Ok(read_stat(pid)?.map(|(_, start)| start))
}

fn read_stat(pid: i32) -> Result<Option<(u8, u64)>> {
    let path = format!("/proc/{pid}/stat");
    // Some 300 bytes, given out by one read(2): what grows a buffer for them would make six.
    let mut stat = [0; 1024];
    match File::open(&path).and_then(|mut file| file.read(&mut stat)) {
        Ok(length) => Ok(parse_stat(&stat[..length])),
        // ESRCH: it ended between open and read.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {path}")),
    }
}

/// The state and the start time out of proc_pid_stat(5). The name in parentheses may hold anything, `)` too.
fn parse_stat(stat: &[u8]) -> Option<(u8, u64)> {
    let after_name = &stat[stat.iter().rposition(|&byte| byte == b')')? + 1..];
    let mut fields = after_name.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    // The state is field 3, the start time field 22.
    let start = std::str::from_utf8(fields.nth(18)?).ok()?.parse().ok()?;
    Some((state, start))
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
    fn this_process_is_alive_and_its_number_alone_is_not_enough() {
        let pid = std::process::id() as i32;
        let start = start_time(pid).unwrap().unwrap();
        assert!(is_alive(pid, start).unwrap());
        assert!(!is_alive(pid, start + 1).unwrap());
        assert_eq!(start_time(i32::MAX).unwrap(), None);
    }
}
