//! `linux.timeOffsets`

use serde_json::json;

use crate::container::Container;
use crate::runtime::only_tare;

fn with_offsets(script: &str, offsets: serde_json::Value) -> Container {
    let mut c = Container::sh(script);
    c.add_namespace(json!({ "type": "time" }));
    c.config["linux"]["timeOffsets"] = offsets;
    c
}

#[test]
fn the_clock_since_boot_is_ahead_by_the_offset() {
    only_tare!("runc 1.1 has no time namespace");
    let c = with_offsets(
        "cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets",
        json!({ "boottime": { "secs": 7_000_000 }, "monotonic": { "secs": 5, "nanosecs": 7 } }),
    );
    let outcome = c.run().ok();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(lines[0].parse::<u64>().is_ok_and(|uptime| uptime >= 7_000_000), "{}", outcome.stdout);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[1]), ["monotonic", "5", "7"]);
    assert_eq!(words(lines[2]), ["boottime", "7000000", "0"]);
    c.assert_nothing_left();
}

#[test]
fn a_new_time_namespace_needs_no_offsets() {
    only_tare!("runc 1.1 has no time namespace");
    let mut c = Container::sh("readlink /proc/self/ns/time");
    c.add_namespace(json!({ "type": "time" }));
    let own = std::fs::read_link("/proc/self/ns/time").expect("the own time namespace");
    let outcome = c.run().ok();
    assert!(outcome.stdout.starts_with("time:["), "{}", outcome.stdout);
    assert_ne!(outcome.stdout.trim(), own.to_str().expect("a name"));
}

#[test]
fn offsets_are_for_clocks_that_have_one_in_a_namespace_of_their_own() {
    only_tare!("runc 1.1 has no time namespace");
    let c = with_offsets("true", json!({ "realtime": { "secs": 1 } }));
    c.create().fails(&["linux.timeOffsets.realtime"]);
    let mut c = with_offsets("true", json!({ "boottime": { "secs": 1 } }));
    c.drop_namespace("time");
    c.create().fails(&["linux.timeOffsets.boottime", "time namespace"]);
    c.assert_nothing_left();
}
