//! `mounts[].destination`: created when missing, and never outside the rootfs.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::container::Container;
use crate::runtime::only_tare;

fn tmpfs_at(c: &mut Container, destination: &str) {
    c.add_mount(json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"] }));
}

#[test]
fn a_missing_one_is_created() {
    let mut c = Container::sh("grep -c ' /new/deep/place ' /proc/self/mountinfo");
    tmpfs_at(&mut c, "/new/deep/place");
    c.run().ok().prints("1\n");
    assert!(c.rootfs().join("new/deep/place").is_dir());
}

#[test]
fn a_link_that_leaves_the_rootfs_stays_inside() {
    for target in ["/../../../../../..", "../../../../../../..", "/"] {
        let mut c = Container::sh("grep ' tmpfs victim ' /proc/self/mountinfo | cut -d' ' -f5");
        let victim = c.beside("victim");
        fs::create_dir(&victim).expect("mkdir");
        // /link/<path of a host directory> must be created below the rootfs, not found on the host.
        symlink(target, c.rootfs().join("link")).expect("symlink");
        let inside = victim.display().to_string();
        c.add_mount(json!({ "destination": format!("/link{inside}/x"), "type": "tmpfs", "source": "victim" }));
        c.run().ok().prints(&format!("{inside}/x\n"));
        assert_eq!(fs::read_dir(&victim).expect("list").count(), 0, "the host's directory was touched");
        assert!(c.rootfs().join(inside.trim_start_matches('/')).join("x").is_dir());
        c.assert_nothing_left();
    }
}

#[test]
fn a_link_to_an_absolute_path_is_below_the_rootfs() {
    let mut c = Container::sh("grep ' tmpfs victim ' /proc/self/mountinfo | cut -d' ' -f5");
    let victim = c.beside("victim");
    fs::create_dir(&victim).expect("mkdir");
    symlink(&victim, c.rootfs().join("link")).expect("symlink");
    c.add_mount(json!({ "destination": "/link", "type": "tmpfs", "source": "victim" }));
    c.run().ok().prints(&format!("{}\n", victim.display()));
    assert_eq!(fs::read_dir(&victim).expect("list").count(), 0);
}

#[test]
fn a_link_for_a_file_is_followed_inside() {
    let mut c = Container::sh("cat /etc/resolv.conf /etc/target");
    symlink("/etc/target", c.rootfs().join("etc/resolv.conf")).expect("symlink");
    fs::write(c.beside("file"), "bound\n").expect("write");
    let source = c.beside("file");
    c.add_mount(json!({ "destination": "/etc/resolv.conf", "type": "bind", "source": source, "options": ["bind"] }));
    c.run().ok().prints("bound\nbound\n");
}

#[test]
fn dots_are_resolved_inside_the_rootfs() {
    let mut c = Container::sh("grep -c ' /tmp/dots ' /proc/self/mountinfo");
    tmpfs_at(&mut c, "/usr/../../../../tmp/./dots");
    c.run().ok().prints("1\n");
    c.assert_nothing_left();
}

#[test]
fn a_relative_one_is_taken_from_the_root() {
    let mut c = Container::sh("grep -c ' /relative/place ' /proc/self/mountinfo");
    tmpfs_at(&mut c, "relative/place");
    let outcome = c.run().ok();
    assert_eq!(outcome.stdout, "1\n");
}

#[test]
fn a_loop_of_links_fails() {
    let mut c = Container::new();
    symlink("loop2", c.rootfs().join("loop1")).expect("symlink");
    symlink("loop1", c.rootfs().join("loop2")).expect("symlink");
    tmpfs_at(&mut c, "/loop1/x");
    let outcome = c.create().code(1);
    assert!(outcome.stderr.contains("loop1"), "{}", outcome.stderr);
    c.assert_nothing_left();
}

#[test]
fn a_file_in_the_way_of_a_directory_fails() {
    let mut c = Container::new();
    tmpfs_at(&mut c, "/etc/passwd/x");
    c.create().fails(&["/etc/passwd/x", "not a directory"]);
    c.assert_nothing_left();
}

#[test]
fn an_empty_one_is_refused() {
    only_tare!("runc mounts over the root");
    let mut c = Container::new();
    tmpfs_at(&mut c, "");
    c.create().fails(&["mounts[7].destination"]);
    c.assert_nothing_left();
}

#[test]
fn proc_may_not_be_covered() {
    let mut c = Container::new();
    fs::create_dir(c.beside("fake")).expect("mkdir");
    let source = c.beside("fake");
    c.add_mount(json!({ "destination": "/proc", "type": "bind", "source": source, "options": ["bind"] }));
    c.create().fails(&["/proc"]);
    c.assert_nothing_left();
}

#[test]
fn a_directory_of_proc_may_not_be_covered() {
    only_tare!("runc 1.1 looks at bind mounts alone");
    let mut c = Container::new();
    tmpfs_at(&mut c, "/proc/sys");
    c.create().fails(&["/proc"]);
    c.assert_nothing_left();
}

#[test]
fn proc_through_a_link_is_refused() {
    // CVE-2019-19921: a rootfs that redirects /proc makes the runtime write its own labels elsewhere.
    let c = Container::new();
    fs::remove_dir(c.rootfs().join("proc")).expect("rmdir");
    symlink("/tmp", c.rootfs().join("proc")).expect("symlink");
    let outcome = c.create().code(1);
    assert!(outcome.stderr.contains("proc"), "{}", outcome.stderr);
    c.assert_nothing_left();
}

#[test]
fn later_mounts_lie_over_earlier_ones() {
    let mut c = Container::sh("cat /data/which; ls -A /data/inner");
    for name in ["one", "two"] {
        fs::create_dir(c.beside(name)).expect("mkdir");
        fs::create_dir(c.beside(name).join("inner")).expect("mkdir");
        fs::write(c.beside(name).join("which"), format!("{name}\n")).expect("write");
        let source = c.beside(name);
        c.add_mount(json!({ "destination": "/data", "type": "bind", "source": source, "options": ["bind"] }));
    }
    c.run().ok().prints("two\n");
}
