//! `hooks.*`: the six kinds, their order, what they are told, where they run, and what their failure does.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::container::{Container, is_alive};
use crate::runtime::{eventually, is_tare, only_tare};

const KINDS: &[&str] = &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that runs a shell script.
fn hook(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] })
}

/// A container with a directory for the hooks' notes, which it sees as /notes.
fn with_notes() -> Container {
    let mut c = Container::new();
    let notes = c.beside("notes");
    fs::create_dir(&notes).expect("mkdir");
    fs::create_dir(c.rootfs().join("notes")).expect("mkdir");
    c.add_mount(json!({ "destination": "/notes", "type": "bind", "source": notes, "options": ["bind", "rw"] }));
    c
}

/// Where a hook of that kind finds the notes.
fn notes(c: &Container, kind: &str) -> String {
    if kind == "startContainer" { "/notes".to_owned() } else { c.beside("notes").display().to_string() }
}

fn note(c: &Container, name: &str) -> String {
    crate::runtime::read_text(&c.beside("notes").join(name))
}

/// A container with one hook of every kind; the script is made for each kind and its notes' directory.
fn with_every_hook(script: impl Fn(&str, &str) -> String) -> Container {
    let mut c = with_notes();
    let hooks: serde_json::Map<String, Value> =
        KINDS.iter().map(|kind| ((*kind).to_owned(), json!([hook(&script(kind, &notes(&c, kind)))]))).collect();
    c.config["hooks"] = Value::Object(hooks);
    c
}

#[test]
fn they_run_in_order_each_in_its_phase() {
    only_tare!("runc 1.1 runs poststart at the end of create");
    let mut c = with_every_hook(|kind, notes| format!("echo {kind} >>{notes}/order"));
    c.args(&["sh", "-c", "echo program >>/notes/order; sleep 1000"]);
    c.create().ok();
    assert_eq!(note(&c, "order"), "prestart\ncreateRuntime\ncreateContainer\n");
    c.start().ok();
    eventually("the program has started", || note(&c, "order").contains("program").then_some(()));
    let order = note(&c, "order");
    let place = |what: &str| order.lines().position(|line| line == what).unwrap_or_else(|| panic!("{what}: {order}"));
    assert!(place("startContainer") == 3 && place("program") > 3 && place("poststart") > 3, "{order}");
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    assert!(!note(&c, "order").contains("poststop"));
    c.delete().ok();
    assert_eq!(note(&c, "order").lines().last(), Some("poststop"));
    assert_eq!(note(&c, "order").lines().count(), 7);
    c.assert_nothing_left();
}

#[test]
fn several_of_a_kind_run_in_the_order_of_the_list() {
    let mut c = with_notes();
    let order = c.beside("notes/order").display().to_string();
    for kind in ["prestart", "createRuntime", "poststop"] {
        c.config["hooks"][kind] =
            (1..4).map(|n| hook(&format!("echo {kind} {n} >>{order}"))).collect::<Vec<_>>().into();
    }
    c.run().ok();
    let expected: Vec<String> = ["prestart", "createRuntime", "poststop"]
        .iter()
        .flat_map(|k| (1..4).map(move |n| format!("{k} {n}")))
        .collect();
    assert_eq!(note(&c, "order").lines().collect::<Vec<_>>(), expected);
}

#[test]
fn they_get_the_state_on_stdin() {
    let mut c = with_every_hook(|kind, notes| format!("cat >{notes}/{kind}"));
    c.config["annotations"] = json!({ "key": "value" });
    c.args(&["sleep", "1000"]);
    c.launch();
    let pid = c.pid();
    c.delete_force().ok();
    let states: BTreeMap<&str, Value> = KINDS
        .iter()
        .map(|kind| (*kind, serde_json::from_str(&note(&c, kind)).unwrap_or_else(|e| panic!("{kind}: {e}"))))
        .collect();
    for (kind, state) in &states {
        assert!(state["ociVersion"].is_string(), "{kind}: {state}");
        assert_eq!(state["id"], json!(c.id), "{kind}");
        assert_eq!(state["bundle"], json!(c.bundle.path()), "{kind}");
        assert_eq!(state["annotations"], json!({ "key": "value" }), "{kind}");
        let status = match *kind {
            "prestart" | "createRuntime" | "createContainer" => "creating",
            "startContainer" => "created",
            // runc 1.1 runs it at the end of create.
            "poststart" if !is_tare() => continue,
            "poststart" => "running",
            _ => "stopped",
        };
        assert_eq!(state["status"], json!(status), "{kind}");
    }
    for kind in ["prestart", "createRuntime", "poststart"] {
        assert_eq!(states[kind]["pid"], json!(pid), "{kind}");
    }
}

