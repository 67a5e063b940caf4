//! `linux.seccomp`: actions, operators, architectures, flags.

use serde_json::{Value, json};

use crate::container::Container;
use crate::runtime::only_tare;

fn with_filter(script: &str, default: &str, rules: Value) -> Container {
    let mut c = Container::sh(script);
    c.config["linux"]["seccomp"] = json!({
        "defaultAction": default,
        "architectures": [native()],
        "syscalls": rules
    });
    c
}

fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" }
}

fn deny(name: &str, extra: Value) -> Value {
    let mut rule = json!({ "names": [name], "action": "SCMP_ACT_ERRNO" });
    for (key, value) in extra.as_object().expect("an object") {
        rule[key] = value.clone();
    }
    json!([rule])
}

#[test]
fn a_filter_is_on_and_needs_no_no_new_privileges() {
    for no_new_privileges in [true, false] {
        let mut c = with_filter("cat /proc/self/status", "SCMP_ACT_ALLOW", deny("mkdir", json!({})));
        c.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let outcome = c.run().ok();
        assert_eq!(outcome.field("Seccomp"), "2");
        assert_eq!(outcome.field("Seccomp_filters"), "1");
        assert_eq!(outcome.field("NoNewPrivs"), if no_new_privileges { "1" } else { "0" });
    }
}

#[test]
fn a_profile_need_not_allow_what_the_runtime_does_for_itself() {
    only_tare!("runc looks at the working directory and the like when the filter is in force");
    for call in ["close_range", "getcwd", "chdir", "prlimit64", "fsopen", "pivot_root", "access"] {
        let mut c = with_filter("echo ran", "SCMP_ACT_ALLOW", deny(call, json!({})));
        c.config["process"]["noNewPrivileges"] = json!(false);
        c.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
        let outcome = c.run().ok();
        assert_eq!(outcome.stdout, "ran\n", "{call}: {}", outcome.stderr);
    }
}

#[test]
fn errno_is_eperm_or_the_configured_one() {
    for (extra, words) in [
        (json!({}), "Operation not permitted"),
        (json!({ "errnoRet": 13 }), "Permission denied"),
        (json!({ "errnoRet": 38 }), "Function not implemented"),
    ] {
        let c = with_filter("mkdir /tmp/x", "SCMP_ACT_ALLOW", deny("mkdir", extra));
        let outcome = c.run().code(1);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
}

#[test]
fn the_default_errno_is_the_configured_one() {
    let allowed = allowed_for_a_shell();
    let mut c =
        with_filter("mkdir /tmp/x", "SCMP_ACT_ERRNO", json!([{ "names": allowed, "action": "SCMP_ACT_ALLOW" }]));
    let outcome = c.run().code(1);
    assert!(outcome.stderr.contains("Operation not permitted"), "{}", outcome.stderr);
    c.config["linux"]["seccomp"]["defaultErrnoRet"] = json!(95);
    let outcome = c.run().code(1);
    assert!(
        outcome.stderr.contains("Operation not supported") || outcome.stderr.contains("Not supported"),
        "{}",
        outcome.stderr
    );
}

/// What a static shell that forks needs, and what a runtime calls after the filter is loaded.
fn allowed_for_a_shell() -> Value {
    json!([
        "access",
        "arch_prctl",
        "brk",
        "capget",
        "capset",
        "chdir",
        "clone",
        "clone3",
        "close",
        "close_range",
        "dup",
        "dup2",
        "dup3",
        "epoll_create1",
        "epoll_ctl",
        "epoll_pwait",
        "eventfd2",
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "faccessat",
        "faccessat2",
        "fchdir",
        "fchown",
        "fcntl",
        "fork",
        "fstat",
        "fstatfs",
        "futex",
        "getcwd",
        "getdents64",
        "getegid",
        "geteuid",
        "getgid",
        "getgroups",
        "getpid",
        "getppid",
        "getrandom",
        "getresgid",
        "getresuid",
        "gettid",
        "getuid",
        "ioctl",
        "lseek",
        "lstat",
        "madvise",
        "mmap",
        "mprotect",
        "munmap",
        "nanosleep",
        "newfstatat",
        "open",
        "openat",
        "pipe2",
        "poll",
        "prctl",
        "prlimit64",
        "read",
        "readlink",
        "readlinkat",
        "rseq",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sched_getaffinity",
        "sched_yield",
        "set_robust_list",
        "set_tid_address",
        "setgid",
        "setgroups",
        "setpgid",
        "setresgid",
        "setresuid",
        "setsid",
        "setuid",
        "sigaltstack",
        "stat",
        "statx",
        "tgkill",
        "uname",
        "vfork",
        "wait4",
        "write",
        "writev"
    ])
}

#[test]
fn killing_actions_end_the_program_with_sigsys() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"] {
        let c =
            with_filter("mkdir /tmp/x; echo $?", "SCMP_ACT_ALLOW", json!([{ "names": ["mkdir"], "action": action }]));
        let outcome = c.run().ok();
        assert_eq!(outcome.stdout, "159\n", "{action}: {}", outcome.stderr);
        c.assert_nothing_left();
    }
}

#[test]
fn log_lets_the_call_through() {
    let c = with_filter(
        "mkdir /dev/shm/x && echo made",
        "SCMP_ACT_ALLOW",
        json!([{ "names": ["mkdir"], "action": "SCMP_ACT_LOG" }]),
    );
    c.run().ok().prints("made\n");
}

