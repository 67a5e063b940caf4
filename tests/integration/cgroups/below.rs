//! `exec --cgroup`, and where `exec` goes without it.

use std::fs;

use serde_json::json;

use crate::cgroup_tree::{has_v1, hierarchies, v1_dir, v2_dir};
use crate::container::Container;
use crate::runtime::{need_cgroupfs, need_root, skip};

/// What a program started with these flags sees of its cgroups.
fn cgroups(c: &Container, flags: &[&str]) -> String {
    let args = [&["exec"], flags, &[&c.id, "cat", "/proc/self/cgroup"]].concat();
    c.call(&args).ok().stdout
}

#[track_caller]
fn refuses(c: &Container, flags: &[&str], words: &[&str]) {
    let outcome = c.call(&[&["exec"], flags, &[&c.id, "true"]].concat()).code(255);
    for word in words {
        assert!(outcome.stderr.to_lowercase().contains(word), "{word:?}: {}", outcome.stderr);
    }
}

#[test]
fn each_v1_controller_can_be_sent_elsewhere() {
    if !has_v1("memory") || !has_v1("cpu") {
        skip!("there are no v1 hierarchies of memory and cpu here");
    }
    let mut c = Container::sleeping();
    c.drop_namespace("cgroup");
    c.launch();
    let pid = c.pid();
    for controller in ["memory", "cpu", "cpuacct", "pids"] {
        fs::create_dir_all(v1_dir(pid, controller).join("sub")).expect("mkdir");
    }
    let path = |text: &str, controller: &str| {
        let line = text.lines().find(|line| line.split(':').nth(1).is_some_and(|names| names.contains(controller)));
        line.unwrap_or_else(|| panic!("{controller} is not in {text}")).to_owned()
    };
    let both = cgroups(&c, &["--cgroup", "memory:sub", "--cgroup", "cpu,cpuacct:/sub"]);
    for (controller, end) in [("memory", "/sub"), ("cpuacct", "/sub"), ("pids", &c.id)] {
        assert!(path(&both, controller).ends_with(end), "{both}");
    }
    assert_eq!(cgroups(&c, &["--cgroup", "/"]), cgroups(&c, &[]));
    refuses(&c, &["--cgroup", ".."], &["sub cgroup path"]);
    refuses(&c, &["--cgroup", "memory:../x"], &["sub cgroup path"]);
    refuses(&c, &["--cgroup", "nowhere"], &[" adding pid ", "no such file or directory"]);
    refuses(&c, &["--cgroup", "cpu:nowhere"], &[" adding pid ", "no such file or directory"]);
    refuses(&c, &["--cgroup", "sideways:/"], &["unknown controller "]);
    refuses(&c, &["--cgroup", "sub", "--cgroup", "sub"], &["missing <controller>: prefix"]);
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn on_v2_a_program_follows_init_out_of_a_cgroup_that_is_divided() {
    need_v2!();
    need_root!("an ordinary user has no right to the container's cgroup");
    let mut c = Container::sh(
        "cd /sys/fs/cgroup; mkdir first second; echo 1 >first/cgroup.procs; echo moved; while :; do sleep 100; done",
    );
    let mounts = c.config["mounts"].as_array_mut().expect("a list");
    let cgroup = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").expect("a cgroup mount");
    cgroup["options"] = json!(["nosuid", "noexec", "nodev"]);
    let created = c.launch();
    c.wait_for_output(&created, "moved");
    // Nothing keeps processes out of it yet.
    assert_eq!(cgroups(&c, &[]), "0::/\n");
    assert_eq!(cgroups(&c, &["--cgroup", "second"]), "0::/second\n");
    refuses(&c, &["--cgroup", ".."], &["sub cgroup path"]);
    refuses(&c, &["--cgroup", "nowhere"], &["cgroup", "no such file or directory"]);
    c.call(&["exec", "--cgroup", "first", &c.id, "sh", "-c", "echo +memory >/sys/fs/cgroup/cgroup.subtree_control"])
        .ok();
    assert_eq!(cgroups(&c, &[]), "0::/first\n");
    assert_eq!(cgroups(&c, &["--cgroup", "/second"]), "0::/second\n");
    refuses(&c, &["--cgroup", "/"], &[" adding pid ", " to cgroups", "resource busy"]);
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn on_v2_a_program_follows_init_out_of_a_cgroup_that_is_gone() {
    need_v2!();
    need_cgroupfs!();
    need_root!("an ordinary user may not move processes about");
    let mut c = Container::sleeping();
    c.drop_namespace("cgroup");
    c.launch();
    let own = v2_dir(c.pid());
    let other = own.with_file_name(format!("{}-other", c.id));
    fs::create_dir(&other).expect("mkdir");
    fs::write(other.join("cgroup.procs"), c.pid().to_string()).expect("move");
    fs::remove_dir(&own).expect("rmdir");
    assert!(cgroups(&c, &[]).trim().ends_with("-other"));
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    c.delete().ok();
    fs::remove_dir(&other).expect("rmdir");
    c.assert_nothing_left();
}
