//! `update`: the limits of a container that runs.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use crate::cgroup_tree::{has_v1, v1_dir, v2_dir};
use crate::container::Container;
use crate::runtime::{by_systemd, need_root, only_tare, skip};

/// A running container with limits, and what a file of its v1 cgroup says.
fn limited() -> Container {
    let mut c = Container::sleeping();
    c.config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    c.config["linux"]["resources"]["pids"] = json!({ "limit": 20 });
    c.launch();
    c
}

fn value(c: &Container, controller: &str, file: &str) -> String {
    let text = fs::read_to_string(v1_dir(c.pid(), controller).join(file)).expect("a file of the cgroup");
    text.trim().to_owned()
}

fn update(c: &Container, flags: &[&str]) -> crate::runtime::Outcome {
    c.call(&[&["update"], flags, &[c.id.as_str()]].concat())
}

#[test]
fn flags_change_what_they_name_and_nothing_else() {
    if !has_v1("memory") {
        skip!("the v1 memory controller is not here");
    }
    let c = limited();
    update(&c, &["--memory", "32M", "--cpu-share", "512"]).ok().silent();
    assert_eq!(value(&c, "memory", "memory.limit_in_bytes"), (32 << 20).to_string());
    assert_eq!(value(&c, "cpu", "cpu.shares"), "512");
    assert_eq!(value(&c, "pids", "pids.max"), "20");
    update(&c, &["--pids-limit", "-1", "--cpu-period", "50000", "--cpu-quota", "25000"]).ok().silent();
    assert_eq!(value(&c, "pids", "pids.max"), "max");
    assert_eq!(value(&c, "cpu", "cpu.cfs_quota_us"), "25000");
    assert_eq!(value(&c, "memory", "memory.limit_in_bytes"), (32 << 20).to_string());
}

#[test]
fn resources_come_from_standard_input() {
    if !has_v1("memory") {
        skip!("the v1 memory controller is not here");
    }
    let c = limited();
    let mut command = c.command(&["update", "--resources", "-", &c.id]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("start update");
    let text = json!({ "memory": { "limit": 48 << 20 }, "pids": { "limit": 7 } }).to_string();
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("write the resources");
    assert!(child.wait().expect("wait for update").success());
    assert_eq!(value(&c, "memory", "memory.limit_in_bytes"), (48 << 20).to_string());
    assert_eq!(value(&c, "pids", "pids.max"), "7");
}

#[test]
fn a_limit_that_is_refused_changes_nothing() {
    if !has_v1("memory") {
        skip!("the v1 memory controller is not here");
    }
    let c = limited();
    update(&c, &["--pids-limit", "9", "--cpuset-cpus", "4000"]).fails(&["cpuset.cpus"]);
    assert_eq!(value(&c, "pids", "pids.max"), "20");
    update(&c, &["--memory", "lots"]).fails(&["lots"]);
    assert_eq!(value(&c, "memory", "memory.limit_in_bytes"), (64 << 20).to_string());
}

/// Values that no configuration named, and one at the end of the order that no kernel accepts.
#[test]
fn a_refusal_takes_back_what_was_never_configured() {
    only_tare!("runc leaves what was set before the failure");
    need_root!("an ordinary user's systemd does not delegate the processors and I/O");
    let c = limited();
    let v1 = has_v1("memory");
    let files: &[(&str, &str)] = if v1 {
        &[
            ("memory", "memory.limit_in_bytes"),
            ("memory", "memory.memsw.limit_in_bytes"),
            ("memory", "memory.soft_limit_in_bytes"),
            ("cpu", "cpu.shares"),
            ("cpu", "cpu.cfs_quota_us"),
            ("cpu", "cpu.cfs_period_us"),
            ("cpuset", "cpuset.cpus"),
            ("pids", "pids.max"),
        ]
    } else {
        &[
            "memory.max",
            "memory.swap.max",
            "memory.low",
            "memory.high",
            "cpu.weight",
            "cpu.max",
            "cpuset.cpus",
            "pids.max",
        ]
        .map(|file| ("", file))
    };
    let values = || {
        let text = |(controller, file): &(&str, &str)| {
            let dir = if v1 { v1_dir(c.pid(), controller) } else { v2_dir(c.pid()) };
            fs::read_to_string(dir.join(file)).ok()
        };
        files.iter().map(text).collect::<Vec<_>>()
    };
    let before = values();
    let mut asked = json!({
        "memory": { "limit": 48 << 20, "reservation": 16 << 20, "swap": 96 << 20 },
        "cpu": { "shares": 300, "quota": 30_000, "period": 60_000, "cpus": "0" },
        "pids": { "limit": 30 }
    });
    let resources = c.beside("resources.json");
    let update = |asked: &serde_json::Value| {
        fs::write(&resources, asked.to_string()).expect("write");
        c.call(&["update", "--resources", resources.to_str().expect("text"), &c.id])
    };
    let good = asked.clone();
    if v1 {
        asked["blockIO"] = json!({ "throttleReadBpsDevice": [{ "major": 4000, "minor": 0, "rate": 600 }] });
        update(&asked).fails(&["throttleReadBpsDevice", "4000:0"]);
    } else {
        asked["unified"] = json!({ "memory.high": "40000000", "memory.nonsense": "1" });
        update(&asked).fails(&["memory.nonsense"]);
    }
    assert_eq!(values(), before);
    update(&good).ok();
    let changed = values().iter().zip(&before).filter(|(new, old)| new != old).count();
    assert!(changed >= 4, "{changed} of {files:?}");
}

#[test]
fn a_limit_below_the_use_is_refused_where_that_is_asked_for() {
    only_tare!("runc 1.1 does not know checkBeforeUpdate");
    let c = limited();
    let resources = c.beside("resources.json");
    // On v1 the kernel refuses by itself what it cannot reclaim, on v2 it would kill.
    let tiny = json!({ "memory": { "limit": 4096, "checkBeforeUpdate": true } });
    fs::write(&resources, tiny.to_string()).expect("write");
    c.call(&["update", "--resources", resources.to_str().expect("text"), &c.id])
        .fails(&["linux.resources.memory.limit"]);
    assert_eq!(c.status(), "running");
}

#[test]
fn devices_stay_as_they_are() {
    if !has_v1("devices") {
        skip!("the v1 devices controller is not here");
    }
    let c = limited();
    let before = value(&c, "devices", "devices.list");
    update(&c, &["--memory", "40M"]).ok();
    assert_eq!(value(&c, "devices", "devices.list"), before);
}

#[test]
fn a_share_of_the_cache_needs_a_container_that_has_one() {
    let c = limited();
    for flag in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=50"] {
        update(&c, &[flag]).fails(&["Intel RDT"]);
    }
    if crate::runtime::is_tare() {
        update(&c, &["--mem-bw-schema", "L3:0=f"]).fails(&["--mem-bw-schema"]);
    }
}

