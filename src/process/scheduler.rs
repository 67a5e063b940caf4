//! `process.scheduler` (sched_setattr(2)).

use nix::errno::Errno;
use oci_spec::runtime::{LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy, Process, Scheduler, Spec};

use crate::error::{Context as _, Result, ensure};
use crate::sys::schedule::{Attributes, set_scheduler};

/// Every attribute is one of the policy's.
pub fn check(process: &Process) -> Result<()> {
    let Some(scheduler) = process.scheduler() else { return Ok(()) };
    let policy = *scheduler.policy();
    if let (Policy::SchedOther | Policy::SchedBatch, Some(nice)) = (policy, scheduler.nice()) {
        ensure!((-20..=19).contains(nice), "nice: {nice} is not between -20 and 19");
    }
    let priority = scheduler.priority().unwrap_or(0);
    ensure!(priority >= 0, "priority: {priority} is below 0");
    ensure!(
        priority == 0 || matches!(policy, Policy::SchedFifo | Policy::SchedRr),
        "priority: is for SCHED_FIFO and SCHED_RR only"
    );
    let times = [("runtime", scheduler.runtime()), ("deadline", scheduler.deadline()), ("period", scheduler.period())];
    for (name, time) in times {
        let given = time.is_some_and(|time| time != 0);
        ensure!(!given || policy == Policy::SchedDeadline, "{name}: is for SCHED_DEADLINE only");
    }
    Ok(())
}

/// Returns whether a forked process would not have the policy: fork(2) fails with SCHED_DEADLINE, and
/// SCHED_FLAG_RESET_ON_FORK takes the policy away.
pub fn is_lost_by_fork(process: &Process) -> bool {
    let Some(scheduler) = process.scheduler() else { return false };
    let resets = scheduler.flags().iter().flatten().any(|flag| *flag == Flag::SchedResetOnFork);
    resets || *scheduler.policy() == Policy::SchedDeadline
}

/// Takes the policy on, while there are privileges for it; the program keeps it. `pid` is 0 for the caller.
pub fn apply(process: &Process, spec: &Spec, pid: i32) -> Result<()> {
    let Some(scheduler) = process.scheduler() else { return Ok(()) };
    let describe = || format!("process.scheduler: sched_setattr {}", scheduler.policy());
    match set_scheduler(pid, &attributes(scheduler)) {
        // The kernel admits such a process only where it may run on all CPUs. The words are runc's.
        Err(errno @ Errno::EPERM) if has_cpuset(spec) => Err(errno)
            .context("process scheduler can't be used together with AllowedCPUs (linux.resources.cpu.cpus)")
            .with_context(describe),
        result => result.with_context(describe),
    }
}

fn has_cpuset(spec: &Spec) -> bool {
    let cpu = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()?.cpu().as_ref());
    cpu.and_then(|cpu| cpu.cpus().as_ref()).is_some_and(|cpus| !cpus.is_empty())
}

fn attributes(scheduler: &Scheduler) -> Attributes {
    Attributes {
        policy: policy_number(*scheduler.policy()),
        flags: scheduler.flags().iter().flatten().fold(0, |flags, flag| flags | flag_number(*flag)),
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().unwrap_or(0) as u32, // not negative, by the check
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
        ..Attributes::default()
    }
}

fn policy_number(policy: Policy) -> u32 {
    match policy {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4, // reserved in every kernel so far, which says so
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    }
}

fn flag_number(flag: Flag) -> u64 {
    match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(scheduler: &str) -> Process {
        let json = r#"{"cwd":"/","user":{"uid":0,"gid":0},"scheduler":SCHEDULER}"#.replace("SCHEDULER", scheduler);
        crate::config::parse_process(json.as_bytes()).unwrap()
    }

    #[test]
    fn attributes_of_another_policy_are_refused() {
        for good in [
            r#"{"policy":"SCHED_OTHER","nice":-20}"#,
            r#"{"policy":"SCHED_FIFO","priority":99}"#,
            r#"{"policy":"SCHED_IDLE"}"#,
            r#"{"policy":"SCHED_DEADLINE","runtime":1,"deadline":2,"period":3}"#,
        ] {
            check(&process(good)).unwrap();
        }
        for bad in [
            r#"{"policy":"SCHED_BATCH","nice":20}"#,
            r#"{"policy":"SCHED_OTHER","priority":1}"#,
            r#"{"policy":"SCHED_RR","priority":-1}"#,
            r#"{"policy":"SCHED_FIFO","runtime":1}"#,
            r#"{"policy":"SCHED_IDLE","period":1}"#,
        ] {
            assert!(check(&process(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_policy_and_flag_of_the_specification_has_the_kernels_number() {
        let policies = ["OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE"]
            .map(|name| format!(r#"{{"policy":"SCHED_{name}"}}"#));
        for (number, policy) in policies.iter().enumerate() {
            let process = process(policy);
            assert_eq!(attributes(process.scheduler().as_ref().unwrap()).policy as usize, number, "{policy}");
        }
        let flags = [
            "RESET_ON_FORK",
            "RECLAIM",
            "DL_OVERRUN",
            "KEEP_POLICY",
            "KEEP_PARAMS",
            "UTIL_CLAMP_MIN",
            "UTIL_CLAMP_MAX",
        ];
        for (bit, flag) in flags.iter().enumerate() {
            let process = process(&format!(r#"{{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_{flag}"]}}"#));
            assert_eq!(attributes(process.scheduler().as_ref().unwrap()).flags, 1 << bit, "{flag}");
        }
    }
}
