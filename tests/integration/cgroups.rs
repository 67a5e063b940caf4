//! `linux.cgroupsPath` and `linux.resources`: directories and the values in their files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cgroup_tree::{has_v1, hierarchies, named, v1_dir};
use crate::container::Container;
use crate::linux::uid_mappings::mapped;
use crate::runtime::{need_cgroupfs, need_root, only_tare, skip};

/// Ends the test where the controller has no v1 hierarchy.
macro_rules! need_v1 {
    ($controller:literal) => {
        if !has_v1($controller) {
            skip!("the v1 {} controller is not here", $controller);
        }
    };
}

/// Ends the test where cgroup v2 is not the only hierarchy.
macro_rules! need_v2 {
    () => {
        if hierarchies().iter().any(|hierarchy| !hierarchy.v2) {
            skip!("there is no cgroup v2 alone here");
        }
    };
}

mod below;
mod device_rules;
mod effect;
mod elsewhere;
mod many;
mod nested;

/// What the program reads and does in its own cgroup, as root of a user namespace.
fn as_root_inside(options: serde_json::Value) -> Container {
    let mut c = mapped(
        "cd /sys/fs/cgroup; stat -c %u . cgroup.procs cgroup.subtree_control memory.max
         mkdir inner 2>/dev/null && echo $$ >inner/cgroup.procs && echo moved",
    );
    let mounts = c.config["mounts"].as_array_mut().expect("a list");
    let cgroup = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").expect("a cgroup mount");
    cgroup["options"] = options;
    c
}

#[test]
fn a_writable_cgroup_belongs_to_the_containers_user_but_not_its_limits() {
    need_v2!();
    need_root!("an ordinary user's cgroup is the user's anyway");
    let c = as_root_inside(json!(["nosuid", "noexec", "nodev"]));
    c.run().ok().prints("0\n0\n0\n65534\nmoved\n");
    c.assert_nothing_left();
}

#[test]
fn a_read_only_cgroup_stays_the_hosts() {
    need_v2!();
    need_root!("an ordinary user's cgroup is the user's anyway");
    as_root_inside(json!(["ro"])).run().code(1).prints("65534\n65534\n65534\n65534\n");
}

fn sleeping_with(resource: &str, value: Value) -> Container {
    let mut c = Container::sleeping();
    c.config["linux"]["resources"][resource] = value;
    c
}

