//! What a container's processes see of a process that comes into their pid namespace: nothing that they have not themselves,
//! at its first instruction already.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::container::{Container, is_alive};
use crate::runtime::{Outcome, eventually, need_root, only_tare, skip};
use crate::tracer::{self, SECRET, Traced, shares_pids};

const RUNC: &str = "runc makes the process in the pid namespace, and confines it there";

/// A container with a filter that needs no privilege to be loaded, or one.
fn filtered(denied: &str, no_new_privileges: bool) -> Container {
    let mut c = Container::sleeping();
    c.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
    c.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": [denied], "action": "SCMP_ACT_ERRNO" }],
    });
    c
}

fn link(pid: i32, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/{name}")).map_or_else(|error| error.to_string(), |to| to.display().to_string())
}

/// The values of these lines of /proc/<pid>/status.
fn status(pid: i32, keys: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let is_wanted = |line: &&str| keys.iter().any(|key| line.split(':').next() == Some(key));
    text.lines().filter(is_wanted).map(str::to_owned).collect()
}

/// Has the namespaces, root, cwd and cgroup of init, and holds no file but its standard streams.
fn assert_holds_nothing_of_the_host(pid: i32, init: i32) {
    for name in ["mnt", "net", "ipc", "uts", "pid", "cgroup", "user"] {
        let namespace = format!("ns/{name}");
        assert_eq!(link(pid, &namespace), link(init, &namespace), "{name}");
    }
    let place = |pid: i32, name: &str| {
        let found = fs::metadata(format!("/proc/{pid}/{name}/")).expect("a directory");
        (found.dev(), found.ino())
    };
    assert_eq!(place(pid, "root"), place(init, "root"), "root");
    assert_eq!(place(pid, "cwd"), place(init, "cwd"), "cwd");
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("the environment");
    assert!(!String::from_utf8_lossy(&environment).contains(SECRET), "the caller's environment");
    let cgroup = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroups");
    assert_eq!(cgroup(pid), cgroup(init));
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten() {
        let number: u32 = entry.file_name().to_string_lossy().parse().expect("a number");
        let target = link(pid, &format!("fd/{number}"));
        assert!(number < 3 || target.starts_with("socket:["), "{number}: {target}");
    }
}

