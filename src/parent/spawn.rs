//! Making a process that goes into a container: one clone3, with its namespaces and, on cgroup v2, in its cgroup.
//!
//! A user namespace that is joined asks for a process in between: what is new has to belong to it, so it is joined before
//! init is made, and whoever joins it has nothing left on the host. Who has no privileges there cannot come back from other
//! namespaces either.

use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use super::sealed_exe;
use super::serve::how_it_died;
use crate::cgroups::{Entry, Manager};
use crate::error::{Context as _, Result, anyhow, one_line};
use crate::protocol::{self, ToParent};
use crate::sys::clone::{Side, fork};
use crate::sys::fd::{end_child, pidfd_open};
use crate::timing;

/// A process in a container, as the parent knows it.
#[derive(Debug)]
pub struct Process {
    /// Its id in the parent's pid namespace.
    pub pid: i32,
    /// The process itself: unlike the id it cannot come to mean another.
    pub pidfd: OwnedFd,
}

/// Starts a process that runs `story` in a copy of this process's memory.
pub fn spawn(namespaces: CloneFlags, cgroup: &Entry, story: impl FnOnce()) -> Result<Process> {
    let side = fork(namespaces, cgroup.into_dir(), false).with_context(|| format!("clone with {namespaces:?}"))?;
    match side {
        Side::Parent(pid, pidfd) => Ok(Process { pid, pidfd }),
        Side::Child => {
            sealed_exe::let_go();
            timing::in_container();
            story();
            // It must not come back to where the parent cleans up.
            crate::sys::process::exit(1)
        }
    }
}

/// Takes on a process that another one made as this process's child (CLONE_PARENT), by the id that it announced. An id that
/// does not belong to a child is refused: it may have been sent by a process that took the other one's place.
pub fn adopt(pid: i32) -> Result<Process> {
    let announced = || format!("pid {pid} was announced");
    let pidfd = pidfd_open(pid).with_context(announced)?;
    waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT)
        .with_context(announced)?;
    Ok(Process { pid, pidfd })
}

/// Ends the children that are left, best effort: one may have been born whose maker died before it was announced.
pub fn end_children() {
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for child in children.split_whitespace().filter_map(|pid| adopt(pid.parse().ok()?).ok()) {
        end_child(child.pidfd.as_fd());
    }
}

/// Makes a process by way of another one, in the cgroup: that enters namespaces from which nobody comes back, which says
/// what is to be new beside them, makes the process as the parent's own child (CLONE_PARENT), says who that is, and ends.
/// `stays`: it makes what is new itself, and goes on.
pub fn spawn_by_way(
    stays: bool,
    enter: impl FnOnce() -> Result<CloneFlags>,
    (entry, cgroup): (&Entry, &dyn Manager),
    (channel, far_end): (&protocol::Parent, protocol::Init),
    story: impl FnOnce(protocol::Init),
) -> Result<Process> {
    let between = spawn(CloneFlags::empty(), entry, || {
        match make_init(stays, enter) {
            Ok(Side::Child) => {
                if stays {
                    // A parent that is gone is noticed at the next word.
                    let _ = far_end.send(&ToParent::Born(std::process::id() as i32));
                }
                story(far_end);
            }
            Ok(Side::Parent(pid, _)) => drop(far_end.send(&ToParent::Born(pid))),
            // The parent, if it is still there, prints it.
            Err(error) => drop(far_end.send(&ToParent::Failed(one_line(&error)))),
        }
    })?;
    let init = match channel.receive() {
        Ok(Some(ToParent::Born(pid))) if pid == between.pid => return Ok(between),
        Ok(Some(ToParent::Born(pid))) => adopt(pid),
        // Init's own words may be faster.
        Ok(Some(ToParent::Failed(reason))) => Err(anyhow!("{reason}")),
        Ok(Some(message)) => Err(anyhow!("init said {message:?} before it was announced")),
        Ok(None) => Err(how_it_died(&between, cgroup)),
        Err(error) => Err(error),
    };
    waitid(Id::PIDFd(between.pidfd.as_fd()), WaitPidFlag::WEXITED).context("wait for the process that made init")?;
    init
}

fn make_init(stays: bool, enter: impl FnOnce() -> Result<CloneFlags>) -> Result<Side> {
    prctl::set_death_signal(Signal::SIGKILL as isize).map_err(Errno::from_raw).context("PR_SET_PDEATHSIG")?;
    let flags = enter()?;
    if stays {
        unshare(flags).with_context(|| format!("unshare {flags:?}"))?;
        return Ok(Side::Child);
    }
    fork(flags, None, true).with_context(|| format!("clone with {flags:?}"))
}
