//! `process.ioPriority`

use std::fs;

use serde_json::{Value, json};

use crate::bundle::is_rootless;
use crate::container::Container;
use crate::runtime::only_tare;

fn with(priority: Value) -> Container {
    let mut c = Container::new();
    c.args(&["busybox", "ionice", "-p", "1"]);
    c.config["process"]["ioPriority"] = priority;
    c
}

#[test]
fn every_class_is_set_with_its_level() {
    only_tare!("runc 1.1 does not know it");
    for (class, level, shown) in [
        ("IOPRIO_CLASS_BE", 4, "best-effort: prio 4\n"),
        ("IOPRIO_CLASS_RT", 2, "realtime: prio 2\n"),
        ("IOPRIO_CLASS_IDLE", 0, "idle\n"),
    ] {
        if is_rootless() && class == "IOPRIO_CLASS_RT" {
            with(json!({ "class": class, "priority": level })).create().fails(&["process.ioPriority", "not permitted"]);
            continue;
        }
        let outcome = with(json!({ "class": class, "priority": level })).run().ok();
        assert!(outcome.stdout.starts_with(shown.trim_end()), "{class}: {}", outcome.stdout);
    }
}

#[test]
fn a_further_program_has_the_containers_or_its_own() {
    only_tare!("runc 1.1 does not know it");
    let mut c = with(json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }));
    c.args(&["sleep", "1000"]);
    c.launch();
    let own = c.call(&["exec", &c.id, "busybox", "ionice"]).ok();
    assert!(own.stdout.starts_with("best-effort: prio 6"), "{}", own.stdout);
    let file = c.beside("process.json");
    let process = json!({
        "args": ["/bin/busybox", "ionice"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
        "ioPriority": { "class": "IOPRIO_CLASS_IDLE", "priority": 0 }
    });
    fs::write(&file, process.to_string()).expect("write");
    let other = c.call(&["exec", "--process", file.to_str().expect("a path"), &c.id]).ok();
    assert!(other.stdout.starts_with("idle"), "{}", other.stdout);
}

#[test]
fn what_is_no_priority_is_refused() {
    only_tare!("runc 1.1 does not know it");
    for (priority, word) in [
        (json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }), "process.ioPriority: priority"),
        (json!({ "class": "IOPRIO_CLASS_X", "priority": 0 }), "process.ioPriority.class"),
    ] {
        let c = with(priority);
        c.create().fails(&[word]);
        c.assert_nothing_left();
    }
}
