//! Changes to the bundle after `create` do not affect the container (runtime.md, "Lifecycle").

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::bundle::is_rootless;
use crate::container::Container;
use crate::runtime::{Outcome, is_tare, only_tare};

/// A container that runs, with a profile that refuses mkdir and one capability.
fn confined() -> Container {
    let mut c = Container::sleeping();
    c.capabilities(&["CAP_KILL"]);
    c.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5 }],
    });
    c.launch();
    c
}

#[track_caller]
fn exec(c: &Container, script: &str) -> Outcome {
    c.call(&["exec", &c.id, "sh", "-c", script])
}

/// Writes another config.json while the container runs.
fn edit(c: &Container, edit: impl FnOnce(&mut Value)) {
    let mut config = c.config.clone();
    edit(&mut config);
    fs::write(c.config_file(), config.to_string()).expect("write config.json");
}

fn kept(c: &Container, name: &str) -> PathBuf {
    c.bundle.state_root().join(&c.id).join(name)
}

const STATUS: &str = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status";

#[test]
fn exec_keeps_the_confinement_of_create_after_the_bundle_changed() {
    only_tare!("runc reads config.json again");
    let c = confined();
    let before = exec(&c, STATUS).ok().stdout;
    assert!(before.contains("0000000000000020") && before.contains("Seccomp:\t2"), "{before}");
    edit(&c, |config| {
        let all = json!(["CAP_KILL", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]);
        config["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
        config["process"]["noNewPrivileges"] = json!(false);
        config["linux"].as_object_mut().expect("an object").remove("seccomp");
    });
    assert_eq!(exec(&c, STATUS).ok().stdout, before);
    let refused = exec(&c, "mkdir /dev/shm/x").code(1);
    assert!(refused.stderr.contains("Input/output error"), "{}", refused.stderr);
}

#[test]
fn exec_keeps_the_process_of_create_after_the_bundle_changed() {
    only_tare!("runc reads config.json again");
    let mut c = Container::sleeping();
    c.config["process"]["env"] = json!(["PATH=/bin", "KEPT=yes"]);
    c.config["process"]["cwd"] = json!("/etc");
    c.config["process"]["user"] = json!({ "uid": 0, "gid": 0, "umask": 63 });
    c.launch();
    edit(&c, |config| {
        config["process"]["env"] = json!(["PATH=/bin", "ADDED=yes"]);
        config["process"]["cwd"] = json!("/proc");
        config["process"]["user"] = json!({ "uid": 7, "gid": 8, "umask": 0 });
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "hard": 64, "soft": 64 }]);
        config["linux"]["namespaces"] = json!([{ "type": "mount" }]);
        config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    });
    let script = "echo $KEPT$ADDED; pwd; umask; id -u; ulimit -n; readlink /proc/self/ns/pid";
    let outcome = exec(&c, script).ok().silent();
    let pid = fs::read_link(format!("/proc/{}/ns/pid", c.pid())).expect("init's pid namespace");
    assert_eq!(outcome.stdout, format!("yes\n/etc\n0077\n0\n1024\n{}\n", pid.display()));
    assert_eq!(exec(&c, "uname -m").ok().stdout.trim(), std::env::consts::ARCH);
}

#[test]
fn a_bundle_that_is_gone_or_spoiled_stops_no_command() {
    only_tare!("runc reads config.json again");
    let c = confined();
    for spoil in
        [|path: PathBuf| fs::write(path, "{").expect("write"), |path: PathBuf| fs::remove_file(path).expect("rm")]
    {
        spoil(c.config_file());
        exec(&c, "echo fine").ok().silent().prints("fine\n");
        // An ordinary user may have no cgroup.
        if !is_rootless() {
            c.call(&["update", "--pids-limit", "99", &c.id]).ok().silent();
            assert_eq!(c.call(&["events", "--stats", &c.id]).ok().json()["type"], "stats");
            c.call(&["ps", &c.id]).ok();
        }
        assert_eq!(c.status(), "running");
    }
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    c.delete().ok().silent();
    c.assert_nothing_left();
}

#[test]
fn the_state_is_its_owners_alone() {
    only_tare!("runc keeps other files");
    let c = confined();
    let mode = |path: PathBuf| fs::metadata(path).expect("a file of the state").mode() & 0o7777;
    assert_eq!(mode(c.bundle.state_root().join(&c.id)), 0o700);
    for name in ["state.json", "kept.json", "seccomp.bpf"] {
        assert_eq!(mode(kept(&c, name)), 0o600, "{name}");
    }
    let record: Value = serde_json::from_slice(&fs::read(kept(&c, "kept.json")).expect("read")).expect("JSON");
    assert_eq!(record["version"], 1);
    c.delete_force().ok();
    c.assert_nothing_left();
}

/// A program that should have a filter does not run without it.
#[test]
fn a_kept_file_that_is_damaged_or_missing_is_an_error_and_the_rest_goes_on() {
    only_tare!("runc keeps other files");
    for (name, damage) in [
        ("seccomp.bpf", None),
        ("seccomp.bpf", Some("")),
        ("seccomp.bpf", Some("12345678")),
        ("kept.json", Some("{")),
        (
            "kept.json",
            Some(r#"{"version":1,"spec":{"ociVersion":"1.3.0","process":{"cwd":"/","user":{}},"linux":{}}}x"#),
        ),
    ] {
        let c = confined();
        match damage {
            Some(text) => fs::write(kept(&c, name), text).expect("write"),
            None => fs::remove_file(kept(&c, name)).expect("remove"),
        }
        let outcome = exec(&c, "echo ran").code(255).prints("");
        assert!(outcome.stderr.contains(name) && outcome.stderr.contains(&c.id), "{}", outcome.stderr);
        c.kill("KILL").ok();
        c.wait_for_status("stopped");
        c.delete().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn a_container_of_another_version_is_only_closed_to_exec() {
    only_tare!("runc keeps other files");
    let newer = r#"{"version":4711,"everything":"else"}"#;
    for (text, words) in [(None, "earlier version"), (Some(newer), "unknown format version 4711")] {
        let c = confined();
        match text {
            Some(text) => fs::write(kept(&c, "kept.json"), text).expect("write"),
            None => {
                fs::remove_file(kept(&c, "kept.json")).expect("remove");
                fs::remove_file(kept(&c, "seccomp.bpf")).expect("remove");
                // Its directory's mode, too, was another one.
                let directory = c.bundle.state_root().join(&c.id);
                fs::set_permissions(directory, Permissions::from_mode(0o711)).expect("chmod");
            }
        }
        let outcome = exec(&c, "echo ran").code(255).prints("");
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        assert_eq!(c.status(), "running");
        assert!(c.call(&["list", "-q"]).ok().stdout.contains(&c.id));
        c.kill("KILL").ok();
        c.wait_for_status("stopped");
        c.delete().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn exec_of_a_container_that_is_gone_says_so() {
    let c = confined();
    c.delete_force().ok();
    let outcome = exec(&c, "true").code(255);
    let words = if is_tare() { c.id.as_str() } else { "" };
    assert!(outcome.stderr.contains("does not exist") && outcome.stderr.contains(words), "{}", outcome.stderr);
}