/// Is as confined as init, too.
fn assert_confined(pid: i32, init: i32) {
    assert_holds_nothing_of_the_host(pid, init);
    let keys = ["Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    assert_eq!(status(pid, &keys), status(init, &keys));
    let limits = |pid: i32| fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    assert_eq!(limits(pid), limits(init));
}

/// Runs a program in a container, and calls `look` for each process that is in the pid namespace at its first instruction.
/// `None`: nothing may be traced here.
fn exec_seen(c: &Container, args: &[&str], look: fn(i32, i32)) -> Option<Traced> {
    let init = c.pid();
    let mut seen = 0;
    let traced = tracer::run(c, &[&["exec"], args].concat(), |pid| {
        if shares_pids(pid, init) {
            look(pid, init);
            seen += 1;
            return true;
        }
        false
    })?;
    assert_eq!((traced.code, seen), (0, 1), "{}", traced.stderr);
    Some(traced)
}

#[test]
fn exec_is_confined_from_its_first_instruction() {
    need_root!("an ordinary user may not look at a process that hides");
    only_tare!("{RUNC}");
    for no_new_privileges in [true, false] {
        let mut c = filtered("mkdir", no_new_privileges);
        c.config["process"]["user"] = json!({ "uid": 7, "gid": 8, "additionalGids": [9] });
        c.capabilities(&[]); // another user loses them in execve(2), and init has done it
        c.launch();
        let Some(traced) = exec_seen(&c, &[&c.id, "id", "-u"], assert_confined) else {
            skip!("ptrace is not permitted here");
        };
        assert_eq!(traced.stdout, "7\n");
    }
}

#[test]
fn exec_with_a_terminal_is_confined_from_its_first_instruction() {
    need_root!("an ordinary user may not look at a process that hides");
    only_tare!("{RUNC}");
    let c = filtered("mkdir", true);
    c.launch();
    let script = "test -t 0 && exec </dev/tty && echo controls";
    let Some(traced) = exec_seen(&c, &["--tty", &c.id, "sh", "-c", script], assert_confined) else {
        skip!("ptrace is not permitted here");
    };
    assert_eq!(traced.stdout.trim(), "controls");
}

#[test]
fn exec_below_a_filter_that_denies_the_birth_holds_nothing_of_the_host() {
    need_root!("an ordinary user may not look at a process that hides");
    only_tare!("{RUNC}");
    for (denied, no_new_privileges) in [("clone", true), ("setsid", true), ("clone", false), ("setsid", false)] {
        let c = filtered(denied, no_new_privileges);
        c.launch();
        let args = [c.id.as_str(), "grep", "^Seccomp:", "/proc/self/status"];
        let Some(traced) = exec_seen(&c, &args, assert_holds_nothing_of_the_host) else {
            skip!("ptrace is not permitted here");
        };
        assert_eq!(traced.stdout, "Seccomp:\t2\n", "{denied}");
    }
}

#[test]
fn exec_in_a_user_namespace_is_confined_from_its_first_instruction() {
    need_root!("an ordinary user may not look at a process that hides");
    only_tare!("{RUNC}");
    let mut c = crate::linux::uid_mappings::mapped("exec sleep 1000");
    c.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 512, "hard": 512 }]);
    c.launch();
    let script = "ulimit -n; test -t 0 && echo terminal";
    let Some(traced) = exec_seen(&c, &["--tty", &c.id, "sh", "-c", script], assert_confined) else {
        skip!("ptrace is not permitted here");
    };
    assert_eq!(traced.stdout.replace('\r', ""), "512\nterminal\n");
}

#[test]
fn exec_whose_process_is_not_announced_leaves_none() {
    need_root!("an ordinary user may not look at a process that hides");
    only_tare!("{RUNC}");
    let c = Container::sleeping();
    c.launch();
    let init = c.pid();
    let mut born = None;
    let traced = tracer::run(&c, &["exec", &c.id, "sleep", "1000"], |pid| {
        if !shares_pids(pid, init) {
            return false;
        }
        // Its maker, which stands still, is the other child of the same process.
        let parent = status(pid, &["PPid"])[0].split_whitespace().nth(1).expect("a pid").to_owned();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let others = children.split_whitespace().filter_map(|child| child.parse().ok()).filter(|child| *child != pid);
        for maker in others {
            kill(Pid::from_raw(maker), Signal::SIGKILL).expect("kill the maker");
            born = Some(pid);
        }
        true
    });
    let Some(traced) = traced else { skip!("ptrace is not permitted here") };
    let Some(born) = born else { skip!("this kernel does not list the children of a process") };
    assert_eq!(traced.code, 255, "{}", traced.stderr);
    eventually("the process that was not announced is gone", || (!is_alive(born)).then_some(()));
}

fn exec(c: &Container, args: &[&str]) -> Outcome {
    c.call(&[&["exec", c.id.as_str()], args].concat())
}

#[test]
fn exec_where_the_host_is_seen_has_the_containers_confinement() {
    let mut c = Container::sleeping();
    c.share_the_hosts_pids();
    c.config["linux"]["seccomp"] = filtered("mkdir", true).config["linux"]["seccomp"].clone();
    c.launch();
    let lines = "^(Seccomp|NoNewPrivs|CapEff):";
    let outcome = exec(&c, &["grep", "-E", lines, &format!("/proc/{}/status", c.pid())]).ok();
    exec(&c, &["grep", "-E", lines, "/proc/self/status"]).ok().prints(&outcome.stdout);
    let script = "test -t 0 && exec </dev/tty && echo controls";
    let outcome = c.call(&["exec", "--tty", &c.id, "sh", "-c", script]).ok();
    assert_eq!(outcome.stdout.trim(), "controls");
    c.delete_force().ok();
    c.assert_nothing_left();
}

