//! 4294967295 is "no change" to the kernel and not an id: a program with that user would run as
//! root.

use std::fs;

use serde_json::{Value, json};

use crate::container::Container;
use crate::runtime::{Outcome, only_tare};

const NO_ID: u32 = u32::MAX;

/// `create` and `run` refuse it with one line that names the property, and nothing is left.
#[track_caller]
fn refused(spoil: impl FnOnce(&mut Container), property: &str) {
    let mut c = Container::sh("id");
    spoil(&mut c);
    for outcome in [c.create(), c.run()] {
        let outcome = outcome.fails(&[property]).prints("");
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        c.assert_nothing_left();
    }
}

#[track_caller]
fn exec_refuses(outcome: Outcome, words: &str) {
    let outcome = outcome.code(255).prints("");
    assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
}

#[test]
fn the_users_of_a_process() {
    only_tare!("runc 1.1 runs the program as root");
    refused(|c| c.config["process"]["user"]["uid"] = json!(NO_ID), "process.user.uid");
    refused(|c| c.config["process"]["user"]["gid"] = json!(NO_ID), "process.user.gid");
    refused(|c| c.config["process"]["user"]["additionalGids"] = json!([5, NO_ID]), "process.user.additionalGids[1]");
    // One more does not wrap around to 0.
    refused(|c| c.config["process"]["user"]["uid"] = json!(1_u64 << 32), "process.user.uid");
}

#[test]
fn the_users_of_exec() {
    only_tare!("runc 1.1 runs the program as root");
    let c = Container::sleeping();
    c.launch();
    for user in ["4294967295", "4294967296", "7:4294967295", "7:4294967296", "4294967295:7", "-1", "7:-1"] {
        exec_refuses(c.call(&["exec", &format!("--user={user}"), &c.id, "id"]), "--user");
    }
    exec_refuses(c.call(&["exec", "--additional-gids", "4294967295", &c.id, "id"]), "additional");
    let file = c.beside("process.json");
    for (user, property) in [
        (json!({ "uid": NO_ID, "gid": 0 }), "process.user.uid"),
        (json!({ "uid": 0, "gid": NO_ID }), "process.user.gid"),
        (json!({ "uid": 0, "gid": 0, "additionalGids": [NO_ID] }), "process.user.additionalGids[0]"),
    ] {
        let process = json!({ "args": ["id"], "env": ["PATH=/bin"], "cwd": "/", "user": user });
        fs::write(&file, process.to_string()).expect("write the process");
        exec_refuses(c.call(&["exec", "--process", file.to_str().expect("a path"), &c.id]), property);
    }
}

#[test]
fn the_owners_of_devices() {
    only_tare!("runc 1.1 leaves the owner as it is");
    let device = |owner: &str| {
        let mut device = json!({ "path": "/dev/x", "type": "c", "major": 1, "minor": 3 });
        device[owner] = json!(NO_ID);
        json!([device])
    };
    refused(|c| c.config["linux"]["devices"] = device("uid"), "linux.devices[0].uid");
    refused(|c| c.config["linux"]["devices"] = device("gid"), "linux.devices[0].gid");
}

#[test]
fn the_ends_of_mappings() {
    only_tare!("runc has the kernel's own words");
    let mapping = |container: u32, host: u32, size: u32| {
        json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 },
               { "containerID": container, "hostID": host, "size": size }])
    };
    let mapped = |c: &mut Container, name: &str, wrong: Value| {
        c.drop_namespace("user");
        c.add_namespace(json!({ "type": "user" }));
        c.config["linux"]["uidMappings"] = mapping(5000, 5000, 1);
        c.config["linux"]["gidMappings"] = mapping(5000, 5000, 1);
        c.config["linux"][name] = wrong;
    };
    for name in ["uidMappings", "gidMappings"] {
        refused(|c| mapped(c, name, mapping(NO_ID, 5000, 1)), &format!("linux.{name}[1].containerID"));
        refused(|c| mapped(c, name, mapping(5000, NO_ID, 1)), &format!("linux.{name}[1].hostID"));
        refused(|c| mapped(c, name, mapping(5000, 5000, NO_ID)), &format!("linux.{name}[1].containerID"));
    }
    let mount = |c: &mut Container, uids: Value, gids: Value| {
        let source = c.beside("source");
        fs::create_dir_all(&source).expect("mkdir");
        c.add_mount(json!({ "destination": "/mnt", "source": source, "options": ["bind"],
            "uidMappings": uids, "gidMappings": gids }));
    };
    refused(|c| mount(c, mapping(5000, NO_ID, 1), mapping(5000, 5000, 1)), "uidMappings[1].hostID");
    refused(|c| mount(c, mapping(5000, 5000, 1), mapping(5000, 5000, NO_ID)), "gidMappings[1].containerID");
}

#[test]
fn the_options_of_filesystems() {
    only_tare!("runc has the kernel's own words");
    for option in ["uid=4294967295", "gid=4294967295", "uid=4294967296", "gid=0xffffffff", "uid=037777777777"] {
        let mount = json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": [option] });
        refused(|c| c.add_mount(mount), &format!("mounts[7] (/mnt): option \\\"{option}\\\""));
    }
}

#[test]
fn the_last_id_is_an_id() {
    let mut c = Container::sh("id -u; id -g");
    crate::runtime::need_root!("an ordinary user has no mapping for it");
    c.config["process"]["user"] = json!({ "uid": NO_ID - 1, "gid": NO_ID - 1 });
    c.run().ok().prints("4294967294\n4294967294\n");
}
