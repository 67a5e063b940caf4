//! Mounts of kernel filesystems and their data options.

use std::fs;

use serde_json::json;

use crate::bundle::is_rootless;
use crate::container::Container;
use crate::runtime::only_tare;

#[test]
fn tmpfs_takes_size_mode_and_owner() {
    let mut c = Container::sh(
        "stat -c '%a %u:%g' /data; grep ' /data ' /proc/mounts; dd if=/dev/zero of=/data/x bs=1k count=200 2>&1 | \
         grep -o 'No space left on device'",
    );
    c.capabilities(&["CAP_DAC_OVERRIDE"]);
    let options = ["size=100k", "mode=1770", "uid=7", "gid=8", "nosuid"];
    c.add_mount(json!({ "destination": "/data", "type": "tmpfs", "source": "mine", "options": options }));
    let outcome = c.run().ok();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], "1770 7:8");
    // The kernel shows the host's numbers.
    let (uid, gid) = if is_rootless() { (c.host_id("uidMappings", 7), c.host_id("gidMappings", 8)) } else { (7, 8) };
    assert!(
        lines[1].starts_with(&format!("mine /data tmpfs rw,nosuid,relatime,size=100k,mode=1770,uid={uid},gid={gid}")),
        "{}",
        lines[1]
    );
    assert_eq!(lines[2], "No space left on device");
}

#[test]
fn tmpfs_keeps_the_mode_of_its_mount_point_without_an_option() {
    let mut c = Container::sh("stat -c %a /data");
    fs::create_dir(c.rootfs().join("data")).expect("mkdir");
    fs::set_permissions(c.rootfs().join("data"), std::os::unix::fs::PermissionsExt::from_mode(0o705)).expect("chmod");
    c.add_mount(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs" }));
    c.run().ok().prints("705\n");
}

#[test]
fn a_read_only_tmpfs_refuses_writes() {
    let mut c = Container::sh("touch /tmp/x");
    c.add_mount(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["ro"] }));
    let outcome = c.run().code(1);
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
}

#[test]
fn tmpcopyup_on_a_missing_directory_is_a_usual_tmpfs() {
    let mut c = Container::sh("stat -c '%a %u' /new; ls /new");
    c.add_mount(json!({ "destination": "/new", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }));
    c.writable_root();
    c.run().ok().prints("1777 0\n");
}

#[test]
fn tmpcopyup_takes_the_content_along() {
    let mut c = Container::sh("cat /data/file; stat -c %a /data/file; readlink /data/link; touch /data/new; ls /data");
    fs::create_dir(c.rootfs().join("data")).expect("mkdir");
    fs::write(c.rootfs().join("data/file"), "copied\n").expect("write");
    fs::set_permissions(c.rootfs().join("data/file"), std::os::unix::fs::PermissionsExt::from_mode(0o640))
        .expect("chmod");
    std::os::unix::fs::symlink("file", c.rootfs().join("data/link")).expect("symlink");
    c.add_mount(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }));
    c.run().ok().prints("copied\n640\nfile\nfile\nlink\nnew\n");
    assert!(!c.rootfs().join("data/new").exists());
}

#[test]
fn mqueue_and_sysfs_are_the_containers() {
    let c = Container::sh("touch /dev/mqueue/q && ls /dev/mqueue; ls /sys/class/net");
    let outcome = c.run().ok();
    assert_eq!(outcome.stdout.lines().next(), Some("q"));
    assert!(outcome.stdout.lines().any(|line| line == "lo"), "{}", outcome.stdout);
    assert!(!outcome.stdout.lines().any(|line| line.starts_with("eth")), "{}", outcome.stdout);
}

#[test]
fn an_unknown_filesystem_fails_naming_the_mount() {
    let mut c = Container::new();
    c.add_mount(json!({ "destination": "/data", "type": "nosuchfs", "source": "none" }));
    c.create().fails(&["/data", "no such device"]);
    c.assert_nothing_left();
}

#[test]
fn devpts_is_a_new_instance() {
    let c = Container::sh("ls /dev/pts; ls -l /dev/ptmx | grep -o 'pts/ptmx'; stat -c %a /dev/pts/ptmx");
    c.run().ok().prints("ptmx\npts/ptmx\n666\n");
}

#[test]
fn without_mounts_the_program_sees_only_the_rootfs() {
    only_tare!("runc 1.1 needs /proc for its own work");
    let mut c = Container::sh("ls -A /proc | wc -l; ls -A /sys | wc -l");
    c.config["mounts"] = json!([]);
    c.config["linux"]["maskedPaths"] = json!([]);
    c.config["linux"]["readonlyPaths"] = json!([]);
    c.run().ok().prints("0\n0\n");
}
