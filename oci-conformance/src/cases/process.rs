//! config.md: process, without the user.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(cwd, "config.md#process", "the program starts in process.cwd"),
    case!(relative_cwd, "config.md#process", "a cwd that is not absolute is refused")
        .known(&[("crun", "1.8.1 takes it from the root")]),
    case!(env, "config.md#process", "the program's environment is process.env"),
    case!(args, "config.md#process", "the program gets process.args as they are: empty ones, blanks, quotes"),
    case!(args_in_path, "config.md#process", "a name without a slash is looked up in the PATH of process.env"),
    case!(no_args, "config.md#process", "an empty args is refused"),
    case!(missing_program, "config.md#process", "a program that is not there is an error, at the latest of start"),
    case!(
        not_executable,
        "config.md#process",
        "a program that may not be executed is an error, at the latest of start"
    ),
    case!(rlimits, "config.md#posix-process", "soft and hard limits are what getrlimit gives"),
    case!(unknown_rlimit, "config.md#posix-process", "a limit that the kernel does not have is refused"),
    case!(duplicate_rlimit, "config.md#posix-process", "a limit that is given twice is refused")
        .known(&[("runc", "1.1.5 lets the last one count"), ("crun", "1.8.1 lets the last one count")]),
    case!(capabilities, "config.md#linux-process", "effective, permitted and bounding sets are as configured"),
    case!(inheritable_and_ambient, "config.md#linux-process", "inheritable and ambient sets are as configured"),
    case!(no_capability, "config.md#linux-process", "empty lists leave no capability"),
    case!(unknown_capability, "config.md#linux-process", "an unknown capability is a warning, not an error")
        .known(&[("tare", "an unknown capability is refused where a warning is asked for")]),
    case!(no_new_privileges, "config.md#linux-process", "noNewPrivileges sets no_new_privs"),
    case!(new_privileges, "config.md#linux-process", "without noNewPrivileges no_new_privs stays unset"),
    case!(oom_score_adj, "config.md#linux-process", "oomScoreAdj is written to oom_score_adj"),
    case!(no_oom_score_adj, "config.md#linux-process", "without oomScoreAdj oom_score_adj is not changed"),
    case!(no_terminal, "config.md#process", "without terminal the streams are no terminal, and consoleSize is ignored"),
    case!(terminal, "config.md#process", "with terminal the streams are a terminal, and /dev/console is there"),
    case!(file_descriptors, "runtime-linux.md#file-descriptors", "only stdin, stdout and stderr are open"),
    case!(standard_streams, "runtime-linux.md#file-descriptors", "stdin, stdout and stderr are open"),
    case!(scheduler, "config.md#linux-process", "the scheduler's policy and nice value are set")
        .known(UNKNOWN_TO_OTHERS),
    case!(scheduler_flags, "config.md#linux-process", "a flag of the scheduler is in force").known(UNKNOWN_TO_OTHERS),
    case!(scheduler_deadline, "config.md#linux-process", "runtime, deadline and period are taken with SCHED_DEADLINE")
        .known(UNKNOWN_TO_OTHERS),
    case!(unknown_scheduler_policy, "config.md#linux-process", "an unknown policy is refused").known(UNKNOWN_TO_OTHERS),
    case!(io_priority, "config.md#linux-process", "the I/O priority has the class and the level")
        .known(UNKNOWN_TO_OTHERS),
    case!(unknown_io_priority, "config.md#linux-process", "an unknown ioPriority class is refused")
        .known(UNKNOWN_TO_OTHERS),
    case!(selinux_label, "config.md#linux-process", "selinuxLabel is the label of the program"),
    case!(exec_cpu_affinity, "config.md#linux-process", "execCPUAffinity is not for the container's first process"),
];

const UNKNOWN_TO_OTHERS: &[(&str, &str)] = &[("runc", "1.1.5 does not know it"), ("crun", "1.8.1 does not know it")];

fn cwd(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["cwd"] = json!("/etc/dir");
    container.report(&[])?.expect("/cwd", json!("/etc/dir"))
}

fn relative_cwd(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["cwd"] = json!("etc");
    container.create_or_start_refused()
}

