//! `--systemd-cgroup`: the container's cgroup is a scope of systemd's, with its limits as properties.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::cgroup_tree::v2_dir;
use crate::container::Container;
use crate::runtime::{by_systemd, only_tare, skip};

macro_rules! need_systemd {
    () => {
        if !by_systemd() {
            skip!("TARE_TEST_CGROUPS=systemd is not set");
        }
    };
}

/// systemctl for the manager that has the containers' units.
fn systemctl(args: &[&str]) -> String {
    let mut command = Command::new("systemctl");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--user");
    }
    let output = command.arg("--no-pager").args(args).output().expect("systemctl");
    String::from_utf8(output.stdout).expect("text")
}

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit]).trim().to_owned()
}

/// A sleeping container in a scope of this name.
fn scope(c: &mut Container, slice: &str) -> String {
    c.config["linux"]["cgroupsPath"] = json!(format!("{slice}:tt:{}", c.id));
    format!("tt-{}.scope", c.id)
}

#[test]
fn a_container_is_a_delegated_scope_in_the_slice() {
    need_systemd!();
    let mut c = Container::sleeping();
    let unit = scope(&mut c, "tt-inner.slice");
    c.launch();
    assert!(v2_dir(c.pid()).ends_with(format!("tt.slice/tt-inner.slice/{unit}")), "{:?}", v2_dir(c.pid()));
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert_eq!(property(&unit, "Delegate"), "yes");
    assert_eq!(property(&unit, "Slice"), "tt-inner.slice");
    c.delete_force().ok();
    assert_eq!(property(&unit, "LoadState"), "not-found");
    c.assert_nothing_left();
    systemctl(&["stop", "tt.slice"]);
}

#[test]
fn without_a_path_it_is_in_the_managers_own_slice() {
    need_systemd!();
    let c = Container::sleeping();
    c.create().ok();
    let slice = if nix::unistd::geteuid().is_root() { "system.slice" } else { "user.slice" };
    let dir = v2_dir(c.pid());
    assert!(dir.parent().is_some_and(|parent| parent.ends_with(slice)), "{dir:?}");
    assert!(dir.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&format!("-{}.scope", c.id))));
}

#[test]
fn limits_are_properties_and_files() {
    need_systemd!();
    let mut c = Container::sleeping();
    let unit = scope(&mut c, "");
    c.config["linux"]["resources"] = json!({
        "memory": { "limit": 67_108_864, "reservation": 33_554_432 },
        "cpu": { "shares": 1024, "quota": 10_001, "period": 100_000 },
        "pids": { "limit": 20 },
        "unified": { "memory.high": "50331648" }
    });
    c.launch();
    let dir = v2_dir(c.pid());
    let properties = [
        ("MemoryMax", "67108864", "memory.max", "67108864"),
        ("MemoryLow", "33554432", "memory.low", "33554432"),
        ("MemoryHigh", "50331648", "memory.high", "50331648"),
        ("TasksMax", "20", "pids.max", "20"),
        // systemd keeps whole percents of a CPU.
        ("CPUQuotaPerSecUSec", "110ms", "cpu.max", "11000 100000"),
        ("CPUWeight", "100", "cpu.weight", "100"),
    ];
    let check = |of: &[(&str, &str, &str, &str)]| {
        for (name, value, file, text) in of {
            assert_eq!(property(&unit, name), *value, "{name}");
            assert_eq!(fs::read_to_string(dir.join(file)).expect("read").trim(), *text, "{file}");
        }
    };
    check(&properties);
    c.call(&["update", "--memory", "80M", "--pids-limit", "30", &c.id]).ok();
    let updated = [("MemoryMax", "83886080", "memory.max", "83886080"), ("TasksMax", "30", "pids.max", "30")];
    check(&updated);
    check(&properties[1..3]);
    // What systemd writes when it looks at all units again is what is there.
    systemctl(&["daemon-reload"]);
    check(&updated);
    check(&properties[4..]);
}

#[test]
fn an_update_that_the_kernel_refuses_is_taken_back_from_the_unit_too() {
    need_systemd!();
    only_tare!("runc leaves what was set before the failure");
    let mut c = Container::sleeping();
    let unit = scope(&mut c, "");
    c.config["linux"]["resources"] = json!({ "pids": { "limit": 20 } });
    c.launch();
    c.call(&["update", "--pids-limit", "25", "--cpuset-cpus", "4095", &c.id]).code(1);
    assert_eq!(property(&unit, "TasksMax"), "20");
    assert_eq!(fs::read_to_string(v2_dir(c.pid()).join("pids.max")).expect("read").trim(), "20");
}

#[test]
fn cpus_and_memory_nodes_are_pinned() {
    need_systemd!();
    let mut c = Container::sh("grep Cpus_allowed_list /proc/self/status");
    scope(&mut c, "");
    c.config["linux"]["resources"] = json!({ "cpu": { "cpus": "0", "mems": "0" } });
    c.run().ok().prints("Cpus_allowed_list:\t0\n");
}

