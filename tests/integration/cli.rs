//! The command line: versions, help, flags as Go's flag package takes them, spec, features.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bundle::TempDir;
use crate::container::Container;
use crate::runtime::{Outcome, copy_program, finish, is_tare, only_tare, runtime, skip};

/// The runtime with arguments only.
fn call(args: &[&str]) -> Outcome {
    let dir = TempDir::new();
    finish(Command::new(runtime()).args(args), dir.path())
}

#[test]
fn the_version_is_told_in_the_lines_that_callers_parse() {
    for flag in ["--version", "-v", "-version"] {
        let outcome = call(&[flag]).ok().silent();
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        let name = if is_tare() { "tare version " } else { "runc version " };
        assert!(lines[0].starts_with(name) && lines[0].len() > name.len(), "{lines:?}");
        assert!(lines[1].strip_prefix("commit: ").is_some_and(|commit| !commit.is_empty()), "{lines:?}");
        assert!(lines[2].starts_with("spec: 1."), "{lines:?}");
        if is_tare() {
            assert_eq!(lines[0], format!("tare version {}", env!("CARGO_PKG_VERSION")));
            assert_eq!(lines[2], "spec: 1.3.0");
        }
    }
}

#[test]
fn help_names_every_command_and_global_flag() {
    for flag in ["--help", "-h", "help"] {
        let outcome = call(&[flag]).ok().silent();
        let words = [
            "create",
            "start",
            "state",
            "kill",
            "delete",
            "run",
            "list",
            "spec",
            "features",
            "--root",
            "--log",
            "--log-format",
            "--debug",
            "--systemd-cgroup",
            "--rootless",
        ];
        for word in words {
            assert!(outcome.stdout.contains(word), "{flag} does not tell of {word}: {}", outcome.stdout);
        }
    }
}

#[test]
fn help_of_a_command_names_its_flags() {
    let create = ["--bundle", "--pid-file", "--console-socket", "--no-pivot", "--no-new-keyring", "--preserve-fds"];
    for (command, flags) in [
        ("create", &create[..]),
        ("run", &["--detach", "--keep", "--no-subreaper", "--bundle", "--pid-file"]),
        ("delete", &["--force"]),
        ("list", &["--format", "--quiet"]),
        ("spec", &["--bundle", "--rootless"]),
    ] {
        let outcome = call(&[command, "--help"]).ok().silent();
        let mut lines = outcome.stdout.lines();
        let name = if is_tare() { "tare" } else { "runc" };
        assert_eq!(lines.next(), Some("NAME:"));
        assert!(lines.next().is_some_and(|line| line.trim_start().starts_with(&format!("{name} {command} - "))));
        for flag in flags {
            assert!(outcome.stdout.contains(flag), "{command} --help does not tell of {flag}");
        }
    }
}

#[test]
fn what_is_unknown_is_refused_naming_it() {
    for args in [&["--sideways", "list"][..], &["create", "--sideways", "x"], &["-sideways"], &["list", "-Z"]] {
        let outcome = call(args).code(1);
        assert!(outcome.stderr.contains("sideways") || outcome.stderr.contains('Z'), "{args:?}: {}", outcome.stderr);
    }
    let outcome = call(&["sideways"]);
    assert_ne!(outcome.exit_code(), 0);
    assert!(outcome.stderr.contains("sideways"), "{}", outcome.stderr);
}

#[test]
fn an_error_of_usage_is_one_line_on_stderr() {
    only_tare!("runc writes its help to stdout too");
    for args in [&["--sideways"][..], &["create"], &["kill"], &["sideways"], &["state", "a", "b"], &["start"]] {
        let outcome = call(args).code(1).prints("");
        crate::log::text_message(&outcome.stderr, &outcome);
    }
}

#[test]
fn a_missing_or_surplus_argument_is_refused() {
    for args in [&["create"][..], &["start"], &["state"], &["delete"], &["state", "a", "b"], &["kill"]] {
        let outcome = call(args);
        assert_eq!(outcome.exit_code(), 1, "{args:?}: {}", outcome.stderr);
    }
}

