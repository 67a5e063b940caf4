//! config.md#linux-process: scheduler, ioPriority and execCPUAffinity.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;
use crate::report::Report;

pub const CASES: &[Case] = &[
    case!(other, "config.md#linux-process", "SCHED_OTHER with a nice value").known(UNKNOWN),
    case!(batch, "config.md#linux-process", "SCHED_BATCH with a nice value").known(UNKNOWN),
    case!(idle, "config.md#linux-process", "SCHED_IDLE").known(UNKNOWN),
    case!(fifo, "config.md#linux-process", "SCHED_FIFO with a priority").known(UNKNOWN),
    case!(round_robin, "config.md#linux-process", "SCHED_RR with a priority").known(UNKNOWN),
    case!(deadline, "config.md#linux-process", "runtime, deadline and period are taken with SCHED_DEADLINE")
        .known(UNKNOWN),
    case!(iso, "config.md#linux-process", "SCHED_ISO, which the kernel does not have, is refused").known(UNKNOWN),
    case!(unknown_policy, "config.md#linux-process", "an unknown policy is refused").known(UNKNOWN),
    case!(no_nice, "config.md#linux-process", "without nice the nice value is 0").known(UNKNOWN),
    case!(reset_on_fork, "config.md#linux-process", "SCHED_FLAG_RESET_ON_FORK is in force").known(UNKNOWN),
    case!(deadline_flags, "config.md#linux-process", "SCHED_FLAG_RECLAIM and DL_OVERRUN are accepted").known(UNKNOWN),
    case!(keep_policy, "config.md#linux-process", "SCHED_FLAG_KEEP_POLICY leaves the policy as it is").known(UNKNOWN),
    case!(keep_params, "config.md#linux-process", "SCHED_FLAG_KEEP_PARAMS leaves the nice value as it is")
        .known(UNKNOWN),
    case!(util_clamp, "config.md#linux-process", "SCHED_FLAG_UTIL_CLAMP_MIN and MAX reach the kernel").known(&[
        ("runc 1.1", "does not know it"),
        ("crun 1.28", "gives the kernel the older structure, without room for the clamps, which it refuses"),
    ]),
    case!(unknown_flag, "config.md#linux-process", "an unknown scheduler flag is refused").known(UNKNOWN),
    case!(io_realtime, "config.md#linux-process", "IOPRIO_CLASS_RT with its level").known(UNKNOWN),
    case!(io_best_effort, "config.md#linux-process", "IOPRIO_CLASS_BE with its level").known(UNKNOWN),
    case!(io_idle, "config.md#linux-process", "IOPRIO_CLASS_IDLE").known(UNKNOWN),
    case!(io_unknown_class, "config.md#linux-process", "an unknown ioPriority class is refused").known(UNKNOWN),
    case!(io_level_out_of_range, "config.md#linux-process", "an ioPriority level above 7 is refused")
        .known(&[("runc 1.1", "does not know it"), ("crun 1.8", "does not know it")]),
    case!(cpu_affinity, "config.md#linux-process", "execCPUAffinity is not for the container's first process")
        .known(NEWER),
    case!(exec_cpu_affinity, "config.md#linux-process", "execCPUAffinity.final holds for a further process").known(&[
        ("runc 1.1", "does not know it"),
        ("crun 1.8", "does not know it"),
        ("crun 1.28", "exec takes it from the file of its option --process, not from config.json"),
    ]),
    case!(exec_cpu_initial, "config.md#linux-process", "execCPUAffinity.initial alone leaves the cgroup's CPUs")
        .known(NEWER),
    case!(bad_cpu_affinity, "config.md#linux-process", "a list of CPUs that is none is refused")
        .known(&[("runc 1.1", "does not know it"), ("crun 1.28", "reads it only in the file of exec --process")]),
];

const NEWER: &[(&str, &str)] = &[("crun 1.8", "refuses bundles of a newer minor version")];
const UNKNOWN: &[(&str, &str)] = &[("runc 1.1", "does not know it"), ("crun 1.8", "does not know it")];

/// The nice value, the static priority and the number of the policy in a line of /proc/<pid>/stat.
struct Scheduled {
    nice: String,
    priority: String,
    policy: String,
}

impl Scheduled {
    fn of(stat: &Value) -> Scheduled {
        // Behind the program's name in parentheses the fields count from 3: nice is 19, rt_priority 40, policy 41, of
        // proc_pid_stat(5).
        let fields = stat.as_str().and_then(|stat| stat.rsplit(')').next()).unwrap_or_default();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or_default().to_owned();
        Scheduled { nice: field(16), priority: field(37), policy: field(38) }
    }
}

const STAT: &str = "read:/proc/self/stat";

fn with<'a>(bench: &'a Bench, property: &str, value: Value) -> Result<Container<'a>> {
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.3.0");
    container.config["process"][property] = value;
    Ok(container)
}

