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
    /// Raises each limit that is reached by what it takes ([`raised_limit`]). Does not wait without bound for the container's
    /// lock.
    pub fn make(&self) -> Result<Raised> {
        let mut raised = Raised { limits: Vec::new(), _lock: self.lock()? };
        let mut dirs: Vec<_> = [self.place, self.whole].into_iter().filter_map(directory).collect();
        dirs.dedup();
        for dir in dirs {
            let (current, limit) = (file::read_u64(dir, "pids.current")?, file::read(dir, "pids.max")?);
            let limit = limit.trim();
            if let Some(room) = limit.parse().ok().and_then(|limit| raised_limit(limit, current)) {
                file::write(dir, "pids.max", &room.to_string()).context("linux.resources.pids.limit")?;
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

/// The limit that leaves room for one more than the `current` processes, if they have reached it.
///
/// It is never more than two above: on cgroup v1 the process that makes the other one may have come in beyond the limit. Were
/// it raised further, a container that takes the room each time would grow with each `exec`.
fn raised_limit(limit: u64, current: u64) -> Option<u64> {
    let needed = current.checked_add(1)?;
    (needed > limit && needed <= limit.saturating_add(2)).then_some(needed)
}

/// The directory of the pids controller, if there is one.
fn directory(placement: &Placement) -> Option<&Path> {
    let dir = placement.paths.get("pids").or(placement.paths.get(""))?;
    fs::exists(dir.join("pids.max")).is_ok_and(|is_there| is_there).then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_for_one_process_and_does_not_grow_with_those_that_take_its_place() {
        for (limit, current, raised) in [
            (5, 3, None),
            (5, 4, None),
            (5, 5, Some(6)),
            (5, 6, Some(7)),
            (5, 7, None),
            (5, 100, None),
            (u64::MAX, u64::MAX, None),
        ] {
            assert_eq!(raised_limit(limit, current), raised, "{current} of {limit}");
        }
    }
}