#[test]
fn long_options_work_with_one_dash_and_with_an_equal_sign() {
    let c = Container::sh("echo fine");
    c.save();
    let root = c.bundle.state_root().display().to_string();
    let bundle = c.bundle.path().display().to_string();
    let log = c.beside("log").display().to_string();
    let spellings: [&[&str]; 5] = [
        &["-root", &root, "run", "-bundle", &bundle],
        &[&format!("-root={root}"), "run", &format!("-bundle={bundle}")],
        &[&format!("--root={root}"), "run", &format!("--bundle={bundle}")],
        &["-root", &root, "-log", &log, "-log-format", "json", "run", "-b", &bundle],
        &["--root", &root, "-debug=false", "run", "-no-pivot=false", "-keep=false", "-b", &bundle],
    ];
    for args in spellings {
        let mut command = Command::new(runtime());
        c.finish(command.args(args).arg(&c.id).stdin(Stdio::null())).ok().prints("fine\n");
        c.assert_nothing_left();
    }
}

#[test]
fn flags_come_before_the_id_and_the_rest_are_arguments() {
    let c = Container::sleeping();
    c.launch();
    // As with Go's flag package a word after the id is no flag of the command.
    c.call(&["kill", &c.id, "KILL"]).ok();
    c.wait_for_status("stopped");
    c.call(&["delete", "-f", &c.id]).ok();
}

#[test]
fn a_systemd_cgroup_is_refused_where_it_cannot_be() {
    if std::path::Path::new("/run/systemd/system").exists() {
        skip!("systemd runs here");
    }
    let c = Container::new();
    c.save();
    let bundle = c.bundle.path().display().to_string();
    let outcome = c.call(&["--systemd-cgroup", "run", "--bundle", &bundle, &c.id]);
    outcome.fails(&["systemd"]);
    c.assert_nothing_left();
}

#[test]
fn features_are_told_to_anyone() {
    let dir = TempDir::new();
    // Other users must be able to reach the binary and write their output here.
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    let reachable = dir.path().join("runtime");
    let binary = fs::canonicalize(runtime()).ok();
    let binary = binary.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join(runtime())).find(|file| file.exists())
    });
    copy_program(&binary.expect("the runtime's binary"), &reachable);
    let outcome = finish(Command::new(&reachable).arg("features").uid(1000).gid(1000).env_clear(), dir.path());
    let features = outcome.ok().silent().json();
    let text_list = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .map(|list| list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
            .unwrap_or_default()
    };
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(features["ociVersionMax"].as_str().is_some_and(|version| version.starts_with("1.")), "{features}");
    let hooks = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    assert_eq!(text_list(&features["hooks"]), hooks);
    let options = text_list(&features["mountOptions"]);
    for option in ["ro", "rro", "rbind", "bind", "rprivate", "tmpcopyup", "nosuid"] {
        assert!(options.iter().any(|known| known == option), "{option}");
    }
    let mut sorted = options.clone();
    sorted.sort();
    assert_eq!(options, sorted);
    let linux = &features["linux"];
    let namespaces = text_list(&linux["namespaces"]);
    for name in ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"] {
        assert!(namespaces.iter().any(|known| known == name), "{name}");
    }
    assert!(text_list(&linux["capabilities"]).iter().any(|name| name == "CAP_CHECKPOINT_RESTORE"));
    assert_eq!(linux["cgroup"]["v1"], true);
    assert_eq!(linux["cgroup"]["v2"], true);
    assert_eq!(linux["seccomp"]["enabled"], true);
    assert!(text_list(&linux["seccomp"]["actions"]).iter().any(|name| name == "SCMP_ACT_NOTIFY"));
    assert_eq!(text_list(&linux["seccomp"]["operators"]).len(), 7);
    assert!(text_list(&linux["seccomp"]["archs"]).iter().any(|name| name == "SCMP_ARCH_X86_64"));
    if is_tare() {
        assert_eq!(features["ociVersionMax"], "1.3.0");
        assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], true);
        assert!(linux["seccomp"]["supportedFlags"].is_array(), "{features}");
        assert_eq!((&linux["cgroup"]["systemd"], &linux["cgroup"]["systemdUser"]), (&json!(true), &json!(true)));
    }
}

