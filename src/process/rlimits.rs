//! `process.rlimits`.

use oci_spec::runtime::{PosixRlimitType, Process};

use crate::error::{Context as _, Result, bail, ensure};
use crate::sys::process::set_limit;

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
