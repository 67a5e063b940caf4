//! Bad input: one clear line that names the field or the file, exit code 1, nothing left behind.

use std::fs;

use serde_json::{Value, json};

use crate::container::Container;
use crate::log::text_message;
use crate::runtime::{Outcome, is_tare, only_tare};

/// What every failure must look like.
#[track_caller]
fn check(c: &Container, outcome: &Outcome, words: &[&str], words_of_tare: &[&str]) {
    if outcome.exit_code() != 1 {
        outcome.fail("expected exit code 1");
    }
    let message = text_message(&outcome.stderr, outcome);
    let own: &[&str] = if is_tare() { words_of_tare } else { &[] };
    for word in words.iter().chain(own) {
        if !message.contains(word) {
            outcome.fail(&format!("expected the message to contain {word:?}"));
        }
    }
    if !outcome.stdout.is_empty() {
        outcome.fail("expected nothing on stdout");
    }
    c.assert_nothing_left();
    assert_eq!(c.call(&["list", "-q"]).ok().stdout, "");
}

#[track_caller]
fn create_fails(c: &Container, words: &[&str], words_of_tare: &[&str]) {
    check(c, &c.create(), words, words_of_tare);
    check(c, &c.run(), words, words_of_tare);
}

/// One test for each way to spoil a config.json: what to set where, words of every runtime, words of this one.
macro_rules! spoiled {
    ($($name:ident: $pointer:literal = $value:expr, $words:expr, $own:expr;)*) => {$(
        #[test]
        fn $name() {
            let mut c = Container::new();
            set(&mut c.config, $pointer, $value);
            create_fails(&c, &$words, &$own);
        }
    )*};
}

/// Sets the value at a JSON pointer, or removes it when the value is the text `REMOVE`.
fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = config.pointer_mut(parent).expect("the parent exists");
    if value == json!("REMOVE") {
        parent.as_object_mut().expect("an object").remove(key);
    } else if let Some(list) = parent.as_array_mut() {
        list.push(value);
    } else {
        parent[key] = value;
    }
}

spoiled! {
    wrong_type_of_args: "/process/args" = json!("text"), ["process.args"], [];
    wrong_type_of_uid: "/process/user/uid" = json!("zero"), ["process.user.uid"], [];
    negative_uid: "/process/user/uid" = json!(-1), ["uid"], ["process.user.uid"];
    wrong_type_of_mounts: "/mounts" = json!({}), ["mounts"], [];
    wrong_type_of_hostname: "/hostname" = json!(7), ["hostname"], [];
    wrong_type_of_root: "/root" = json!("rootfs"), ["root"], [];
    wrong_type_of_env: "/process/env" = json!({ "A": "b" }), ["process.env"], [];
    wrong_type_of_namespaces: "/linux/namespaces" = json!("pid"), ["linux.namespaces"], [];
    wrong_type_of_limit: "/linux/resources/memory" = json!({ "limit": "much" }), ["memory.limit"], [];
    missing_root: "/root" = json!("REMOVE"), ["root"], [];
    missing_process: "/process" = json!("REMOVE"), ["process"], [];
    missing_args: "/process/args" = json!("REMOVE"), ["args"], ["process.args"];
    empty_args: "/process/args" = json!([]), ["args"], ["process.args"];
    missing_cwd: "/process/cwd" = json!("REMOVE"), ["wd"], ["cwd"];
    empty_cwd: "/process/cwd" = json!(""), ["wd"], ["process.cwd"];
    relative_cwd: "/process/cwd" = json!("here"), ["absolute"], ["process.cwd"];
    rootfs_that_is_not_there: "/root/path" = json!("nowhere"), ["nowhere"], ["root.path"];
    rootfs_that_is_a_file: "/root/path" = json!("config.json"), [], ["root.path", "config.json"];
    unknown_namespace: "/linux/namespaces/-" = json!({ "type": "sideways" }), ["sideways"], ["linux.namespaces"];
    namespace_twice: "/linux/namespaces/-" = json!({ "type": "pid" }), ["pid"], ["linux.namespaces"];
    namespace_without_type: "/linux/namespaces/-" = json!({}), [], ["linux.namespaces"];
    unknown_rlimit: "/process/rlimits/-" = json!({ "type": "RLIMIT_X", "soft": 1, "hard": 1 }), ["RLIMIT_X"],
        ["process.rlimits"];
    unknown_propagation: "/linux/rootfsPropagation" = json!("up"), ["rootfsPropagation"], ["linux.rootfsPropagation"];
    missing_bind_source: "/mounts/-" =
        json!({ "destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"] }),
        ["/no/such/source"], ["mounts[7]"];
    unknown_filesystem: "/mounts/-" = json!({ "destination": "/x", "type": "sidefs", "source": "x" }), ["/x"],
        ["mounts[7]", "sidefs"];
    mount_option_that_the_filesystem_refuses: "/mounts/-" =
        json!({ "destination": "/x", "type": "tmpfs", "source": "x", "options": ["size=lots"] }), ["/x"], ["mounts[7]"];
    bad_device_type: "/linux/devices" = json!([{ "path": "/dev/x", "type": "?", "major": 1, "minor": 1 }]), ["device"],
        ["linux.devices"];
    unknown_seccomp_action: "/linux/seccomp" = json!({ "defaultAction": "SCMP_ACT_X" }), ["SCMP_ACT_X"],
        ["linux.seccomp"];
    sysctl_of_the_host: "/linux/sysctl" = json!({ "vm.swappiness": "1" }), ["vm.swappiness"], ["linux.sysctl"];
    hook_that_is_not_there: "/hooks" = json!({ "createRuntime": [{ "path": "/no/such/hook" }] }), ["/no/such/hook"],
        ["hooks.createRuntime"];
    program_that_is_not_there: "/process/args" = json!(["/no/such/program"]), ["/no/such/program"], [];
}