fn scheduled(bench: &Bench, scheduler: Value) -> Result<Scheduled> {
    let report = with(bench, "scheduler", scheduler)?.report(&[STAT])?;
    Ok(Scheduled::of(report.worked(STAT)?))
}

fn expect(bench: &Bench, scheduler: Value, expected: (&str, &str, &str)) -> Result<()> {
    let found = scheduled(bench, scheduler)?;
    let seen = (found.policy.as_str(), found.nice.as_str(), found.priority.as_str());
    ensure!(seen == expected, "policy, nice value and priority are {seen:?}, not {expected:?}");
    Ok(())
}

fn other(bench: &Bench) -> Result<()> {
    expect(bench, json!({ "policy": "SCHED_OTHER", "nice": 5 }), ("0", "5", "0"))
}

fn batch(bench: &Bench) -> Result<()> {
    expect(bench, json!({ "policy": "SCHED_BATCH", "nice": 7 }), ("3", "7", "0"))
}

fn idle(bench: &Bench) -> Result<()> {
    let policy = scheduled(bench, json!({ "policy": "SCHED_IDLE" }))?.policy;
    ensure!(policy == "5", "the policy is {policy}, not SCHED_IDLE");
    Ok(())
}

/// Groups of the v1 cpu controller may have no real-time bandwidth of their own unless it is configured.
fn real_time<'a>(bench: &'a Bench, policy: &str, priority: u32) -> Result<Container<'a>> {
    let mut container = with(bench, "scheduler", json!({ "policy": policy, "priority": priority }))?;
    if bench.suite.cgroups.allow_real_time(&bench.suite.mark) {
        container.config["linux"]["resources"]["cpu"] = json!({ "realtimeRuntime": 1000, "realtimePeriod": 1_000_000 });
    }
    Ok(container)
}

fn expect_real_time(bench: &Bench, policy: &str, number: &str) -> Result<()> {
    let report = real_time(bench, policy, 3)?.report(&[STAT])?;
    let found = Scheduled::of(report.worked(STAT)?);
    let seen = (found.policy.as_str(), found.priority.as_str());
    ensure!(seen == (number, "3"), "policy and priority are {seen:?}");
    Ok(())
}

fn fifo(bench: &Bench) -> Result<()> {
    expect_real_time(bench, "SCHED_FIFO", "1")
}

fn round_robin(bench: &Bench) -> Result<()> {
    expect_real_time(bench, "SCHED_RR", "2")
}

fn times(flags: &[&str]) -> Value {
    json!({
        "policy": "SCHED_DEADLINE", "runtime": 50_000, "deadline": 1_000_000, "period": 1_000_000, "flags": flags,
    })
}

fn deadline(bench: &Bench) -> Result<()> {
    let found = scheduled(bench, times(&[]))?;
    ensure!(found.policy == "6", "the policy is {}, not SCHED_DEADLINE", found.policy);
    // The kernel refuses times that contradict each other: so each of them got there.
    for (name, value) in [("runtime", 2_000_000), ("deadline", 40_000), ("period", 60_000)] {
        let mut wrong = times(&[]);
        wrong[name] = json!(value);
        with(bench, "scheduler", wrong)?.create_or_start_refused().with_context(|| format!("a bad {name}"))?;
    }
    Ok(())
}

fn iso(bench: &Bench) -> Result<()> {
    with(bench, "scheduler", json!({ "policy": "SCHED_ISO" }))?.create_or_start_refused()
}

fn unknown_policy(bench: &Bench) -> Result<()> {
    with(bench, "scheduler", json!({ "policy": "SCHED_NO_SUCH" }))?.create_or_start_refused()
}

/// A runtime with another nice value than 0 gives the container 0.
fn no_nice(bench: &Bench) -> Result<()> {
    let mut container = with(bench, "scheduler", json!({ "policy": "SCHED_OTHER" }))?;
    container.before = vec!["nice".into(), "-n".into(), "3".into()];
    let found = Scheduled::of(container.report(&[STAT])?.worked(STAT)?);
    ensure!(found.nice == "0", "the nice value is {}", found.nice);
    Ok(())
}

