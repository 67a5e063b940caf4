use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::cgroups::layout::{Layout, layout, unified};
use crate::cgroups::manager::Kind;
use crate::error::one_line;
use crate::sys::bpf;

/// A cgroup of the test's own in whatever unified hierarchy there is, removed whatever happens.
struct Own {
    manager: V2,
    children: Vec<Child>,
}

impl Own {
    fn place(name: &str) -> Option<Self> {
        let root = match (layout().unwrap(), unified().unwrap()) {
            (Layout::V2 { root }, _) => root.clone(),
            (_, Some(unified)) => unified.mount_point.clone(),
            _ => {
                println!("skipped: no cgroup2 is mounted");
                return None;
            }
        };
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let dir = root.join(format!("tare-test2-{}-{name}/x", std::process::id()));
        let placement = Placement { paths: BTreeMap::from([(String::new(), dir)]), ..Placement::none(Kind::Cgroupfs) };
        // The machine's own hierarchy is not to be changed: no controllers are enabled from the test's root down.
        let root = placement.paths[""].parent().unwrap().to_owned();
        std::fs::create_dir_all(&root).unwrap();
        Some(Self { manager: V2::new(placement, root, true), children: Vec::new() })
    }

    fn made(name: &str) -> Option<Self> {
        let mut own = Self::place(name)?;
        own.manager.create(None).unwrap();
        Some(own)
    }

    fn dir(&self) -> &Path {
        self.manager.dir().unwrap()
    }

    fn run(&mut self, script: &str) -> i32 {
        // It begins when it is inside.
        let script = format!("read go; {script}");
        let mut child = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        let mut go = child.stdin.take().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        self.children.push(child);
        self.manager.attach(pid).unwrap();
        go.write_all(b"go\n").unwrap();
        pid
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.manager.kill();
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.manager.destroy();
        let _ = std::fs::remove_dir(&self.manager.root);
    }
}

#[test]
fn a_cgroup_is_made_entered_frozen_killed_and_removed() {
    let Some(mut own) = Own::made("life") else { return };
    assert!(matches!(own.manager.entry().unwrap(), Entry::Into(_)));
    let pid = own.run("while :; do sleep 5 & sleep 0.001; done");
    assert!(own.manager.pids().unwrap().contains(&pid));
    let line = one_line(&own.manager.create(None).unwrap_err());
    assert!(line.contains("container's cgroup is not empty"), "{line}");
    own.manager.freeze(true).unwrap();
    assert!(own.manager.is_frozen().unwrap());
    own.manager.kill().unwrap();
    own.children[0].wait().unwrap();
    own.manager.freeze(false).unwrap();
    std::fs::create_dir_all(own.dir().join("a/b")).unwrap();
    own.manager.destroy().unwrap();
    assert!(!own.manager.exists().unwrap());
    own.manager.destroy().unwrap();
    own.manager.kill().unwrap();
}

#[test]
fn without_cgroup_kill_the_processes_end_too() {
    let Some(mut own) = Own::made("old") else { return };
    own.run("while :; do sleep 5 & sleep 0.001; done");
    freezer::freeze(own.dir(), true).unwrap();
    tree::kill_all(own.dir(), &Spared::default()).unwrap();
    own.children[0].wait().unwrap();
    own.manager.destroy().unwrap();
}

#[test]
fn a_frozen_cgroup_is_refused() {
    let Some(mut own) = Own::made("frozen") else { return };
    own.manager.freeze(true).unwrap();
    let line = one_line(&own.manager.create(None).unwrap_err());
    assert!(line.contains("container's cgroup unexpectedly frozen"), "{line}");
}

#[test]
fn below_a_threaded_cgroup_it_is_threaded_or_refused() {
    let Some(mut own) = Own::place("threaded") else { return };
    let root = own.manager.root.clone();
    let threaded = root.join("threaded");
    std::fs::create_dir(&threaded).unwrap();
    file::write(&threaded, "cgroup.type", "threaded").unwrap();
    // Two of them at once: below an invalid one nothing can be enabled, nor made valid.
    let dir = root.join("a/b");
    own.manager.placement.paths.insert(String::new(), dir.clone());
    let kind = |dir: &Path| file::read(dir, "cgroup.type").unwrap();
    let limited = serde_json::from_str(r#"{"memory":{"limit":8388608}}"#).unwrap();
    let line = one_line(&own.manager.create(Some(&limited)).unwrap_err());
    assert!(line.contains("linux.resources.memory: cannot enter cgroupv2") && !root.join("a").exists(), "{line}");
    own.manager.create(None).unwrap();
    assert_eq!([kind(&root), kind(&root.join("a")), kind(&dir)], ["domain threaded\n", "threaded\n", "threaded\n"]);
    let pid = own.run("while :; do sleep 5 & sleep 0.001; done");
    assert!(own.manager.pids().unwrap().contains(&pid));
    own.manager.freeze(true).unwrap();
    own.manager.kill().unwrap();
    own.children[0].wait().unwrap();
    own.manager.destroy().unwrap();
    for dir in [root.join("a"), threaded] {
        std::fs::remove_dir(dir).unwrap();
    }
}

#[test]
fn a_controller_that_is_missing_is_named() {
    let Some(own) = Own::made("missing") else { return };
    let refusal = |json: &str| one_line(&own.manager.limits(&serde_json::from_str(json).unwrap()).unwrap_err());
    for (json, property, controller) in [
        (r#"{"pids":{"limit":5}}"#, "linux.resources.pids.limit", "pids"),
        (r#"{"memory":{"limit":5000}}"#, "linux.resources.memory.limit", "memory"),
        (r#"{"unified":{"memory.high":"5000"}}"#, "linux.resources.unified[\"memory.high\"]", "memory"),
    ] {
        if controllers::has(own.dir(), controller) {
            println!("skipped: {controller} is enabled here");
            continue;
        }
        let line = refusal(json);
        assert!(
            line.starts_with(property) && line.contains(&format!("controller {controller:?} not available")),
            "{line}"
        );
        assert!(line.ends_with("No such file or directory"), "{line}");
    }
    let line = refusal(r#"{"unified":{"nonsense":"1"}}"#);
    assert!(line.contains("must be in the form CONTROLLER.PARAMETER"), "{line}");
    own.manager.limits(&serde_json::from_str(r#"{"unified":{"cgroup.max.depth":"3"}}"#).unwrap()).unwrap();
    assert_eq!(file::read(own.dir(), "cgroup.max.depth").unwrap(), "3\n");
}

#[test]
fn the_device_filter_holds_and_is_replaced_by_the_next() {
    let Some(mut own) = Own::made("devices") else { return };
    let resources = |json: &str| serde_json::from_str::<LinuxResources>(json).unwrap();
    if let Err(error) = own.manager.apply_devices(&resources(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#)) {
        println!("skipped: {}", one_line(&error));
        return;
    }
    let attached = |own: &Own| bpf::attached_device_programs(open_dir(own.dir()).unwrap().as_fd()).unwrap();
    let first = attached(&own);
    own.manager.apply_devices(&resources(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#)).unwrap();
    let second = attached(&own);
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
    // /dev/kmsg is 1:11, which no default rule allows.
    own.run("echo > /dev/null && ! (head -c 1 /dev/kmsg) 2>/dev/null");
    assert!(own.children[0].wait().unwrap().success());
}
