//! `--timing`: where the time went, told by both stages.

use std::fs;

use serde_json::Value;

use crate::container::Container;
use crate::runtime::{only_tare, read_text};

/// A line of the text: when, how long, whose, what.
fn lines(text: &str) -> Vec<(f64, f64, String, String)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let mut number = || fields.next().and_then(|field| field.parse().ok()).expect("a number");
        let (at, took) = (number(), number());
        let stage = fields.next().expect("a stage").to_owned();
        (at, took, stage, fields.collect::<Vec<_>>().join(" "))
    };
    text.lines().filter(|line| !line.contains("took ms")).map(line).collect()
}

#[test]
fn a_run_tells_its_phases_in_the_order_of_one_clock() {
    only_tare!("no other runtime has it");
    let c = Container::sh("echo fine");
    c.save();
    let file = c.beside("timing");
    let mut command = c.command(&["--timing", file.to_str().expect("a path"), "run", "--bundle"]);
    c.finish(command.arg(c.bundle.path()).arg(&c.id)).ok().prints("fine\n").silent();
    let phases = lines(&read_text(&file));
    let has = |stage: &str, name: &str| phases.iter().any(|(.., s, n)| s == stage && n.starts_with(name));
    for name in ["config.json", "cgroup: create", "clone", "serve init", "start: open the gate", "delete: cgroup"] {
        assert!(has("parent", name), "{name}: {phases:?}");
    }
    for name in ["rootfs", "mounts[0] (/proc)", "mounts[1] (/dev)", "maskedPaths", "pivot", "execute the program"] {
        assert!(has("init", name), "{name}: {phases:?}");
    }
    assert!(phases.is_sorted_by(|one, next| one.0 <= next.0), "{phases:?}");
    assert!(phases.iter().all(|(at, took, ..)| *at >= 0.0 && *took >= 0.0), "{phases:?}");
    c.assert_nothing_left();
}

#[test]
fn several_commands_make_one_list_of_trace_events() {
    only_tare!("no other runtime has it");
    let c = Container::sleeping();
    c.save();
    let file = c.beside("timing.json");
    let file = file.to_str().expect("a path");
    let bundle = c.bundle.path().display().to_string();
    c.call(&["--timing", file, "create", "--bundle", &bundle, &c.id]).ok().silent();
    c.call(&["--timing", file, "start", &c.id]).ok().silent();
    c.call(&["--timing", file, "exec", &c.id, "/bin/true"]).ok().silent();
    c.call(&["--timing", file, "delete", "--force", &c.id]).ok().silent();
    let events: Value = serde_json::from_str(&read_text(file.as_ref())).expect("JSON");
    let events = events.as_array().expect("an array");
    let count = |name: &str, thread: u64| {
        events.iter().filter(|event| event["ph"] == "X" && event["name"] == name && event["tid"] == thread).count()
    };
    for (name, thread) in [("clone", 1), ("pivot", 2), ("start: open the gate", 1), ("delete: cgroup", 1)] {
        assert!(count(name, thread) > 0, "{name}: {events:?}");
    }
    assert_eq!(
        count("execute the program", 2),
        1,
        "that of exec: the other is in a process that had no report to make"
    );
    for event in events.iter().filter(|event| event["ph"] == "X") {
        assert!(event["ts"].as_f64().is_some_and(|time| time > 0.0), "{event}");
        assert!(event["dur"].as_f64().is_some_and(|time| time >= 0.0), "{event}");
    }
    c.assert_nothing_left();
}

#[test]
fn a_failed_start_is_told_too_and_the_error_is_its_own() {
    only_tare!("no other runtime has it");
    let mut c = Container::new();
    c.args(&["/no/such/tool"]);
    c.save();
    let file = c.beside("timing");
    let bundle = c.bundle.path().display().to_string();
    let flags = ["--timing", file.to_str().expect("a path"), "--timing-format", "trace"];
    c.call(&[&flags[..], &["run", "--bundle", &bundle, &c.id]].concat()).fails(&["/no/such/tool"]);
    let events: Value = serde_json::from_str(&read_text(&file)).expect("JSON");
    assert!(events.as_array().is_some_and(|events| events.iter().any(|event| event["name"] == "find the program")));
}

#[test]
fn a_report_goes_to_standard_error_or_is_an_error_or_is_not_asked_for() {
    only_tare!("no other runtime has it");
    let c = Container::new();
    let outcome = c.call(&["--timing", "-", "list"]).ok();
    assert!(outcome.stderr.contains("read the arguments"), "{}", outcome.stderr);
    c.call(&["--timing", "/no/such/dir/timing", "list"]).fails(&["--timing", "/no/such/dir/timing"]);
    c.call(&["--timing-format", "xml", "list"]).fails(&["timing-format", "xml"]);
    let log = c.beside("log");
    c.call(&["--log", log.to_str().expect("a path"), "list"]).ok().silent();
    assert_eq!(fs::read_to_string(log).unwrap_or_default(), "");
}
