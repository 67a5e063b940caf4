use crate::cgroups::Wanted;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::*;
use crate::cgroups::layout::{Layout, layout, unified};
use crate::cgroups::manager::{Kind, place, reopen};
use crate::error::one_line;

/// A cgroup of the test's own, removed whatever happens.
struct Own {
    manager: Box<dyn Manager>,
    children: Vec<Child>,
}

impl Own {
    fn place(name: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || !matches!(layout().unwrap(), Layout::V1(_)) {
            println!("skipped: needs root and cgroup v1");
            return None;
        }
        let path = format!("/tare-test-{}-{name}/x", std::process::id());
        let manager = place(&Wanted::at(Kind::Cgroupfs, Some(Path::new(&path)), "unused")).unwrap();
        Some(Self { manager, children: Vec::new() })
    }

    fn made(name: &str, json: &str) -> Option<(Self, LinuxResources)> {
        let mut own = Self::place(name)?;
        let resources = serde_json::from_str(json).unwrap();
        own.manager.create(Some(&resources)).unwrap();
        Some((own, resources))
    }

    fn text(&self, controller: &str, file: &str) -> String {
        file::read(&self.manager.placement().paths[controller], file).unwrap().trim().to_owned()
    }

    /// The script begins when it is in all hierarchies: what it starts before would be in some only, where nobody looks
    /// for it.
    fn run(&mut self, script: &str) -> i32 {
        let script = format!("read go; {script}");
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut go = child.stdin.take().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        self.children.push(child);
        self.manager.attach(pid).unwrap();
        go.write_all(b"go\n").unwrap();
        pid
    }

