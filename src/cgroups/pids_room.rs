//! Room for one more process where `linux.resources.pids.limit` is reached, for the moment in which it is needed.
//!
//! `exec` makes its program's process by another one in the same cgroup, which ends at once: for that moment there are two
//! where the container has room for one.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::file;
use super::manager::Placement;
use crate::error::{Context as _, Result, bail, one_line};
use crate::state::{Attempt, Container, Lock};

/// How often, and how far apart, the lock is asked for: another command may hold it for longer than this one may wait.
const TRIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Where the room is to be made.
#[derive(Debug)]
pub struct PidsRoom<'a> {
    /// The container, whose lock keeps apart those that change its limits. `None`: the caller has it.
    pub container: Option<&'a Container>,
    /// Its cgroup.
    pub whole: &'a Placement,
    /// The cgroup that the process is in: that one, or one below it.
    pub place: &'a Placement,
}

/// Limits that are raised until this is dropped.
#[derive(Debug)]
pub struct Raised {
    limits: Vec<(PathBuf, String)>,
    _lock: Option<Lock>,
}

impl PidsRoom<'_> {
    /// Raises each limit that is reached to one more than the processes that are there. Does not wait without bound for the
    /// container's lock.
    pub fn make(&self) -> Result<Raised> {
        let mut raised = Raised { limits: Vec::new(), _lock: self.lock()? };
        let mut dirs: Vec<_> = [self.place, self.whole].into_iter().filter_map(directory).collect();
        dirs.dedup();
        for dir in dirs {
            let (current, limit) = (file::read_u64(dir, "pids.current")?, file::read(dir, "pids.max")?);
            let limit = limit.trim();
            if limit.parse::<u64>().is_ok_and(|limit| limit <= current) {
                file::write(dir, "pids.max", &(current + 1).to_string()).context("linux.resources.pids.limit")?;
                raised.limits.push((dir.to_owned(), limit.to_owned()));
            }
        }
        Ok(raised)
    }

    fn lock(&self) -> Result<Option<Lock>> {
        let Some(container) = self.container else { return Ok(None) };
        for _ in 0..TRIES {
            match container.try_lock()? {
                Attempt::Held(lock) => return Ok(Some(lock)),
                Attempt::Busy => sleep(PAUSE),
                Attempt::Gone => bail!("container {:?} does not exist", container.id()),
            }
        }
        bail!("linux.resources.pids.limit is reached, and another command is changing the container")
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        for (dir, limit) in &self.limits {
            if let Err(error) = file::write(dir, "pids.max", limit) {
                log::warn!("linux.resources.pids.limit: {}", one_line(&error));
            }
        }
    }
}

/// The directory of the pids controller, if there is one.
fn directory(placement: &Placement) -> Option<&Path> {
    let dir = placement.paths.get("pids").or(placement.paths.get(""))?;
    fs::exists(dir.join("pids.max")).is_ok_and(|is_there| is_there).then_some(dir)
}