#[test]
fn a_joined_namespace_that_is_not_there() {
    let mut c = Container::new();
    c.join_namespace("ipc", "/no/such/ns");
    create_fails(&c, &["/no/such/ns"], &["linux.namespaces"]);
}

#[test]
fn a_missing_config_json_is_named() {
    let c = Container::new();
    let bundle = c.bundle.path().display().to_string();
    check(&c, &c.call(&["create", "--bundle", &bundle, &c.id]), &["config.json"], &[]);
}

#[test]
fn what_is_no_json_is_named_with_its_place() {
    let whole = Container::new().config.to_string();
    let half = &whole[..whole.len() / 2];
    for text in ["", "hello", half, "[]", "\"text\"", "{\"ociVersion\": \"1.0.2\"", "\u{feff}{}", "{,}"] {
        let mut c = Container::new();
        c.raw_config = Some(text.as_bytes().to_vec());
        create_fails(&c, &[], &["config.json"]);
    }
}

#[test]
fn a_config_json_of_null_is_refused() {
    only_tare!("runc 1.1 crashes");
    let mut c = Container::new();
    c.raw_config = Some(b"null".to_vec());
    create_fails(&c, &["config.json"], &[]);
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let mut c = Container::new();
    c.raw_config = Some(vec![0xff, 0xfe, 0x00, 0x80]);
    create_fails(&c, &[], &["config.json"]);
}

#[test]
fn deep_nesting_does_not_crash() {
    let mut c = Container::new();
    c.raw_config = Some(format!("{{\"process\": {}", "[".repeat(100_000)).into_bytes());
    create_fails(&c, &[], &["config.json"]);
}

#[test]
fn a_config_json_that_is_a_directory_is_refused() {
    let c = Container::new();
    fs::create_dir(c.config_file()).expect("mkdir");
    let bundle = c.bundle.path().display().to_string();
    check(&c, &c.call(&["create", "--bundle", &bundle, &c.id]), &[], &["config.json"]);
}

#[test]
fn a_bundle_that_is_no_directory_is_named() {
    let c = Container::new();
    for bundle in ["/etc/passwd", "/no/such/bundle"] {
        for verb in ["create", "run"] {
            check(&c, &c.call(&[verb, "--bundle", bundle, &c.id]), &[bundle], &[]);
        }
    }
}

#[test]
fn an_oci_version_of_another_major_is_refused() {
    only_tare!("runc 1.1 does not look at it");
    let mut c = Container::new();
    c.config["ociVersion"] = json!("2.0.0");
    create_fails(&c, &["ociVersion", "2.0.0"], &[]);
    c.config["ociVersion"] = json!("latest");
    create_fails(&c, &["ociVersion", "latest"], &[]);
}

#[test]
fn a_newer_minor_oci_version_works() {
    for version in ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.0"] {
        let mut c = Container::sh("echo fine");
        c.config["ociVersion"] = json!(version);
        c.run().ok().prints("fine\n").silent();
    }
}

#[test]
fn unknown_keys_are_ignored() {
    let mut c = Container::sh("echo fine");
    for pointer in ["/unknown", "/process/unknown", "/linux/unknown", "/root/unknown", "/linux/resources/unknown"] {
        set(&mut c.config, pointer, json!({ "any": ["thing", 1] }));
    }
    c.config["mounts"][0]["unknown"] = json!(true);
    c.run().ok().prints("fine\n").silent();
}

#[test]
fn nulls_are_taken_as_absent() {
    let mut c = Container::sh("echo fine");
    for pointer in ["/hooks", "/annotations", "/linux/seccomp", "/linux/devices", "/linux/sysctl", "/process/rlimits"] {
        set(&mut c.config, pointer, Value::Null);
    }
    c.run().ok().prints("fine\n").silent();
}

#[test]
fn several_failures_leave_room_for_a_good_container() {
    let mut c = Container::sh("echo fine");
    let good = c.config.clone();
    for _ in 0..3 {
        c.args(&["/no/such/program"]);
        c.run().code(1);
        c.config = good.clone();
        c.run().ok().prints("fine\n");
    }
    c.assert_nothing_left();
}
