//! `process.rlimits`.

use oci_spec::runtime::{PosixRlimit, PosixRlimitType, Process};

use crate::error::{Context as _, Result, bail, ensure};
use crate::sys::process::{hard_limit, set_limit};

/// Each type comes once, and no soft limit is above its hard one.
pub fn check(process: &Process) -> Result<()> {
    let limits = process.rlimits().as_deref().unwrap_or_default();
    for (index, limit) in limits.iter().enumerate() {
        if limits[..index].iter().any(|other| other.typ() == limit.typ()) {
            bail!("process.rlimits[{index}]: {} is given twice", limit.typ());
        }
        ensure!(
            limit.soft() <= limit.hard(),
            "process.rlimits[{index}]: {}: the soft limit {} is above the hard limit {}",
            limit.typ(),
            limit.soft(),
            limit.hard()
        );
    }
    Ok(())
}

/// Sets the limits of a process: init its own (0), before it changes its user, or the parent those of an init that is in
/// a user namespace, where it could not raise them.
pub fn apply(process: &Process, pid: i32) -> Result<()> {
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        set_limit(pid, resource(limit.typ()), limit.soft(), limit.hard()).with_context(|| {
            format!("process.rlimits[{index}]: set {} to {}:{}", limit.typ(), limit.soft(), limit.hard())
        })?;
    }
    Ok(())
}

/// As [`apply`], but leaves RLIMIT_NPROC's hard limit so high that the process can make the program's after
/// [`lift_processes`]: the kernel counts both at that moment. [`apply_processes`] then limits the program's.
///
/// The soft limit is the configured one while the user changes. The kernel compares them then, and remembers for
/// execve(2) if there are more, also in a process that is forked.
pub fn apply_all_but_processes(process: &Process, pid: i32) -> Result<()> {
    let Some(processes) = processes(process) else { return apply(process, pid) };
    let mut others = process.clone();
    others.set_rlimits(process.rlimits().clone().map(|mut limits| {
        limits.retain(|limit| limit.typ() != PosixRlimitType::RlimitNproc);
        limits
    }));
    apply(&others, pid)?;
    let number = resource(processes.typ());
    let raised = set_limit(pid, number, libc::RLIM_INFINITY, libc::RLIM_INFINITY).or_else(|_| {
        let highest = hard_limit(pid, number)?.max(processes.hard());
        set_limit(pid, number, highest, highest)
    });
    let raised = raised.and_then(|()| set_limit(pid, number, processes.soft(), hard_limit(pid, number)?));
    raised.with_context(|| format!("process.rlimits: set {} to {}", processes.typ(), processes.hard()))
}

/// Lets this process make one more.
pub fn lift_processes(process: &Process) -> Result<()> {
    let Some(limit) = processes(process) else { return Ok(()) };
    let number = resource(limit.typ());
    let lifted = hard_limit(0, number).and_then(|hard| set_limit(0, number, hard, hard));
    lifted.with_context(|| format!("process.rlimits: lift {}", limit.typ()))
}

/// Sets this process's RLIMIT_NPROC, which needs no privilege after [`apply_all_but_processes`].
pub fn apply_processes(process: &Process) -> Result<()> {
    let Some(limit) = processes(process) else { return Ok(()) };
    set_limit(0, resource(limit.typ()), limit.soft(), limit.hard())
        .with_context(|| format!("process.rlimits: set {} to {}:{}", limit.typ(), limit.soft(), limit.hard()))
}

/// Returns the configured RLIMIT_NPROC.
pub fn processes(process: &Process) -> Option<&PosixRlimit> {
    process.rlimits().iter().flatten().find(|limit| limit.typ() == PosixRlimitType::RlimitNproc)
}

fn resource(limit: PosixRlimitType) -> libc::c_int {
    use PosixRlimitType::*;
    let number = match limit {
        RlimitCpu => libc::RLIMIT_CPU,
        RlimitFsize => libc::RLIMIT_FSIZE,
        RlimitData => libc::RLIMIT_DATA,
        RlimitStack => libc::RLIMIT_STACK,
        RlimitCore => libc::RLIMIT_CORE,
        RlimitRss => libc::RLIMIT_RSS,
        RlimitNproc => libc::RLIMIT_NPROC,
        RlimitNofile => libc::RLIMIT_NOFILE,
        RlimitMemlock => libc::RLIMIT_MEMLOCK,
        RlimitAs => libc::RLIMIT_AS,
        RlimitLocks => libc::RLIMIT_LOCKS,
        RlimitSigpending => libc::RLIMIT_SIGPENDING,
        RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        RlimitNice => libc::RLIMIT_NICE,
        RlimitRtprio => libc::RLIMIT_RTPRIO,
        RlimitRttime => libc::RLIMIT_RTTIME,
    };
    number as libc::c_int
}
