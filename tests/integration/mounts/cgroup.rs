//! Mounts of the type cgroup.

use serde_json::json;

use crate::cgroup_tree::hierarchies;
use crate::container::Container;
use crate::runtime::skip;

fn v1_names() -> Vec<String> {
    let v1 = hierarchies().iter().filter(|hierarchy| !hierarchy.v2);
    let names = v1.filter_map(|hierarchy| hierarchy.mount.file_name()?.to_str().map(str::to_owned));
    names.collect()
}

#[test]
fn every_v1_hierarchy_is_there_read_only() {
    if v1_names().is_empty() {
        skip!("no cgroup v1 hierarchy here");
    }
    let c = Container::sh("grep ' - cgroup ' /proc/self/mountinfo; mkdir /sys/fs/cgroup/pids/x");
    let outcome = c.run().code(1);
    for name in v1_names() {
        let point = format!(" /sys/fs/cgroup/{name} ro,nosuid,nodev,noexec,relatime ");
        assert!(outcome.stdout.contains(&point), "{name} in {}", outcome.stdout);
    }
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
}

#[test]
fn it_shows_the_containers_own_cgroup_as_the_root() {
    if v1_names().is_empty() {
        skip!("no cgroup v1 hierarchy here");
    }
    for cgroup_namespace in [true, false] {
        let mut c = Container::sh("cat /sys/fs/cgroup/pids/pids.max; cat /sys/fs/cgroup/pids/cgroup.procs | wc -l");
        if !cgroup_namespace {
            c.drop_namespace("cgroup");
        }
        c.config["linux"]["resources"]["pids"] = json!({ "limit": 77 });
        let outcome = c.run().ok();
        assert!(outcome.stdout.starts_with("77\n"), "{}", outcome.stdout);
    }
}

#[test]
fn joint_hierarchies_have_links_of_their_controllers() {
    let joint = hierarchies().iter().any(|hierarchy| hierarchy.controllers.len() > 1);
    if !joint {
        skip!("no v1 hierarchy with several controllers here");
    }
    let c = Container::sh("ls /sys/fs/cgroup");
    let outcome = c.run().ok();
    for name in hierarchies().iter().filter(|h| h.controllers.len() > 1).flat_map(|h| &h.controllers) {
        assert!(outcome.stdout.lines().any(|line| line == name), "{name} in {}", outcome.stdout);
    }
}

#[test]
fn a_unified_hierarchy_is_the_containers_own() {
    let pure = hierarchies().iter().all(|hierarchy| hierarchy.v2);
    if !pure {
        skip!("the machine has cgroup v1 hierarchies");
    }
    let c = Container::sh("grep ' /sys/fs/cgroup ' /proc/self/mountinfo; cat /sys/fs/cgroup/cgroup.procs | wc -l");
    let outcome = c.run().ok();
    assert!(outcome.stdout.contains(" ro,nosuid,nodev,noexec"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("cgroup2"), "{}", outcome.stdout);
}

#[test]
fn without_a_cgroup_namespace_the_whole_unified_hierarchy_is_there() {
    if hierarchies().iter().any(|hierarchy| !hierarchy.v2) {
        skip!("the machine has cgroup v1 hierarchies");
    }
    let mut c = Container::sh("own=$(sed s/0::// /proc/self/cgroup); cat /sys/fs/cgroup$own/pids.max");
    c.drop_namespace("cgroup");
    c.config["linux"]["resources"]["pids"] = json!({ "limit": 77 });
    c.run().ok().prints("77\n");
}
