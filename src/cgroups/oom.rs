//! Hearing of the kernel's OOM killer at once: on v1 by an eventfd, on v2 by poll(2) on `memory.events`, which needs no
//! inotify instance (an ordinary user has 128 of them, and a busy node uses them up).

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Context as _, Result};

const EVENTS: &str = "memory.events";
const CONTROL: &str = "cgroup.event_control";

/// A watch on a cgroup that tells when the kernel has run out of its memory.
#[derive(Debug)]
pub struct OomWatch(Kind);

#[derive(Debug)]
enum Kind {
    V1 { event: EventFd, control: PathBuf },
    V2 { events: File, kills: u64 },
}

impl OomWatch {
    /// The v1 memory cgroup (the kernel's cgroup-v1/memory.rst, "OOM Control").
    pub(super) fn v1(dir: &Path) -> Result<Self> {
        let oom = File::open(dir.join("memory.oom_control"))
            .with_context(|| format!("open memory.oom_control of {}", dir.display()))?;
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context("eventfd")?;
        let control = dir.join(CONTROL);
        OpenOptions::new()
            .write(true)
            .open(&control)
            .and_then(|mut open| open.write_all(format!("{} {}", event.as_raw_fd(), oom.as_raw_fd()).as_bytes()))
            .with_context(|| format!("write to {CONTROL} of {}", dir.display()))?;
        Ok(Self(Kind::V1 { event, control }))
    }

    /// The v2 cgroup.
    pub(super) fn v2(dir: &Path) -> Result<Self> {
        let events = File::open(dir.join(EVENTS)).with_context(|| format!("open {EVENTS} of {}", dir.display()))?;
        let kills = kills(&events)?;
        Ok(Self(Kind::V2 { events, kills }))
    }

    /// What to wait for.
    pub fn poll_fd(&self) -> PollFd<'_> {
        match &self.0 {
            Kind::V1 { event, .. } => PollFd::new(event.as_fd(), PollFlags::POLLIN),
            // The file's content changing is an exceptional condition of it.
            Kind::V2 { events, .. } => PollFd::new(events.as_fd(), PollFlags::POLLPRI),
        }
    }

    /// Whether it has happened since the last call. An error: the cgroup is gone, and there is nothing to wait for.
    pub fn happened(&mut self) -> Result<bool> {
        match &mut self.0 {
            Kind::V1 { event, control } => match event.read() {
                // The kernel also says that a cgroup with a watch goes away.
                Ok(_) => std::fs::symlink_metadata(&control).map(|_| true).with_context(|| format!("stat {control:?}")),
                Err(Errno::EAGAIN) => Ok(false),
                Err(errno) => Err(errno).context("read an eventfd"),
            },
            Kind::V2 { events, kills: before } => {
                // The file also changes with `high` and `max`, at which nothing is killed.
                let now = kills(events)?;
                Ok(std::mem::replace(before, now) < now)
            }
        }
    }
}

/// `oom_kill`, of this cgroup and those below.
fn kills(events: &File) -> Result<u64> {
    let mut text = [0; 1024];
    let length = events.read_at(&mut text, 0).with_context(|| format!("read {EVENTS}"))?;
    let text = std::str::from_utf8(&text[..length]).with_context(|| format!("read {EVENTS}"))?;
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.map_or(Ok(0), |count| count.trim().parse().with_context(|| format!("{EVENTS}: {count:?} is no number")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::reading::fixture::Fixture;

    #[test]
    fn only_a_kill_after_the_beginning_counts_on_v2() {
        let cgroup = Fixture::new(&[(EVENTS, "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n")]);
        let write = |text: &str| std::fs::write(cgroup.dir().join(EVENTS), text).unwrap();
        let mut watch = OomWatch::v2(cgroup.dir()).unwrap();
        assert!(!watch.happened().unwrap());
        write("low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n");
        assert!(!watch.happened().unwrap());
        write("low 0\nhigh 0\nmax 12\noom 2\noom_kill 3\noom_group_kill 0\n");
        assert!(watch.happened().unwrap());
        assert!(!watch.happened().unwrap());
        assert!(OomWatch::v2(Path::new("/no such cgroup")).is_err());
    }

    #[test]
    fn a_v1_cgroup_that_goes_away_is_no_oom() {
        let cgroup = Fixture::new(&[("memory.oom_control", ""), (CONTROL, "")]);
        let mut watch = OomWatch::v1(cgroup.dir()).unwrap();
        assert!(!watch.happened().unwrap());
        let signal = |watch: &OomWatch| match &watch.0 {
            Kind::V1 { event, .. } => event.write(1).unwrap(),
            Kind::V2 { .. } => unreachable!(),
        };
        signal(&watch);
        assert!(watch.happened().unwrap());
        signal(&watch);
        std::fs::remove_file(cgroup.dir().join(CONTROL)).unwrap();
        assert!(watch.happened().is_err());
    }
}
