//! `pause`, `resume`, `ps`, and the other commands while a container is paused.

use std::fs;

use crate::container::Container;
use crate::runtime::{eventually, only_tare};

/// A container that counts on and on, in a file.
fn counting() -> Container {
    let mut c =
        Container::sh("i=0; while :; do i=$((i+1)); echo $i >/dev/shm/next; mv /dev/shm/next /dev/shm/count; done");
    c.config["process"]["args"][0] = "sh".into();
    c.launch();
    count(&c); // paused before it has begun, it never would
    c
}

fn count(c: &Container) -> u64 {
    let path = format!("/proc/{}/root/dev/shm/count", c.pid());
    eventually("the container has counted", || fs::read_to_string(&path).ok()?.trim().parse().ok())
}

#[test]
fn a_paused_container_stands_still_and_goes_on() {
    let c = counting();
    c.call(&["pause", &c.id]).ok().silent();
    assert_eq!(c.status(), "paused");
    let before = count(&c);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(count(&c), before);
    c.call(&["exec", &c.id, "true"]).code(255);
    c.delete().fails(&["paused"]);
    c.call(&["resume", &c.id]).ok().silent();
    assert_eq!(c.status(), "running");
    eventually("it counts again", || (count(&c) > before).then_some(()));
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn what_does_not_run_is_not_paused_and_what_is_not_paused_not_resumed() {
    let c = counting();
    c.call(&["resume", &c.id]).fails(&["not paused"]);
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    c.call(&["pause", &c.id]).fails(&["not running"]);
}

#[test]
fn a_paused_container_can_be_killed_and_deleted_by_force() {
    let c = counting();
    c.call(&["pause", &c.id]).ok();
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    c.delete().ok();
    c.assert_nothing_left();

    let c = counting();
    c.call(&["pause", &c.id]).ok();
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn ps_lists_the_containers_processes_and_no_others() {
    only_tare!("runc 1.1 prints null for none");
    let c = Container::sh("sleep 1000 & exec sleep 1001");
    c.launch();
    let pids = eventually("both processes are there", || {
        let pids: Vec<i32> = serde_json::from_value(c.call(&["ps", "--format", "json", &c.id]).ok().json()).ok()?;
        (pids.len() == 2).then_some(pids)
    });
    assert!(pids.contains(&c.pid()), "{pids:?}");
    let table = c.call(&["ps", &c.id]).ok().stdout;
    assert!(table.lines().next().is_some_and(|head| head.contains("PID")), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    let table = c.call(&["ps", &c.id, "-A", "-o", "pid,comm"]).ok().stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    c.call(&["ps", &c.id, "--no-such-option"]).fails(&["ps"]);
}

#[test]
fn ps_of_a_stopped_container_lists_nothing() {
    let c = Container::sh("true");
    c.launch();
    c.wait_for_status("stopped");
    assert_eq!(c.call(&["ps", &c.id]).ok().stdout.lines().count(), 1);
}

#[test]
fn a_created_container_can_be_paused_and_starts_when_it_is_resumed() {
    let c = Container::sleeping();
    c.create().ok();
    c.call(&["pause", &c.id]).ok().silent();
    assert_eq!(c.status(), "paused");
    c.call(&["pause", &c.id]).fails(&["paused"]);
    c.start().fails(&["paused"]);
    c.call(&["exec", &c.id, "true"]).code(255);
    c.delete().fails(&["paused"]);
    c.call(&["resume", &c.id]).ok().silent();
    assert_eq!(c.status(), "created");
    c.call(&["resume", &c.id]).fails(&["not paused"]);
    c.start().ok();
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn a_paused_created_container_can_be_killed_and_deleted_by_force() {
    let c = Container::sleeping();
    c.create().ok();
    c.call(&["pause", &c.id]).ok();
    c.delete_force().ok();
    c.assert_nothing_left();

    let c = Container::sleeping();
    c.create().ok();
    c.call(&["pause", &c.id]).ok();
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    c.delete().ok();
    c.assert_nothing_left();
}
