//! The bundle that Docker makes by default, with its seccomp profile, device list and mounts.

use std::fs;

use serde_json::{Value, json};

use crate::cgroup_tree::has_v1;
use crate::container::Container;
use crate::runtime::{need_root, skip};

/// Docker's bundle on a busybox rootfs: the files it binds lie in the bundle, under the names of its sources.
fn docker(script: &str) -> Container {
    let mut c = Container::new();
    c.config = serde_json::from_str(include_str!("../fixtures/docker-default.json")).expect("the fixture is JSON");
    c.script(script);
    let bundle = c.bundle.path();
    for mount in c.config["mounts"].as_array_mut().expect("a list") {
        if mount["type"] == "bind" {
            let source = bundle.join(mount["source"].as_str().expect("a source"));
            fs::create_dir_all(source.parent().expect("a parent")).expect("mkdir");
            fs::write(&source, format!("{}\n", mount["destination"].as_str().unwrap_or_default())).expect("write");
            mount["source"] = json!(source);
        }
    }
    c
}

fn resources(c: &mut Container, name: &str, value: Value) {
    c.config["linux"]["resources"][name] = value;
}

#[test]
fn it_runs() {
    need_root!("Docker's own bundle is for root");
    let c = docker("echo $$; hostname; cat /etc/resolv.conf /etc/hostname /etc/hosts; touch /written && echo writable");
    let hostname = c.config["hostname"].as_str().expect("a hostname");
    let files = "/etc/resolv.conf\n/etc/hostname\n/etc/hosts\n";
    c.run().ok().silent().prints(&format!("1\n{hostname}\n{files}writable\n"));
    c.assert_nothing_left();
}

#[test]
fn it_goes_through_the_whole_lifecycle() {
    need_root!("Docker's own bundle is for root");
    let c = docker("sleep 1000");
    c.create().ok().silent();
    assert_eq!(c.status(), "created");
    c.start().ok().silent();
    assert_eq!(c.status(), "running");
    c.kill("9").ok();
    c.wait_for_status("stopped");
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn its_sysctls_and_capabilities_are_set() {
    need_root!("Docker's own bundle is for root");
    let c = docker("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/status");
    let outcome = c.run().ok();
    assert!(outcome.stdout.starts_with("0\n"), "{}", outcome.stdout);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(outcome.field(set), "00000000a80425fb", "{set}");
    }
    assert_eq!(outcome.field("CapInh"), "0000000000000000");
    assert_eq!(outcome.field("CapAmb"), "0000000000000000");
    assert_eq!(outcome.field("Seccomp"), "2");
    assert_eq!(outcome.field("NoNewPrivs"), "0");
}

#[test]
fn its_seccomp_profile_denies_unshare_and_mount() {
    need_root!("Docker's own bundle is for root");
    let mut c = docker("unshare -U true; mount -t tmpfs x /tmp; umount /proc");
    for privileged in [false, true] {
        if privileged {
            // Now only the profile is in the way, not a missing capability.
            c.capabilities(&["CAP_SYS_ADMIN"]);
        }
        let outcome = c.run();
        let denied = outcome
            .stderr
            .lines()
            .filter(|line| line.contains("Operation not permitted") || line.contains("permission denied"));
        assert_eq!(denied.count(), 3, "{}", outcome.stderr);
    }
}

#[test]
fn its_seccomp_profile_answers_clone3_with_enosys() {
    need_root!("Docker's own bundle is for root");
    // libcs fall back to clone only on ENOSYS: a plain EPERM would break threads.
    let c = docker("true");
    let rules = c.config["linux"]["seccomp"]["syscalls"].as_array().expect("a list");
    let rule = rules.iter().find(|rule| rule["names"].as_array().is_some_and(|names| names.contains(&json!("clone3"))));
    assert_eq!(rule.map(|rule| &rule["errnoRet"]), Some(&json!(38)));
    c.run().ok().silent();
}

#[test]
fn its_memory_limit_kills_a_program_that_takes_more() {
    need_root!("Docker's own bundle is for root");
    let mut c = docker("exec tail -c 90000000 /dev/zero");
    resources(&mut c, "memory", json!({ "limit": 33_554_432, "swap": 33_554_432 }));
    c.run().code(137);
    c.assert_nothing_left();
}

#[test]
fn its_pids_limit_stops_a_bounded_fork_loop() {
    need_root!("Docker's own bundle is for root");
    let mut c = docker("for i in $(seq 40); do sleep 100 & done; echo all");
    resources(&mut c, "pids", json!({ "limit": 12 }));
    let outcome = c.run();
    assert!(!outcome.stdout.contains("all"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("can't fork"), "{}", outcome.stderr);
    c.assert_nothing_left();
}

#[test]
fn its_device_list_denies_a_device_made_inside() {
    need_root!("Docker's own bundle is for root");
    if !has_v1("devices") {
        skip!("the v1 devices controller is not here");
    }
    // The loop control device: on the machine, not on the list. zero is on the list.
    let c =
        docker("mknod /tmp/control c 10 237 && cat /tmp/control; mknod /tmp/zero c 1 5 && head -c1 /tmp/zero | wc -c");
    let outcome = c.run().ok();
    assert_eq!(outcome.stdout, "1\n", "{}", outcome.stderr);
    assert!(outcome.stderr.contains("/tmp/control': Operation not permitted"), "{}", outcome.stderr);
}

#[test]
fn its_masked_and_read_only_paths_hold_for_root() {
    need_root!("Docker's own bundle is for root");
    let c = docker("cat /proc/keys /proc/interrupts | wc -c; echo x >/proc/sys/kernel/domainname");
    let outcome = c.run().code(1);
    assert!(outcome.stdout.starts_with("0\n"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
}

#[test]
fn a_user_other_than_root_works() {
    need_root!("Docker's own bundle is for root");
    let mut c = docker("id -u; touch /tmp/x && echo fine");
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [1000] });
    c.config["process"]["noNewPrivileges"] = json!(true);
    c.run().ok().silent().prints("1000\nfine\n");
}
