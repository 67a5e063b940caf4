//! Records and caches that another user wrote: root believes nothing of them.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::bundle::{make_private_dir, mounts_below};
use crate::container::{Container, is_alive, start_time};
use crate::runtime::{Outcome, eventually, need_root, only_tare};

const NOBODY: u32 = 65534;

/// A process outside of any container, which a record may name.
struct Process(Child);

impl Process {
    fn of(user: u32) -> Process {
        let mut command = Command::new("sleep");
        Process(command.arg("1000").uid(user).gid(user).stdin(Stdio::null()).spawn().expect("start sleep"))
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn start(&self) -> u64 {
        start_time(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A container that exists in a record of another user's alone.
struct Forged {
    c: Container,
    record: Value,
}

impl Forged {
    fn new() -> Forged {
        let c = Container::new();
        let mark = c.beside("hook-ran");
        let script = format!("touch {}", mark.display());
        let record = json!({
            "id": c.id, "bundle": "/", "rootfs": "/", "created": "2026-01-02T03:04:05Z", "owner": 0,
            "init_process_pid": 0, "init_process_start": 0, "private_pid_namespace": true, "namespaces": [],
            "cgroup": { "kind": "cgroupfs", "paths": {} },
            "hooks": { "poststop": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] }
        });
        Forged { c, record }
    }

    fn name(&mut self, init: &Process) {
        self.record["init_process_pid"] = json!(init.pid());
        self.record["init_process_start"] = json!(init.start());
    }

    fn dir(&self) -> PathBuf {
        self.c.bundle.state_root().join(&self.c.id)
    }

    fn write(&self) {
        fs::create_dir_all(self.dir()).expect("mkdir");
        fs::write(self.dir().join("state.json"), self.record.to_string()).expect("write the record");
        give(&[&self.dir().join("state.json"), &self.dir(), &self.c.bundle.state_root()], NOBODY);
    }

    /// `delete --force` says what it leaves alone, runs no hook, and keeps the record.
    #[track_caller]
    fn is_left(&self, words: &[&str]) -> Outcome {
        self.write();
        let outcome = self.c.delete_force().fails(&["belongs to user id 65534"]).fails(words);
        assert!(!self.c.beside("hook-ran").exists() && self.dir().join("state.json").exists());
        outcome
    }
}

impl Drop for Forged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.dir());
    }
}

fn give(paths: &[&Path], user: u32) {
    for path in paths {
        chown(path, Some(user), Some(user)).expect("chown");
    }
}

#[test]
fn a_process_of_somebody_else_is_not_killed() {
    only_tare!("runc believes the record");
    need_root!("to write the record of another user");
    let (init, mut forged) = (Process::of(0), Forged::new());
    forged.name(&init);
    forged.is_left(&[&format!("process {}, which it names as init, does not", init.pid())]);
    for args in [&["kill", &forged.c.id, "KILL"][..], &["kill", "--all", &forged.c.id, "KILL"]] {
        forged.c.call(args);
        assert!(is_alive(init.pid()), "{args:?}");
    }
}

#[test]
fn a_process_of_the_records_owner_is_killed_and_no_hook_runs() {
    only_tare!("runc runs the hook");
    need_root!("to write the record of another user");
    let (mut init, mut forged) = (Process::of(NOBODY), Forged::new());
    forged.name(&init);
    forged.write();
    assert_eq!(forged.c.status(), "running");
    let outcome = forged.c.delete_force().ok();
    assert!(outcome.stderr.contains("its hooks are not run"), "{}", outcome.stderr);
    init.0.wait().expect("wait");
    assert!(!forged.c.beside("hook-ran").exists() && !forged.dir().exists());
}

#[test]
fn a_directory_that_is_no_cgroup_is_not_believed() {
    only_tare!("runc believes the record");
    need_root!("to write the record of another user");
    let (process, mut forged) = (Process::of(0), Forged::new());
    let cgroup = forged.c.beside("cgroup");
    fs::create_dir(&cgroup).expect("mkdir");
    fs::write(cgroup.join("cgroup.procs"), format!("{}\n", process.pid())).expect("write");
    let link = forged.c.beside("link");
    symlink(&cgroup, &link).expect("symlink");
    let above = format!("/sys/fs/cgroup/../../..{}", cgroup.display());
    for path in [cgroup.to_str().expect("a path"), link.to_str().expect("a path"), &above] {
        for key in ["", "memory"] {
            for kind in ["cgroupfs", "systemd"] {
                forged.record["cgroup"] = json!({ "kind": kind, "paths": { key: path }, "unit": "no-such.scope" });
                forged.is_left(&["is left alone", "not below /sys/fs/cgroup"]);
                assert!(is_alive(process.pid()) && cgroup.join("cgroup.procs").exists(), "{path}");
            }
        }
    }
}