fn env(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let env = ["PATH=/usr/bin:/bin", "HOME=/somewhere", "B=two words", "A=", "C=x=y"];
    container.config["process"]["env"] = json!(env);
    let report = container.report(&[])?;
    let found = report.at("/env").as_array().cloned().unwrap_or_default();
    let missing: Vec<_> = env.iter().filter(|entry| !found.iter().any(|found| found == **entry)).collect();
    ensure!(missing.is_empty() && found.len() == env.len(), "the environment is {found:?}");
    Ok(())
}

fn args(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let args = ["/bin/probe", "report", "", "two words", "\"quoted\"", "$PATH", "*", "-x"];
    container.config["process"]["args"] = json!(args);
    container.run_report()?.expect("/args", json!(args))
}

fn args_in_path(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    std::fs::create_dir(container.rootfs().join("elsewhere"))?;
    std::fs::rename(container.rootfs().join("bin/probe"), container.rootfs().join("elsewhere/probe"))?;
    container.config["process"]["env"] = json!(["PATH=/no-such-dir:/etc:/elsewhere"]);
    container.config["process"]["args"] = json!(["probe", "report"]);
    container.run_report()?.expect("/args", json!(["probe", "report"]))
}

fn no_args(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["args"] = json!([]);
    container.create_or_start_refused()
}

fn missing_program(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    for program in ["/no/such/program", "no-such-name"] {
        container.config["process"]["args"] = json!([program]);
        container.create_or_start_refused()?;
        container.call(&["delete", "--force", &container.id])?;
    }
    Ok(())
}

fn not_executable(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["args"] = json!(["/etc/file"]);
    container.create_or_start_refused()
}

fn rlimits(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
        { "type": "RLIMIT_NPROC", "soft": 500, "hard": 600 },
        { "type": "RLIMIT_FSIZE", "soft": 1_000_000, "hard": 2_000_000 },
    ]);
    let report = container.report(&[])?;
    report.expect("/rlimits/RLIMIT_NOFILE", json!([100, 200]))?;
    report.expect("/rlimits/RLIMIT_CORE", json!([0, 0]))?;
    report.expect("/rlimits/RLIMIT_NPROC", json!([500, 600]))?;
    report.expect("/rlimits/RLIMIT_FSIZE", json!([1_000_000, 2_000_000]))
}

fn refused_rlimits(bench: &Bench, rlimits: Value) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["rlimits"] = rlimits;
    container.create_or_start_refused()
}

fn unknown_rlimit(bench: &Bench) -> Result<()> {
    refused_rlimits(bench, json!([{ "type": "RLIMIT_NO_SUCH", "soft": 1, "hard": 1 }]))
}

fn duplicate_rlimit(bench: &Bench) -> Result<()> {
    let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 });
    refused_rlimits(bench, json!([limit, limit]))
}

/// CAP_CHOWN 0, CAP_KILL 5, CAP_SETUID 7, of capabilities(7).
const CHOWN_KILL: u64 = 1 << 0 | 1 << 5;
const CHOWN_KILL_SETUID: u64 = CHOWN_KILL | 1 << 7;

fn capabilities(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let two = json!(["CAP_CHOWN", "CAP_KILL"]);
    let three = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"]);
    container.config["process"]["capabilities"] = json!({ "bounding": three, "permitted": three, "effective": two });
    // A superuser's execve would raise all that is permitted: root is not to be asked about the effective set.
    let report = container.report(&[])?;
    for (set, expected) in [("CapBnd", CHOWN_KILL_SETUID), ("CapPrm", CHOWN_KILL_SETUID), ("CapInh", 0), ("CapAmb", 0)]
    {
        let found = report.capability_set(set)?;
        ensure!(found == expected, "{set} is {found:#x}, not {expected:#x}");
    }
    let effective = report.capability_set("CapEff")?;
    ensure!(effective & !CHOWN_KILL_SETUID == 0, "CapEff is {effective:#x}");
    Ok(())
}