/// Checks the files of a created container's v1 cgroup; files that this kernel does not have are passed over.
#[track_caller]
fn check_v1(c: &Container, controller: &str, files: &[(&str, &str)]) {
    c.create().ok();
    let dir = v1_dir(c.pid(), controller);
    let mut checked = 0;
    for (file, expected) in files {
        if let Ok(value) = fs::read_to_string(dir.join(file)) {
            assert_eq!(value.trim(), *expected, "{file} of {}", dir.display());
            checked += 1;
        }
    }
    assert!(checked > 0, "none of the files is in {}", dir.display());
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn the_default_path_is_named_after_the_container() {
    need_cgroupfs!();
    let c = Container::sleeping();
    c.create().ok();
    let dirs = named(&c.id);
    let v1 = hierarchies().iter().filter(|hierarchy| !hierarchy.v2).count();
    assert!(dirs.len() >= v1.max(1), "{dirs:?}");
    for dir in &dirs {
        assert_eq!(dir.file_name().and_then(|name| name.to_str()), Some(c.id.as_str()));
    }
    let pid = c.pid().to_string();
    for dir in &dirs {
        let pids = fs::read_to_string(dir.join("cgroup.procs")).expect("read cgroup.procs");
        // A unified hierarchy beside v1 ones may be left alone.
        if !dir.starts_with("/sys/fs/cgroup/unified") {
            assert_eq!(pids.trim(), pid, "{}", dir.display());
        }
    }
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn an_absolute_path_starts_at_the_root_of_each_hierarchy() {
    need_cgroupfs!();
    let mut c = Container::sleeping();
    let path = format!("/tare-tests-{}/inner", c.id);
    c.config["linux"]["cgroupsPath"] = json!(path);
    c.create().ok();
    for hierarchy in hierarchies().iter().filter(|hierarchy| !hierarchy.v2 && !hierarchy.controllers.is_empty()) {
        let dir = hierarchy.mount.join(path.trim_start_matches('/'));
        assert!(dir.is_dir(), "{}", dir.display());
        let pids = fs::read_to_string(dir.join("cgroup.procs")).expect("read cgroup.procs");
        assert_eq!(pids.trim(), c.pid().to_string(), "{}", dir.display());
    }
    c.delete().ok();
    assert_eq!(named(&c.id).iter().find(|dir| dir.ends_with("inner")), None);
}

#[test]
fn a_relative_path_starts_at_the_callers_cgroup() {
    need_v1!("pids");
    let own = v1_dir(i32::try_from(std::process::id()).expect("a pid"), "memory");
    let mut c = Container::sleeping();
    let path = format!("tare-tests-{}/inner", c.id);
    c.config["linux"]["cgroupsPath"] = json!(path);
    c.create().ok();
    assert_eq!(v1_dir(c.pid(), "memory"), own.join(&path));
    c.delete().ok();
    assert_eq!(named(&c.id).iter().find(|dir| dir.ends_with("inner")), None);
}

#[test]
fn a_path_with_dots_stays_below_the_hierarchies() {
    need_cgroupfs!();
    let mut c = Container::sleeping();
    c.config["linux"]["cgroupsPath"] = json!(format!("/../../../../{}/../{}", c.id, c.id));
    if c.create().exit_code() == 0 {
        for dir in named(&c.id) {
            assert!(dir.starts_with("/sys/fs/cgroup"), "{}", dir.display());
        }
        c.delete().ok();
    }
    c.assert_nothing_left();
    assert!(!Path::new("/").join(&c.id).exists());
}

#[test]
fn the_memory_limits_are_in_their_files() {
    need_v1!("memory");
    let memory = json!({ "limit": 67_108_864, "reservation": 33_554_432, "swap": 134_217_728, "swappiness": 10 });
    check_v1(
        &sleeping_with("memory", memory),
        "memory",
        &[
            ("memory.limit_in_bytes", "67108864"),
            ("memory.soft_limit_in_bytes", "33554432"),
            ("memory.memsw.limit_in_bytes", "134217728"),
            ("memory.swappiness", "10"),
        ],
    );
}

#[test]
fn a_memory_limit_of_minus_one_is_none() {
    need_v1!("memory");
    check_v1(
        &sleeping_with("memory", json!({ "limit": -1 })),
        "memory",
        &[("memory.limit_in_bytes", "9223372036854771712")],
    );
}

#[test]
fn the_oom_killer_is_off_when_asked_for() {
    need_v1!("memory");
    let c = sleeping_with("memory", json!({ "limit": 67_108_864, "disableOOMKiller": true }));
    c.create().ok();
    let control = fs::read_to_string(v1_dir(c.pid(), "memory").join("memory.oom_control")).expect("read oom_control");
    assert!(control.starts_with("oom_kill_disable 1\n"), "{control}");
}

#[test]
fn the_cpu_values_are_in_their_files() {
    need_v1!("cpu");
    check_v1(
        &sleeping_with("cpu", json!({ "shares": 512, "quota": 50_000, "period": 200_000 })),
        "cpu",
        &[("cpu.shares", "512"), ("cpu.cfs_quota_us", "50000"), ("cpu.cfs_period_us", "200000")],
    );
}

#[test]
fn a_quota_alone_keeps_the_period() {
    need_v1!("cpu");
    check_v1(
        &sleeping_with("cpu", json!({ "quota": 20_000 })),
        "cpu",
        &[("cpu.cfs_quota_us", "20000"), ("cpu.cfs_period_us", "100000")],
    );
}

#[test]
fn the_burst_and_idle_values_are_in_their_files() {
    need_v1!("cpu");
    only_tare!("runc 1.1 does not know them");
    check_v1(
        &sleeping_with("cpu", json!({ "quota": 50_000, "period": 100_000, "burst": 20_000 })),
        "cpu",
        &[("cpu.cfs_burst_us", "20000")],
    );
    check_v1(&sleeping_with("cpu", json!({ "idle": 1 })), "cpu", &[("cpu.idle", "1")]);
}

#[test]
fn the_cpus_and_memory_nodes_are_in_their_files() {
    need_v1!("cpuset");
    check_v1(
        &sleeping_with("cpu", json!({ "cpus": "0", "mems": "0" })),
        "cpuset",
        &[("cpuset.cpus", "0"), ("cpuset.mems", "0")],
    );
}

#[test]
fn a_cpuset_below_a_new_parent_is_usable() {
    need_v1!("cpuset");
    // A new v1 cpuset has no cpu at all: those of its parents must be handed down.
    let mut c = sleeping_with("cpu", json!({ "cpus": "0" }));
    c.config["linux"]["cgroupsPath"] = json!(format!("/tare-tests-{}/inner", c.id));
    c.create().ok();
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).expect("read status");
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
}

#[test]
fn the_pids_limit_is_in_its_file() {
    need_v1!("pids");
    check_v1(&sleeping_with("pids", json!({ "limit": 21 })), "pids", &[("pids.max", "21")]);
    check_v1(&sleeping_with("pids", json!({ "limit": -1 })), "pids", &[("pids.max", "max")]);
}

#[test]
fn the_throttles_of_block_devices_are_in_their_files() {
    need_v1!("blkio");
    let Some((major, minor)) = block_device() else { skip!("no whole block device here") };
    let throttle = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let value = |rate: u64| format!("{major}:{minor} {rate}");
    check_v1(
        &sleeping_with(
            "blockIO",
            json!({
                "throttleReadBpsDevice": throttle(1_000_000), "throttleWriteBpsDevice": throttle(2_000_000),
                "throttleReadIOPSDevice": throttle(300), "throttleWriteIOPSDevice": throttle(400)
            }),
        ),
        "blkio",
        &[
            ("blkio.throttle.read_bps_device", &value(1_000_000)),
            ("blkio.throttle.write_bps_device", &value(2_000_000)),
            ("blkio.throttle.read_iops_device", &value(300)),
            ("blkio.throttle.write_iops_device", &value(400)),
        ],
    );
}

/// The numbers of some disk (not a partition: those cannot be throttled).
fn block_device() -> Option<(u32, u32)> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    let numbers = disks.filter_map(|disk| fs::read_to_string(disk.path().join("dev")).ok());
    let parsed = numbers.filter_map(|text| {
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    parsed.min()
}

#[test]
fn the_device_list_is_in_its_file() {
    need_v1!("devices");
    let mut c = Container::sleeping();
    c.config["linux"]["resources"]["devices"] = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "b", "major": 7, "minor": 3, "access": "r" },
        { "allow": true, "type": "c", "major": 42, "access": "rw" }
    ]);
    c.create().ok();
    let list = fs::read_to_string(v1_dir(c.pid(), "devices").join("devices.list")).expect("read devices.list");
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    let own = ["b 7:3 r", "c 42:* rw"];
    let defaults = [
        "b *:* m",
        "c *:* m",
        "c 136:* rwm",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:2 rwm",
    ];
    for line in own.iter().chain(&defaults) {
        assert!(lines.contains(line), "{line} in {list}");
    }
    assert!(!lines.contains(&"a *:* rwm"), "{list}");
    // runc 1.1 also opens tun; the console is opened by some.
    let more = ["c 10:200 rwm", "c 5:1 rwm"];
    for line in lines {
        assert!(own.contains(&line) || defaults.contains(&line) || more.contains(&line), "{line} is not asked for");
    }
}

