//! config-linux.md: seccomp.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::{Container, Exit};

pub const CASES: &[Case] = &[
    case!(errno, "config-linux.md#seccomp", "SCMP_ACT_ERRNO makes the call fail with EPERM"),
    case!(errno_ret, "config-linux.md#seccomp", "errnoRet is the error that the call fails with"),
    case!(allow, "config-linux.md#seccomp", "what no rule names falls to the default action"),
    case!(kill_process, "config-linux.md#seccomp", "SCMP_ACT_KILL_PROCESS kills the program with SIGSYS"),
    case!(trap, "config-linux.md#seccomp", "SCMP_ACT_TRAP sends SIGSYS"),
    case!(log, "config-linux.md#seccomp", "SCMP_ACT_LOG lets the call pass"),
    case!(args_equal, "config-linux.md#seccomp", "SCMP_CMP_EQ and SCMP_CMP_NE compare an argument"),
    case!(args_order, "config-linux.md#seccomp", "SCMP_CMP_LT, LE, GE and GT compare an argument"),
    case!(
        args_masked,
        "config-linux.md#seccomp",
        "SCMP_CMP_MASKED_EQ masks an argument with value, and compares with valueTwo"
    ),
    case!(with_no_new_privileges, "config-linux.md#seccomp", "the filter is there with noNewPrivileges for a user too"),
    case!(flags, "config-linux.md#seccomp", "the flags LOG and SPEC_ALLOW are accepted")
        .known(&[("runc 1.1", "knows no flags")]),
    case!(unknown_action, "config-linux.md#seccomp", "an unknown action is refused"),
    case!(unknown_operator, "config-linux.md#seccomp", "an unknown operator is refused"),
    case!(unknown_flag, "config-linux.md#seccomp", "an unknown flag is refused"),
    case!(unknown_architecture, "config-linux.md#seccomp", "an unknown architecture is refused"),
    case!(no_names, "config-linux.md#seccomp", "a rule without names is refused")
        .known(&[("runc", "such a rule is ignored"), ("crun", "such a rule is ignored")]),
    case!(errno_of_allow, "config-linux.md#seccomp", "errnoRet with an action that has no errno is refused")
        .known(&[("runc", "ignores it")]),
];

/// A profile with rules on top of "allow everything".
fn profile(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules })
}

pub fn with_rules<'a>(bench: &'a Bench, rules: Value) -> Result<Container<'a>> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["seccomp"] = profile(rules);
    Ok(container)
}

/// Both names of making a directory: which one a C library uses depends on the architecture.
pub fn on_mkdir(action: &str) -> Value {
    json!([{ "names": ["mkdir", "mkdirat"], "action": action }])
}

fn errno(bench: &Bench) -> Result<()> {
    let report = with_rules(bench, on_mkdir("SCMP_ACT_ERRNO"))?.report(&["mkdir:/tmp/new"])?;
    report.failed("mkdir:/tmp/new", &["EPERM"])?;
    report.expect("/status/Seccomp", json!("2"))
}

fn errno_ret(bench: &Bench) -> Result<()> {
    let mut rules = on_mkdir("SCMP_ACT_ERRNO");
    // EDQUOT: nothing else would give it here.
    rules[0]["errnoRet"] = json!(122);
    with_rules(bench, rules)?.report(&["mkdir:/tmp/new"])?.failed("mkdir:/tmp/new", &["EDQUOT"])
}

fn allow(bench: &Bench) -> Result<()> {
    let report = with_rules(bench, on_mkdir("SCMP_ACT_ERRNO"))?.report(&["create:/tmp/new", "signal:"])?;
    report.worked("create:/tmp/new")?;
    report.worked("signal:").map(drop)
}

pub fn ends_with_sigsys(bench: &Bench, action: &str) -> Result<()> {
    let mut container = with_rules(bench, on_mkdir(action))?;
    container.args(&["report", "mkdir:/tmp/new"]);
    let exit = container.run()?;
    ensure!(exit == Exit::Signal(Signal::SIGSYS), "the program ended with {exit:?}");
    Ok(())
}

fn kill_process(bench: &Bench) -> Result<()> {
    ends_with_sigsys(bench, "SCMP_ACT_KILL_PROCESS")
}

fn trap(bench: &Bench) -> Result<()> {
    ends_with_sigsys(bench, "SCMP_ACT_TRAP")
}

fn log(bench: &Bench) -> Result<()> {
    let report = with_rules(bench, on_mkdir("SCMP_ACT_LOG"))?.report(&["mkdir:/tmp/new"])?;
    report.worked("mkdir:/tmp/new").map(drop)
}

