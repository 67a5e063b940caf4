//! The hooks that the runtime is running, by their names in the container's directory: `delete
//! --force` ends them, whoever waits for them.
//!
//! An entry is an empty file `hook.POINT.PID.START`: one call makes it, and nothing of it has to be
//! parsed but its name.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::{Container, status};
use crate::error::{Context as _, Result};
use crate::sys::fd::{pidfd_open, pidfd_send_signal};

const PREFIX: &str = "hook.";

/// A hook that runs. The entry goes with the value.
#[derive(Debug)]
pub struct HookRecord<'a> {
    container: &'a Container,
    name: String,
}

impl Drop for HookRecord<'_> {
    fn drop(&mut self) {
        // Already gone with the container: as good.
        let _ = unlinkat(&self.container.dir, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

impl Container {
    /// Records a hook of this point, a child of the caller that was not waited for.
    ///
    /// # Errors
    /// ENOENT if the container was removed meanwhile.
    pub fn record_hook(&self, point: &str, pid: i32) -> Result<HookRecord<'_>> {
        let start = status::start_time(pid)?.unwrap_or_default();
        let name = format!("{PREFIX}{point}.{pid}.{start}");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        openat(&self.dir, name.as_str(), flags, Mode::S_IRUSR).with_context(|| format!("make {name}"))?;
        Ok(HookRecord { container: self, name })
    }

    /// Kills the recorded hooks whose point is one of those meant; their own children are theirs.
    pub fn kill_hooks(&self, meant: impl Fn(&str) -> bool) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = match Dir::openat(&self.dir, c".", flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(()),
            result => result.with_context(|| format!("list {:?}", self.path))?,
        };
        for entry in listing.iter() {
            let entry = entry.with_context(|| format!("list {:?}", self.path))?;
            let Some((point, pid, start)) = entry.file_name().to_str().ok().and_then(parse) else { continue };
            if meant(point) {
                self.kill_hook(pid, start).with_context(|| format!("kill the {point} hook (pid {pid})"))?;
            }
        }
        Ok(())
    }

    fn kill_hook(&self, pid: i32, start: u64) -> Result<()> {
        let pidfd = match pidfd_open(pid) {
            Err(Errno::ESRCH) => return Ok(()),
            result => result.context("pidfd_open")?,
        };
        // The number may have come to mean another process before it was opened, but cannot any
        // more.
        if status::start_time(pid)? != Some(start) || !self.may_name(pid)? {
            return Ok(());
        }
        match pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A directory of another user may name that user's processes only.
    fn may_name(&self, pid: i32) -> Result<bool> {
        let owner = fstat(&self.dir).with_context(|| format!("stat {:?}", self.path))?.st_uid;
        Ok(owner == geteuid().as_raw() || fs::metadata(format!("/proc/{pid}")).is_ok_and(|of| of.uid() == owner))
    }
}

/// The point, the process id and the start time in an entry's name.
fn parse(name: &str) -> Option<(&str, i32, u64)> {
    let (point, process) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let (pid, start) = process.split_once('.')?;
    Some((point, pid.parse().ok().filter(|&pid| pid > 0)?, start.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Root;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    #[test]
    fn a_recorded_hook_is_killed_and_its_number_alone_is_not_enough() {
        let root = std::env::temp_dir().join(format!("tare-hook-record-{}", std::process::id()));
        let (container, _lock) = Container::create(&Root::named(root.clone()), "x").unwrap();
        let mut hook = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = hook.id() as i32;
        // An earlier process of this number.
        fs::write(container.path().join(format!("{PREFIX}poststart.{pid}.1")), "").unwrap();
        container.kill_hooks(|_| true).unwrap();
        assert!(hook.try_wait().unwrap().is_none());
        let record = container.record_hook("poststart", pid).unwrap();
        container.kill_hooks(|point| point == "poststop").unwrap();
        assert!(hook.try_wait().unwrap().is_none());
        container.kill_hooks(|point| point == "poststart").unwrap();
        assert_eq!(hook.wait().unwrap().signal(), Some(libc::SIGKILL));
        drop(record);
        assert_eq!(fs::read_dir(container.path()).unwrap().count(), 1);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn only_the_name_of_an_entry_is_one() {
        assert_eq!(parse("hook.poststart.12.345"), Some(("poststart", 12, 345)));
        for other in ["state.json", "hook.x", "hook.x.0.1", "hook.x.-5.1", "hook.x.1.", "hook.x.1.2.3"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
