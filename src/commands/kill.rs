//! `tare kill`

use std::os::fd::AsFd as _;
use std::str::FromStr as _;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::{cli, several};
use crate::cgroups;
use crate::error::{Context as _, Result, anyhow, bail};
use crate::parent::others;
use crate::state::{Container, Record, Root, Status, status};
use crate::sys::fd::{kill, pidfd_send_signal};

/// Sends a signal to init, or to all processes, of a container or of all that match.
pub fn run(root: &Root, args: &cli::Kill) -> Result<()> {
    let signal = parse(&args.signal)?;
    if !args.regex {
        return kill_one(root, &args.id, signal, args.all);
    }
    several::each(&several::matching(root, &args.id)?, |id| match status_of(root, id)? {
        // It matches, but has nothing to send a signal to.
        None | Some(Status::Stopped) => Ok(()),
        Some(_) => kill_one(root, id, signal, args.all),
    })
}

/// `None`: it is gone, or only about to be made.
fn status_of(root: &Root, id: &str) -> Result<Option<Status>> {
    let Ok(container) = Container::open(root, id) else { return Ok(None) };
    container.load()?.map(|record| container.status(&record)).transpose()
}

fn kill_one(root: &Root, id: &str, signal: i32, all: bool) -> Result<()> {
    let container = Container::open(root, id)?;
    let record = container.record()?;
    if all {
        return signal_all(&container, &record, signal);
    }
    match container.status(&record)? {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Creating if record.init_process_pid != 0 => {}
        // Without a pid namespace that dies with init, its other processes may have outlived it.
        Status::Stopped if signal == libc::SIGKILL && !record.private_pid_namespace => {
            return kill_survivors(&container, &record);
        }
        Status::Stopped | Status::Creating => bail!("container not running"),
    }
    if signal == libc::SIGKILL && !record.private_pid_namespace {
        // Without a pid namespace that dies with init, its other processes would live on.
        let init = signal_init(&record, signal);
        return others::cgroup_beside(&container, &record.cgroup)?.kill().and(init);
    }
    signal_init(&record, signal)
}

fn kill_survivors(container: &Container, record: &Record) -> Result<()> {
    let Ok(cgroup) = others::cgroup_beside(container, &record.cgroup) else { bail!("container not running") };
    match cgroup.pids() {
        Ok(pids) if !pids.is_empty() && cgroup.is_ours()? => cgroup.kill(),
        _ => bail!("container not running"),
    }
}

fn signal_init(record: &Record, signal: i32) -> Result<()> {
    let pid = record.init_process_pid;
    let Some(pidfd) = status::open_init(record)? else { bail!("container not running") };
    match pidfd_send_signal(pidfd.as_fd(), signal) {
        Err(Errno::ESRCH) => bail!("container not running: no such process"),
        result => result.with_context(|| format!("send signal {signal} to init (pid {pid})"))?,
    }
    match signal {
        libc::SIGKILL => cgroups::reopen(&record.cgroup)?.thaw_the_killed(),
        _ => Ok(()),
    }
}

/// Init itself, and what is in the cgroup: the one may have been moved out of the other, and the cgroup may be gone.
fn signal_all(container: &Container, record: &Record, signal: i32) -> Result<()> {
    let init = match status::open_init(record)? {
        Some(pidfd) => sent(pidfd_send_signal(pidfd.as_fd(), signal), signal, record.init_process_pid),
        None => Ok(()),
    };
    let cgroup = others::cgroup_beside(container, &record.cgroup)?;
    if signal == libc::SIGKILL {
        return cgroup.kill().and_then(|()| cgroup.thaw_the_killed()).and(init);
    }
    let mut rest = cgroup.pids()?;
    rest.retain(|&pid| pid != record.init_process_pid);
    if rest.is_empty() || !cgroup.is_ours()? {
        return init;
    }
    rest.into_iter().try_for_each(|pid| sent(kill(pid, signal), signal, pid)).and(init)
}

/// What has ended meanwhile needs no signal.
fn sent(result: nix::Result<()>, signal: i32, pid: i32) -> Result<()> {
    match result {
        Err(Errno::ESRCH) => Ok(()),
        result => result.with_context(|| format!("send signal {signal} to pid {pid}")),
    }
}

/// A signal's number: `15`, `TERM`, `SIGTERM`, in any case, and real-time ones as `RTMIN+1`.
fn parse(signal: &str) -> Result<i32> {
    let unknown = || anyhow!("unknown signal {signal:?}");
    if let Ok(number) = signal.parse::<i32>() {
        return Some(number).filter(|number| (0..=libc::SIGRTMAX()).contains(number)).ok_or_else(unknown);
    }
    let name = signal.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(libc::SIGRTMIN(), offset).ok_or_else(unknown);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(libc::SIGRTMAX(), offset).ok_or_else(unknown);
    }
    Signal::from_str(&format!("SIG{name}")).map(|signal| signal as i32).map_err(|_| unknown())
}

fn real_time(base: i32, offset: &str) -> Option<i32> {
    let offset = if offset.is_empty() { 0 } else { offset.parse::<i32>().ok()? };
    let number = base.checked_add(offset)?;
    (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_number_and_two_names() {
        for name in ["15", "TERM", "SIGTERM", "sigterm"] {
            assert_eq!(parse(name).unwrap(), 15, "{name}");
        }
        assert_eq!(parse("RTMIN+1").unwrap(), libc::SIGRTMIN() + 1);
        assert_eq!(parse("SIGRTMAX-1").unwrap(), libc::SIGRTMAX() - 1);
        for bad in ["", "NOPE", "65", "-1", "RTMIN-1", "RTMAX+1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
