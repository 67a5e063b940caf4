//! `tare events`

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use serde::Serialize;

use super::cli::Events;
use super::{duration, print};
use crate::cgroups::{self, Manager, OomWatch, Stats};
use crate::error::{Context as _, Result, anyhow, bail, one_line};
use crate::linux::intel_rdt;
use crate::state::status::open_init;
use crate::state::{Container, Record, Root, Status};

/// A line of the output, in runc's form.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Serialize)]
struct Data {
    #[serde(flatten)]
    cgroup: Stats,
    intel_rdt: intel_rdt::Stats,
    /// runc knows none but those that it made itself, which no OCI configuration asks for.
    network_interfaces: (),
}

/// What is reported of.
struct Source {
    record: Record,
    cgroup: Box<dyn Manager>,
}

impl Source {
    fn stats(&self) -> Result<String> {
        let cgroup = self.cgroup.stats().context("unable to get container cgroup stats")?;
        let rdt = intel_rdt::stats(&self.record).context("unable to get container Intel RDT stats")?;
        self.line("stats", Some(Data { cgroup, intel_rdt: rdt, network_interfaces: () }))
    }

    fn oom(&self) -> Result<String> {
        self.line("oom", None)
    }

    fn line(&self, r#type: &str, data: Option<Data>) -> Result<String> {
        Ok(serde_json::to_string(&Event { r#type, id: &self.record.id, data }).context("events")? + "\n")
    }
}

/// Reports once, or until the container stops.
pub fn run(root: &Root, args: &Events) -> Result<()> {
    let container = Container::open(root, &args.id)?;
    let record = container.record()?;
    let interval = duration::interval(args.interval)?;
    if container.status(&record)? == Status::Stopped {
        bail!("container with id {} is not running", args.id);
    }
    let cgroup = cgroups::reopen(&record.cgroup)?;
    let source = Source { record, cgroup };
    if args.stats {
        return print(&source.stats()?).map(drop);
    }
    let init = open_init(&source.record)?.ok_or_else(|| anyhow!("container with id {} is not running", args.id))?;
    stream(&source, init.as_fd(), interval)
}

/// Reports by the interval, and each time that the OOM killer was there, until init has ended.
fn stream(source: &Source, init: BorrowedFd<'_>, interval: Duration) -> Result<()> {
    let mut oom = match source.cgroup.watch_oom() {
        Ok(watch) => Some(watch),
        Err(error) => {
            log::warn!("events: the OOM killer will not be heard of: {}", one_line(&error));
            None
        }
    };
    let mut next = Instant::now() + interval;
    loop {
        let ended = wait(init, oom.as_ref(), next)?;
        let happened = oom.as_mut().map_or(Ok(false), OomWatch::happened).unwrap_or_else(|error| {
            log::debug!("events: {}", one_line(&error));
            oom = None;
            false
        });
        if happened && !print(&source.oom()?)? || ended {
            return Ok(());
        }
        if Instant::now() < next {
            continue;
        }
        match source.stats() {
            Ok(line) => {
                if !print(&line)? {
                    return Ok(());
                }
            }
            // It may be ending, cgroup first: whether it is, the next wait tells.
            Err(error) if wait(init, None, Instant::now())? => log::debug!("events: {}", one_line(&error)),
            Err(error) => log::error!("{}", one_line(&error)),
        }
        // A reader that is slower than the interval gets fewer reports, not old ones.
        next = (next + interval).max(Instant::now());
    }
}

/// Waits for whatever comes first; has init ended?
fn wait(init: BorrowedFd<'_>, oom: Option<&OomWatch>, until: Instant) -> Result<bool> {
    let mut fds = vec![PollFd::new(init, PollFlags::POLLIN)];
    let mut left = until.saturating_duration_since(Instant::now());
    if let Some((fd, at_most)) = oom.map(OomWatch::poll_fd) {
        fds.push(fd);
        left = at_most.map_or(left, |at_most| left.min(at_most));
    }
    let left = TimeSpec::from_duration(left);
    match ppoll(&mut fds, Some(left), None) {
        Ok(_) => Ok(fds[0].any().unwrap_or(false)),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno).context("poll"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_runcs() {
        let event = Event { r#type: "oom", id: "x", data: None };
        assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"type":"oom","id":"x"}"#);
        let data = Data { cgroup: Stats::default(), intel_rdt: intel_rdt::Stats::default(), network_interfaces: () };
        let event = Event { r#type: "stats", id: "x", data: Some(data) };
        let line = serde_json::to_string(&event).unwrap();
        assert!(line.starts_with(r#"{"type":"stats","id":"x","data":{"cpu":{},"cpuset":{"#), "{line}");
        let end = r#""pids":{},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}}"#;
        assert!(line.ends_with(end), "{line}");
    }
}
