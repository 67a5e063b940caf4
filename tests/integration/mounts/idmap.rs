//! The options `idmap` and `ridmap`, `mounts[].uidMappings` and `gidMappings`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::container::Container;
use crate::linux::uid_mappings::{mapped, member, pod};
use crate::runtime::{eventually, is_tare, need_root, only_tare};

/// A directory beside the bundle with files of the users 0 and 7, and of group 8.
fn source(c: &Container) -> PathBuf {
    let source = c.beside("source");
    fs::create_dir(&source).expect("mkdir");
    for (name, uid, gid) in [("root", 0, 0), ("seven", 7, 8)] {
        fs::write(source.join(name), "").expect("write");
        chown(source.join(name), Some(uid), Some(gid)).expect("chown");
    }
    source
}

fn mapping(container: u32, host: u32, size: u32) -> Value {
    json!([{ "containerID": container, "hostID": host, "size": size }])
}

fn mount_at(c: &mut Container, destination: &str, options: &[&str], mappings: Option<(Value, Value)>) {
    let source = c.beside("source");
    // The rootfs is not the container's root's.
    fs::create_dir(c.rootfs().join(&destination[1..])).expect("mkdir");
    let mut mount = json!({ "destination": destination, "type": "bind", "source": source, "options": options });
    if let Some((uids, gids)) = mappings {
        mount["uidMappings"] = uids;
        mount["gidMappings"] = gids;
    }
    c.add_mount(mount);
}

const SHOW: &str = "stat -c '%u:%g' /m/root /m/seven";

#[test]
fn without_a_user_namespace_the_owners_are_those_of_the_mappings() {
    need_root!("only root of the host may map the ids of a mount");
    only_tare!("runc 1.1 has no idmapped mounts");
    let mut c = Container::sh(&format!("{SHOW}; touch /m/new && echo made"));
    fs::set_permissions(source(&c), fs::Permissions::from_mode(0o777)).expect("chmod");
    mount_at(&mut c, "/m", &["bind", "idmap"], Some((mapping(0, 100_000, 100), mapping(0, 4992, 100))));
    c.config["process"]["user"] = json!({ "uid": 100_007, "gid": 5000 });
    c.run().ok().prints("100000:4992\n100007:5000\nmade\n").silent();
    let new = fs::metadata(c.beside("source/new")).expect("stat");
    assert_eq!((new.uid(), new.gid()), (7, 8), "what is made inside is mapped back");
    c.assert_nothing_left();
}

#[test]
fn without_the_option_the_mappings_alone_are_enough() {
    need_root!("only root of the host may map the ids of a mount");
    only_tare!("runc 1.1 has no idmapped mounts");
    let mut c = Container::sh(SHOW);
    source(&c);
    mount_at(&mut c, "/m", &["rbind"], Some((mapping(0, 100, 100), mapping(0, 200, 100))));
    c.run().ok().prints("100:200\n107:208\n");
}

#[test]
fn in_a_user_namespace_the_owners_are_the_same_inside() {
    need_root!("only root of the host may map the ids of a mount");
    only_tare!("runc 1.1 has no idmapped mounts");
    for mappings in [None, Some((mapping(0, 100_000, 65_536), mapping(0, 100_000, 65_536)))] {
        let mut c = mapped(&format!("{SHOW}; touch /m/new && echo made"));
        source(&c);
        mount_at(&mut c, "/m", &["bind", "idmap"], mappings);
        c.capabilities(&["CAP_DAC_OVERRIDE"]);
        c.run().ok().prints("0:0\n7:8\nmade\n").silent();
        let new = fs::metadata(c.beside("source/new")).expect("stat");
        assert_eq!((new.uid(), new.gid()), (0, 0));
        c.assert_nothing_left();
    }
}

#[test]
fn in_a_user_namespace_that_is_joined_too() {
    need_root!("only root of the host may map the ids of a mount");
    only_tare!("runc 1.1 has no idmapped mounts");
    let pod = pod();
    let mut c = member(&pod, &[("user", "user")], SHOW);
    source(&c);
    mount_at(&mut c, "/m", &["bind", "ridmap"], None);
    c.run().ok().prints("0:0\n7:8\n").silent();
}

#[test]
fn a_source_in_the_rootfs_has_what_earlier_mounts_put_there() {
    need_root!("only root of the host may map the ids of a mount");
    only_tare!("runc 1.1 has no idmapped mounts");
    for mut c in [Container::sh(SHOW), mapped(SHOW)] {
        source(&c);
        mount_at(&mut c, "/a", &["bind"], None);
        fs::create_dir(c.rootfs().join("m")).expect("mkdir");
        let source = c.rootfs().join("a");
        c.add_mount(json!({
            "destination": "/m", "type": "bind", "source": source, "options": ["bind", "idmap"],
            "uidMappings": mapping(0, 100_000, 100), "gidMappings": mapping(0, 100_000, 100),
        }));
        let user_namespace = c.config["linux"]["uidMappings"].is_array();
        c.run().ok().prints(if user_namespace { "0:0\n7:8\n" } else { "100000:100000\n100007:100008\n" }).silent();
        c.assert_nothing_left();
    }
}

