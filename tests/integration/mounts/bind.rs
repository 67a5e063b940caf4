//! Bind mounts and their options.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::bundle::{is_rootless, mounts_below};
use crate::container::Container;
use crate::linux::uid_mappings::mapped;
use crate::runtime::{finish, need_root, only_tare};

/// A container with a directory `src` beside the bundle that holds a file.
fn with_source() -> Container {
    let c = Container::new();
    fs::create_dir(c.beside("src")).expect("mkdir");
    fs::write(c.beside("src/file"), "content\n").expect("write");
    c
}

fn bind(c: &mut Container, options: &[&str]) {
    let source = c.beside("src");
    c.add_mount(json!({ "destination": "/mnt", "type": "bind", "source": source, "options": options }));
}

/// The options of the mount at /mnt as the container shows them.
const SHOW: &str = "grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6";

#[test]
fn a_directory_shows_its_content_both_ways() {
    let mut c = with_source();
    bind(&mut c, &["bind", "rw"]);
    c.script("cat /mnt/file; echo back >/mnt/back");
    c.run().ok().prints("content\n");
    assert_eq!(fs::read_to_string(c.beside("src/back")).expect("read"), "back\n");
    c.assert_nothing_left();
}

#[test]
fn the_bind_option_is_enough_without_the_type() {
    let mut c = with_source();
    for (kind, options) in [("none", json!(["bind"])), ("", json!(["rbind"]))] {
        let mut mount = json!({ "destination": "/mnt", "source": c.beside("src"), "options": options });
        if !kind.is_empty() {
            mount["type"] = json!(kind);
        }
        c.config["mounts"].as_array_mut().expect("a list").truncate(7);
        c.add_mount(mount);
        c.script("cat /mnt/file");
        c.run().ok().prints("content\n");
    }
}

#[test]
fn a_file_is_bound_on_a_file_that_is_created() {
    let mut c = with_source();
    let source = c.beside("src/file");
    c.add_mount(
        json!({ "destination": "/etc/deep/file", "type": "bind", "source": source, "options": ["bind", "ro"] }),
    );
    c.script("cat /etc/deep/file; echo x >/etc/deep/file");
    let outcome = c.run().code(1);
    assert_eq!(outcome.stdout, "content\n");
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
}

#[test]
fn a_relative_source_is_below_the_bundle() {
    let mut c = Container::sh("cat /mnt/file");
    fs::create_dir(c.bundle.path().join("data")).expect("mkdir");
    fs::write(c.bundle.path().join("data/file"), "of the bundle\n").expect("write");
    c.add_mount(json!({ "destination": "/mnt", "type": "bind", "source": "data", "options": ["bind"] }));
    c.save();
    c.finish(c.bundle_command("run", &[]).current_dir("/")).ok().prints("of the bundle\n");
}

#[test]
fn a_missing_source_is_named() {
    let mut c = Container::new();
    let source = c.beside("nowhere");
    c.add_mount(json!({ "destination": "/mnt", "type": "bind", "source": source, "options": ["bind"] }));
    c.create().fails(&["nowhere", "no such file or directory"]);
    c.assert_nothing_left();
}

#[test]
fn every_flag_is_set() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["bind", "ro"], &["ro"]),
        (&["bind", "nosuid"], &["rw", "nosuid"]),
        (&["bind", "nodev"], &["rw", "nodev"]),
        (&["bind", "noexec"], &["rw", "noexec"]),
        (&["bind", "ro", "nosuid", "nodev", "noexec"], &["ro", "nosuid", "nodev", "noexec"]),
        (&["bind", "noatime"], &["rw", "noatime"]),
        (&["bind", "nodiratime", "relatime"], &["rw", "nodiratime", "relatime"]),
        (&["bind", "nosuid", "suid"], &["rw"]),
        (&["bind", "ro", "rw"], &["rw"]),
        (&["rbind", "ro"], &["ro"]),
    ];
    for (options, expected) in cases {
        let mut c = with_source();
        bind(&mut c, options);
        c.script(SHOW);
        if is_rootless() && options.iter().any(|option| option.contains("atime")) {
            // The kernel locks how access times are kept for whoever is not root on the host.
            c.create().fails(&["/mnt", "operation not permitted"]);
            continue;
        }
        let outcome = c.run().ok();
        let shown: Vec<&str> = outcome.stdout.trim().split(',').collect();
        for flag in *expected {
            assert!(shown.contains(flag), "{options:?} gave {shown:?}");
        }
        if !expected.contains(&"nosuid") {
            assert!(!shown.contains(&"nosuid"), "{options:?} gave {shown:?}");
        }
    }
}

