//! `process.execCPUAffinity`

use std::fs;

use serde_json::{Value, json};

use crate::container::Container;
use crate::runtime::{Outcome, only_tare, skip};

/// The CPUs that a process may run on.
fn allowed(status: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.expect("a line of CPUs").trim().to_owned()
}

fn own() -> String {
    allowed(&fs::read_to_string("/proc/self/status").expect("read"))
}

fn exec(c: &Container, affinity: Value) -> Outcome {
    let file = c.beside("process.json");
    let process = json!({
        "args": ["/bin/cat", "/proc/self/status"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
        "execCPUAffinity": affinity
    });
    fs::write(&file, process.to_string()).expect("write");
    c.call(&["exec", "--process", file.to_str().expect("a path"), &c.id])
}

#[test]
fn a_further_program_runs_on_the_cpus_that_are_asked_for() {
    only_tare!("runc 1.1 does not know it");
    if !own().starts_with("0-") {
        skip!("needs two CPUs");
    }
    let c = Container::sleeping();
    c.launch();
    for (affinity, expected) in [
        (json!({ "initial": "1" }), "1"),
        (json!({ "initial": "0", "final": "1" }), "1"),
        (json!({ "initial": "0-1", "final": "0" }), "0"),
        (json!({ "final": "0,1" }), "0-1"),
        (json!({ "initial": "0", "final": "" }), "0"),
    ] {
        assert_eq!(allowed(&exec(&c, affinity.clone()).ok().stdout), expected, "{affinity}");
    }
    assert_eq!(allowed(&exec(&c, Value::Null).ok().stdout), own());
}

#[test]
fn the_configurations_is_for_further_programs_and_not_for_the_first() {
    only_tare!("runc 1.1 does not know it");
    let mut c = Container::sleeping();
    c.config["process"]["execCPUAffinity"] = json!({ "final": "0" });
    c.launch();
    assert_eq!(allowed(&fs::read_to_string(format!("/proc/{}/status", c.pid())).expect("read")), own());
    let outcome = c.call(&["exec", &c.id, "cat", "/proc/self/status"]).ok();
    assert_eq!(allowed(&outcome.stdout), "0");
    assert_eq!(allowed(&exec(&c, Value::Null).ok().stdout), "0");
}

#[test]
fn cpus_that_are_not_there_are_refused() {
    only_tare!("runc 1.1 does not know it");
    let mut c = Container::new();
    c.config["process"]["execCPUAffinity"] = json!({ "initial": "3-1" });
    c.create().fails(&["process.execCPUAffinity", "3-1"]);
    c.config["process"]["execCPUAffinity"] = json!({ "initial": "all" });
    c.create().fails(&["process.execCPUAffinity"]);
    c.assert_nothing_left();
    let c = Container::sleeping();
    c.launch();
    for property in ["initial", "final"] {
        let outcome = exec(&c, json!({ property: "60000" })).code(255);
        assert!(outcome.stderr.contains(&format!("process.execCPUAffinity.{property}")), "{}", outcome.stderr);
    }
    assert_eq!(c.status(), "running");
}

#[test]
fn the_callers_own_cpus_are_not_the_containers() {
    only_tare!("runc 1.1 hands them down");
    if !own().starts_with("0-") {
        skip!("needs two CPUs");
    }
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/status"]);
    c.save();
    let mut bound = std::process::Command::new("taskset");
    c.append_run(bound.args(["-c", "0"]));
    assert_eq!(allowed(&c.finish(&mut bound).ok().stdout), own());
    c.args(&["sleep", "1000"]);
    c.launch();
    let call = c.command(&["exec", &c.id, "cat", "/proc/self/status"]);
    let mut bound = std::process::Command::new("taskset");
    bound.args(["-c", "0"]).arg(call.get_program()).args(call.get_args());
    assert_eq!(allowed(&c.finish(&mut bound).ok().stdout), own());
}
