//! What the caller has done with its signals and its umask, and what of it reaches the program, the
//! hooks and the runtime's own files.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::cgroup_tree;
use crate::container::Container;
use crate::runtime::{Outcome, only_tare, read_text, runtime, skip};

/// Each signal that a shell can ignore, by number: SIGKILL and SIGSTOP cannot be, 32 and 33 are the
/// C library's.
const IGNORE_ALL: &str = "for n in 1 2 3 4 5 6 7 8 10 11 12 13 14 15 16 17 18 20 21 22 23 24 25 26 27 28 29 30 31 \
     34 35 40 50 63 64; do trap '' $n; done; exec \"$@\"";

/// Calls the runtime from a shell that has run `before`; the verb's own arguments are `args`.
fn from_shell(c: &Container, before: &str, args: &[&str]) -> Outcome {
    c.save();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", before, "sh"]).arg(runtime()).args(c.global_args()).args(args).stdin(Stdio::null());
    c.finish(&mut command)
}

fn bundle(c: &Container) -> String {
    c.bundle.path().display().to_string()
}

fn ignored(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_else(|| panic!("no SigIgn in {text:?}")).trim()
}

const NONE: &str = "0000000000000000";

#[test]
fn what_the_caller_ignores_reaches_no_program() {
    only_tare!("the reference hands SIGHUP and SIGINT on");
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/status"]);
    let outcome = from_shell(&c, IGNORE_ALL, &["run", "--bundle", &bundle(&c), &c.id]).ok();
    assert_eq!(ignored(&outcome.stdout), NONE);
    // Blocked by the foreground's wait for signals, and not by the program.
    assert_eq!(outcome.field("SigBlk"), NONE);
    c.assert_nothing_left();

    c.args(&["sh", "-c", "cat /proc/self/status; sleep 1000"]);
    let created = from_shell(&c, IGNORE_ALL, &["create", "--bundle", &bundle(&c), &c.id]).ok();
    c.start().ok();
    let text = c.wait_for_output(&created, "nonvoluntary_ctxt_switches");
    assert_eq!(ignored(&text), NONE);
    let outcome = from_shell(&c, IGNORE_ALL, &["exec", &c.id, "cat", "/proc/self/status"]).ok();
    assert_eq!(ignored(&outcome.stdout), NONE);
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn what_the_caller_ignores_reaches_no_hook() {
    only_tare!("the reference hands SIGHUP and SIGINT on");
    let mut c = Container::new();
    let note = |point: &str| c.beside(point).display().to_string();
    let hook = |path: &str| {
        // Two commands: a busybox that executes the last one in its own place leaves SIGQUIT
        // ignored.
        let script = format!("cat /proc/self/status >{path}; true");
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }])
    };
    let outside = ["createRuntime", "createContainer", "poststart", "poststop"];
    let mut hooks: serde_json::Map<String, serde_json::Value> =
        outside.iter().map(|point| ((*point).to_owned(), hook(&note(point)))).collect();
    hooks.insert("startContainer".to_owned(), hook("/dev/shm/startContainer"));
    c.config["hooks"] = hooks.into();
    c.args(&["cat", "/dev/shm/startContainer"]);
    let outcome = from_shell(&c, IGNORE_ALL, &["run", "--bundle", &bundle(&c), &c.id]).ok();
    assert_eq!(ignored(&outcome.stdout), NONE, "startContainer");
    for point in outside {
        assert_eq!(ignored(&read_text(&c.beside(point))), NONE, "{point}");
    }
}

#[test]
fn a_caller_that_ignores_the_end_of_children_gets_the_exit_status() {
    let c = Container::sh("exit 7");
    // Few shells can ignore it.
    let before = "exec env --ignore-signal=CHLD \"$@\"";
    if !Command::new("env").args(["--ignore-signal=CHLD", "true"]).status().is_ok_and(|status| status.success()) {
        skip!("env has no --ignore-signal");
    }
    from_shell(&c, before, &["run", "--bundle", &bundle(&c), &c.id]).code(7).silent();
    c.assert_nothing_left();
}