#[test]
fn what_does_not_run_is_refused() {
    let c = limited();
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    update(&c, &["--memory", "40M"]).fails(&["not running"]);
}

#[test]
fn a_memory_limit_is_lifted_with_the_one_that_includes_swap() {
    if !has_v1("memory") {
        skip!("the v1 memory controller is not here");
    }
    let c = limited();
    update(&c, &["--memory-swap", "96M"]).ok().silent();
    if !v1_dir(c.pid(), "memory").join("memory.memsw.limit_in_bytes").exists() {
        skip!("the kernel does not account swap");
    }
    let unlimited = value(&c, "memory", "memory.kmem.tcp.limit_in_bytes");
    update(&c, &["--memory", "-1"]).ok().silent();
    assert_eq!(value(&c, "memory", "memory.limit_in_bytes"), unlimited);
    assert_eq!(value(&c, "memory", "memory.memsw.limit_in_bytes"), unlimited);
}

#[test]
fn an_idle_cgroup_wakes_up_with_its_shares() {
    only_tare!("runc 1.1 does not know --cpu-idle");
    need_root!("an ordinary user's systemd does not delegate the processors");
    let mut c = Container::sleeping();
    c.config["linux"]["resources"]["cpu"] = json!({ "shares": 100 });
    c.launch();
    let (dir, weight, of_100, of_1024) = match has_v1("cpu") {
        true => (v1_dir(c.pid(), "cpu"), "cpu.shares", "100", "1024"),
        false => (v2_dir(c.pid()), "cpu.weight", "17", "100"),
    };
    if !dir.join("cpu.idle").exists() {
        skip!("the kernel has no cpu.idle");
    }
    let text = |file: &str| fs::read_to_string(dir.join(file)).expect("read a file of the cgroup").trim().to_owned();
    for idle in ["1", "1", "0", "1", "0"] {
        let outcome = update(&c, &["--cpu-idle", idle]).ok();
        // systemd has one property for idleness and weight, and a warning says so.
        if !by_systemd() {
            outcome.silent();
        }
        assert_eq!(text("cpu.idle"), idle);
    }
    assert_eq!(text(weight), of_100);
    update(&c, &["--cpu-idle", "1"]).ok();
    // A weight is for who is not idle.
    update(&c, &["--cpu-share", "1024"]).ok();
    assert_eq!((text("cpu.idle").as_str(), text(weight).as_str()), ("0", of_1024));
}
