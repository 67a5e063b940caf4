//! A failure on the way to the program is an error that somebody hears of, whatever the container's profile forbids.

use serde_json::{Value, json};

use crate::bundle::is_rootless;
use crate::container::Container;
use crate::runtime::only_tare;

/// Adds a profile that allows all but some calls.
fn with_rule(c: &mut Container, names: &[&str], action: &str) {
    c.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": names, "action": action }]
    });
}

/// A startContainer hook runs between `start` and the program, and its parent is init.
fn hook_that_kills_init() -> Value {
    json!({ "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"], "env": ["PATH=/bin"] }] })
}

/// Containers whose init is killed between its gate and the program: in execve(2) itself, and before it.
fn killed_before_the_program() -> [Container; 2] {
    let mut in_execve = Container::new();
    with_rule(&mut in_execve, &["execve"], "SCMP_ACT_KILL_PROCESS");
    // The first process of a pid namespace cannot be killed from inside.
    let mut before = Container::new();
    before.share_the_hosts_pids();
    before.config["hooks"] = hook_that_kills_init();
    [in_execve, before]
}

#[test]
fn an_init_that_is_killed_before_the_program_is_no_success() {
    only_tare!("the reference takes it for a program that has ended");
    for c in killed_before_the_program() {
        for flags in [&["--detach"][..], &[]] {
            c.run_with(flags).code(1);
            c.assert_nothing_left();
        }
    }
    // Another process may reap an init that died in execve(2) itself before `start` looks at it.
    let [_, c] = killed_before_the_program();
    c.create().ok();
    let outcome = c.start().code(1);
    assert!(!outcome.stderr.is_empty(), "a failure without a word");
    c.wait_for_status("stopped");
    c.delete().ok();
    c.assert_nothing_left();
}

/// In a container that is not started: its own program could not be executed either.
#[test]
fn an_exec_that_is_killed_before_the_program_is_no_success() {
    only_tare!("the reference takes it for a program that has ended");
    let [c, _] = killed_before_the_program();
    c.create().ok();
    for flags in [&["exec", "--detach"][..], &["exec"]] {
        let outcome = c.call(&[flags, &[c.id.as_str(), "true"]].concat()).code(255);
        assert!(outcome.stderr.contains("killed by SIGSYS"), "{}", outcome.stderr);
    }
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn a_program_that_has_ended_when_its_start_is_looked_at_is_a_success() {
    let c = Container::new();
    for _ in 0..8 {
        c.create().ok();
        c.start().ok().silent();
        c.wait_for_status("stopped");
        c.delete().ok();
    }
}

/// What init releases or cleans up on its way out may not be allowed either.
#[test]
fn a_failure_behind_a_small_profile_is_told() {
    only_tare!("the reference is killed by its language's runtime");
    let calls = [("setgroups", "setgroups"), ("setuid", "setuid"), ("setgid", "setgid"), ("capset", "capabilities")];
    // An ordinary user's container may be unable to drop groups for other reasons.
    for (call, words) in calls.into_iter().filter(|(call, _)| !is_rootless() || *call != "setgroups") {
        let mut c = Container::new();
        c.config["process"]["noNewPrivileges"] = json!(false);
        let denied = [
            call,
            "setresuid",
            "setresgid",
            "flock",
            "close",
            "munmap",
            "rt_sigaction",
            "rt_sigprocmask",
            "futex",
            "madvise",
        ];
        with_rule(&mut c, &denied, "SCMP_ACT_ERRNO");
        c.create().fails(&[words]);
        c.assert_nothing_left();
    }
}

#[test]
fn what_cannot_be_written_is_told_by_another_call() {
    only_tare!("the reference says how init ended");
    for no_new_privileges in [true, false] {
        let mut c = Container::new();
        c.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        c.args(&["/bin/missing"]);
        with_rule(&mut c, &["write"], "SCMP_ACT_ERRNO");
        c.create().fails(&["no such file or directory"]);
        c.assert_nothing_left();
    }
}

/// Runtimes become another user by different calls, and profiles allow what one of them uses.
#[test]
fn a_profile_that_denies_one_way_of_becoming_the_user_allows_the_other() {
    only_tare!("the reference knows one way");
    for denied in [["setresuid", "setresgid"], ["setuid", "setgid"]] {
        let mut c = Container::sh("id -u; id -g");
        c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        c.config["process"]["noNewPrivileges"] = json!(false);
        with_rule(&mut c, &denied, "SCMP_ACT_ERRNO");
        c.run().ok().prints("1000\n1000\n");
    }
}

/// They are the program's to use, and not needed to start it.
#[test]
fn a_profile_that_denies_signal_handling_starts_a_program() {
    for no_new_privileges in [true, false] {
        for call in ["rt_sigaction", "rt_sigprocmask", "sigaltstack", "flock", "fcntl", "madvise", "read"] {
            let mut c = Container::new();
            c.args(&["busybox", "echo", "ran"]);
            c.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            with_rule(&mut c, &[call], "SCMP_ACT_ERRNO");
            let outcome = c.run().ok();
            assert_eq!(outcome.stdout, "ran\n", "{call}: {}", outcome.stderr);
        }
    }
}