fn reset_on_fork(bench: &Bench) -> Result<()> {
    let flags = json!({ "policy": "SCHED_OTHER", "nice": -5, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    let report = with(bench, "scheduler", flags)?.report(&[STAT, "threadstat:"])?;
    let nice = Scheduled::of(report.worked(STAT)?).nice;
    ensure!(nice == "-5", "the nice value is {nice}");
    let nice = Scheduled::of(report.worked("threadstat:")?).nice;
    ensure!(nice == "0", "the nice value of a new thread is {nice}");
    Ok(())
}

fn deadline_flags(bench: &Bench) -> Result<()> {
    for flag in ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"] {
        let policy = scheduled(bench, times(&[flag])).context(flag)?.policy;
        ensure!(policy == "6", "with {flag} the policy is {policy}, not SCHED_DEADLINE");
    }
    Ok(())
}

fn keep_policy(bench: &Bench) -> Result<()> {
    let flags = ["SCHED_FLAG_KEEP_POLICY"];
    expect(bench, json!({ "policy": "SCHED_BATCH", "nice": 4, "flags": flags }), ("0", "4", "0"))
}

fn keep_params(bench: &Bench) -> Result<()> {
    let flags = ["SCHED_FLAG_KEEP_PARAMS"];
    let own = Scheduled::of(&json!(std::fs::read_to_string("/proc/self/stat")?)).nice;
    // The policy is among what the kernel keeps then.
    expect(bench, json!({ "policy": "SCHED_BATCH", "nice": 4, "flags": flags }), ("0", &own, "0"))
}

/// The specification has no property for the values, so they are 0; a kernel without clamps refuses the flags.
fn util_clamp(bench: &Bench) -> Result<()> {
    let clamps = std::path::Path::new("/proc/sys/kernel/sched_util_clamp_max").exists();
    for flag in ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"] {
        let container = with(bench, "scheduler", json!({ "policy": "SCHED_OTHER", "flags": [flag] }))?;
        match clamps {
            true => drop(container.run().context(flag)?),
            false => container.create_or_start_refused().context(flag)?,
        }
    }
    Ok(())
}

fn unknown_flag(bench: &Bench) -> Result<()> {
    with(bench, "scheduler", json!({ "policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NO_SUCH"] }))?
        .create_or_start_refused()
}

fn expect_io(bench: &Bench, priority: Value, expected: &str) -> Result<()> {
    let mut container = with(bench, "ioPriority", priority)?;
    container.args(&["hold"]);
    container.launch()?;
    container.wait_for_output("holding")?;
    let Ok(output) = std::process::Command::new("ionice").arg("-p").arg(container.pid()?.to_string()).output() else {
        skip!("there is no ionice to ask");
    };
    let found = String::from_utf8_lossy(&output.stdout);
    ensure!(found.trim() == expected, "it is {found}");
    Ok(())
}

fn io_realtime(bench: &Bench) -> Result<()> {
    expect_io(bench, json!({ "class": "IOPRIO_CLASS_RT", "priority": 5 }), "realtime: prio 5")
}

fn io_best_effort(bench: &Bench) -> Result<()> {
    expect_io(bench, json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }), "best-effort: prio 6")
}

fn io_idle(bench: &Bench) -> Result<()> {
    expect_io(bench, json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 }), "idle")
}

fn io_unknown_class(bench: &Bench) -> Result<()> {
    with(bench, "ioPriority", json!({ "class": "IOPRIO_CLASS_NO_SUCH", "priority": 0 }))?.create_or_start_refused()
}

fn io_level_out_of_range(bench: &Bench) -> Result<()> {
    with(bench, "ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }))?.create_or_start_refused()
}

/// The CPUs of this process, and the first of them; a skip where there is one only.
fn cpus() -> Result<(String, String)> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let own = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default().trim();
    let first = own.split([',', '-']).next().unwrap_or_default();
    if own == first {
        skip!("needs two CPUs");
    }
    Ok((own.to_owned(), first.to_owned()))
}

const CPUS: &str = "/status/Cpus_allowed_list";

fn cpu_affinity(bench: &Bench) -> Result<()> {
    let (own, first) = cpus()?;
    with(bench, "execCPUAffinity", json!({ "initial": first, "final": first }))?.report(&[])?.expect(CPUS, json!(own))
}

/// The specification has no operation that runs a further process; runtimes call theirs `exec`.
fn executed(bench: &Bench, affinity: Value) -> Result<Report> {
    let mut container = with(bench, "execCPUAffinity", affinity)?;
    container.args(&["hold"]);
    container.launch()?;
    container.wait_for_output("holding")?;
    Report::parse(&container.ok(&["exec", &container.id, "/bin/probe", "report"])?.stdout)
}

fn exec_cpu_affinity(bench: &Bench) -> Result<()> {
    let (own, first) = cpus()?;
    executed(bench, json!({ "initial": own, "final": first }))?.expect(CPUS, json!(first))
}

fn exec_cpu_initial(bench: &Bench) -> Result<()> {
    let (own, first) = cpus()?;
    let found = executed(bench, json!({ "initial": first }))?;
    // On v1 entering the cgroup changes nothing; in a cpuset of v2 the kernel widens it again.
    let seen = found.at(CPUS);
    ensure!(*seen == json!(own) || *seen == json!(first), "the CPUs are {seen}");
    Ok(())
}

fn bad_cpu_affinity(bench: &Bench) -> Result<()> {
    with(bench, "execCPUAffinity", json!({ "initial": "x", "final": "0" }))?.create_refused().map(drop)
}
