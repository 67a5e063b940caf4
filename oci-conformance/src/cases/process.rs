//! config.md: process, without the user.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;
use crate::report::Report;

pub const CASES: &[Case] = &[
    case!(cwd, "config.md#process", "the program starts in process.cwd"),
    case!(relative_cwd, "config.md#process", "a cwd that is not absolute is refused")
        .known(&[("crun", "takes it from the root")]),
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
    case!(every_rlimit, "config.md#posix-process", "each resource of getrlimit(2) can be limited"),
    case!(soft_above_hard, "config.md#posix-process", "a soft limit above the hard one is refused"),
    case!(unknown_rlimit, "config.md#posix-process", "a limit that the kernel does not have is refused"),
    case!(duplicate_rlimit, "config.md#posix-process", "a limit that is given twice is refused")
        .known(&[("runc", "lets the last one count"), ("crun", "lets the last one count")]),
    case!(capabilities, "config.md#linux-process", "effective, permitted and bounding sets are as configured"),
    case!(inheritable_and_ambient, "config.md#linux-process", "inheritable and ambient sets are as configured"),
    case!(no_capability, "config.md#linux-process", "empty lists leave no capability"),
    case!(unknown_capability, "config.md#linux-process", "an unknown capability is a warning, not an error"),
    case!(no_new_privileges, "config.md#linux-process", "noNewPrivileges sets no_new_privs"),
    case!(new_privileges, "config.md#linux-process", "without noNewPrivileges no_new_privs stays unset"),
    case!(oom_score_adj, "config.md#linux-process", "oomScoreAdj is written to oom_score_adj"),
    case!(no_oom_score_adj, "config.md#linux-process", "without oomScoreAdj oom_score_adj is not changed"),
    case!(no_terminal, "config.md#process", "without terminal the streams are no terminal, and consoleSize is ignored"),
    case!(terminal, "config.md#process", "with terminal the streams are a terminal, and /dev/console is there")
        .known(&[("crun 1.28", "/dev/console is a link to the terminal, where a bind mount is asked for")]),
    case!(console_size, "config.md#process", "consoleSize is the terminal's size"),
    case!(file_descriptors, "runtime-linux.md#file-descriptors", "only stdin, stdout and stderr are open"),
    case!(standard_streams, "runtime-linux.md#file-descriptors", "stdin, stdout and stderr are open"),
];

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

/// A limit for each resource, low enough to be allowed and high enough for the probe.
const RLIMITS: &[(&str, u64)] = &[
    ("RLIMIT_AS", 1 << 40),
    ("RLIMIT_CORE", 4096),
    ("RLIMIT_CPU", 1000),
    ("RLIMIT_DATA", 1 << 39),
    ("RLIMIT_FSIZE", 1 << 38),
    ("RLIMIT_LOCKS", 1000),
    ("RLIMIT_MEMLOCK", 65_536),
    ("RLIMIT_MSGQUEUE", 4096),
    ("RLIMIT_NICE", 0),
    ("RLIMIT_NOFILE", 256),
    ("RLIMIT_NPROC", 1000),
    ("RLIMIT_RSS", 1 << 37),
    ("RLIMIT_RTPRIO", 0),
    ("RLIMIT_RTTIME", 1 << 36),
    ("RLIMIT_SIGPENDING", 500),
    ("RLIMIT_STACK", 1 << 22),
];

fn every_rlimit(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let limits = RLIMITS.iter().map(|(name, limit)| json!({ "type": name, "soft": limit, "hard": limit }));
    container.config["process"]["rlimits"] = Value::Array(limits.collect());
    let report = container.report(&[])?;
    RLIMITS.iter().try_for_each(|(name, limit)| report.expect(&format!("/rlimits/{name}"), json!([limit, limit])))
}

fn soft_above_hard(bench: &Bench) -> Result<()> {
    refused_rlimits(bench, json!([{ "type": "RLIMIT_NOFILE", "soft": 200, "hard": 100 }]))
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

/// Runs with a terminal; the report goes to a file.
fn on_terminal(mut container: Container, questions: &[&str]) -> Result<Report> {
    use std::os::unix::net::UnixListener;
    let socket = container.dir.join("console");
    if socket.as_os_str().len() > 100 {
        skip!("the temporary directory's path is too long for a socket");
    }
    let _listener = UnixListener::bind(&socket)?;
    container.config["process"]["terminal"] = json!(true);
    container.mount_out();
    container.args(&[["report", "to:/out/report"].as_slice(), questions].concat());
    container.save()?;
    // The descriptor stays in the listener's queue, and the terminal open with it, as long as the listener lives.
    let outcome = container.create_with(&container.bundle(), &["--console-socket", &socket.to_string_lossy()])?;
    ensure!(outcome.code == Some(0), "`create` failed: {}", outcome.stderr.trim());
    container.start()?;
    container.wait()?;
    Report::parse(&crate::container::text(&container.out("report"))?)
}

fn terminal(bench: &Bench) -> Result<()> {
    let report = on_terminal(Container::new(bench)?, &["stat:/dev/console"])?;
    report.expect("/terminal", json!([true, true, true]))?;
    let console = report.worked("stat:/dev/console")?;
    ensure!(console["kind"] == "char", "/dev/console is a {}", console["kind"]);
    Ok(())
}

fn console_size(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
    let report = on_terminal(container, &["winsize:"])?;
    ensure!(*report.worked("winsize:")? == json!([33, 77]), "height and width are {}", report.worked("winsize:")?);
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
