//! `process.cwd`

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use serde_json::json;

use crate::container::Container;
use crate::runtime::need_root;

#[test]
fn the_program_starts_there() {
    let mut c = Container::new();
    c.config["process"]["cwd"] = json!("/usr/bin");
    c.args(&["/bin/pwd"]);
    c.run().ok().prints("/usr/bin\n");
}

#[test]
fn a_missing_one_is_created_where_the_rootfs_is_writable() {
    let mut c = Container::new();
    c.writable_root();
    c.config["process"]["cwd"] = json!("/new/deep/place");
    c.args(&["/bin/pwd"]);
    c.run().ok().prints("/new/deep/place\n");
    assert!(c.rootfs().join("new/deep/place").is_dir());
}

#[test]
fn a_link_is_followed_inside_the_rootfs() {
    let mut c = Container::new();
    symlink("../../../../../../usr", c.rootfs().join("away")).expect("symlink");
    c.config["process"]["cwd"] = json!("/away");
    c.args(&["/bin/pwd", "-P"]);
    c.run().ok().prints("/usr\n");
}

#[test]
fn a_file_is_no_directory() {
    let mut c = Container::new();
    c.config["process"]["cwd"] = json!("/etc/passwd");
    c.create().fails(&["/etc/passwd", "not a directory"]);
    c.assert_nothing_left();
}

#[test]
fn a_directory_that_only_root_or_only_the_user_may_enter_works() {
    need_root!("only root may give a directory away");
    let mut c = Container::new();
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    c.args(&["/bin/sh", "-c", "readlink /proc/self/cwd"]);
    for (name, owner) in [("roots", 0), ("users", 1000)] {
        let dir = c.rootfs().join(name);
        fs::create_dir(&dir).expect("mkdir");
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).expect("chmod");
        chown(&dir, Some(owner), Some(owner)).expect("chown");
        c.config["process"]["cwd"] = json!(format!("/{name}"));
        c.run().ok().prints(&format!("/{name}\n"));
    }
}

#[test]
fn a_relative_one_is_refused() {
    let mut c = Container::new();
    c.config["process"]["cwd"] = json!("usr");
    c.create().fails(&["wd", "absolute"]);
    c.assert_nothing_left();
}
