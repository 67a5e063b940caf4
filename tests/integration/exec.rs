//! `exec`: a further program in a running container.

use std::fs;
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::container::{Container, is_alive};
use crate::process::terminal::{read_terminal, receive};
use crate::runtime::{Outcome, eventually, is_tare, only_tare};

/// A container that runs, and ends when it is dropped.
fn running() -> Container {
    let c = Container::sleeping();
    c.launch();
    c
}

fn exec(c: &Container, flags: &[&str], args: &[&str]) -> Outcome {
    c.call(&[&["exec"], flags, &[c.id.as_str()], args].concat())
}

#[test]
fn its_program_is_in_the_containers_namespaces_and_cgroup() {
    let c = running();
    let script = "for n in pid net ipc uts mnt; do readlink /proc/self/ns/$n; done; readlink /proc/1/exe; hostname";
    let outcome = exec(&c, &[], &["sh", "-c", script]).ok();
    let mut lines = outcome.stdout.lines();
    for name in ["pid", "net", "ipc", "uts", "mnt"] {
        let link = fs::read_link(format!("/proc/{}/ns/{name}", c.pid())).expect("init's namespace");
        assert_eq!(lines.next(), link.to_str(), "{name}");
    }
    assert_eq!(lines.next(), Some("/bin/busybox"));
    assert_eq!(lines.next(), Some("tare"));
    let cgroup = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a cgroup");
    let pid_file = c.beside("exec.pid");
    exec(&c, &["--detach", "--pid-file", pid_file.to_str().expect("a path")], &["sleep", "1000"]).ok().silent();
    let pid = fs::read_to_string(&pid_file).expect("the pid file");
    assert!(pid.bytes().all(|byte| byte.is_ascii_digit()), "{pid:?}");
    assert_eq!(cgroup(&pid), cgroup(&c.pid().to_string()));
    c.delete_force().ok();
    eventually("the program has ended with its container", || (!is_alive(pid.parse().expect("a pid"))).then_some(()));
    c.assert_nothing_left();
}

#[test]
fn its_exit_status_is_the_programs() {
    let c = running();
    exec(&c, &[], &["true"]).code(0).silent();
    exec(&c, &[], &["sh", "-c", "exit 42"]).code(42).silent();
    exec(&c, &[], &["sh", "-c", "kill -9 $$"]).code(137);
    exec(&c, &[], &["sh", "-c", "kill -15 $$"]).code(143);
}

#[test]
fn a_program_that_cannot_be_run_is_255_in_the_callers_words() {
    let c = running();
    let words = |args: &[&str], words: &str| {
        let outcome = exec(&c, &[], args).code(255);
        assert!(outcome.stderr.contains(words), "{args:?}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    };
    words(&["nosuchprogram"], "executable file not found in $PATH");
    words(&["/no/such/program"], "no such file or directory");
    words(&["/etc"], "is a directory");
    words(&["/etc/passwd"], "permission denied");
    let script = c.rootfs().join("bin/script");
    fs::write(&script, "#!/no/interpreter\n").expect("write");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    words(&["/bin/script"], "no such file or directory");
    let outcome = exec(&c, &["--cwd", "/no/such/place"], &["true"]).code(255);
    for part in ["/no/such/place", "o such file or directory"] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
    if is_tare() {
        assert!(outcome.stderr.contains(r#"\"/no\" does not exist"#), "{}", outcome.stderr);
        let outcome = exec(&c, &[], &["/bin/script"]).code(255);
        assert!(outcome.stderr.contains(r#"its interpreter \"/no/interpreter\""#), "{}", outcome.stderr);
    }
}

#[test]
fn the_flags_change_what_the_program_is() {
    let c = running();
    exec(&c, &["--cwd", "/proc"], &["pwd"]).ok().prints("/proc\n");
    exec(&c, &["--env", "A=1", "-e", "B=2"], &["sh", "-c", "echo $A$B"]).ok().prints("12\n");
    exec(&c, &["--user", "7:8", "-g", "9"], &["sh", "-c", "id -u; id -g; id -G"]).ok().prints("7\n8\n8 9\n");
    exec(&c, &["--no-new-privs"], &["grep", "-c", "NoNewPrivs:.1", "/proc/self/status"]).ok().prints("1\n");
    let effective = "sed -n s/CapEff:.//p /proc/self/status";
    exec(&c, &["--cap", "CAP_SYS_ADMIN"], &["sh", "-c", effective]).ok().prints("0000000020200420\n");
    c.delete_force().ok();
}

#[test]
fn a_process_file_is_the_whole_process() {
    let c = running();
    let file = c.beside("process.json");
    let process = json!({
        "user": { "uid": 11, "gid": 12, "umask": 63 },
        "args": ["sh", "-c", "id -u; id -g; umask; pwd; env | grep -c PATH=/bin"],
        "env": ["PATH=/bin"],
        "cwd": "/etc",
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 64 }],
    });
    fs::write(&file, process.to_string()).expect("write the process");
    exec(&c, &["--process", file.to_str().expect("a path")], &[]).ok().prints("11\n12\n0077\n/etc\n1\n");
    fs::write(&file, "{").expect("write half a process");
    let outcome = exec(&c, &["--process", file.to_str().expect("a path")], &[]).code(255);
    assert!(outcome.stderr.contains("--process"), "{}", outcome.stderr);
}

#[test]
fn no_descriptor_of_the_runtime_reaches_the_program() {
    let c = running();
    // The listing's own descriptor is the fourth.
    let outcome = exec(&c, &[], &["sh", "-c", "ls /proc/self/fd | wc -l"]).ok();
    assert_eq!(outcome.stdout.trim(), "4");
}

#[test]
fn the_seccomp_profile_holds_for_it_too() {
    let mut c = Container::sleeping();
    c.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5 }],
    });
    c.launch();
    let outcome = exec(&c, &[], &["mkdir", "/dev/shm/x"]).code(1);
    assert!(outcome.stderr.contains("Input/output error"), "{}", outcome.stderr);
}