#[test]
fn a_cgroup_of_somebody_else_is_not_emptied() {
    only_tare!("runc believes the record");
    need_root!("to write the record of another user");
    let victim = Container::sleeping();
    victim.launch();
    let pid = victim.pid();
    let text = fs::read(victim.bundle.state_root().join(&victim.id).join("state.json")).expect("read");
    let record: Value = serde_json::from_slice(&text).expect("JSON");
    assert!(!record["cgroup"]["paths"].as_object().expect("paths").is_empty());
    let mut forged = Forged::new();
    forged.record["cgroup"] = record["cgroup"].clone();
    forged.is_left(&["is left alone", "it belongs to user id 0"]);
    for args in [&["kill", "--all", &forged.c.id, "KILL"][..], &["pause", &forged.c.id]] {
        forged.c.call(args);
    }
    assert!(is_alive(pid));
    assert_eq!(victim.status(), "running");
    victim.delete_force().ok();
    victim.assert_nothing_left();
}

#[test]
fn mounts_that_the_record_claims_stay() {
    only_tare!("runc removes no such mounts");
    need_root!("to mount");
    let mut forged = Forged::new();
    let point = forged.c.beside("point");
    fs::create_dir(&point).expect("mkdir");
    let none: Option<&str> = None;
    nix::mount::mount(Some("none"), &point, Some("tmpfs"), nix::mount::MsFlags::empty(), none).expect("mount");
    forged.record["rootfs"] = json!(point);
    forged.record["mounts_before"] = json!(0);
    forged.is_left(&["is left alone", "mounts on"]);
    assert_eq!(mounts_below(&point).len(), 1);
}

#[test]
fn no_program_is_run_by_the_record_of_another_user() {
    only_tare!("runc believes the record");
    need_root!("to give a record away");
    let c = Container::sleeping();
    c.create().ok();
    let dir = c.bundle.state_root().join(&c.id);
    let files = [dir.join("state.json"), dir.clone(), c.bundle.state_root()];
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    give(&files, NOBODY);
    assert_eq!(c.status(), "created");
    c.start().fails(&["belongs to user id 65534"]);
    give(&files, 0);
    c.start().ok();
    // The file alone, the directory alone, the root alone is enough, but for the root: what is in
    // it is root's own.
    for one in &files[..2] {
        give(&[one], NOBODY);
        let exec = c.call(&["exec", &c.id, "true"]).code(255);
        assert!(exec.stderr.contains("belongs to user id 65534"), "{}", exec.stderr);
        c.call(&["update", "--pids-limit", "99", &c.id]).fails(&["belongs to user id 65534"]);
        give(&[one], 0);
    }
    give(&files[2..], NOBODY);
    c.call(&["exec", &c.id, "true"]).ok();
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn a_record_under_another_id_is_not_that_containers() {
    only_tare!("runc does not look");
    let c = Container::sleeping();
    c.launch();
    let pid = c.pid();
    let (dir, other) = (c.bundle.state_root().join(&c.id), c.bundle.state_root().join("other"));
    make_private_dir(&other);
    fs::copy(dir.join("state.json"), other.join("state.json")).expect("copy");
    c.call(&["state", "other"]).fails(&["is the record of container"]);
    c.call(&["delete", "other"]).fails(&["is the record of container"]);
    assert!(is_alive(pid));
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn the_cache_of_filters_is_not_reached_by_a_link_nor_waited_for() {
    only_tare!("runc has no cache");
    let mut c = Container::sh("echo fine");
    c.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }]
    });
    let (root, elsewhere) = (c.bundle.state_root(), c.beside("elsewhere"));
    fs::create_dir_all(elsewhere.join("seccomp")).expect("mkdir");
    make_private_dir(&root);
    let untouched = |c: &Container| {
        c.run().ok().prints("fine\n");
        assert_eq!(fs::read_dir(elsewhere.join("seccomp")).expect("list").count(), 0);
    };
    symlink(&elsewhere, root.join(".cache")).expect("symlink");
    untouched(&c);
    fs::remove_file(root.join(".cache")).expect("remove");
    make_private_dir(&root.join(".cache"));
    symlink(elsewhere.join("seccomp"), root.join(".cache/seccomp")).expect("symlink");
    untouched(&c);
    fs::remove_file(root.join(".cache/seccomp")).expect("remove");
    untouched(&c);
    let entries = || fs::read_dir(root.join(".cache/seccomp")).expect("list").flatten().map(|entry| entry.path());
    assert_eq!(entries().count(), 1, "it is cached now");
    for entry in entries().collect::<Vec<_>>() {
        fs::remove_file(&entry).expect("remove");
        mkfifo(&entry, Mode::S_IRWXU).expect("mkfifo");
    }
    untouched(&c);
    eventually("the fifo is replaced", || entries().all(|entry| entry.is_file()).then_some(()));
}