#[test]
fn the_freezer_is_thawed() {
    need_v1!("freezer");
    check_v1(&Container::sleeping(), "freezer", &[("freezer.state", "THAWED")]);
}

#[test]
fn a_memory_limit_kills_a_program_that_takes_more() {
    let mut c = Container::sh("head -c 100000000 /dev/zero | tail -c 90000000 >/dev/null; echo status $?");
    c.config["linux"]["resources"]["memory"] = json!({ "limit": 33_554_432, "swap": 33_554_432 });
    let outcome = c.run();
    assert!(
        outcome.stdout.contains("status 137") || outcome.exit_code() == 137,
        "{} {}",
        outcome.stdout,
        outcome.stderr
    );
    c.assert_nothing_left();
}

#[test]
fn a_pids_limit_stops_a_bounded_fork_loop() {
    let mut c = Container::sh("for i in $(seq 30); do sleep 100 & done; echo all");
    c.config["linux"]["resources"]["pids"] = json!({ "limit": 10 });
    let outcome = c.run();
    assert!(!outcome.stdout.contains("all"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("can't fork"), "{}", outcome.stderr);
    c.assert_nothing_left();
}

#[test]
fn a_value_that_the_kernel_refuses_fails_create_naming_it() {
    need_v1!("cpuset");
    let c = sleeping_with("cpu", json!({ "cpus": "4000" }));
    c.create().fails(&["cpuset.cpus"]);
    c.assert_nothing_left();
    let c = sleeping_with("cpu", json!({ "quota": 1, "period": 1 }));
    let outcome = c.create().code(1);
    assert!(outcome.stderr.contains("cpu.cfs_"), "{}", outcome.stderr);
    c.assert_nothing_left();
}

#[test]
fn cgroups_made_inside_are_removed_too() {
    need_v1!("pids");
    let c = Container::sleeping();
    c.launch();
    let dir = v1_dir(c.pid(), "pids");
    let below: PathBuf = dir.join("made/inside");
    fs::create_dir_all(&below).expect("mkdir");
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn a_shared_parent_is_not_removed_with_its_first_child() {
    need_cgroupfs!();
    let first = Container::sleeping();
    let parent = format!("/tare-tests-{}", first.id);
    let mut second = first.twin();
    let mut first = first;
    first.config["linux"]["cgroupsPath"] = json!(format!("{parent}/first"));
    second.config["linux"]["cgroupsPath"] = json!(format!("{parent}/second"));
    first.create().ok();
    second.create().ok();
    first.delete().ok();
    assert_eq!(second.status(), "created");
    second.start().ok();
    assert_eq!(second.status(), "running");
    second.delete_force().ok();
}

#[test]
fn an_existing_cgroup_with_a_process_of_another_is_left_alone_by_delete() {
    need_v1!("pids");
    only_tare!("runc 1.1 warns, or removes what it can");
    let first = Container::sleeping();
    let mut first = first;
    let path = format!("/tare-tests-{}/shared", first.id);
    first.config["linux"]["cgroupsPath"] = json!(path);
    first.create().ok();
    let mut second = first.twin();
    second.config = first.config.clone();
    // Used by a container already: a second one there would be killed together with the first.
    second.create();
    assert_eq!(first.status(), "created");
}