#[test]
fn noexec_and_nodev_are_enforced() {
    need_root!("only root of the host may make device nodes");
    let mut c = with_source();
    fs::copy(c.rootfs().join("bin/busybox"), c.beside("src/true")).expect("copy");
    let device = c.beside("src/null");
    finish(Command::new("mknod").arg(device).args(["c", "1", "3"]), c.bundle.dir.path()).ok();
    bind(&mut c, &["bind", "noexec", "nodev"]);
    c.script("/mnt/true; cat /mnt/null");
    let outcome = c.run();
    let denied = outcome.stderr.matches("Permission denied").count();
    assert_eq!(denied, 2, "{}", outcome.stderr);
}

/// The test's own mounts are made in a mount namespace of their own: `sh -c` under `unshare -m` runs the runtime.
fn run_among_mounts(c: &Container, prepare: &str) -> crate::runtime::Outcome {
    c.save();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec", &format!("{prepare}; exec \"$@\""), "sh"]);
    c.append_run(command.stdin(std::process::Stdio::null()));
    c.finish(command.current_dir(c.bundle.dir.path()))
}

#[test]
fn rbind_takes_mounts_below_and_bind_does_not() {
    need_root!("mounts of the test's own");
    let prepare = "mkdir src/below; mount -t tmpfs below src/below; echo deep >src/below/deep";
    let mut c = with_source();
    bind(&mut c, &["rbind"]);
    c.script("cat /mnt/below/deep");
    run_among_mounts(&c, prepare).ok().prints("deep\n");
    let mut c = with_source();
    bind(&mut c, &["bind"]);
    c.script("ls -A /mnt/below; echo done");
    run_among_mounts(&c, prepare).ok().prints("done\n");
    assert!(mounts_below(c.bundle.dir.path()).is_empty());
}

#[test]
fn what_the_host_has_mounted_cannot_be_changed_by_a_user_namespaces_root() {
    need_root!("mounts of the test's own");
    only_tare!("runc 1.1.5 opens them as init's own");
    let mut c = mapped(
        "mount -o remount,bind,rw /mnt; touch /mnt/x && echo written; umount /mnt/below; ls -A /mnt/below; echo done",
    );
    c.capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    fs::create_dir(c.beside("src")).expect("mkdir");
    fs::create_dir(c.rootfs().join("mnt")).expect("mkdir");
    bind(&mut c, &["rbind"]);
    let prepare = "mount -t tmpfs -o mode=777 src src; mkdir src/below; echo x >src/below/hidden
        mount -t tmpfs below src/below; mount -o remount,bind,ro src";
    let outcome = run_among_mounts(&c, prepare).ok().prints("done\n");
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
    c.assert_nothing_left();
}

#[test]
fn read_only_is_recursive_only_with_rro() {
    need_root!("mounts of the test's own");
    let prepare = "mkdir src/below; mount -t tmpfs below src/below";
    let mut c = with_source();
    bind(&mut c, &["rbind", "ro"]);
    c.script("touch /mnt/below/x && echo written; touch /mnt/x");
    let outcome = run_among_mounts(&c, prepare).code(1);
    assert_eq!(outcome.stdout, "written\n", "{}", outcome.stderr);
    only_tare!("runc 1.1.5 may not know rro on this kernel");
    let mut c = with_source();
    bind(&mut c, &["rbind", "rro"]);
    let outcome = {
        c.script("touch /mnt/below/x; touch /mnt/x");
        run_among_mounts(&c, prepare).code(1)
    };
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 2, "{}", outcome.stderr);
}

