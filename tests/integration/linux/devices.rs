//! `linux.devices` and the device list of `linux.resources`.

use serde_json::json;

use crate::cgroup_tree::has_v1;
use crate::container::Container;
use crate::linux::uid_mappings::mapped;
use crate::runtime::{need_root, skip};

#[test]
fn configured_devices_have_their_type_numbers_mode_and_owner() {
    need_root!("only root of the host may make device nodes");
    let mut c = Container::sh("cd /dev; stat -c '%n %F %a %t:%T %u:%g' mychar myblock myfifo sub/deep myfuse");
    // The last one's mode is as Podman writes it, with the type of the file.
    c.config["linux"]["devices"] = json!([
        { "path": "/dev/mychar", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 11, "gid": 12 },
        { "path": "/dev/myblock", "type": "b", "major": 7, "minor": 300, "fileMode": 0o600, "uid": 0, "gid": 6 },
        { "path": "/dev/myfifo", "type": "p", "fileMode": 0o622, "uid": 5, "gid": 5 },
        { "path": "/dev/sub/deep", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666 },
        { "path": "/dev/myfuse", "type": "u", "major": 10, "minor": 229, "fileMode": 0o20444 }
    ]);
    c.run().ok().prints(
        "mychar character special file 640 1:3 11:12\nmyblock block special file 600 7:12c 0:6\n\
         myfifo fifo 622 0:0 5:5\nsub/deep character special file 666 1:5 0:0\n\
         myfuse character special file 444 a:e5 0:0\n",
    );
}

#[test]
fn the_umask_of_the_caller_does_not_narrow_the_mode() {
    need_root!("only root of the host may make device nodes");
    let mut c = Container::sh("stat -c %a /dev/mine /dev/null");
    c.config["linux"]["devices"] =
        json!([{ "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666 }]);
    c.save();
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh"]).stdin(std::process::Stdio::null());
    c.append_run(&mut command);
    c.finish(&mut command).ok().prints("666\n666\n");
}

/// Where devices cannot be made, a lent one would be a mount in the link's place.
#[test]
fn the_multiplexer_is_the_containers_own_whatever_is_configured() {
    let script = "readlink /dev/ptmx";
    for mut c in [Container::sh(script), mapped(script)] {
        c.config["linux"]["devices"] = json!([{ "path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2 }]);
        c.run().ok().prints("pts/ptmx\n").silent();
    }
}

#[test]
fn an_unknown_type_is_refused() {
    let mut c = Container::new();
    c.config["linux"]["devices"] = json!([{ "path": "/dev/mine", "type": "x", "major": 1, "minor": 3 }]);
    c.create().fails(&["device"]);
    c.assert_nothing_left();
}

#[test]
fn a_device_on_the_list_can_be_used_and_one_off_the_list_cannot() {
    if !has_v1("devices") {
        skip!("the v1 devices controller is not here");
    }
    let mut c = Container::sh(
        "mknod /dev/kmsg2 c 1 11 && echo made; head -c1 /dev/kmsg2; mknod /dev/zero2 c 1 5; head -c1 /dev/zero2 | wc -c",
    );
    c.capabilities(&["CAP_MKNOD", "CAP_SYSLOG"]);
    let outcome = c.run();
    // Making nodes is allowed for all devices by default, using them is not.
    assert!(outcome.stdout.contains("made\n1\n"), "{} {}", outcome.stdout, outcome.stderr);
    assert!(outcome.stderr.contains("/dev/kmsg2: Operation not permitted"), "{}", outcome.stderr);
    c.config["linux"]["resources"]["devices"] = json!([
        { "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" }
    ]);
    c.script("mknod /dev/kmsg2 c 1 11; dd if=/dev/kmsg2 bs=8192 count=1 of=/dev/null 2>/dev/null && echo readable; : >>/dev/kmsg2");
    let outcome = c.run();
    assert!(outcome.stdout.contains("readable"), "{} {}", outcome.stdout, outcome.stderr);
    assert!(outcome.stderr.contains("/dev/kmsg2: Operation not permitted"), "{}", outcome.stderr);
}

#[test]
fn wildcards_open_a_whole_major() {
    if !has_v1("devices") {
        skip!("the v1 devices controller is not here");
    }
    let mut c = Container::sh("mknod /dev/kmsg2 c 1 11; : </dev/kmsg2 && echo opened");
    c.capabilities(&["CAP_MKNOD", "CAP_SYSLOG"]);
    c.config["linux"]["resources"]["devices"] =
        json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "access": "rwm" }]);
    c.run().ok().prints("opened\n");
}

#[test]
fn default_devices_are_bound_where_mknod_is_not_allowed() {
    need_root!("an ordinary user has no capability to lose");
    // Without CAP_MKNOD, as in a container: the runtime has to bind the host's nodes.
    let c = Container::sh("echo x >/dev/null && head -c2 /dev/zero | wc -c");
    c.save();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--bounding-set=-mknod", "--inh-caps=-mknod", "--"]).stdin(std::process::Stdio::null());
    c.append_run(&mut command);
    c.finish(&mut command).ok().prints("2\n");
    c.assert_nothing_left();
}