#[test]
fn spec_writes_the_default_bundle() {
    let dir = TempDir::new();
    finish(Command::new(runtime()).arg("spec").current_dir(dir.path()), dir.path()).ok().silent().prints("");
    let text = fs::read_to_string(dir.path().join("config.json")).expect("read config.json");
    let spec: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(spec["process"]["args"], json!(["sh"]));
    assert_eq!(spec["process"]["terminal"], true);
    assert_eq!(spec["root"], json!({ "path": "rootfs", "readonly": true }));
    // One value a line, for people who edit it.
    assert!(text.lines().count() > 100, "{text}");
}

/// A spec without what differs between versions of runc: its own name, the ambient set that has no effect, and the
/// namespace that it asks for on cgroup v2 alone.
fn comparable(mut spec: Value) -> Value {
    let object = spec.as_object_mut().expect("an object");
    object.remove("ociVersion");
    object.remove("hostname");
    spec["process"]["capabilities"].as_object_mut().expect("an object").remove("ambient");
    for list in ["namespaces", "maskedPaths"] {
        let values = spec["linux"][list].as_array_mut().expect("a list");
        values.retain(|value| value["type"] != "cgroup" && !NEWER_MASKS.iter().any(|path| value == path));
        values.sort_by_key(Value::to_string);
    }
    spec
}

/// Masked since runc 1.2.
const NEWER_MASKS: &[&str] = &["/proc/interrupts", "/sys/devices/virtual/powercap"];

#[test]
fn spec_is_the_references_spec() {
    let Ok(reference) = Command::new("runc").arg("--version").output() else {
        skip!("runc is not installed to compare with");
    };
    assert!(reference.status.success());
    for flags in [&["spec"][..], &["spec", "--rootless"]] {
        let (ours, theirs) = (TempDir::new(), TempDir::new());
        finish(Command::new(runtime()).args(flags).current_dir(ours.path()), ours.path()).ok();
        finish(Command::new("runc").args(flags).current_dir(theirs.path()), theirs.path()).ok();
        let read = |dir: &TempDir| -> Value {
            let text = fs::read_to_string(dir.path().join("config.json")).expect("read config.json");
            comparable(serde_json::from_str(&text).expect("JSON"))
        };
        assert_eq!(read(&ours), read(&theirs), "{flags:?}");
    }
}

#[test]
fn spec_does_not_overwrite() {
    let dir = TempDir::new();
    fs::write(dir.path().join("config.json"), "mine").expect("write");
    let outcome = finish(Command::new(runtime()).arg("spec").current_dir(dir.path()), dir.path());
    outcome.fails(&["config.json"]);
    assert_eq!(fs::read_to_string(dir.path().join("config.json")).expect("read"), "mine");
}

#[test]
fn spec_takes_a_bundle() {
    let dir = TempDir::new();
    let bundle = dir.path().display().to_string();
    for flag in ["--bundle", "-b"] {
        call(&["spec", flag, &bundle]).ok();
        fs::remove_file(dir.path().join("config.json")).expect("remove config.json");
    }
    call(&["spec", "--bundle", "/no/such/bundle"]).fails(&["/no/such/bundle"]);
}

#[test]
fn commands_of_later_issues_fail_clearly() {
    only_tare!("runc has them");
    let c = Container::sleeping();
    c.launch();
    for command in ["checkpoint", "restore"] {
        c.call(&[command, &c.id]).fails(&["unrecognized subcommand", command]);
    }
}

#[test]
fn an_error_is_one_line_also_when_backtraces_are_asked_for() {
    only_tare!("the variable is of Rust's programs");
    let dir = TempDir::new();
    for value in ["1", "full"] {
        let outcome = finish(Command::new(runtime()).arg("sideways").env("RUST_BACKTRACE", value), dir.path());
        let outcome = outcome.fails(&["sideways"]);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    }
}

#[test]
fn without_standard_descriptors_no_file_takes_their_place() {
    only_tare!("runc opens what it needs in their place");
    let c = Container::sh("test -c /dev/null; echo $? >/dev/null; exit 7");
    c.save();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).arg(runtime()).args(c.global_args());
    c.finish(command.arg("run").arg("--bundle").arg(c.bundle.path()).arg(&c.id)).code(7);
    c.assert_nothing_left();
}