fn inheritable_and_ambient(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let two = json!(["CAP_CHOWN", "CAP_KILL"]);
    container.config["process"]["capabilities"] =
        json!({ "bounding": two, "permitted": two, "effective": two, "inheritable": two, "ambient": ["CAP_KILL"] });
    container.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let report = container.report(&[])?;
    let kill = 1 << 5;
    // What a user keeps over an execve is the ambient set.
    for (set, expected) in
        [("CapInh", CHOWN_KILL), ("CapAmb", kill), ("CapPrm", kill), ("CapEff", kill), ("CapBnd", CHOWN_KILL)]
    {
        let found = report.capability_set(set)?;
        ensure!(found == expected, "{set} is {found:#x}, not {expected:#x}");
    }
    Ok(())
}

fn no_capability(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["capabilities"] =
        json!({ "bounding": [], "permitted": [], "effective": [], "inheritable": [], "ambient": [] });
    let report = container.report(&[])?;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let found = report.capability_set(set)?;
        ensure!(found == 0, "{set} is {found:#x}");
    }
    Ok(())
}

fn unknown_capability(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.capabilities(&["CAP_CHOWN", "CAP_NO_SUCH_THING"]);
    let found = container.report(&[])?.capability_set("CapPrm")?;
    ensure!(found == 1, "CapPrm is {found:#x}, not that of CAP_CHOWN");
    Ok(())
}

fn no_new_privileges(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["noNewPrivileges"] = json!(true);
    container.report(&[])?.expect("/status/NoNewPrivs", json!("1"))
}

fn new_privileges(bench: &Bench) -> Result<()> {
    Container::new(bench)?.report(&[])?.expect("/status/NoNewPrivs", json!("0"))
}

fn own_oom_score_adj() -> Result<i32> {
    Ok(std::fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse()?)
}

fn oom_score_adj(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    // Raising needs no privilege.
    let value = own_oom_score_adj()? + 123;
    if value > 1000 {
        skip!("this process's oom_score_adj cannot be raised any more");
    }
    container.config["process"]["oomScoreAdj"] = json!(value);
    container.report(&[])?.expect("/oom_score_adj", json!(value))
}

fn no_oom_score_adj(bench: &Bench) -> Result<()> {
    let own = own_oom_score_adj()?;
    Container::new(bench)?.report(&[])?.expect("/oom_score_adj", json!(own))
}

fn no_terminal(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["terminal"] = json!(false);
    container.config["process"]["consoleSize"] = json!({ "height": 25, "width": 80 });
    container.report(&[])?.expect("/terminal", json!([false, false, false]))
}

fn terminal(bench: &Bench) -> Result<()> {
    use std::os::unix::net::UnixListener;
    let mut container = Container::new(bench)?;
    // A relative path: the address of a socket is short. Commands run in that directory.
    let socket = container.dir.join("console");
    if socket.as_os_str().len() > 100 {
        skip!("the temporary directory's path is too long for a socket");
    }
    let _listener = UnixListener::bind(&socket)?;
    container.config["process"]["terminal"] = json!(true);
    container.mount_out();
    container.args(&["report", "to:/out/report", "stat:/dev/console"]);
    container.save()?;
    // The descriptor stays in the listener's queue, and the terminal open with it, as long as the listener lives.
    let outcome = container.create_with(&container.bundle(), &["--console-socket", &socket.to_string_lossy()])?;
    ensure!(outcome.code == Some(0), "`create` failed: {}", outcome.stderr.trim());
    container.start()?;
    container.wait()?;
    let report = crate::report::Report::parse(&crate::container::text(&container.out("report"))?)?;
    report.expect("/terminal", json!([true, true, true]))?;
    let console = report.worked("stat:/dev/console")?;
    ensure!(console["kind"] == "char", "/dev/console is a {}", console["kind"]);
    Ok(())
}