#[test]
fn they_run_in_the_namespaces_that_the_spec_names() {
    let c = with_every_hook(|kind, notes| {
        format!("for n in mnt net uts ipc pid; do readlink /proc/self/ns/$n; done >{notes}/{kind}")
    });
    c.run().ok();
    let own: String = ["mnt", "net", "uts", "ipc", "pid"]
        .map(|name| format!("{}\n", fs::read_link(format!("/proc/self/ns/{name}")).expect("readlink").display()))
        .concat();
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(note(&c, kind), own, "{kind}");
    }
    let inside = note(&c, "startContainer");
    for (mine, host) in inside.lines().zip(own.lines()) {
        assert_ne!(mine, host, "startContainer");
    }
    assert_eq!(note(&c, "createContainer"), inside);
}

#[test]
fn create_container_runs_before_the_root_changes() {
    let mut c = with_notes();
    let notes = notes(&c, "createContainer");
    fs::create_dir(c.rootfs().join("plugged")).expect("mkdir");
    // A mount made in the container's mount namespace, seen by the program and not by the host.
    let rootfs = c.rootfs().display().to_string();
    c.config["hooks"]["createContainer"] = json!([hook(&format!(
        "test -d {notes} && mount -t tmpfs plugged {rootfs}/plugged && echo x >{rootfs}/plugged/f"
    ))]);
    c.script("cat /plugged/f");
    c.run().ok().prints("x\n");
    c.assert_nothing_left();
}

#[test]
fn their_path_arguments_and_environment_are_the_configured_ones() {
    let mut c = with_notes();
    let notes = notes(&c, "prestart");
    c.config["hooks"]["createRuntime"] = json!([{
        "path": "/bin/sh",
        "args": ["my name", "-c", format!("{{ echo \"[$0][$1][$2]\"; /usr/bin/env; }} >{notes}/out"), "zero", "a b", ""],
        "env": ["ONE=1", "TWO=a b=c"]
    }]);
    c.save();
    c.finish(c.bundle_command("run", &[]).env("OF_THE_HOST", "1")).ok();
    let out = note(&c, "out");
    let mut lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.remove(0), "[zero][a b][]");
    lines.retain(|line| !["PWD=", "_=", "SHLVL=", "OLDPWD="].iter().any(|own| line.starts_with(own)));
    assert_eq!(lines, ["ONE=1", "TWO=a b=c"]);
}

#[test]
fn without_arguments_the_path_is_the_only_one() {
    let mut c = with_notes();
    let script = c.beside("hook.sh");
    let out = c.beside("notes/out");
    fs::write(&script, format!("#!/bin/sh\necho $# >{}\n", out.display())).expect("write");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    c.config["hooks"]["createRuntime"] = json!([{ "path": script }]);
    c.run().ok();
    assert_eq!(note(&c, "out"), "0\n");
}

#[test]
fn a_hook_need_not_read_its_input() {
    let mut c = Container::sh("echo fine");
    for kind in ["prestart", "createRuntime", "poststop"] {
        c.config["hooks"][kind] = json!([{ "path": "/bin/true" }]);
    }
    // More than a pipe holds.
    c.config["annotations"] = json!({ "large": "x".repeat(200_000) });
    c.run().ok().prints("fine\n");
}

#[test]
fn a_failing_one_fails_create_and_leaves_nothing() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut c = Container::new();
        c.config["hooks"][kind] = json!([hook("echo what went wrong >&2; exit 7")]);
        let outcome = c.create().code(1);
        let name = if is_tare() { kind } else { "hook" };
        assert!(outcome.stderr.contains(name) && outcome.stderr.contains('7'), "{kind}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("what went wrong"), "{kind}: {}", outcome.stderr);
        c.assert_nothing_left();
        c.run().code(1);
        c.assert_nothing_left();
    }
}

#[test]
fn a_failed_create_runs_poststop() {
    let mut c = with_notes();
    let notes = notes(&c, "poststop");
    c.config["hooks"]["createRuntime"] = json!([hook("exit 1")]);
    c.config["hooks"]["poststop"] = json!([hook(&format!("echo poststop >{notes}/out"))]);
    c.create().code(1);
    assert_eq!(note(&c, "out"), "poststop\n");
}

#[test]
fn a_failing_start_container_keeps_the_program_from_running() {
    let mut c = with_notes();
    c.config["hooks"]["startContainer"] = json!([hook("exit 1")]);
    c.script("echo ran >/notes/ran");
    c.create().ok();
    c.start();
    if is_tare() {
        c.call(&["state", &c.id]).fails(&["does not exist"]);
    } else {
        c.wait_for_status("stopped");
        c.delete().ok();
    }
    assert!(!c.beside("notes/ran").exists());
    c.assert_nothing_left();
}