/// Files and directories below `path` that others than the owner may write.
fn writable_by_others(path: &Path, found: &mut Vec<String>) {
    let metadata = path.symlink_metadata().expect("stat");
    let is_socket_or_link = metadata.file_type().is_socket() || metadata.file_type().is_symlink();
    if metadata.mode() & 0o022 != 0 && !is_socket_or_link {
        found.push(format!("{} {:o}", path.display(), metadata.mode()));
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).expect("list").flatten() {
            writable_by_others(&entry.path(), found);
        }
    }
}

#[test]
fn with_a_umask_of_0_nothing_is_made_that_others_may_write() {
    only_tare!("the reference's log and pid file have what the umask leaves");
    let c = Container::sh("umask; sleep 1000");
    let (log, pid_file) = (c.beside("log"), c.beside("pid"));
    let (log, pid_file) = (log.to_str().expect("a path"), pid_file.to_str().expect("a path"));
    c.save();
    let args = ["--debug", "--log", log, "run", "-d", "--pid-file", pid_file, "--bundle", &bundle(&c), &c.id];
    let outcome = from_shell(&c, "umask 0; exec \"$@\"", &args).ok();
    let mut found = Vec::new();
    for path in [log, pid_file].map(Path::new).into_iter().chain([c.bundle.state_root().as_path()]) {
        writable_by_others(path, &mut found);
    }
    for directory in cgroup_tree::named(&c.id) {
        found.extend(Some(&directory).filter(|path| mode(path) & 0o022 != 0).map(|path| path.display().to_string()));
    }
    assert_eq!(found, Vec::<String>::new());
    // The program's is not the caller's.
    assert_eq!(c.wait_for_output(&outcome, "\n"), "0022\n");
    let pid_file = c.beside("exec.pid");
    let args = ["exec", "-d", "--pid-file", pid_file.to_str().expect("a path"), &c.id, "true"];
    from_shell(&c, "umask 0; exec \"$@\"", &args).ok();
    assert_eq!(mode(&pid_file) & 0o777, 0o644);
    c.delete_force().ok();
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("stat").mode()
}

#[test]
fn with_a_umask_of_0777_a_container_lives_as_ever() {
    only_tare!("the reference cannot read its own files then, but as root");
    let c = Container::sh("umask; sleep 1000");
    c.save();
    let shell = |args: &[&str]| from_shell(&c, "umask 0777; exec \"$@\"", args);
    let (log, pid_file) = (c.beside("log"), c.beside("pid"));
    let (log, pid_file) = (log.to_str().expect("a path"), pid_file.to_str().expect("a path"));
    let global = ["--debug", "--log", log];
    let bundle = bundle(&c);
    let create = [&global[..], &["create", "--pid-file", pid_file, "--bundle", &bundle, &c.id]].concat();
    let created = shell(&create).ok();
    shell(&[&global[..], &["start", &c.id]].concat()).ok();
    assert_eq!(c.wait_for_output(&created, "\n"), "0022\n");
    shell(&[&global[..], &["exec", &c.id, "sh", "-c", "umask"]].concat()).ok().prints("0022\n");
    for path in [c.bundle.state_root().join(&c.id), log.into(), pid_file.into()] {
        let owner = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path) & owner, owner, "{}", path.display());
    }
    shell(&["delete", "-f", &c.id]).ok();
    c.assert_nothing_left();
}

#[test]
fn a_hook_has_the_callers_umask() {
    let mut c = Container::new();
    let note = c.beside("note").display().to_string();
    let script = format!("umask >>{note}");
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
    c.config["hooks"] = json!({ "createRuntime": hook, "createContainer": hook });
    from_shell(&c, "umask 027; exec \"$@\"", &["run", "--bundle", &bundle(&c), &c.id]).ok();
    assert_eq!(read_text(Path::new(&note)), "0027\n0027\n");
}