#[test]
fn trace_without_a_tracer_is_enosys() {
    let c =
        with_filter("mkdir /dev/shm/x", "SCMP_ACT_ALLOW", json!([{ "names": ["mkdir"], "action": "SCMP_ACT_TRACE" }]));
    let outcome = c.run().code(1);
    assert!(outcome.stderr.contains("Function not implemented"), "{}", outcome.stderr);
}

#[test]
fn arguments_are_compared_with_every_operator() {
    // `kill -S 1` with signals S = 0..: each operator splits them differently; 1 is this shell, which traps them.
    let cases = [
        ("SCMP_CMP_EQ", 10, 0, "10"),
        ("SCMP_CMP_NE", 10, 0, "1 2 12"),
        ("SCMP_CMP_LT", 10, 0, "1 2"),
        ("SCMP_CMP_LE", 10, 0, "1 2 10"),
        ("SCMP_CMP_GT", 2, 0, "10 12"),
        ("SCMP_CMP_GE", 2, 0, "2 10 12"),
        ("SCMP_CMP_MASKED_EQ", 8, 8, "10 12"),
    ];
    let script = "for s in 1 2 10 12; do trap : $s; done; \
                  for s in 1 2 10 12; do kill -$s 1 2>/dev/null || printf '%s ' $s; done";
    for (operator, value, value_two, denied) in cases {
        let args = json!([{ "index": 1, "value": value, "valueTwo": value_two, "op": operator }]);
        let c = with_filter(script, "SCMP_ACT_ALLOW", deny("kill", json!({ "args": args })));
        let outcome = c.run();
        assert_eq!(outcome.stdout.trim(), denied, "{operator}: {}", outcome.stderr);
    }
}

#[test]
fn several_arguments_must_all_match() {
    let script = "trap : 10; kill -10 1 || echo one; kill -10 7777 || echo other";
    let args = json!([
        { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 10, "op": "SCMP_CMP_EQ" }
    ]);
    let c = with_filter(script, "SCMP_ACT_ALLOW", deny("kill", json!({ "args": args, "errnoRet": 38 })));
    let outcome = c.run();
    assert_eq!(outcome.stdout, "one\nother\n");
    assert!(outcome.stderr.contains("Function not implemented"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("No such process"), "{}", outcome.stderr);
}

#[test]
fn the_same_argument_twice_means_either() {
    // Two comparisons of one argument are alternatives, as Docker's profiles expect.
    let script = "for s in 1 2 10 12; do trap : $s; done; \
                  for s in 1 2 10 12; do kill -$s 1 2>/dev/null || printf '%s ' $s; done";
    let args = json!([
        { "index": 1, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 12, "op": "SCMP_CMP_EQ" }
    ]);
    let c = with_filter(script, "SCMP_ACT_ALLOW", deny("kill", json!({ "args": args })));
    assert_eq!(c.run().stdout.trim(), "1 12");
}

#[test]
fn a_call_that_no_kernel_knows_is_passed_over() {
    let c = with_filter(
        "echo fine",
        "SCMP_ACT_ALLOW",
        json!([{ "names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO" }]),
    );
    c.run().ok().prints("fine\n");
}

#[test]
fn an_unknown_action_operator_or_architecture_is_refused_naming_it() {
    let mut c = with_filter("true", "SCMP_ACT_SIDEWAYS", json!([]));
    c.create().fails(&["SCMP_ACT_SIDEWAYS"]);
    c.assert_nothing_left();
    let args = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_ALMOST" }]);
    c.config["linux"]["seccomp"] =
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": deny("kill", json!({ "args": args })) });
    c.create().fails(&["SCMP_CMP_ALMOST"]);
    c.assert_nothing_left();
    c.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"], "syscalls": deny("kill", json!({})) });
    c.create().fails(&["SCMP_ARCH_PDP11"]);
    c.assert_nothing_left();
}

#[test]
fn flags_are_accepted() {
    only_tare!("runc 1.1 does not support them");
    let mut c = with_filter("echo fine", "SCMP_ACT_ALLOW", deny("mkdir", json!({})));
    for flags in [
        json!([]),
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
        json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
    ] {
        c.config["linux"]["seccomp"]["flags"] = flags;
        c.run().ok().prints("fine\n");
    }
}

#[test]
fn an_unknown_flag_is_refused() {
    only_tare!("runc 1.1 supports no flags and names none");
    let mut c = with_filter("true", "SCMP_ACT_ALLOW", deny("mkdir", json!({})));
    c.config["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_SIDEWAYS"]);
    c.create().fails(&["SECCOMP_FILTER_FLAG_SIDEWAYS"]);
    c.assert_nothing_left();
}

#[test]
fn a_filter_that_allows_everything_changes_nothing() {
    only_tare!("runc 1.1 may load nothing at all");
    let c = with_filter("mkdir /dev/shm/x && echo fine", "SCMP_ACT_ALLOW", json!([]));
    c.run().ok().prints("fine\n");
}

#[test]
fn the_same_filter_again_is_the_same_filter() {
    // The second run may take the compiled filter from a cache; another profile may not.
    let denied = with_filter("mkdir /dev/shm/x", "SCMP_ACT_ALLOW", deny("mkdir", json!({})));
    let other = with_filter("mkdir /dev/shm/x", "SCMP_ACT_ALLOW", deny("mkdir", json!({ "errnoRet": 38 })));
    for _ in 0..2 {
        assert!(denied.run().code(1).stderr.contains("Operation not permitted"));
        assert!(other.run().code(1).stderr.contains("Function not implemented"));
    }
}