#[test]
fn only_ridmap_reaches_the_mounts_below() {
    need_root!("only root of the host may map the ids of a mount");
    only_tare!("runc 1.1 has no idmapped mounts");
    for (option, expected) in [("idmap", "107\n7\n"), ("ridmap", "107\n107\n")] {
        let mut c = Container::sh("stat -c %u /m/seven /m/below/seven");
        let below = source(&c).join("below");
        fs::create_dir(&below).expect("mkdir");
        mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mount a tmpfs");
        fs::write(below.join("seven"), "").expect("write");
        chown(below.join("seven"), Some(7), Some(7)).expect("chown");
        mount_at(&mut c, "/m", &["rbind", option], Some((mapping(0, 100, 100), mapping(0, 100, 100))));
        c.run().ok().prints(expected);
    }
}

#[test]
fn one_source_has_other_owners_at_each_place_and_its_other_options_too() {
    need_root!("only root of the host may map the ids of a mount");
    only_tare!("runc 1.1 has no idmapped mounts");
    let mut c = Container::sh("stat -c %u /a/seven /b/seven /c/seven /d/seven; touch /b/new || true");
    source(&c);
    let same = || Some((mapping(7, 1007, 1), mapping(0, 0, 100)));
    mount_at(&mut c, "/a", &["bind", "idmap"], same());
    mount_at(&mut c, "/b", &["bind", "idmap", "ro"], Some((mapping(7, 2007, 1), mapping(0, 0, 100))));
    mount_at(&mut c, "/c", &["bind"], None);
    mount_at(&mut c, "/d", &["bind", "idmap"], same());
    let outcome = c.run().ok();
    assert_eq!(outcome.stdout, "1007\n2007\n7\n1007\n");
    assert!(outcome.stderr.contains("Read-only"), "{}", outcome.stderr);
}

#[test]
fn a_mount_of_the_containers_own_does_not_reach_the_host() {
    need_root!("only root of the host may map the ids of a mount");
    only_tare!("runc 1.1 has no idmapped mounts");
    let mut c = Container::new();
    let below = source(&c).join("below");
    let none = None::<&str>;
    let shared = c.beside("source");
    mount(Some(&shared), &shared, none, MsFlags::MS_BIND, none).expect("bind the source");
    mount(none, &shared, none, MsFlags::MS_SHARED, none).expect("make it shared");
    fs::create_dir(&below).expect("mkdir");
    c.capabilities(&["CAP_SYS_ADMIN"]);
    mount_at(&mut c, "/m", &["bind", "idmap"], Some((mapping(0, 0, 100), mapping(0, 0, 100))));
    let before = crate::bundle::mounts_below(c.bundle.dir.path());
    c.args(&["sh", "-c", "mount -t tmpfs x /m/below && exec sleep 1000"]);
    c.launch();
    let inside = || fs::read_to_string(format!("/proc/{}/mountinfo", c.pid())).unwrap_or_default();
    eventually("it is mounted inside", || inside().contains(" /m/below ").then_some(()));
    assert_eq!(crate::bundle::mounts_below(c.bundle.dir.path()), before);
}

#[test]
fn what_cannot_be_mapped_is_refused_with_the_reason() {
    need_root!("only root of the host may map the ids of a mount");
    let none = || (mapping(0, 0, 1), json!([]));
    let both = || (mapping(0, 0, 1), mapping(0, 0, 1));
    for (source, options, mappings, words) in [
        ("/sys/kernel", &["bind", "idmap"], Some(both()), ["/sys/kernel", "idmapped mounts"]),
        ("/tmp", &["bind", "idmap"], None, ["mounts[7]", "user namespace"]),
        ("/tmp", &["bind", "idmap"], Some(none()), ["mounts[7]", "gidMappings"]),
        ("/no/such/source", &["bind", "idmap"], Some(both()), ["mounts[7]", "/no/such/source"]),
        ("tmpfs", &["idmap", "nosuid"], Some(both()), ["mounts[7]", "bind mount"]),
    ] {
        let mut c = Container::new();
        let mut mount = json!({ "destination": "/m", "type": "tmpfs", "source": source, "options": options });
        if let Some((uids, gids)) = mappings {
            mount["uidMappings"] = uids;
            mount["gidMappings"] = gids;
        }
        c.add_mount(mount);
        let outcome = c.create().code(1);
        for word in words.iter().filter(|_| is_tare()) {
            assert!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
        }
        c.assert_nothing_left();
    }
}
