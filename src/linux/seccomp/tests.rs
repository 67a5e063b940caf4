//! What the kernel does with the filters, and what they would do on architectures that this machine is not.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;

use libseccomp::{ScmpArch, ScmpNotifReq, ScmpNotifResp, ScmpSyscall};
use nix::sys::signal::Signal::SIGSYS;
use nix::sys::wait::{WaitStatus, waitpid};
use oci_spec::runtime::{ContainerState, State};
use serde_json::{Value, json};

use super::*;
use crate::error::one_line;
use crate::sys::seccomp::child;

const LOAD_FAILED: i32 = 199;
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const X32: u64 = 1 << 30;

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

fn filter(value: Value) -> Filter {
    let seccomp = profile(value);
    check(&seccomp).unwrap();
    prepare(&seccomp, None).unwrap()
}

/// How a child ends that loads the filter and makes one call: its exit status is the errno.
fn kernel(filter: &Filter, number: libc::c_long, args: [u64; 3]) -> WaitStatus {
    child::run(|| match filter.load() {
        Ok(_) => child::call(number, args),
        Err(_) => LOAD_FAILED,
    })
}

fn errno(filter: &Filter, number: libc::c_long, args: [u64; 3]) -> i32 {
    match kernel(filter, number, args) {
        WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    }
}

/// Allows all calls but getppid, which gets `rule`.
fn getppid(rule: Value) -> Filter {
    let mut rule = rule;
    rule["names"] = json!(["getppid"]);
    filter(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }))
}

/// What a filter returns for a call.
fn simulate(filter: &Filter, arch: u32, number: u64, args: [u64; 6]) -> u32 {
    match bpf::run(&bpf::parse(filter.program.bpf()), arch, number as u32, Some(&args)) {
        Some(bpf::Outcome::Return(value)) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_action_does_in_the_kernel_what_its_name_says() {
    let call = |rule: Value| kernel(&getppid(rule), libc::SYS_getppid, [0; 3]);
    let exit = |status: WaitStatus| match status {
        WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(exit(call(json!({ "action": "SCMP_ACT_ERRNO" }))), libc::EPERM);
    assert_eq!(exit(call(json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 77 }))), 77);
    assert_eq!(exit(call(json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 0 }))), 0);
    assert_eq!(exit(call(json!({ "action": "SCMP_ACT_LOG" }))), 0);
    assert_eq!(exit(call(json!({ "action": "SCMP_ACT_ALLOW" }))), 0);
    // Nobody traces the child.
    assert_eq!(exit(call(json!({ "action": "SCMP_ACT_TRACE" }))), libc::ENOSYS);
    for kill in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let status = call(json!({ "action": kill }));
        assert!(matches!(status, WaitStatus::Signaled(_, SIGSYS, _)), "{kill}: {status:?}");
    }
}

#[test]
fn a_trapped_call_can_be_handled_and_a_killed_one_cannot() {
    let end = |action: &str| {
        let filter = getppid(json!({ "action": action }));
        child::run(|| {
            child::exit_on_sigsys();
            if filter.load().is_err() { LOAD_FAILED } else { child::call(libc::SYS_getppid, [0; 3]) }
        })
    };
    assert!(matches!(end("SCMP_ACT_TRAP"), WaitStatus::Exited(_, child::TRAPPED)));
    assert!(matches!(end("SCMP_ACT_KILL_PROCESS"), WaitStatus::Signaled(_, SIGSYS, _)));
}

#[test]
fn the_kernel_is_given_each_action_with_its_value() {
    for (rule, result) in [
        (json!({ "action": "SCMP_ACT_KILL" }), 0),
        (json!({ "action": "SCMP_ACT_KILL_THREAD" }), 0),
        (json!({ "action": "SCMP_ACT_KILL_PROCESS" }), 0x8000_0000),
        (json!({ "action": "SCMP_ACT_TRAP" }), 0x0003_0000),
        (json!({ "action": "SCMP_ACT_ERRNO" }), 0x0005_0001),
        (json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 4094 }), 0x0005_0ffe),
        (json!({ "action": "SCMP_ACT_TRACE" }), 0x7ff0_0001),
        (json!({ "action": "SCMP_ACT_TRACE", "errnoRet": 0xffff }), 0x7ff0_ffff),
        (json!({ "action": "SCMP_ACT_LOG" }), 0x7ffc_0000),
    ] {
        let number = libc::SYS_getppid as u64;
        assert_eq!(simulate(&getppid(rule.clone()), native(), number, [0; 6]), result, "{rule}");
    }
}

