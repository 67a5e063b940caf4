//! `process.scheduler`

use std::fs;

use serde_json::{Value, json};

use crate::bundle::is_rootless;
use crate::container::Container;
use crate::runtime::{need_root, only_tare};

const KNOWN: &str = "runc 1.1 does not know it";

/// The nice value and the policy's number in a line of /proc/<pid>/stat.
fn nice_and_policy(stat: &str) -> (String, String) {
    // Behind the program's name in parentheses the fields count from 3: nice is 19, policy 41, of proc_pid_stat(5).
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a line").split_whitespace().collect();
    (fields[16].to_owned(), fields[38].to_owned())
}

fn scheduled(scheduler: Value) -> Container {
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/stat"]);
    c.config["process"]["scheduler"] = scheduler;
    c
}

#[test]
fn policies_have_their_attributes() {
    only_tare!("{KNOWN}");
    for (scheduler, nice, policy) in [
        (json!({ "policy": "SCHED_OTHER", "nice": 5 }), "5", "0"),
        (json!({ "policy": "SCHED_BATCH", "nice": 19 }), "19", "3"),
        (json!({ "policy": "SCHED_IDLE" }), "0", "5"),
        (json!({ "policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 100_000, "period": 1_000_000 }), "0", "6"),
    ] {
        if is_rootless() && scheduler["policy"] == "SCHED_DEADLINE" {
            scheduled(scheduler).create().fails(&["process.scheduler", "not permitted"]);
            continue;
        }
        let outcome = scheduled(scheduler.clone()).run().ok();
        assert_eq!(nice_and_policy(&outcome.stdout), (nice.into(), policy.into()), "{scheduler}");
    }
}

#[test]
fn a_flag_can_keep_children_from_inheriting_it() {
    need_root!("only root may take a lower nice value");
    only_tare!("{KNOWN}");
    for (flags, of_the_child) in [(json!(["SCHED_FLAG_RESET_ON_FORK"]), "0"), (json!([]), "-5")] {
        let mut c = scheduled(json!({ "policy": "SCHED_OTHER", "nice": -5, "flags": flags }));
        c.script("cat /proc/$$/stat; cat /proc/self/stat; true");
        let outcome = c.run().ok();
        let nice: Vec<String> = outcome.stdout.lines().map(|line| nice_and_policy(line).0).collect();
        assert_eq!(nice, ["-5", of_the_child], "{flags}");
    }
}

#[test]
fn a_further_program_has_the_containers_or_its_own() {
    only_tare!("{KNOWN}");
    let mut c = scheduled(json!({ "policy": "SCHED_BATCH", "nice": 3 }));
    c.args(&["sleep", "1000"]);
    c.launch();
    let outcome = c.call(&["exec", &c.id, "cat", "/proc/self/stat"]).ok();
    assert_eq!(nice_and_policy(&outcome.stdout), ("3".into(), "3".into()));
    let file = c.beside("process.json");
    let mut process = json!({
        "args": ["cat", "/proc/self/stat"], "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"]
    });
    for (scheduler, expected) in [
        (Value::Null, ("3", "3")),
        (json!({ "policy": "SCHED_OTHER", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"] }), ("7", "0")),
    ] {
        process["scheduler"] = scheduler;
        fs::write(&file, process.to_string()).expect("write");
        let outcome = c.call(&["exec", "--process", file.to_str().expect("a path"), &c.id]).ok();
        assert_eq!(nice_and_policy(&outcome.stdout), (expected.0.into(), expected.1.into()));
    }
}

#[test]
fn what_is_not_the_policys_is_refused() {
    only_tare!("{KNOWN}");
    for (scheduler, word) in [
        (json!({ "policy": "SCHED_OTHER", "nice": 20 }), "process.scheduler: nice"),
        (json!({ "policy": "SCHED_BATCH", "priority": 1 }), "process.scheduler: priority"),
        (json!({ "policy": "SCHED_FIFO", "period": 1 }), "process.scheduler: period"),
        (json!({ "policy": "SCHED_SIDEWAYS" }), "process.scheduler.policy"),
        (json!({ "nice": 1 }), "process.scheduler"),
        (json!({ "policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"] }), "process.scheduler.flags[0]"),
        (
            json!({ "policy": "SCHED_DEADLINE", "runtime": 9, "deadline": 8, "period": 7 }),
            "sched_setattr SCHED_DEADLINE",
        ),
    ] {
        let c = scheduled(scheduler);
        c.create().fails(&[word]);
        c.assert_nothing_left();
    }
}