#[test]
fn a_hook_that_fails_in_start_destroys_the_container() {
    only_tare!("runc leaves it stopped, and runc 1.1 runs poststart at the end of create");
    for kind in ["startContainer", "poststart"] {
        let mut c = with_notes();
        let notes = notes(&c, "poststop");
        c.config["hooks"][kind] = json!([hook("exit 1")]);
        c.config["hooks"]["poststop"] = json!([hook(&format!("cat >{notes}/out"))]);
        c.script("sleep 1000");
        c.create().ok();
        let pid = c.pid();
        c.start().fails(&[&format!("error running {kind} hook #0")]);
        assert!(!is_alive(pid), "the program runs on after {kind} has failed");
        assert!(note(&c, "out").contains(r#""status":"stopped""#), "poststop after {kind}: {}", note(&c, "out"));
        c.call(&["state", &c.id]).fails(&["does not exist"]);
        c.delete().fails(&["does not exist"]);
        c.assert_nothing_left();
    }
}

#[test]
fn a_failing_hook_of_start_leaves_nothing_of_a_run() {
    for kind in ["startContainer", "poststart"] {
        let mut c = Container::sleeping();
        c.config["hooks"][kind] = json!([hook("exit 1")]);
        c.run().code(1);
        // runc's start does not wait for startContainer hooks.
        if is_tare() {
            c.run_with(&["-d"]).code(1);
        }
        c.assert_nothing_left();
    }
}

#[test]
fn a_failing_poststop_is_a_warning() {
    let mut c = with_notes();
    let notes = notes(&c, "poststop");
    c.config["hooks"]["poststop"] = json!([hook("exit 1"), hook(&format!("echo second >{notes}/out"))]);
    c.launch();
    c.wait_for_status("stopped");
    let outcome = c.delete().ok();
    // A level of warning in tare; the reference 1.1 calls it an error and skips the next one.
    if is_tare() {
        assert!(outcome.stderr.contains("level=warning"), "{}", outcome.stderr);
        assert_eq!(note(&c, "out"), "second\n");
    }
    c.assert_nothing_left();
}

#[test]
fn a_missing_program_fails_create_naming_it() {
    let mut c = Container::new();
    c.config["hooks"]["createRuntime"] = json!([{ "path": "/no/such/hook" }]);
    c.create().fails(&["/no/such/hook", "no such file or directory"]);
    c.assert_nothing_left();
}

#[test]
fn a_relative_path_is_refused() {
    only_tare!("runc 1.1 starts it");
    let mut c = Container::new();
    c.config["hooks"]["createRuntime"] = json!([{ "path": "bin/true" }]);
    c.create().fails(&["hooks.createRuntime", "absolute"]);
    c.assert_nothing_left();
}

#[test]
fn a_timeout_kills_it_and_fails_create() {
    for kind in ["prestart", "createRuntime"] {
        let mut c = Container::new();
        let mut slow = hook("exec sleep 1000");
        slow["timeout"] = json!(1);
        c.config["hooks"][kind] = json!([slow]);
        let begin = Instant::now();
        let outcome = c.create().code(1);
        let took = begin.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_secs(10), "{took:?}");
        let words = ["timeout", "timed out", "ran past"];
        assert!(words.iter().any(|word| outcome.stderr.contains(word)), "{}", outcome.stderr);
        c.assert_nothing_left();
    }
}

#[test]
fn a_timeout_that_is_not_reached_does_nothing() {
    let mut c = Container::sh("echo fine");
    let mut quick = hook("cat >/dev/null");
    quick["timeout"] = json!(20);
    c.config["hooks"]["createRuntime"] = json!([quick]);
    c.run().ok().prints("fine\n");
}

#[test]
fn a_hook_that_signals_are_meant_for_gets_a_clean_environment() {
    let mut c = with_notes();
    let notes = notes(&c, "prestart");
    c.config["hooks"]["createRuntime"] = json!([hook(&format!("ls -l /proc/$$/fd >{notes}/fds"))]);
    c.run().ok();
    let fds = note(&c, "fds");
    let strange = |line: &&str| line.contains(c.bundle.state_root().to_str().expect("text")) || line.contains("cgroup");
    assert_eq!(fds.lines().find(strange), None, "a hook sees the runtime's files");
}

#[test]
fn start_container_without_an_environment_has_the_programs() {
    let mut c = with_notes();
    c.config["process"]["env"] = json!(["PATH=/bin", "ONE=1"]);
    c.config["hooks"]["startContainer"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo $ONE >/notes/out"] }]);
    c.run().ok();
    assert_eq!(note(&c, "out"), "1\n");
}

#[test]
fn create_container_hooks_find_themselves_in_the_rootfs() {
    let mut c = Container::new();
    c.writable_root();
    c.config["hooks"] = json!({
        "createContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "cat >/dev/null; echo here >tmp/of-the-hook"] }]
    });
    c.args(&["cat", "/tmp/of-the-hook"]);
    c.run().ok().prints("here\n");
}
