//! Hearing of the kernel's OOM killer: on v1 by an eventfd, on v2 by poll(2) on `memory.events`, which needs no inotify
//! instance (an ordinary user has 128 of them, and a busy node uses them up).
//!
//! What counts is that `oom_kill` grows. The v1 eventfd alone says more: it is signalled before each attempt to kill, a
//! dozen times while one large victim dies, when an ancestor runs out of memory, and when the cgroup goes away.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::file;
use crate::error::{Context as _, Result};

/// How long a kill may come after its signal.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A watch on a cgroup that tells when the kernel has killed in it for want of memory.
#[derive(Debug)]
pub struct OomWatch {
    /// v1: `memory.oom_control`; v2: `memory.events`.
    file: File,
    name: &'static str,
    kills: Option<u64>,
    /// v1 only.
    event: Option<EventFd>,
    /// A signal came whose kill has not been seen yet: until when it is waited for.
    expected: Option<Instant>,
}

impl OomWatch {
    /// The v1 memory cgroup (the kernel's cgroup-v1/memory.rst, "OOM Control").
    pub(super) fn v1(dir: &Path) -> Result<Self> {
        let mut watch = Self::open(dir, "memory.oom_control")?;
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context("eventfd")?;
        let wanted = format!("{} {}", event.as_raw_fd(), watch.file.as_raw_fd());
        file::write(dir, "cgroup.event_control", &wanted)?;
        watch.event = Some(event);
        Ok(watch)
    }

    /// The v2 cgroup (the kernel's cgroup-v2.rst, "memory.events").
    pub(super) fn v2(dir: &Path) -> Result<Self> {
        Self::open(dir, "memory.events")
    }

    fn open(dir: &Path, name: &'static str) -> Result<Self> {
        let file = File::open(dir.join(name)).with_context(|| format!("open {name} of {}", dir.display()))?;
        let mut watch = Self { file, name, kills: None, event: None, expected: None };
        watch.kills = watch.read()?.kills;
        Ok(watch)
    }

    /// What to wait for, and for how long at most.
    pub fn poll_fd(&self) -> (PollFd<'_>, Option<Duration>) {
        match &self.event {
            Some(event) => (PollFd::new(event.as_fd(), PollFlags::POLLIN), self.expected.map(|_| LOOK_AGAIN)),
            // The file's content changing is an exceptional condition of it.
            None => (PollFd::new(self.file.as_fd(), PollFlags::POLLPRI), None),
        }
    }

    /// Whether it has happened since the last call. An error: the cgroup is gone, and there is nothing to wait for.
    pub fn happened(&mut self) -> Result<bool> {
        let signalled = match self.event.as_ref().map(EventFd::read) {
            None | Some(Err(Errno::EAGAIN)) => false,
            Some(result) => result.map(|_| true).context("read an eventfd")?,
        };
        let now = self.read()?;
        let Some(kills) = now.kills else { return Ok(signalled) };
        if self.kills.replace(kills) < now.kills {
            self.expected = None;
            return Ok(true);
        }
        if signalled {
            self.expected = Some(Instant::now() + PATIENCE);
        }
        self.expected = self.expected.filter(|&until| Instant::now() < until);
        // Nobody is killed: the processes wait for whoever listens here.
        Ok(signalled && now.kill_disabled)
    }

    fn read(&self) -> Result<Control> {
        let mut text = [0; 1024];
        let length = self.file.read_at(&mut text, 0).with_context(|| format!("read {}", self.name))?;
        let text = String::from_utf8_lossy(&text[..length]);
        let number = |key: &str| {
            let value = text.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == key)?.1;
            value.trim().parse().ok()
        };
        Ok(Control { kills: number("oom_kill"), kill_disabled: number("oom_kill_disable") == Some(1) })
    }
}

struct Control {
    /// Processes killed in this cgroup (v2: and in those below it). v1 counts since Linux 4.13.
    kills: Option<u64>,
    /// v1's `disableOOMKiller`.
    kill_disabled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::reading::fixture::Fixture;

    #[test]
    fn only_a_kill_after_the_beginning_counts_on_v2() {
        let cgroup = Fixture::new(&[("memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n")]);
        let write = |text: &str| std::fs::write(cgroup.dir().join("memory.events"), text).unwrap();
        let mut watch = OomWatch::v2(cgroup.dir()).unwrap();
        assert!(!watch.happened().unwrap());
        write("low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n");
        assert!(!watch.happened().unwrap());
        write("low 0\nhigh 0\nmax 12\noom 2\noom_kill 3\noom_group_kill 0\n");
        assert!(watch.happened().unwrap());
        assert!(!watch.happened().unwrap());
        assert!(OomWatch::v2(Path::new("/no such cgroup")).is_err());
    }

    fn v1(control: &str) -> (Fixture, OomWatch) {
        let cgroup = Fixture::new(&[("memory.oom_control", control), ("cgroup.event_control", "")]);
        let watch = OomWatch::v1(cgroup.dir()).unwrap();
        (cgroup, watch)
    }

    fn signal(watch: &OomWatch) {
        watch.event.as_ref().unwrap().write(1).unwrap();
    }

    #[test]
    fn a_signal_on_v1_announces_a_kill_that_is_looked_for() {
        let (cgroup, mut watch) = v1("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        assert!(!watch.happened().unwrap() && watch.poll_fd().1.is_none());
        signal(&watch);
        assert!(!watch.happened().unwrap() && watch.poll_fd().1.is_some());
        let killed = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n";
        std::fs::write(cgroup.dir().join("memory.oom_control"), killed).unwrap();
        assert!(watch.happened().unwrap() && watch.poll_fd().1.is_none());
        signal(&watch);
        assert!(!watch.happened().unwrap());
        watch.expected = Some(Instant::now());
        assert!(!watch.happened().unwrap() && watch.poll_fd().1.is_none(), "the wait is bounded");
    }

    #[test]
    fn a_signal_is_all_there_is_where_nothing_is_killed_or_counted() {
        for control in ["oom_kill_disable 1\nunder_oom 1\noom_kill 0\n", "oom_kill_disable 0\nunder_oom 0\n"] {
            let (_cgroup, mut watch) = v1(control);
            assert!(!watch.happened().unwrap());
            signal(&watch);
            assert!(watch.happened().unwrap());
            assert!(!watch.happened().unwrap());
        }
    }
}