fn file_descriptors(bench: &Bench) -> Result<()> {
    let report = Container::new(bench)?.report(&[])?;
    let fds = report.at("/fds").as_object().map(|fds| fds.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    ensure!(fds.iter().all(|fd| ["0", "1", "2"].contains(&fd.as_str())), "open: {}", report.at("/fds"));
    Ok(())
}

fn standard_streams(bench: &Bench) -> Result<()> {
    let report = Container::new(bench)?.report(&[])?;
    for fd in ["0", "1", "2"] {
        ensure!(report.at("/fds").get(fd).is_some(), "{fd} is not open: {}", report.at("/fds"));
    }
    Ok(())
}

/// The nice value and the number of the policy in a line of /proc/<pid>/stat.
fn nice_and_policy(stat: &Value) -> (String, String) {
    // Behind the program's name in parentheses the fields count from 3: nice is 19, policy 41, of proc_pid_stat(5).
    let fields = stat.as_str().and_then(|stat| stat.rsplit(')').next()).unwrap_or_default();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or_default().to_owned();
    (field(16), field(38))
}

fn scheduled(bench: &Bench, scheduler: Value) -> Result<(String, String)> {
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.1.0");
    container.config["process"]["scheduler"] = scheduler;
    let report = container.report(&["read:/proc/self/stat"])?;
    Ok(nice_and_policy(report.worked("read:/proc/self/stat")?))
}

fn scheduler(bench: &Bench) -> Result<()> {
    let (nice, policy) = scheduled(bench, json!({ "policy": "SCHED_BATCH", "nice": 7 }))?;
    ensure!(policy == "3", "the policy is {policy}, not SCHED_BATCH");
    ensure!(nice == "7", "the nice value is {nice}");
    Ok(())
}

fn scheduler_flags(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.1.0");
    container.config["process"]["scheduler"] =
        json!({ "policy": "SCHED_OTHER", "nice": -5, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    let report = container.report(&["read:/proc/self/stat", "threadstat:"])?;
    let (nice, _) = nice_and_policy(report.worked("read:/proc/self/stat")?);
    ensure!(nice == "-5", "the nice value is {nice}");
    let (nice, _) = nice_and_policy(report.worked("threadstat:")?);
    ensure!(nice == "0", "the nice value of a new thread is {nice}");
    Ok(())
}

fn scheduler_deadline(bench: &Bench) -> Result<()> {
    let times = json!({
        "policy": "SCHED_DEADLINE", "runtime": 50_000, "deadline": 1_000_000, "period": 1_000_000,
    });
    let (_, policy) = scheduled(bench, times)?;
    ensure!(policy == "6", "the policy is {policy}, not SCHED_DEADLINE");
    Ok(())
}

fn unknown_scheduler_policy(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.1.0");
    container.config["process"]["scheduler"] = json!({ "policy": "SCHED_NO_SUCH" });
    container.create_or_start_refused()
}

fn io_priority(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    container.config["ociVersion"] = json!("1.1.0");
    container.config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    container.launch()?;
    container.wait_for_output("holding")?;
    let Ok(output) = std::process::Command::new("ionice").arg("-p").arg(container.pid()?.to_string()).output() else {
        skip!("there is no ionice to ask");
    };
    let found = String::from_utf8_lossy(&output.stdout);
    ensure!(found.trim() == "best-effort: prio 6", "it is {found}");
    Ok(())
}

fn unknown_io_priority(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.1.0");
    container.config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_NO_SUCH", "priority": 0 });
    container.create_or_start_refused()
}

fn selinux_label(bench: &Bench) -> Result<()> {
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        skip!("SELinux is not enabled");
    }
    let own = std::fs::read_to_string("/proc/self/attr/current")?;
    let own = own.trim_end_matches(['\0', '\n']);
    let mut container = Container::new(bench)?;
    container.config["process"]["selinuxLabel"] = json!(own);
    let report = container.report(&["read:/proc/self/attr/current"])?;
    let found = report.worked("read:/proc/self/attr/current")?.as_str().unwrap_or_default();
    ensure!(found.trim_end_matches(['\0', '\n']) == own, "the label is {found}");
    Ok(())
}

fn exec_cpu_affinity(bench: &Bench) -> Result<()> {
    let own = std::fs::read_to_string("/proc/self/status")?;
    let own = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default().trim();
    let first = own.split([',', '-']).next().unwrap_or_default();
    if own == first {
        skip!("needs two CPUs");
    }
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.3.0");
    container.config["process"]["execCPUAffinity"] = json!({ "initial": first, "final": first });
    container.report(&[])?.expect("/status/Cpus_allowed_list", json!(own))
}
