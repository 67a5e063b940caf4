//! The v2 freezer (Linux 5.2).

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cgroups::file;
use crate::error::{Context, Result, bail};

/// Freezes, and waits until the kernel says that all processes are, or thaws. Bounded to about 10 s; on failure it is
/// thawed again.
pub(super) fn freeze(dir: &Path, frozen: bool) -> Result<()> {
    file::write(dir, "cgroup.freeze", if frozen { "1" } else { "0" })?;
    if !frozen {
        return Ok(());
    }
    let result = wait_frozen(dir);
    if result.is_err() {
        let _ = file::write(dir, "cgroup.freeze", "0"); // the failure to freeze is the one to report
    }
    result
}

fn wait_frozen(dir: &Path) -> Result<()> {
    const ROUNDS: usize = 100;
    let what = || format!("wait for cgroup.events of {}", dir.display());
    let mut events = File::open(dir.join("cgroup.events")).with_context(what)?;
    let mut text = String::new();
    for _ in 0..ROUNDS {
        text.clear();
        events.rewind().and_then(|()| events.read_to_string(&mut text)).with_context(what)?;
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        // The file's content changing is an exceptional condition of it.
        poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], PollTimeout::from(100u8)).with_context(what)?;
    }
    bail!("unable to freeze {}: not all of its processes are frozen", dir.display())
}

/// Whether it was frozen itself. A directory or a kernel without a freezer is not frozen.
pub(super) fn is_frozen(dir: &Path) -> Result<bool> {
    match file::read(dir, "cgroup.freeze") {
        Ok(text) => Ok(text.trim() == "1"),
        Err(error) if file::is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
