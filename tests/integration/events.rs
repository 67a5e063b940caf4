//! `events`: what a container uses, in runc's JSON, and the kernel's OOM killer.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cgroup_tree::hierarchies;
use crate::container::Container;
use crate::runtime::{Running, by_systemd, eventually, only_tare, skip};

/// A container that computes, and has limits that are easily kept.
fn busy() -> Container {
    let mut c = Container::sh("while :; do :; done");
    c.config["linux"]["resources"]["memory"] = json!({ "limit": 67_108_864 });
    c.config["linux"]["resources"]["pids"] = json!({ "limit": 21 });
    c
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[track_caller]
fn once(c: &Container) -> Value {
    let event = c.call(&["events", "--stats", &c.id]).ok().silent().json();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(c.id)));
    event["data"].clone()
}

fn stream(c: &Container) -> Running {
    c.spawn(&mut c.command(&["events", "--interval", "50ms", &c.id]))
}

/// Waits for that many reports: from the first on the OOM killer is heard of, too.
fn wait_for_reports(events: &Running, count: usize) {
    eventually("there are reports", || (events.stdout().matches(r#"{"type":"stats""#).count() >= count).then_some(()));
}

#[test]
fn one_report_tells_the_use_and_the_limits() {
    let c = busy();
    c.launch();
    let first = once(&c);
    let before = number(&first["cpu"]["usage"]["total"]);
    let after = eventually("it has computed", || {
        let total = number(&once(&c)["cpu"]["usage"]["total"]);
        (total > before).then_some(total)
    });
    assert!(after < 3_600_000_000_000, "{after} are no nanoseconds");

    let memory = &first["memory"];
    assert_eq!(number(&memory["usage"]["limit"]), 67_108_864);
    let usage = number(&memory["usage"]["usage"]);
    assert!((4096..=67_108_864).contains(&usage), "{usage}");
    assert!(memory["raw"].as_object().is_some_and(|raw| raw.len() > 10), "{memory}");
    assert_eq!(first["pids"], json!({ "current": 1, "limit": 21 }));
    for key in ["cpuset", "blkio", "hugetlb", "intel_rdt"] {
        assert!(first[key].is_object(), "{key}: {first}");
    }
    assert_eq!(first.get("network_interfaces"), Some(&Value::Null));
}

#[test]
fn a_created_and_a_paused_container_are_reported_of() {
    let c = busy();
    c.create().ok();
    let waiting = number(&once(&c)["pids"]["current"]);
    assert!((1..16).contains(&waiting), "{waiting} threads"); // runc's init is a Go program
    c.start().ok();
    c.call(&["pause", &c.id]).ok();
    assert_eq!(number(&once(&c)["pids"]["current"]), 1);
}

#[test]
fn the_quota_shows_as_throttled_periods() {
    let mut c = busy();
    c.config["linux"]["resources"]["cpu"] = json!({ "quota": 5_000, "period": 100_000 });
    c.launch();
    let throttling = eventually("it is throttled", || {
        let throttling = once(&c)["cpu"]["throttling"].clone();
        (throttling["throttledPeriods"].as_u64()? > 1).then_some(throttling)
    });
    assert!(number(&throttling["periods"]) >= number(&throttling["throttledPeriods"]));
    assert!(number(&throttling["throttledTime"]) > 1_000_000, "{throttling}");
}

#[test]
fn the_stream_goes_on_until_the_container_stops() {
    let c = busy();
    c.launch();
    let events = stream(&c);
    wait_for_reports(&events, 3);
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    if !crate::runtime::is_tare() {
        c.delete().ok(); // runc's goes on until then
    }
    let outcome = events.wait().ok();
    let mut reports: Vec<Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    if !crate::runtime::is_tare() {
        reports.retain(|report| report["type"] == "stats"); // runc may take the cgroup's end for an oom
    }
    assert!(reports.iter().all(|report| report["type"] == "stats" && report["id"] == json!(c.id)));
    let totals: Vec<u64> = reports.iter().map(|report| number(&report["data"]["cpu"]["usage"]["total"])).collect();
    assert!(totals.is_sorted() && totals[0] < totals[2], "{totals:?}");
}

#[test]
fn the_stream_ends_when_the_container_is_deleted() {
    let c = busy();
    c.launch();
    let events = stream(&c);
    wait_for_reports(&events, 1);
    c.delete_force().ok();
    let outcome = events.wait().ok();
    assert!(!outcome.stdout.contains("oom\""), "{}", outcome.stdout);
    c.assert_nothing_left();
}

/// The memory that there is may not be stretched by swap.
fn without_swap(c: &mut Container) {
    c.config["linux"]["resources"]["memory"] = json!({ "limit": 33_554_432, "swap": 33_554_432 });
}

#[test]
fn the_oom_killer_is_heard_of_while_the_container_goes_on() {
    let mut c = Container::sh(
        "while [ ! -e /dev/shm/go ]; do usleep 10000; done
         (echo 1000 >/proc/self/oom_score_adj; head -c 100000000 /dev/zero | tail -c 90000000 >/dev/null)
         exec sleep 1000",
    );
    without_swap(&mut c);
    c.launch();
    let events = stream(&c);
    wait_for_reports(&events, 2);
    let line = format!("{{\"type\":\"oom\",\"id\":\"{}\"}}\n", c.id);
    assert!(!events.stdout().contains(&line));
    fs::write(format!("/proc/{}/root/dev/shm/go", c.pid()), "").expect("tell the program to go on");
    eventually("the OOM killer is heard of", || events.stdout().contains(&line).then_some(()));
    let until_then = events.stdout().lines().count();
    assert_eq!(c.status(), "running");
    eventually("it is reported of again", || (events.stdout().lines().count() > until_then).then_some(()));
    c.delete_force().ok();
    let outcome = events.wait().ok();
    if crate::runtime::is_tare() {
        // The kernel may take a second victim while the first one dies. runc repeats itself a dozen times meanwhile.
        assert!(outcome.stdout.matches(&line).count() <= 3, "{}", outcome.stdout);
    }
}

#[test]
fn the_oom_killer_is_heard_of_when_it_ends_the_container() {
    only_tare!("runc goes on until the container is deleted");
    // systemd may take a scope away with its last process, before anybody can look at its counts.
    let tries = if by_systemd() { 4 } else { 1 };
    let mut printed = String::new();
    let mut heard = || {
        let mut c = Container::new();
        c.args(&["tail", "-c", "90000000", "/dev/zero"]);
        without_swap(&mut c);
        c.create().ok();
        let events = stream(&c);
        wait_for_reports(&events, 1);
        c.start().ok();
        printed = events.wait().ok().stdout.clone();
        printed.contains(&format!(r#"{{"type":"oom","id":"{}"}}"#, c.id))
    };
    let was_heard = (0..tries).any(|_| heard());
    assert!(was_heard, "no oom was reported in {tries} tries: {printed}");
}

#[test]
fn pressure_is_reported_of_on_v2() {
    only_tare!("runc 1.1 does not know it");
    if hierarchies().iter().any(|hierarchy| !hierarchy.v2) || !Path::new("/proc/pressure/cpu").exists() {
        skip!("there is no cgroup v2 alone here, or no pressure stall information");
    }
    let c = busy();
    c.launch();
    let report = once(&c);
    for resource in ["cpu", "memory", "blkio"] {
        assert!(report[resource]["psi"].is_object(), "{resource}: {report}");
    }
    eventually("something waits for a processor", || {
        let some = once(&c)["cpu"]["psi"]["some"].clone();
        (some["total"].as_u64()? > 0 && some["avg300"].is_number()).then_some(())
    });
}

#[test]
fn what_cannot_be_reported_of_is_said() {
    let c = busy();
    c.call(&["events", &c.id]).fails(&["does not exist"]);
    c.launch();
    for interval in ["0s", "0", "-1s"] {
        let option = format!("--interval={interval}");
        c.call(&["events", &option, &c.id]).fails(&["duration interval must be greater than 0"]);
    }
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    let expected = format!("container with id {} is not running", c.id);
    c.call(&["events", "--stats", &c.id]).fails(&[&expected]);
    c.call(&["events", &c.id]).fails(&[&expected]);
    if crate::runtime::is_tare() {
        c.call(&["events", "--interval", "5", &c.id]).fails(&["--interval", "invalid duration"]);
    }
}
