//! `linux.uidMappings`, `linux.gidMappings` and the user namespace that they are for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::container::Container;

/// A container whose ids 0 to 65535 are 100000 and up on the host.
fn mapped(script: &str) -> Container {
    let mut c = Container::sh(script);
    c.add_namespace(json!({ "type": "user" }));
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    c.config["linux"]["uidMappings"] = mapping.clone();
    c.config["linux"]["gidMappings"] = mapping;
    // The container's root is nobody to the directories above the rootfs.
    let rootfs = c.rootfs();
    for directory in rootfs.ancestors().take_while(|directory| *directory != std::env::temp_dir()) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    c
}

#[test]
fn root_inside_is_another_user_on_the_host() {
    let mut c = mapped(
        "id -u; cat /proc/self/uid_map | tr -s ' '; ls -ln /dev/null | cut -c1; echo x >/dev/null && exec sleep 1000",
    );
    c.config["process"]["noNewPrivileges"] = json!(true);
    let run = c.launch();
    c.wait_for_output(&run, "100000");
    let owner = fs::read_to_string(format!("/proc/{}/status", c.pid())).expect("the status of init");
    let uids = owner.lines().find(|line| line.starts_with("Uid:")).expect("a line of ids");
    assert_eq!(uids.split_whitespace().nth(1), Some("100000"), "{uids}");
    let text = fs::read_to_string(format!("/proc/{}/uid_map", c.pid())).expect("the map");
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn another_user_and_raised_limits_work_in_it() {
    let mut c = mapped("id -u; id -g; ulimit -n");
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    c.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 512, "hard": 512 }]);
    c.run().ok().prints("1000\n1000\n512\n");
    c.assert_nothing_left();
}

#[test]
fn it_is_nothing_without_mappings_and_they_are_nothing_without_it() {
    let mut c = mapped("true");
    c.config["linux"]["uidMappings"] = json!([]);
    c.create().code(1);
    let mut c = mapped("true");
    c.drop_namespace("user");
    c.create().code(1);
    c.assert_nothing_left();
}