    /// Waits until a script has started others.
    fn wait_for_children(&self) {
        let end = Instant::now() + std::time::Duration::from_secs(10);
        while self.manager.pids().unwrap().len() <= 2 {
            assert!(Instant::now() < end, "it starts nothing");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
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
        for dir in self.manager.placement().paths.values() {
            let _ = std::fs::remove_dir(dir.parent().unwrap());
        }
    }
}

fn apply(own: &Own, json: &str) -> Result<()> {
    own.manager.apply(&serde_json::from_str(json).unwrap())
}

fn refusal(own: &Own, json: &str) -> String {
    one_line(&apply(own, json).unwrap_err())
}

#[test]
fn every_hierarchy_gets_a_directory_that_a_thread_can_enter() {
    let Some((own, _)) = Own::made("enter", "{}") else { return };
    let entry = own.manager.entry().unwrap();
    let Layout::V1(hierarchies) = layout().unwrap() else { unreachable!() };
    assert_eq!(entry.tasks().len(), hierarchies.len());
    let systemd = unified().unwrap().is_some() && Path::new("/run/systemd/system").exists();
    assert_eq!(entry.into_dir().is_some(), systemd);
    let inside = std::thread::spawn(move || {
        for tasks in entry.tasks() {
            std::fs::File::from(tasks.try_clone().unwrap()).write_all(b"0").unwrap();
        }
        std::fs::read_to_string("/proc/thread-self/cgroup").unwrap()
    });
    let inside = inside.join().unwrap();
    let path = format!("/tare-test-{}-enter/x", std::process::id());
    let v1 = inside.lines().filter(|line| !line.starts_with("0::"));
    assert!(v1.clone().count() > 0 && v1.clone().all(|line| line.ends_with(&path)), "{inside}");
    let root = place(&Wanted::at(Kind::Cgroupfs, Some(Path::new("/tare-test-none")), "x")).unwrap();
    assert!(!root.exists().unwrap() && own.manager.exists().unwrap());
    root.destroy().unwrap();
}

#[test]
fn a_cgroup_in_use_or_frozen_is_refused_and_left_alone() {
    let Some((mut own, _)) = Own::made("used", "{}") else { return };
    let pid = own.run("exec sleep 30");
    assert_eq!(own.manager.pids().unwrap(), [pid]);
    let mut second = reopen(own.manager.placement()).unwrap();
    let line = one_line(&second.create(None).unwrap_err());
    assert!(line.contains("container's cgroup is not empty: 1 process(es) found"), "{line}");
    assert!(second.check_unused().is_err());
    assert_eq!(own.manager.pids().unwrap(), [pid]);
    own.manager.kill().unwrap();
    own.children.pop().unwrap().wait().unwrap();
    own.manager.freeze(true).unwrap();
    let line = one_line(&second.create(None).unwrap_err());
    own.manager.freeze(false).unwrap();
    assert!(line.contains("container's cgroup unexpectedly frozen"), "{line}");
    second.create(None).unwrap();
}

#[test]
fn what_create_made_is_gone_when_it_fails() {
    let Some(mut own) = Own::place("fails") else { return };
    let resources = serde_json::from_str(r#"{"cpu":{"mems":"9999"}}"#).unwrap();
    let line = one_line(&own.manager.create(Some(&resources)).unwrap_err());
    assert!(line.starts_with("linux.resources.cpu.mems: write \"9999\" to cpuset.mems of "), "{line}");
    let left: Vec<_> = own.manager.placement().paths.values().filter(|dir| dir.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn cpusets_are_handed_down_through_new_ancestors() {
    let Some(mut own) = Own::place("cpuset") else { return };
    own.manager.create(Some(&serde_json::from_str(r#"{"cpu":{"cpus":"0"}}"#).unwrap())).unwrap();
    let dir = own.manager.placement().paths["cpuset"].clone();
    let parent = dir.parent().unwrap();
    assert_eq!(
        file::read(parent, "cpuset.cpus").unwrap(),
        file::read(parent.parent().unwrap(), "cpuset.cpus").unwrap()
    );
    assert_eq!(own.text("cpuset", "cpuset.cpus"), "0");
    assert_eq!(own.text("cpuset", "cpuset.mems"), file::read(parent, "cpuset.mems").unwrap().trim());
}

#[test]
fn memory_limits_go_up_and_down_in_an_order_that_the_kernel_takes() {
    let Some((own, _)) = Own::made("memory", "{}") else { return };
    let bytes = |file: &str| own.text("memory", file).parse::<i64>().unwrap();
    for (limit, swap) in [(64 << 20, 128 << 20), (256 << 20, 512 << 20), (32 << 20, 32 << 20), (128 << 20, 128 << 20)] {
        apply(&own, &format!(r#"{{"memory":{{"limit":{limit},"swap":{swap}}}}}"#)).unwrap();
        assert_eq!((bytes("memory.limit_in_bytes"), bytes("memory.memsw.limit_in_bytes")), (limit, swap));
    }
    apply(&own, r#"{"memory":{"limit":-1}}"#).unwrap();
    assert!(bytes("memory.memsw.limit_in_bytes") > 1 << 60);
    apply(&own, r#"{"memory":{"reservation":4194304,"swappiness":7,"disableOOMKiller":true}}"#).unwrap();
    assert_eq!((bytes("memory.soft_limit_in_bytes"), bytes("memory.swappiness")), (4 << 20, 7));
    assert!(own.text("memory", "memory.oom_control").contains("oom_kill_disable 1"));
    assert_eq!(own.manager.oom_kills(), 0);
}

#[test]
fn a_refused_value_is_named_with_its_path_and_file() {
    let Some((own, _)) = Own::made("refused", "{}") else { return };
    let dir = |controller: &str| own.manager.placement().paths[controller].display().to_string();
    assert_eq!(
        refusal(&own, r#"{"cpu":{"period":1}}"#),
        format!("linux.resources.cpu.period: write \"1\" to cpu.cfs_period_us of {}: Invalid argument", dir("cpu"))
    );
    let line = refusal(&own, r#"{"cpu":{"cpus":"4000"}}"#);
    let expected = format!("linux.resources.cpu.cpus: write \"4000\" to cpuset.cpus of {}: ", dir("cpuset"));
    assert!(line.starts_with(&expected), "{line}");
    assert_eq!(
        refusal(&own, r#"{"cpu":{"shares":1}}"#),
        "linux.resources.cpu.shares: 1: the minimum allowed cpu-shares is 2"
    );
    assert_eq!(
        refusal(&own, r#"{"unified":{"memory.max":"1"}}"#),
        "linux.resources.unified: invalid configuration: cannot use unified on cgroup v1"
    );
    assert_eq!(
        refusal(&own, r#"{"network":{"classID":5}}"#),
        "linux.resources.network.classID: cannot set net_cls limit: container could not join or create cgroup"
    );
}

#[test]
fn bandwidth_is_taken_in_any_combination() {
    let Some((own, _)) = Own::made("cpu", r#"{"cpu":{"shares":512}}"#) else { return };
    apply(&own, r#"{"cpu":{"shares":512,"quota":50000,"period":100000,"burst":20000}}"#).unwrap();
    // The new burst is larger than the old quota, then the new quota is smaller than the old burst.
    apply(&own, r#"{"cpu":{"quota":400000,"period":200000,"burst":300000}}"#).unwrap();
    apply(&own, r#"{"cpu":{"quota":10000,"period":20000,"burst":0}}"#).unwrap();
    let files = ["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"];
    assert_eq!(files.map(|file| own.text("cpu", file)), ["512", "10000", "20000", "0"]);
    apply(&own, r#"{"cpu":{"quota":-1,"idle":1}}"#).unwrap();
    assert_eq!([own.text("cpu", "cpu.cfs_quota_us"), own.text("cpu", "cpu.idle")], ["-1", "1"]);
}

#[test]
fn pids_and_devices_hold_for_what_runs_inside() {
    let Some((mut own, resources)) =
        Own::made("inside", r#"{"pids":{"limit":0},"devices":[{"allow":false,"access":"rwm"}]}"#)
    else {
        return;
    };
    own.manager.apply_devices(&resources).unwrap();
    own.manager.apply(&resources).unwrap();
    assert_eq!(own.text("pids", "pids.max"), "1");
    let list = own.text("devices", "devices.list");
    assert!(list.contains("c 1:3 rwm") && list.contains("b *:* m") && list.lines().count() == 11, "{list}");
    apply(&own, r#"{"pids":{"limit":-1}}"#).unwrap();
    assert_eq!(own.text("pids", "pids.max"), "max");
    // /dev/kmsg is 1:11.
    own.run("echo > /dev/null && ! (head -c 1 /dev/kmsg) 2>/dev/null");
    assert!(own.children[0].wait().unwrap().success());
}

#[test]
fn kill_ends_what_forks_and_what_is_frozen() {
    let Some((mut own, _)) = Own::made("kill", "{}") else { return };
    own.run("while :; do sleep 5 & sleep 0.001; done");
    own.wait_for_children();
    own.manager.freeze(true).unwrap();
    assert!(own.manager.is_frozen().unwrap());
    own.manager.kill().unwrap();
    own.children[0].wait().unwrap();
    own.manager.destroy().unwrap();
    assert!(!own.manager.exists().unwrap() && own.manager.pids().unwrap().is_empty());
    own.manager.kill().unwrap();
}

#[test]
fn sub_cgroups_of_the_container_are_removed_too() {
    let Some((own, _)) = Own::made("sub", "{}") else { return };
    for dir in own.manager.placement().paths.values() {
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::create_dir_all(dir.join("c")).unwrap();
    }
    own.manager.destroy().unwrap();
    assert!(own.manager.placement().paths.values().all(|dir| !dir.exists()));
}

#[test]
fn huge_pages_of_a_hybrid_layout_need_the_unified_directory() {
    let json = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#;
    let Some((own, _)) = Own::made("huge", json) else { return };
    let paths = &own.manager.placement().paths;
    if paths.contains_key("hugetlb") || unified().unwrap().is_none() {
        println!("skipped: huge pages are not in a unified hierarchy here");
        return;
    }
    assert!(paths[""].is_dir());
    assert!(own.manager.entry().unwrap().into_dir().is_some());
}

#[test]
fn the_kernel_takes_throttles() {
    let Some((own, _)) = Own::made("io", "{}") else { return };
    apply(&own, r#"{"blockIO":{"weight":0}}"#).unwrap();
    let line = refusal(&own, r#"{"blockIO":{"throttleReadBpsDevice":[{"major":4000,"minor":0,"rate":600}]}}"#);
    assert!(line.starts_with("linux.resources.blockIO.throttleReadBpsDevice[0]: write \"4000:0 600\" to "), "{line}");
}

#[test]
#[ignore = "a measurement"]
fn how_long_it_takes() {
    const ROUNDS: u32 = 300;
    let json = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
    let Some(own) = Own::place("time") else { return };
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    let mut spent = [std::time::Duration::ZERO; 6];
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| drop(place(&Wanted::at(Kind::Cgroupfs, Some(Path::new("/x")), "x")).unwrap()));
    println!("place, with the layout known: {:?}", start.elapsed() / ROUNDS);
    for _ in 0..ROUNDS {
        let mut lap = Instant::now();
        let mut take = |slot: usize| {
            spent[slot] += lap.elapsed();
            lap = Instant::now();
        };
        let mut manager = reopen(own.manager.placement()).unwrap();
        take(0);
        manager.create(Some(&resources)).unwrap();
        take(1);
        let entry = manager.entry().unwrap();
        take(2);
        manager.apply(&resources).unwrap();
        take(3);
        drop(entry);
        take(4);
        manager.destroy().unwrap();
        take(5);
    }
    println!("reopen, create, entry, apply, close, destroy: {:?}", spent.map(|spent| spent / ROUNDS));
}
