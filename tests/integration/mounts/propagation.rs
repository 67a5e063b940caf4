//! Propagation of mounts, `linux.rootfsPropagation` and `--no-pivot`.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::bundle::mounts_below;
use crate::container::Container;
use crate::runtime::{Outcome, need_root, only_tare};

/// Runs the container in a mount namespace where its `src` beside the bundle is a shared mount, then `after`.
fn run_with_shared_source(c: &Container, after: &str) -> Outcome {
    c.save();
    let script = format!("mount -t tmpfs src src; mount --make-shared src; mkdir src/sub; \"$@\"; {after}");
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-ec", &script, "sh"]).stdin(Stdio::null());
    c.append_run(&mut command);
    c.finish(command.current_dir(c.bundle.dir.path()))
}

fn with_bind(options: &[&str]) -> Container {
    let mut c = Container::sh("grep ' /mnt ' /proc/self/mountinfo | sed 's/ - .*//; s/^.* rw,//'");
    fs::create_dir(c.beside("src")).expect("mkdir");
    let source = c.beside("src");
    c.add_mount(json!({ "destination": "/mnt", "type": "bind", "source": source, "options": options }));
    c
}

#[test]
fn private_slave_and_shared_show_in_the_mount_table() {
    need_root!("mounts of the test's own");
    // A shared copy of what is the host's slave is both.
    let cases: [(&str, &[&str]); 5] = [
        ("private", &[]),
        ("rprivate", &[]),
        ("slave", &["master:"]),
        ("rslave", &["master:"]),
        ("rshared", &["shared:", "master:"]),
    ];
    for (option, marks) in cases {
        let c = with_bind(&["rbind", option]);
        let outcome = run_with_shared_source(&c, "true").ok();
        assert!(!outcome.stdout.is_empty());
        for known in ["shared:", "master:"] {
            assert_eq!(outcome.stdout.contains(known), marks.contains(&known), "{option}: {}", outcome.stdout);
        }
    }
}

#[test]
fn a_shared_mount_shows_the_containers_mounts_to_the_host() {
    need_root!("mounts of the test's own");
    let mut c = with_bind(&["rbind", "rshared"]);
    // The root must not be private for a mount to come out.
    c.config["linux"]["rootfsPropagation"] = json!("rshared");
    c.capabilities(&["CAP_SYS_ADMIN"]);
    c.script("mount -t tmpfs inner /mnt/sub && echo from inside >/mnt/sub/f");
    run_with_shared_source(&c, "cat src/sub/f").ok().prints("from inside\n");
}

#[test]
fn a_private_mount_keeps_the_containers_mounts_inside() {
    need_root!("mounts of the test's own");
    let mut c = with_bind(&["rbind", "rprivate"]);
    c.capabilities(&["CAP_SYS_ADMIN"]);
    c.script("mount -t tmpfs inner /mnt/sub && touch /mnt/sub/f");
    run_with_shared_source(&c, "ls -A src/sub").ok().prints("");
}

#[test]
fn the_roots_propagation_is_the_configured_one() {
    let cases = [
        ("private", None),
        ("slave", None),
        ("rslave", None),
        ("shared", Some("shared:")),
        ("rshared", Some("shared:")),
        ("unbindable", Some("unbindable")),
    ];
    for (value, mark) in cases {
        if mark.is_some() {
            only_tare!("runc 1.1 leaves the root private");
        }
        let mut c = Container::sh("head -1 /proc/self/mountinfo");
        c.config["linux"]["rootfsPropagation"] = json!(value);
        let outcome = c.run().ok();
        let root = outcome.stdout.split(" - ").next().expect("the left side");
        assert!(root.contains(" / "), "{root}");
        for known in ["shared:", "unbindable"] {
            assert_eq!(root.contains(known), mark == Some(known), "{value}: {root}");
        }
        c.assert_nothing_left();
    }
}

#[test]
fn an_unknown_propagation_is_refused() {
    let mut c = Container::new();
    c.config["linux"]["rootfsPropagation"] = json!("sideways");
    c.create().fails(&["rootfsPropagation"]);
    c.assert_nothing_left();
}

#[test]
fn nothing_is_mounted_on_the_host_while_it_runs() {
    let c = Container::sleeping();
    c.launch();
    assert_eq!(mounts_below(c.bundle.dir.path()), Vec::<String>::new());
}

#[test]
fn without_pivot_the_root_is_moved() {
    let c = Container::sh("echo $$; ls / | grep -c '^bin$'; touch /x || echo read-only; ls /proc | grep -c '^1$'");
    let outcome = c.run_with(&["--no-pivot"]).ok();
    assert_eq!(outcome.stdout, "1\n1\nread-only\n1\n", "{}", outcome.stderr);
    c.assert_nothing_left();
}

#[test]
fn without_pivot_it_works_where_pivot_root_cannot() {
    // The initial ramfs has no parent mount: chroot into a directory that is no mount behaves the same here.
    let c = Container::sh("cat /etc/mark");
    fs::write(c.rootfs().join("etc/mark"), "inside\n").expect("write");
    c.run_with(&["--no-pivot"]).ok().prints("inside\n");
    c.create_with(&["--no-pivot"]).ok();
    c.start().ok();
    c.wait_for_status("stopped");
}

#[test]
fn without_pivot_the_hosts_procfs_helps_no_user_namespace_to_one() {
    let before = fs::read_to_string("/proc/self/mountinfo").expect("the host's mounts");
    let mut c = Container::sh("unshare -mrpf sh -c 'mount -t proc none /proc && echo mounted'; echo end");
    c.capabilities(&["CAP_SETFCAP"]);
    c.run_with(&["--no-pivot"]).ok().prints("end\n");
    let after = fs::read_to_string("/proc/self/mountinfo").expect("the host's mounts");
    let kernels =
        |table: &str| table.lines().filter(|line| line.contains(" - proc ") || line.contains(" - sysfs ")).count();
    assert_eq!(kernels(&after), kernels(&before));
}