/// The file of the container's pids controller, as init's cgroup has it.
fn pids_max(c: &Container) -> std::path::PathBuf {
    let found = crate::cgroup_tree::named(&c.id).into_iter().map(|dir| dir.join("pids.max")).find(|file| file.exists());
    found.expect("a cgroup with a limit of processes")
}

#[test]
fn exec_needs_one_free_process_and_no_more() {
    need_root!("an ordinary user may have no cgroup");
    only_tare!("runc's own threads count, too");
    let mut c = Container::sleeping();
    c.config["linux"]["resources"]["pids"] = json!({ "limit": 2 });
    c.launch();
    for _ in 0..3 {
        exec(&c, &["true"]).ok().silent();
        assert_eq!(fs::read_to_string(pids_max(&c)).expect("the limit"), "2\n");
    }
    // The program has what the container has left, which is nothing.
    let outcome = exec(&c, &["sh", "-c", "(exit 3); exit 0"]);
    assert!(outcome.stderr.contains("fork"), "{}", outcome.stderr);
    assert_eq!(fs::read_to_string(pids_max(&c)).expect("the limit"), "2\n");
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn exec_counts_its_users_processes_as_configured() {
    need_root!("only root may use ids that are nobody's");
    only_tare!("runc's own threads count, too");
    // One that no other test has.
    let uid = 1_000_000 + std::process::id();
    let mut c = Container::sleeping();
    c.config["process"]["user"] = json!({ "uid": uid, "gid": 0 });
    c.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NPROC", "soft": 2, "hard": 2 }]);
    c.launch();
    // Init is one. The kernel counts the others when the program's user is set, so there may be one more than the limit.
    for _ in 0..2 {
        exec(&c, &["sh", "-c", "ulimit -u"]).ok().prints("2\n");
        c.call(&["exec", "--detach", &c.id, "sleep", "1000"]).ok();
    }
    let outcome = exec(&c, &["true"]).code(255);
    assert!(outcome.stderr.contains("emporarily unavailable"), "{}", outcome.stderr);
}

#[test]
fn exec_has_a_scheduler_that_no_fork_hands_on() {
    need_root!("only root may ask for a deadline");
    only_tare!("runc 1.1 does not know it");
    let c = Container::sleeping();
    c.launch();
    let file = c.beside("process.json");
    let policy = |scheduler: Value| {
        let process = json!({
            "args": ["cat", "/proc/self/stat"], "cwd": "/", "user": { "uid": 7, "gid": 7 }, "env": ["PATH=/bin"],
            "scheduler": scheduler,
        });
        fs::write(&file, process.to_string()).expect("write");
        let outcome = c.call(&["exec", "--process", file.to_str().expect("a path"), &c.id]).ok();
        let fields: Vec<_> = outcome.stdout.rsplit(')').next().expect("a line").split_whitespace().collect();
        fields[38].to_owned()
    };
    let deadline = json!({ "policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 100_000, "period": 1_000_000 });
    assert_eq!(policy(deadline), "6");
    let reset = json!({ "policy": "SCHED_BATCH", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    assert_eq!(policy(reset), "3");
}

/// Does the kernel know the procfs option `pidns=` (Linux 6.17)?
fn makes_a_procfs_for_others() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(17))
}

/// A container in the pid namespace of another.
fn member_of(pod: &Container, script: &str) -> Container {
    let mut c = Container::sh(script);
    c.join_namespace("pid", &format!("/proc/{}/ns/pid", pod.pid()));
    c
}

#[test]
fn create_in_a_joined_pid_namespace_is_confined_from_its_first_instruction() {
    need_root!("an ordinary user may not look at a process that hides");
    only_tare!("{RUNC}");
    if !makes_a_procfs_for_others() {
        skip!("before Linux 6.17 another process is seen, too: confinement_proc.rs looks at both");
    }
    let pod = Container::sleeping();
    pod.launch();
    let init = pod.pid();
    for (denied, no_new_privileges) in [("mkdir", true), ("mkdir", false), ("setsid", true), ("clone", false)] {
        let mut c = member_of(&pod, "");
        c.args(&["sleep", "1000"]);
        c.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        c.config["linux"]["seccomp"] = filtered(denied, true).config["linux"]["seccomp"].clone();
        c.save();
        let bundle = c.bundle.path().display().to_string();
        let rootfs = fs::metadata(c.rootfs()).expect("the rootfs");
        let mut seen = 0;
        let traced = tracer::run(&c, &["create", "--bundle", &bundle, &c.id], |pid| {
            if !shares_pids(pid, init) {
                return false;
            }
            seen += 1;
            let root = fs::metadata(format!("/proc/{pid}/root/")).expect("a root");
            assert_eq!((root.dev(), root.ino()), (rootfs.dev(), rootfs.ino()));
            let cwd = fs::metadata(format!("/proc/{pid}/cwd/")).expect("a cwd");
            assert_eq!((cwd.dev(), cwd.ino()), (rootfs.dev(), rootfs.ino()));
            for name in ["mnt", "net", "ipc", "uts", "cgroup"] {
                let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a namespace");
                assert_ne!(of(&pid.to_string()), of("self"), "{name}");
            }
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten() {
                let number: u32 = entry.file_name().to_string_lossy().parse().expect("a number");
                let target = link(pid, &format!("fd/{number}"));
                let is_allowed = target.starts_with("socket:[") || target.ends_with("/exec.fifo");
                assert!(number < 3 || is_allowed, "{number}: {target}");
            }
            if denied == "mkdir" {
                let confined = ["CapPrm:\t0000000020000420", "CapEff:\t0000000020000420", "Seccomp:\t2"];
                assert_eq!(status(pid, &["CapPrm", "CapEff", "Seccomp"]), confined);
            }
            true
        });
        let Some(traced) = traced else { skip!("ptrace is not permitted here") };
        assert_eq!((traced.code, seen), (0, 1), "{}", traced.stderr);
        assert!(shares_pids(c.pid(), init), "the process that is recorded");
        c.start().ok();
        assert_eq!(c.status(), "running");
        assert_eq!(status(c.pid(), &["Seccomp"]), ["Seccomp:\t2"]);
        c.delete_force().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn a_joined_pid_namespace_is_the_one_that_proc_shows() {
    need_root!("an ordinary user joins a pid namespace with its user namespace only");
    let pod = Container::sleeping();
    pod.launch();
    let mut c = member_of(
        &pod,
        "cat /proc/1/cmdline | tr '\\0' ' '; test -e /proc/self/status && echo; ls -d /proc/[0-9]* | wc -l",
    );
    c.config["linux"]["resources"]["pids"] = json!({ "limit": 8 });
    let outcome = c.run().ok();
    let (first, count) = outcome.stdout.split_once('\n').expect("two lines");
    assert_eq!(first.trim(), "sleep 1000");
    // The sleep, the shell, and what is in its pipe.
    assert!(count.trim().parse::<u32>().is_ok_and(|count| count <= 6), "{count}");
    c.assert_nothing_left();
}

#[test]
fn create_in_a_joined_pid_namespace_needs_one_free_process_and_no_more() {
    need_root!("an ordinary user may have no cgroup");
    only_tare!("runc's own threads count, too");
    let pod = Container::sleeping();
    pod.launch();
    let mut c = member_of(&pod, "");
    c.args(&["cat", "/proc/1/comm"]);
    c.config["linux"]["resources"]["pids"] = json!({ "limit": 1 });
    c.run().ok().prints("sleep\n");
    c.assert_nothing_left();
}