fn native() -> u32 {
    if cfg!(target_arch = "x86_64") { X86_64 } else { ScmpArch::native() as u32 }
}

#[test]
fn each_operator_compares_all_64_bits() {
    const DATUM: u64 = 0x1_0000_0005;
    // Whether the rule matches for: far below (in the upper word), one below, equal, one above, far above.
    for (operator, matches) in [
        ("SCMP_CMP_NE", [true, true, false, true, true]),
        ("SCMP_CMP_LT", [true, true, false, false, false]),
        ("SCMP_CMP_LE", [true, true, true, false, false]),
        ("SCMP_CMP_EQ", [false, false, true, false, false]),
        ("SCMP_CMP_GE", [false, false, true, true, true]),
        ("SCMP_CMP_GT", [false, false, false, true, true]),
    ] {
        let args = json!([{ "index": 1, "value": DATUM, "op": operator }]);
        let filter = getppid(json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": args }));
        let values = [6, DATUM - 1, DATUM, DATUM + 1, 0x2_0000_0000];
        let seen = values.map(|value| errno(&filter, libc::SYS_getppid, [0, value, 0]) == 77);
        assert_eq!(seen, matches, "{operator}");
    }
    let args =
        json!([{ "index": 2, "value": 0x1_0000_00f0u64, "valueTwo": 0x1_0000_0010u64, "op": "SCMP_CMP_MASKED_EQ" }]);
    let filter = getppid(json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": args }));
    let values = [0x1_0000_0010, 0xff_0000_0f1f, 0x10, 0x1_0000_0030];
    let seen = values.map(|value| errno(&filter, libc::SYS_getppid, [0, 0, value]) == 77);
    assert_eq!(seen, [true, true, false, false]);
}

#[test]
fn conditions_are_all_needed_unless_they_are_about_the_same_argument() {
    let rule = |args: Value| getppid(json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": args }));
    let both = rule(json!([
        { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 2, "op": "SCMP_CMP_EQ" }
    ]));
    let seen = [[1, 2, 0], [1, 0, 0], [0, 2, 0]].map(|args| errno(&both, libc::SYS_getppid, args) == 77);
    assert_eq!(seen, [true, false, false]);
    let either = rule(json!([
        { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" },
        { "index": 1, "value": 3, "op": "SCMP_CMP_EQ" }
    ]));
    let seen = [[1, 0, 0], [2, 0, 0], [0, 3, 0], [0, 0, 0]].map(|args| errno(&either, libc::SYS_getppid, args) == 77);
    assert_eq!(seen, [true, true, true, false]);
}

fn allow_list(names: &[&str]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
    })
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_newer_than_the_profile_do_not_exist_and_older_ones_are_denied() {
    let list = filter(allow_list(&["exit_group", "openat2", "no_such_call_ever"]));
    assert_eq!(errno(&list, libc::SYS_getppid, [0; 3]), libc::EPERM);
    assert!([libc::EINVAL, libc::EFAULT].contains(&errno(&list, libc::SYS_openat2, [0; 3])), "the kernel's own answer");
    assert_eq!(errno(&list, libc::SYS_openat2 + 1, [0; 3]), libc::ENOSYS);
    assert_eq!(errno(&list, 100_000, [0; 3]), libc::ENOSYS);

    let (denied, enosys, allowed) = (0x0005_0001, 0x0005_0026, 0x7fff_0000);
    for (arch, bit) in [(X86_64, 0), (X86, 0), (X86_64, X32)] {
        assert_eq!(simulate(&list, arch, bit | 437, [0; 6]), allowed, "{arch:x}");
        assert_eq!(simulate(&list, arch, bit | 438, [0; 6]), enosys, "{arch:x}");
        assert_eq!(simulate(&list, arch, bit | 436, [0; 6]), denied, "{arch:x}");
    }
    let foreign = simulate(&list, 0xc000_00b7, 100_000, [0; 6]);
    assert_eq!(foreign, 0, "an architecture that the profile does not name is killed");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn only_a_default_that_denies_gets_the_stub() {
    let result = |default: Value| {
        let mut profile = json!({ "syscalls": [{ "names": ["exit_group"], "action": "SCMP_ACT_TRAP" }] });
        profile.as_object_mut().unwrap().extend(default.as_object().unwrap().clone());
        simulate(&filter(profile), X86_64, 100_000, [0; 6])
    };
    let enosys = 0x0005_0026;
    assert_eq!(result(json!({ "defaultAction": "SCMP_ACT_ALLOW" })), 0x7fff_0000);
    assert_eq!(result(json!({ "defaultAction": "SCMP_ACT_LOG" })), 0x7ffc_0000);
    assert_eq!(result(json!({ "defaultAction": "SCMP_ACT_TRACE" })), 0x7ff0_0001);
    for deny in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_ERRNO"] {
        assert_eq!(result(json!({ "defaultAction": deny })), enosys, "{deny}");
    }
    let own = json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38 });
    assert_eq!(result(own), enosys);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_long_list_says_the_same_as_a_binary_tree() {
    let mut names = Vec::new();
    for number in (0..300).step_by(3) {
        names.extend(ScmpSyscall::from_raw_syscall(number).get_name_by_arch(ScmpArch::X8664));
    }
    assert!(names.len() > compile::TREE_FROM);
    let mut profile = allow_list(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let rules = profile["syscalls"].as_array_mut().unwrap();
    for value in [0, 8, 0x20000] {
        let args = json!([{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }]);
        rules.push(json!({ "names": ["getppid"], "action": "SCMP_ACT_ALLOW", "args": args }));
    }
    let long = filter(profile);
    for number in 0..297 {
        let listed = number % 3 == 0 || number == libc::SYS_getppid as u64;
        let expected = if listed { 0x7fff_0000 } else { 0x0005_0001 };
        let result = simulate(&long, X86_64, number, [8, 0, 0, 0, 0, 0]);
        assert_eq!(result, expected, "{number}");
    }
    assert_eq!(simulate(&long, X86_64, libc::SYS_getppid as u64, [9, 0, 0, 0, 0, 0]), 0x0005_0001);
    // exit_group is 231, a multiple of three.
    assert_eq!(errno(&long, libc::SYS_getppid, [0x20000, 0, 0]), 0);
    assert_eq!(errno(&long, libc::SYS_getppid, [0x20001, 0, 0]), libc::EPERM);
}

#[test]
fn rules_that_change_nothing_or_come_twice_are_taken() {
    let twice = json!({ "names": ["getppid", "getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77 });
    let same = json!({ "names": ["getpid"], "action": "SCMP_ACT_ALLOW" });
    let many = (0..40).map(|_| same.clone()).chain([twice.clone(), twice]).collect::<Vec<_>>();
    let filter = filter(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": many }));
    assert_eq!(errno(&filter, libc::SYS_getppid, [0; 3]), 77);
    assert_eq!(errno(&filter, libc::SYS_getpid, [0; 3]), 0);
}

#[test]
fn flags_reach_the_kernel() {
    let flags = |value: Value| {
        let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        profile.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        let filter = filter(profile);
        assert_eq!(errno(&filter, libc::SYS_getppid, [0; 3]), 0);
        filter.flags
    };
    assert_eq!(flags(json!({})), sys::FILTER_FLAG_SPEC_ALLOW);
    assert_eq!(flags(json!({ "flags": [] })), 0);
    assert_eq!(flags(json!({ "flags": ["SECCOMP_FILTER_FLAG_TSYNC"] })), 0);
    assert_eq!(flags(json!({ "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] })), 0);
    let both = json!({ "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"] });
    assert_eq!(flags(both), sys::FILTER_FLAG_LOG | sys::FILTER_FLAG_SPEC_ALLOW);
    assert!(!sys::flags_supported(1 << 30));
}

#[test]
fn an_agent_gets_the_fd_with_the_state_and_answers_the_call() {
    let dir = std::env::temp_dir().join(format!("tare-seccomp-notify-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let listener = UnixListener::bind(dir.join("agent")).unwrap();
    let seccomp = profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "listenerPath": "agent",
        "listenerMetadata": "meta",
        "syscalls": [{ "names": ["getppid"], "action": "SCMP_ACT_NOTIFY" }],
    }));
    check(&seccomp).unwrap();
    let filter = prepare(&seccomp, None).unwrap();
    assert!(filter.wants_listener());

    let (mut reader, writer) = std::io::pipe().unwrap();
    let process = child::spawn(|| {
        let Ok(Some(fd)) = filter.load() else { return LOAD_FAILED };
        let Ok(4) = (&writer).write(&fd.as_raw_fd().to_ne_bytes()) else { return LOAD_FAILED };
        child::call(libc::SYS_getppid, [0; 3])
    });
    drop(writer);
    let mut number = [0; 4];
    reader.read_exact(&mut number).unwrap();
    let pidfd = child::pidfd(process);
    let fd = take(pidfd.as_fd(), i32::from_ne_bytes(number)).unwrap();

    let mut state = State::default();
    state.set_version("1.3.0".into()).set_id("c1".into()).set_status(ContainerState::Creating);
    state.set_pid(Some(process.as_raw())).set_bundle(dir.clone());
    hand_over(&seccomp, &fd, (process.as_raw(), pidfd.as_fd()), &state).unwrap();
    drop(fd);

    let (connection, _) = listener.accept().unwrap();
    let (message, fd) = child::receive(&connection);
    assert_eq!(
        serde_json::from_slice::<Value>(&message).unwrap(),
        json!({
            "ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": process.as_raw(), "metadata": "meta",
            "state": {
                "ociVersion": "1.3.0", "id": "c1", "status": "creating",
                "pid": process.as_raw(), "bundle": dir.to_str().unwrap(),
            },
        })
    );
    let request = ScmpNotifReq::receive(fd.as_raw_fd()).unwrap();
    assert_eq!(request.pid, process.as_raw() as u32);
    let answer = ScmpNotifResp::new_error(request.id, -libc::ENOMEDIUM, libseccomp::ScmpNotifRespFlags::empty());
    answer.respond(fd.as_raw_fd()).unwrap();
    assert_eq!(waitpid(process, None).unwrap(), WaitStatus::Exited(process, libc::ENOMEDIUM));

    std::fs::remove_dir_all(&dir).unwrap();
    let gone = hand_over(&seccomp, &fd, (1, pidfd.as_fd()), &state).unwrap_err();
    assert!(
        one_line(&gone).starts_with("linux.seccomp.listenerPath: failed to connect with seccomp agent agent: No such")
    );
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_path() {
    let refusal = |value: Value| one_line(&check(&profile(value)).unwrap_err());
    let rule = |rule: Value| refusal(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
    assert_eq!(
        refusal(json!({ "defaultAction": "SCMP_ACT_NOTIFY" })),
        "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action"
    );
    assert_eq!(
        refusal(json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1 })),
        "linux.seccomp.defaultErrnoRet: errno value specified for action SCMP_ACT_ALLOW"
    );
    assert_eq!(
        rule(json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536 })),
        "linux.seccomp.syscalls[0].errnoRet: errno value 65536 of action SCMP_ACT_ERRNO does not fit 16 bits"
    );
    assert_eq!(
        rule(json!({ "names": ["mkdir", ""], "action": "SCMP_ACT_ERRNO" })),
        "linux.seccomp.syscalls[0].names: an empty string is no system call"
    );
    let args = json!([{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }]);
    assert_eq!(
        rule(json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": args })),
        "linux.seccomp.syscalls[0].args: index 6: system calls have the arguments 0 to 5"
    );
    assert_eq!(
        rule(json!({ "names": ["read", "write"], "action": "SCMP_ACT_NOTIFY" })),
        "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY cannot be used for the write syscall"
    );
    assert_eq!(
        rule(json!({ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" })),
        "linux.seccomp.listenerPath is not set, SCMP_ACT_NOTIFY needs it"
    );
}

#[test]
fn an_architecture_that_libseccomp_is_too_old_for_is_refused() {
    let known = archs();
    for arch in ARCHS {
        let value = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch] });
        let result = check(&profile(value));
        assert_eq!(result.is_ok(), known.contains(&arch), "{arch}: {result:?}");
        let token = compile::arch(arch).unwrap_or(ScmpArch::Sheb);
        assert_eq!(ScmpSyscall::from_name_by_arch("read", token).is_ok(), result.is_ok(), "{arch}");
        if let Err(error) = result {
            let line = one_line(&error);
            assert!(line.starts_with(&format!("linux.seccomp.architectures: {arch} is not known to libseccomp 2.")));
        }
    }
    assert!(known.contains(&Arch::ScmpArchX86_64) && known.contains(&Arch::ScmpArchAarch64));
}
