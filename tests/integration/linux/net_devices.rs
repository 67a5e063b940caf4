//! `linux.netDevices`, on a host that is a network namespace of its own.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::namespaces::Holder;
use super::uid_mappings::mapped;
use crate::container::Container;
use crate::runtime::{Outcome, need_root, only_tare, runtime, skip};

/// A pair of virtual devices, one of them with everything that is to be kept and some that is not.
const DEVICES: &str = "ip link add v0 type veth peer name v1
    ip link set v0 mtu 1400 address 02:00:00:00:00:07 up
    ip addr add 192.0.2.7/24 dev v0
    ip addr add 169.254.9.9/16 scope link dev v0
    [ ! -e /proc/sys/net/ipv6 ] || ip addr add fd00::7/64 nodad dev v0";

/// Runs the container where there are these devices, and then a command.
fn run(c: &Container, devices: Value, then: &str) -> Option<Outcome> {
    let possible = Command::new("unshare").args(["--net", "sh", "-c", DEVICES]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut config = c.config.clone();
    config["linux"]["netDevices"] = devices;
    std::fs::write(c.config_file(), config.to_string()).expect("write config.json");
    let script = format!("set -e\n{DEVICES}\nset +e\n\"$@\"\nstatus=$?\n{then}\nexit $status");
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &script, "sh"]).arg(runtime());
    command.arg("--root").arg(c.bundle.state_root()).args(["run", "--bundle"]).arg(c.bundle.path()).arg(&c.id);
    Some(c.finish(command.stdin(Stdio::null())))
}

macro_rules! run {
    ($($argument:expr),*) => {
        match run($($argument),*) {
            Some(outcome) => outcome,
            None => skip!("no virtual network devices, or no ip(8)"),
        }
    };
}

#[track_caller]
fn is_whole(outcome: &Outcome, name: &str) {
    let shown = &outcome.stdout;
    for word in [&format!(": {name}@"), "mtu 1400", ",UP", "02:00:00:00:00:07", "192.0.2.7/24"] {
        assert!(shown.contains(word), "{word} is missing: {shown}");
    }
    assert_eq!(shown.contains("fd00::7/64"), std::path::Path::new("/proc/sys/net/ipv6").exists(), "{shown}");
    assert!(!shown.contains("169.254.9.9"), "{shown}");
}

#[test]
fn a_device_is_moved_with_its_attributes_and_global_addresses() {
    only_tare!("runc 1.1 does not know it");
    let mut c = Container::new();
    for (device, inside) in [(json!({}), "v0"), (json!({ "name": "inner" }), "inner"), (json!({ "name": "n%d" }), "n0")]
    {
        c.args(&["ip", "addr", "show", "dev", inside]);
        let outcome = run!(&c, json!({ "v0": device }), "ip link show v0 2>/dev/null").ok();
        is_whole(&outcome, inside);
        assert!(!outcome.stdout.contains("v0@v1"), "it is still on the host: {}", outcome.stdout);
    }
    c.assert_nothing_left();
}

#[test]
fn two_devices_are_moved_to_a_namespace_that_is_joined_and_stay_there() {
    need_root!("a namespace that others can join without its user namespace");
    only_tare!("runc 1.1 does not know it");
    let holder = Holder::new(&["--net"], "net");
    let mut c = Container::sh("ip -o link | wc -l");
    c.join_namespace("network", &holder.path("net"));
    let then = format!("nsenter --net={} ip addr", holder.path("net"));
    let outcome = run!(&c, json!({ "v0": {}, "v1": { "name": "other" } }), &then).ok();
    assert!(outcome.stdout.starts_with("3\n"), "{}", outcome.stdout);
    is_whole(&outcome, "v0");
    assert!(outcome.stdout.contains(": other@"), "{}", outcome.stdout);
}

#[test]
fn a_device_is_moved_to_a_network_of_a_user_namespace() {
    only_tare!("runc 1.1 does not know it");
    let mut c = mapped("true");
    c.args(&["ip", "addr", "show", "dev", "v0"]);
    is_whole(&run!(&c, json!({ "v0": {} }), "").ok(), "v0");
}

#[test]
fn a_hook_of_the_runtime_finds_the_device_moved() {
    only_tare!("runc 1.1 does not know it");
    let mut c = Container::new();
    let file = c.beside("links");
    let script = format!("ip -o link >{}", file.display());
    c.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/sbin:/usr/bin:/bin"] }] });
    run!(&c, json!({ "v0": {} }), "").ok();
    let links = std::fs::read_to_string(file).expect("read");
    assert!(links.contains("v1") && !links.contains(": v0"), "{links}");
}

#[test]
fn what_cannot_be_moved_is_refused_and_stays() {
    only_tare!("runc 1.1 does not know it");
    for (devices, words) in [
        (json!({ "v0": { "name": "lo" } }), ["linux.netDevices.v0", "exists"]),
        (json!({ "nothing0": {} }), ["linux.netDevices.nothing0", "no such device"]),
        (json!({ "v0": { "name": "a/b" } }), ["linux.netDevices", "a/b"]),
    ] {
        let c = Container::new();
        let outcome = run!(&c, devices, "ip -o link").fails(&words);
        assert!(outcome.stdout.contains("v0@v1"), "{}", outcome.stdout);
        c.assert_nothing_left();
    }
    let mut c = Container::new();
    c.drop_namespace("network");
    c.config["linux"]["netDevices"] = json!({ "v0": {} });
    c.create().fails(&["linux.netDevices", "network namespace"]);
    c.assert_nothing_left();
}