/// SIGURG 23, SIGWINCH 28: signals that do nothing to a program that does not ask for them.
const URG: &str = "signal:SIGURG";
const WINCH: &str = "signal:SIGWINCH";
const NULL: &str = "signal:";

/// Denies kill(2) where its second argument compares so, and tells which of the three signals are denied.
fn denied(bench: &Bench, op: &str, value: u64, value_two: u64) -> Result<[bool; 3]> {
    let args = json!([{ "index": 1, "value": value, "valueTwo": value_two, "op": op }]);
    let rules = json!([{ "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122, "args": args }]);
    let report = with_rules(bench, rules)?.report(&[NULL, URG, WINCH])?;
    let mut denied = [false; 3];
    for (index, question) in [NULL, URG, WINCH].into_iter().enumerate() {
        match report.error(question)? {
            None => {}
            Some("EDQUOT") => denied[index] = true,
            Some(error) => anyhow::bail!("{question} failed with {error}"),
        }
    }
    Ok(denied)
}

fn expect_denied(bench: &Bench, op: &str, value: u64, value_two: u64, expected: [bool; 3]) -> Result<()> {
    let found = denied(bench, op, value, value_two)?;
    ensure!(found == expected, "{op} {value}: denied for the signals 0, 23 and 28: {found:?}, not {expected:?}");
    Ok(())
}

fn args_equal(bench: &Bench) -> Result<()> {
    expect_denied(bench, "SCMP_CMP_EQ", 28, 0, [false, false, true])?;
    expect_denied(bench, "SCMP_CMP_NE", 28, 0, [true, true, false])
}

fn args_order(bench: &Bench) -> Result<()> {
    expect_denied(bench, "SCMP_CMP_LT", 23, 0, [true, false, false])?;
    expect_denied(bench, "SCMP_CMP_LE", 23, 0, [true, true, false])?;
    expect_denied(bench, "SCMP_CMP_GE", 23, 0, [false, true, true])?;
    expect_denied(bench, "SCMP_CMP_GT", 23, 0, [false, false, true])
}

fn args_masked(bench: &Bench) -> Result<()> {
    // 23 is 0b10111, 28 is 0b11100.
    expect_denied(bench, "SCMP_CMP_MASKED_EQ", 0b01000, 0b01000, [false, false, true])?;
    expect_denied(bench, "SCMP_CMP_MASKED_EQ", 0b10100, 0b10100, [false, true, true])
}

fn with_no_new_privileges(bench: &Bench) -> Result<()> {
    let mut container = with_rules(bench, on_mkdir("SCMP_ACT_ERRNO"))?;
    container.config["process"]["noNewPrivileges"] = json!(true);
    container.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    container.capabilities(&[]);
    let report = container.report(&["mkdir:/dev/shm/new"])?;
    report.failed("mkdir:/dev/shm/new", &["EPERM"])?;
    report.expect("/status/Seccomp", json!("2"))
}

fn flags(bench: &Bench) -> Result<()> {
    let mut container = with_rules(bench, on_mkdir("SCMP_ACT_ERRNO"))?;
    container.config["linux"]["seccomp"]["flags"] =
        json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    container.report(&["mkdir:/tmp/new"])?.failed("mkdir:/tmp/new", &["EPERM"])
}

pub fn refused(bench: &Bench, seccomp: Value) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["seccomp"] = seccomp;
    container.create_or_start_refused()
}

fn unknown_action(bench: &Bench) -> Result<()> {
    refused(bench, profile(on_mkdir("SCMP_ACT_NO_SUCH")))
}

fn unknown_operator(bench: &Bench) -> Result<()> {
    let mut rules = on_mkdir("SCMP_ACT_ERRNO");
    rules[0]["args"] = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_NO_SUCH" }]);
    refused(bench, profile(rules))
}

fn unknown_flag(bench: &Bench) -> Result<()> {
    let mut profile = profile(on_mkdir("SCMP_ACT_ERRNO"));
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_NO_SUCH"]);
    refused(bench, profile)
}

fn unknown_architecture(bench: &Bench) -> Result<()> {
    let mut profile = profile(on_mkdir("SCMP_ACT_ERRNO"));
    profile["architectures"] = json!(["SCMP_ARCH_NO_SUCH"]);
    refused(bench, profile)
}

fn no_names(bench: &Bench) -> Result<()> {
    refused(bench, profile(json!([{ "names": [], "action": "SCMP_ACT_ERRNO" }])))
}

fn errno_of_allow(bench: &Bench) -> Result<()> {
    let mut rules = on_mkdir("SCMP_ACT_KILL");
    rules[0]["errnoRet"] = json!(1);
    refused(bench, profile(rules))
}