#[test]
fn the_flags_of_the_source_mount_stay_unless_changed() {
    need_root!("mounts of the test's own");
    // A remount must not silently drop nosuid and nodev, nor may "ro" make it fail.
    let prepare = "mount -t tmpfs -o nosuid,nodev src src; echo content >src/file";
    let mut c = with_source();
    bind(&mut c, &["bind"]);
    c.script(SHOW);
    let outcome = run_among_mounts(&c, prepare).ok();
    assert!(outcome.stdout.starts_with("rw,nosuid,nodev"), "{}", outcome.stdout);
}

/// The options of /mnt, for a bind mount with `options` of a tmpfs with the flags `flags`.
fn shown(mut c: Container, flags: &str, options: &[&str]) -> crate::runtime::Outcome {
    for directory in [c.beside("src"), c.rootfs().join("mnt")] {
        fs::create_dir_all(directory).expect("mkdir");
    }
    bind(&mut c, options);
    c.script(SHOW);
    // Flags of the mount alone: its filesystem is not read-only.
    run_among_mounts(&c, &format!("mount -t tmpfs src src; mount -o remount,bind,{flags} src"))
}

fn assert_shown(outcome: crate::runtime::Outcome, with: &[&str], without: &[&str]) {
    let outcome = outcome.ok();
    let shown: Vec<&str> = outcome.stdout.trim().split(',').collect();
    assert!(with.iter().all(|flag| shown.contains(flag)), "{shown:?} without one of {with:?}");
    assert!(!without.iter().any(|flag| shown.contains(flag)), "{shown:?} with one of {without:?}");
}

#[test]
fn an_option_for_one_flag_clears_the_others_but_not_the_access_times() {
    need_root!("mounts of the test's own");
    let flags = "nosuid,nodev,noexec,noatime";
    assert_shown(shown(Container::new(), flags, &["bind", "ro"]), &["ro", "noatime"], &["nosuid", "nodev", "noexec"]);
    let options = ["bind", "nosuid", "relatime"];
    assert_shown(shown(Container::new(), flags, &options), &["rw", "nosuid", "relatime"], &["nodev", "noexec"]);
    only_tare!("for runc 1.1 an option that clears a flag is none");
    let options = ["bind", "dev", "atime"];
    assert_shown(shown(Container::new(), flags, &options), &["rw", "noatime"], &["nosuid", "nodev", "noexec"]);
}

#[test]
fn in_a_user_namespace_the_flags_of_the_source_stay() {
    need_root!("mounts of the test's own");
    let flags = "ro,nodev,noatime";
    assert_shown(shown(mapped(""), flags, &["bind"]), &["ro", "nodev", "noatime"], &[]);
    only_tare!("runc 1.1 does not keep them beside others, and fails");
    let options = ["bind", "nosuid", "exec"];
    assert_shown(shown(mapped(""), flags, &options), &["ro", "nosuid", "nodev", "noatime"], &["noexec"]);
}

#[test]
fn in_a_user_namespace_no_flag_of_the_source_is_asked_away() {
    need_root!("mounts of the test's own");
    only_tare!("runc 1.1 fails, too, and does not say for which flag");
    let cases = [("rw", "clear ro of the source"), ("dev", "clear nodev of"), ("relatime", "access times")];
    for (option, told) in cases {
        let outcome = shown(mapped(""), "ro,nodev,noatime", &["bind", "nosuid", option]);
        outcome.fails(&["(/mnt)", told, "operation not permitted"]);
    }
}

#[test]
fn an_unknown_option_is_not_taken_for_a_flag() {
    let mut c = Container::new();
    c.add_mount(json!({ "destination": "/mnt", "type": "tmpfs", "source": "t", "options": ["no_such_option=1"] }));
    let outcome = c.create().code(1);
    assert!(outcome.stderr.contains("/mnt"), "{}", outcome.stderr);
    c.assert_nothing_left();
}