#[test]
fn a_terminal_is_sent_to_the_console_socket() {
    let c = running();
    let path = c.beside("exec.sock");
    let listener = UnixListener::bind(&path).expect("bind the console socket");
    let flags = ["--tty", "--detach", "--console-socket", path.to_str().expect("a path")];
    let args = [&["exec"], flags.as_slice(), &[c.id.as_str(), "sh", "-c", "tty; test -t 0 && echo terminal"]].concat();
    let run = c.spawn(&mut c.command(&args));
    let (name, terminal) = receive(&listener);
    run.wait().ok().silent();
    assert!(name.starts_with("/dev/pts/"), "{name}");
    let text = read_terminal(&terminal);
    assert!(text.contains(&name) && text.contains("terminal"), "{text:?}");
}

#[test]
fn a_container_that_does_not_run_is_refused() {
    let c = Container::sleeping();
    let outcome = exec(&c, &[], &["true"]).code(255);
    assert!(outcome.stderr.contains("does not exist"), "{}", outcome.stderr);
    c.launch();
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    let outcome = exec(&c, &[], &["true"]).code(255);
    assert!(outcome.stderr.contains("stopped container"), "{}", outcome.stderr);
}

/// What execs could leave behind: descriptors of init, processes of the container (zombies too), its cgroups.
fn traces(c: &Container) -> [usize; 3] {
    let entries = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
    let pid = c.pid();
    let processes = crate::container::processes(&c.id).len();
    // By the shell alone: of two programs in a pipeline, one may not be there yet when the other looks.
    let inside = exec(c, &[], &["sh", "-c", "set -- /proc/[0-9]*; echo $#"]).ok();
    let with_zombies: usize = inside.stdout.trim().parse().expect("a number");
    [entries(&format!("/proc/{pid}/fd")), processes + with_zombies, crate::cgroup_tree::named(&c.id).len()]
}

/// `TARE_TEST_EXECS=500` for the whole load, 50 at a time; a tenth of it is for every day.
#[test]
fn many_at_once_all_end_as_they_should() {
    let total = std::env::var("TARE_TEST_EXECS").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let at_once = (total / 10).max(10);
    let c = running();
    let before = traces(&c);
    let memory = || c.call(&["events", "--stats", &c.id]).json()["data"]["memory"]["usage"]["usage"].as_u64();
    let mut used = Vec::new();
    for round in 0..total / at_once {
        let spawn = |index: usize| {
            let script = format!("exit {}", (round + index) % 7);
            c.spawn(&mut c.command(&["exec", &c.id, "sh", "-c", &script]))
        };
        let all: Vec<_> = (0..at_once).map(|index| (index, spawn(index))).collect();
        for (index, run) in all {
            run.wait().code(i32::try_from((round + index) % 7).expect("a status"));
        }
        used.push(memory());
    }
    println!("memory after each round: {used:?}");
    let left = fs::read_to_string(format!("/proc/{}/task/{}/children", c.pid(), c.pid())).unwrap_or_default();
    assert_eq!(left, "", "orphans or zombies of init");
    assert_eq!(traces(&c), before, "descriptors, processes, cgroups");
    if let (Some(&Some(first)), Some(&Some(last))) = (used.first(), used.last()) {
        // The kernel counts in batches, for each processor.
        assert!(last <= first + (1 << 20), "memory grew: {used:?}");
    }
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn a_program_joins_a_user_and_a_time_namespace() {
    only_tare!("runc 1.1 has no time namespace");
    let mut c = Container::sleeping();
    c.add_namespace(json!({ "type": "time" }));
    c.config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 7_000_000 } });
    c.launch();
    let outcome = exec(&c, &[], &["cut", "-d.", "-f1", "/proc/uptime"]).ok();
    assert!(outcome.stdout.trim().parse::<u64>().is_ok_and(|uptime| uptime >= 7_000_000), "{}", outcome.stdout);
}

#[test]
fn a_process_file_that_is_silent_on_privileges_and_limits_has_the_containers() {
    let mut c = Container::sleeping();
    c.capabilities(&["CAP_KILL"]);
    c.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "hard": 77, "soft": 77 }]);
    c.launch();
    let script = "ulimit -n; grep -E 'CapEff|NoNewPrivs' /proc/self/status | tr -d '\\n'";
    let file = c.beside("process.json");
    let process = json!({ "args": ["/bin/sh", "-c", script], "cwd": "/", "user": { "uid": 0, "gid": 0 } });
    fs::write(&file, process.to_string()).expect("write");
    let outcome = c.call(&["exec", "--process", file.to_str().expect("a path"), &c.id]).ok();
    assert_eq!(outcome.stdout, "77\nCapEff:\t0000000000000020NoNewPrivs:\t1", "{}", outcome.stderr);
}

#[test]
fn it_has_a_terminal_only_if_the_flag_says_so() {
    let mut c = Container::sleeping();
    c.config["process"]["terminal"] = json!(true);
    let path = c.beside("console.sock");
    let listener = UnixListener::bind(&path).expect("bind the console socket");
    c.save();
    let flags = ["--detach", "--console-socket", path.to_str().expect("a path")];
    let run = c.spawn(&mut c.bundle_command("run", &flags));
    let _terminal = receive(&listener);
    run.wait().ok().silent();
    exec(&c, &[], &["sh", "-c", "test -t 0 || echo none"]).ok().prints("none\n");
    exec(&c, &["--detach"], &["true"]).ok().silent();
}