#[test]
fn device_rules_hold_after_a_daemon_reload() {
    need_systemd!();
    if !nix::unistd::geteuid().is_root() {
        skip!("an ordinary user's device rules are not enforced by anybody");
    }
    // /dev/kmsg may be opened for writing by root, if no rule denies it.
    let mut c = Container::sh(
        "(mknod /tmp/m c 1 11; until [ -e /tmp/go ]; do usleep 10000; done; : >/tmp/m; echo opened) 2>&1",
    );
    scope(&mut c, "");
    c.writable_root();
    c.capabilities(&["CAP_MKNOD"]);
    let created = c.launch();
    systemctl(&["daemon-reload"]);
    fs::write(c.rootfs().join("tmp/go"), "").expect("write");
    c.wait_for_output(&created, "Operation not permitted");
}

#[test]
fn annotations_are_properties() {
    need_systemd!();
    let mut c = Container::sleeping();
    let unit = scope(&mut c, "");
    c.config["annotations"] = json!({
        "org.systemd.property.TimeoutStopSec": "12",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.Before": "['basic.target']"
    });
    c.create().ok();
    assert_eq!(property(&unit, "TimeoutStopUSec"), "12s");
    assert_eq!(property(&unit, "CollectMode"), "inactive-or-failed");
    assert!(property(&unit, "Before").contains("basic.target"));
}

#[test]
fn a_bad_annotation_is_refused() {
    need_systemd!();
    for (name, value, said) in [
        ("CollectMode", "'open", "org.systemd.property.CollectMode"),
        ("x-y", "1", "org.systemd.property.x-y"),
        ("NoSuchProperty", "1", "NoSuchProperty"),
    ] {
        let mut c = Container::new();
        c.config["annotations"] = json!({ format!("org.systemd.property.{name}"): value });
        c.create().fails(&[said]);
        c.assert_nothing_left();
    }
}

#[test]
fn a_unit_that_cannot_be_started_is_named_and_nothing_is_left() {
    need_systemd!();
    let mut c = Container::sleeping();
    let unit = scope(&mut c, "");
    c.config["annotations"] = json!({ "org.systemd.property.Requires": "['tt-no-such-thing.service']" });
    c.create().fails(&[&unit]);
    assert_eq!(property(&unit, "ActiveState"), "inactive");
    c.assert_nothing_left();
}

#[test]
fn a_path_of_another_form_is_refused() {
    need_systemd!();
    for path in ["/system.slice/x", "a:b", "no-slice:x:y", "a.slice:x:y.slice"] {
        let mut c = Container::new();
        c.config["linux"]["cgroupsPath"] = json!(path);
        let outcome = c.create().code(1);
        assert!(outcome.stderr.contains("slice"), "{path}: {}", outcome.stderr);
        c.assert_nothing_left();
    }
}

#[test]
fn a_failed_unit_of_the_same_name_is_no_obstacle() {
    need_systemd!();
    let mut c = Container::sleeping();
    let unit = scope(&mut c, "");
    // It leaves a failed scope: the limit's kill counts as one.
    c.config["linux"]["resources"] = json!({ "memory": { "limit": 33_554_432, "swap": 33_554_432 } });
    c.script("tail /dev/zero");
    c.run();
    c.args(&["sleep", "1000"]);
    c.launch();
    assert_eq!(property(&unit, "ActiveState"), "active");
}

#[test]
fn exec_is_in_the_scope() {
    need_systemd!();
    let mut c = Container::sleeping();
    let unit = scope(&mut c, "");
    c.drop_namespace("cgroup");
    c.launch();
    let outcome = c.call(&["exec", &c.id, "cat", "/proc/self/cgroup"]).ok();
    assert!(outcome.stdout.trim().ends_with(&unit), "{}", outcome.stdout);
}

#[test]
fn two_containers_cannot_have_one_unit() {
    need_systemd!();
    let mut first = Container::sleeping();
    let mut second = first.twin();
    scope(&mut first, "");
    second.config = first.config.clone();
    first.launch();
    second.create().code(1);
    second.assert_nothing_left();
    assert_eq!(first.status(), "running");
}

#[test]
fn names_and_values_that_the_bus_cannot_carry_are_refused_in_a_line() {
    need_systemd!();
    only_tare!("runc passes them on");
    let refused = |path: &str, value: String, said: &str| {
        let mut c = Container::new();
        c.config["linux"]["cgroupsPath"] = json!(path);
        c.config["annotations"] = json!({ "org.systemd.property.Description": value });
        let outcome = c.run().fails(&[said]);
        assert!(outcome.stderr.lines().count() == 1 && outcome.stderr.len() < 1000, "{}", outcome.stderr);
        c.assert_nothing_left();
    };
    let plain = || "'x'".to_owned();
    refused("tt.slice:tt:a\nb", plain(), "invalid unit name");
    refused("tt.slice:tt:a\0b", plain(), "invalid unit name");
    refused("tt.slice:tt:%n", plain(), "invalid unit name");
    refused("t%n.slice:tt:a", plain(), "invalid unit name");
    refused("tt.slice:tt:a", "[".repeat(1_000_000), "nested deeper than 32 levels");
    refused("tt.slice:tt:a", "'a\0b'".to_owned(), "a string with a NUL byte");
}
