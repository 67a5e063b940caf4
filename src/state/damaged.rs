//! A container whose record cannot be understood: what of it still runs is found by other means.
//!
//! An init that waits to be started holds an flock(2) on the start gate, which /proc/locks
//! attributes to its pid. One that runs is found if the record's text still has its pid and start
//! time. Neither can name a process of another container.

use std::fmt;
use std::fs::read_to_string;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat, major, minor};

use super::root::is_trusted;
use super::{Container, RECORD, gate, open_record, read, status};
use crate::error::{Context as _, Result};

const LOCKS: &str = "/proc/locks";

/// The record is there and is none: state.json was damaged or replaced. Trying again is of no use.
#[derive(Debug)]
pub struct Damaged(pub(super) String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

/// An init that was found without a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

impl Container {
    /// Finds the init of a container whose record is damaged; `None` if there is no trace of a
    /// living one.
    pub fn find_init(&self) -> Result<Option<Found>> {
        if !is_trusted(self.owner) {
            return Ok(None); // another user could have it name any process
        }
        if let Some(pid) = self.gate_holder()?
            && let Some(start) = status::start_time(pid)?
            // Still the holder, so that the start time is the holder's.
            && self.gate_holder()? == Some(pid)
        {
            return Ok(Some(Found { pid, start }));
        }
        let Some(found) = self.record_text()?.and_then(|text| salvage(&text)) else { return Ok(None) };
        Ok((status::start_time(found.pid)? == Some(found.start)).then_some(found))
    }

    /// Finds the process that has the start gate locked.
    fn gate_holder(&self) -> Result<Option<i32>> {
        let fifo = match fstatat(&self.dir, gate::FIFO, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(None),
            result => result.with_context(|| format!("stat {}", gate::FIFO))?,
        };
        if SFlag::from_bits_truncate(fifo.st_mode) & SFlag::S_IFMT != SFlag::S_IFIFO {
            return Ok(None);
        }
        let file = format!("{:02x}:{:02x}:{}", major(fifo.st_dev), minor(fifo.st_dev), fifo.st_ino);
        Ok(holder(&read_to_string(LOCKS).with_context(|| format!("read {LOCKS}"))?, &file))
    }

    fn record_text(&self) -> Result<Option<Vec<u8>>> {
        match open_record(&self.dir, RECORD.as_ref()) {
            Ok(Some((_, owner))) if !is_trusted(owner) => Ok(None),
            Ok(Some((file, _))) => read(file).map(Some).with_context(|| format!("read {RECORD}")),
            Ok(None) => Ok(None),
            Err(error) if error.is::<Damaged>() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Finds the holder of an flock(2) in the lines of /proc/locks:
/// `1: FLOCK  ADVISORY  WRITE 4711 00:2d:1234 0 EOF`.
fn holder(locks: &str, file: &str) -> Option<i32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        // A process that waits for the lock has "->" there.
        if fields.next()? != "FLOCK" {
            return None;
        }
        let pid = fields.nth(2)?.parse().ok()?;
        (fields.next()? == file && pid > 0).then_some(pid)
    })
}

/// Finds the pid and the start time in the text of a record that is otherwise damaged.
fn salvage(text: &[u8]) -> Option<Found> {
    let text = String::from_utf8_lossy(text);
    let number = |key: &str| {
        let (_, value) = text.split_once(&format!("\"{key}\":"))?;
        let value = value.trim_start();
        // Digits at the end may have lost some.
        let (digits, _) = value.split_at_checked(value.find(|char: char| !char.is_ascii_digit())?)?;
        digits.parse::<u64>().ok()
    };
    let pid = i32::try_from(number("init_process_pid")?).ok().filter(|pid| *pid > 0)?;
    Some(Found { pid, start: number("init_process_start")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_told_from_those_that_wait() {
        let locks = "1: POSIX  ADVISORY  WRITE 1 00:19:1 0 EOF\n2: FLOCK  ADVISORY  WRITE 7 00:19:10 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 8 00:19:1 0 EOF\n3: FLOCK  ADVISORY  WRITE 9 00:19:1 0 EOF\n";
        assert_eq!(holder(locks, "00:19:1"), Some(9));
        assert_eq!(holder(locks, "00:19:10"), Some(7));
        assert_eq!(holder(locks, "00:20:1"), None);
    }

    #[test]
    fn a_pid_is_salvaged_only_with_its_start_time() {
        let found = Some(Found { pid: 12, start: 345 });
        assert_eq!(salvage(br#"{"id":"x","init_process_pid":12,"init_process_start":345,"priv"#), found);
        assert_eq!(salvage(br#"xx"init_process_pid": 12, "init_process_start": 345}"#), found);
        for text in [
            &b"{ half"[..],
            br#""init_process_pid":12,"init_process_start":345"#,
            br#""init_process_pid":12,"#,
            br#""init_process_pid":0,"init_process_start":345,"#,
            br#""init_process_pid":-1,"init_process_start":345,"#,
            br#""init_process_pid":99999999999,"init_process_start":345,"#,
        ] {
            assert_eq!(salvage(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}
