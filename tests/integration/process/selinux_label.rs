//! `process.selinuxLabel` and `linux.mountLabel`, which belong together.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::container::Container;
use crate::runtime::{only_tare, skip};

const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";

fn is_enabled() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

#[test]
fn without_selinux_a_label_is_refused() {
    if is_enabled() {
        skip!("SELinux is enabled");
    }
    let mut c = Container::new();
    c.config["process"]["selinuxLabel"] = json!(LABEL);
    c.create().fails(&["selinux label is specified in config, but selinux is disabled or not supported"]);
    c.assert_nothing_left();
    let c = Container::sleeping();
    c.launch();
    let outcome = c.call(&["exec", "--process-label", LABEL, &c.id, "true"]).code(255);
    assert!(outcome.stderr.contains("selinux is disabled or not supported"), "{}", outcome.stderr);
}

#[test]
fn without_selinux_a_label_of_mounts_is_refused() {
    only_tare!("runc says only that a mount failed");
    if is_enabled() {
        skip!("SELinux is enabled");
    }
    let mut c = Container::new();
    c.config["linux"]["mountLabel"] = json!(LABEL);
    c.create().fails(&["linux.mountLabel", "selinux is disabled or not supported"]);
    c.config["linux"]["mountLabel"] = json!("");
    c.run().ok();
    c.assert_nothing_left();
}

#[test]
fn with_selinux_the_program_and_the_filesystems_have_their_labels() {
    only_tare!("the labels are this machine's own");
    if !is_enabled() {
        skip!("SELinux is not enabled");
    }
    let own = fs::read_to_string("/proc/self/attr/current").expect("read").trim_end_matches('\0').to_owned();
    let mut c = Container::sh("cat /proc/self/attr/current; ls -dZ /dev/shm");
    c.config["process"]["selinuxLabel"] = json!(own);
    c.config["linux"]["mountLabel"] = json!("system_u:object_r:tmp_t:s0");
    let outcome = c.run().ok();
    assert!(outcome.stdout.starts_with(&own) && outcome.stdout.contains(":tmp_t:s0"), "{}", outcome.stdout);
}
