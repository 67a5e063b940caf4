//! Removing a container's cgroup, the same on v1 and v2: bounded, and with a word about what stands
//! in the way.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::layout;
use super::spared::Spared;
use super::tree::{self, Members, children};
use crate::error::{Context as _, Error, Result, bail};
use crate::sys::proc_stat;

/// How long killed processes may take to leave: each needs processor time to die, and the kernel
/// frees its memory first.
const DYING: Duration = Duration::from_secs(10);

/// How long to wait for processes that nothing has killed: they may be on their way out, or stay
/// for ever.
const ALIVE: Duration = Duration::from_secs(1);

/// Removes the cgroups of one container, a directory a hierarchy, with those below them. What other
/// containers have there is left, with a warning.
///
/// # Errors
///
/// The first directory that cannot be removed, with the pids that keep it; the others are removed
/// all the same.
pub(super) fn remove<'a>(dirs: impl Iterator<Item = &'a Path>, spared: &Spared) -> Result<()> {
    let begin = Instant::now();
    let mut first = Ok(());
    let mut left = None;
    for dir in dirs {
        match remove_below(dir, spared, begin) {
            Ok(true) => {}
            Ok(false) => left = left.or(Some(dir)),
            Err(error) => first = first.and(Err(error)),
        }
    }
    if let Some(dir) = left {
        spared.warn(dir);
    }
    first
}

/// Removes a cgroup and those below it; `false` if another container's is in the way.
///
/// A process that was killed leaves its cgroup a moment after its parent has seen it end: EBUSY is
/// tried again.
fn remove_below(dir: &Path, spared: &Spared, begin: Instant) -> Result<bool> {
    let own_begin = Instant::now();
    let mut pause = Duration::ZERO;
    loop {
        if spared.has(dir) {
            return Ok(false);
        }
        let error = match fs::remove_dir(dir) {
            Ok(()) => return Ok(true),
            Err(error) if is_gone(&error) && layout::is_visible() => return Ok(true),
            // In another mount namespace it may well be there.
            Err(error) if is_gone(&error) => {
                bail!("rmdir {}: no cgroup file system is mounted at {}", dir.display(), layout::MOUNT_POINT)
            }
            Err(error) => error,
        };
        // EBUSY means sub-cgroups or processes. A read-only mount says EROFS of a directory that is
        // not there, too.
        match children(dir) {
            Ok(children) => {
                let mut all = true;
                for child in children {
                    all &= remove_below(&child, spared, begin)?;
                }
                if !all {
                    return Ok(false);
                }
            }
            Err(error) if is_gone(&error) => return Ok(true),
            Err(error) => return Err(error).with_context(|| format!("list {}", dir.display())),
        }
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(error).with_context(|| format!("rmdir {}", dir.display()));
        }
        if begin.elapsed() > ALIVE {
            refuse_strangers(dir)?;
        }
        if own_begin.elapsed() > DYING {
            let seconds = DYING.as_secs();
            return Err(error).with_context(|| format!("rmdir {}: still in use after {seconds} s", dir.display()));
        }
        sleep(pause); // the first time not at all: what was below may have been all
        pause = (pause * 2).clamp(Duration::from_micros(100), Duration::from_millis(50));
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// Fails if a cgroup has processes that are not about to end.
fn refuse_strangers(dir: &Path) -> Result<()> {
    let mut members = Members::default();
    tree::add_own(dir, &mut members)?;
    let mut alive: Vec<String> = members.pids.iter().filter(|pid| !is_dying(**pid)).map(i32::to_string).collect();
    if members.unseen > 0 {
        alive.push(format!("{} of another pid namespace", members.unseen));
    }
    if alive.is_empty() {
        return Ok(());
    }
    let what = format!(
        "rmdir {}: processes that are not the container's are in it (pid {}): move or end them and delete again",
        dir.display(),
        alive.join(", ")
    );
    Err(Error::new(Errno::EBUSY).context(what))
}

/// Whether a process has ended, is ending, or has a SIGKILL pending (proc_pid_stat(5)). One that
/// cannot be looked at counts as dying: it is waited for longer.
fn is_dying(pid: i32) -> bool {
    let mut buffer = [0; proc_stat::LONGEST];
    let stat = proc_stat::read(&format!("/proc/{pid}/stat"), &mut buffer);
    stat.ok().and_then(dies).unwrap_or(true)
}

/// The same of the file's text.
fn dies(stat: &[u8]) -> Option<bool> {
    /// `PF_EXITING` of the kernel's include/linux/sched.h.
    const EXITING: u64 = 0x4;
    const KILLED: u64 = 1 << (libc::SIGKILL - 1);
    let number = |at| proc_stat::field(stat, at)?.parse::<u64>().ok();
    let state = proc_stat::field(stat, 3)?;
    Some(matches!(state, "Z" | "X") || number(9)? & EXITING != 0 || number(31)? & KILLED != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_dies_when_it_exits_or_has_a_sigkill_pending() {
        let stat = |state: &str, flags: u64, pending: u64| {
            let middle = "0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0 0 0 0 0 0";
            let text = format!("7 (a b) {state} 1 7 7 0 -1 {flags} {middle} {pending} 0 0 0");
            dies(text.as_bytes())
        };
        assert_eq!(stat("S", 4_194_560, 0), Some(false));
        assert_eq!(stat("D", 4_194_560, 256), Some(true), "killed, but frozen");
        assert_eq!(stat("R", 4_194_564, 0), Some(true));
        assert_eq!(stat("Z", 4_194_560, 0), Some(true));
        assert_eq!(dies(b"7 (a)"), None);
        assert!(!is_dying(tree::own_pid()) && is_dying(i32::MAX));
    }
}
