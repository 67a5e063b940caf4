//! The state root: whose it has to be before a record in it is believed.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::bundle::Bundle;
use crate::container::{Container, is_alive, start_time};
use crate::runtime::{Outcome, finish, need_root, only_tare, runtime};

const NOBODY: u32 = 65534;

/// A runtime directory of a user, as XDG_RUNTIME_DIR names it, and a bundle.
struct Home {
    bundle: Bundle,
    config: Container,
}

impl Home {
    fn new() -> Home {
        let home = Home { bundle: Bundle::new(), config: Container::new() };
        fs::create_dir(home.runtime_directory()).expect("mkdir");
        home
    }

    fn runtime_directory(&self) -> PathBuf {
        self.bundle.dir.path().join("run")
    }

    /// The root that an ordinary user has without `--root`.
    fn default_root(&self) -> PathBuf {
        self.runtime_directory().join("tare")
    }

    fn call(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new(runtime());
        command.arg("--rootless=true").args(args).env("XDG_RUNTIME_DIR", self.runtime_directory());
        finish(&mut command, self.bundle.dir.path())
    }

    /// Every command that would read or make a record says the same.
    #[track_caller]
    fn all_refuse(&self, words: &[&str]) {
        fs::write(self.bundle.path().join("config.json"), self.config.config.to_string()).expect("write config.json");
        let bundle = self.bundle.path();
        let bundle = bundle.to_str().expect("a path");
        for args in [
            &["list"][..],
            &["list", "--quiet"],
            &["state", "x"],
            &["kill", "x"],
            &["delete", "x"],
            &["delete", "--force", "x"],
            &["delete", "--force", "--regex", "."],
            &["run", "--bundle", bundle, "x"],
        ] {
            self.call(args).fails(words);
        }
    }
}

fn make(path: &Path, mode: u32) {
    DirBuilder::new().mode(0o700).create(path).expect("mkdir");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// A process that is nobody's container, and what happened to it.
struct Bystander(std::process::Child);

impl Bystander {
    fn new() -> Bystander {
        Bystander(Command::new("sleep").arg("1000").spawn().expect("start sleep"))
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn start(&self) -> u64 {
        start_time(self.pid())
    }

    /// Writes a record that names this process as a container's, with a hook that would leave a
    /// file.
    fn record(&self, dir: &Path, hook_mark: &Path) {
        make(dir, 0o711);
        let script = format!("touch {}", hook_mark.display());
        let record = json!({
            "id": "x", "bundle": "/", "rootfs": "/", "created": "2026-01-02T03:04:05Z", "owner": 0,
            "init_process_pid": self.pid(), "init_process_start": self.start(), "private_pid_namespace": true,
            "namespaces": [], "cgroup": { "kind": "cgroupfs", "paths": {} },
            "hooks": { "poststop": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] }
        });
        fs::write(dir.join("state.json"), record.to_string()).expect("write state.json");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_default_root_of_another_user_is_refused() {
    only_tare!("runc trusts it");
    need_root!("to give a directory away");
    let home = Home::new();
    let mark = home.bundle.dir.path().join("hook-ran");
    let bystander = Bystander::new();
    make(&home.default_root(), 0o755);
    bystander.record(&home.default_root().join("x"), &mark);
    for path in [home.default_root().join("x/state.json"), home.default_root().join("x"), home.default_root()] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    home.all_refuse(&["default state root", "belongs to user id 65534", "--root"]);
    assert!(is_alive(bystander.pid()) && !mark.exists());
    assert!(home.default_root().join("x/state.json").exists());
}

#[test]
fn a_container_of_another_user_in_the_default_root_is_refused() {
    only_tare!("runc trusts it");
    need_root!("to give a directory away");
    let home = Home::new();
    let mark = home.bundle.dir.path().join("hook-ran");
    let bystander = Bystander::new();
    make(&home.default_root(), 0o700);
    let dir = home.default_root().join("x");
    bystander.record(&dir, &mark);
    chown(&dir, Some(NOBODY), Some(NOBODY)).expect("chown");
    for args in [&["state", "x"][..], &["kill", "x"], &["delete", "--force", "x"]] {
        home.call(args).fails(&["belongs to user id 65534"]);
    }
    let list = home.call(&["list"]).ok();
    assert_eq!(list.stdout.lines().count(), 1, "{}", list.stdout);
    assert!(is_alive(bystander.pid()) && !mark.exists() && dir.exists());
}

#[test]
fn a_default_root_that_is_a_symlink_is_refused() {
    only_tare!("runc follows it");
    let home = Home::new();
    let elsewhere = home.bundle.dir.path().join("elsewhere");
    make(&elsewhere, 0o700);
    symlink(&elsewhere, home.default_root()).expect("symlink");
    home.all_refuse(&["default state root", "symlink"]);
    assert_eq!(fs::read_dir(&elsewhere).expect("list").count(), 0);
}

#[test]
fn a_root_that_others_can_write_to_is_refused() {
    only_tare!("runc trusts it");
    let home = Home::new();
    make(&home.default_root(), 0o700);
    for mode in [0o720, 0o702, 0o777, 0o1777, 0o2770] {
        fs::set_permissions(home.default_root(), Permissions::from_mode(mode)).expect("chmod");
        let shown = format!("mode {mode:04o} lets others put records there");
        home.all_refuse(&["default state root", &shown, "--root"]);
        let c = Container::new();
        make(&c.bundle.state_root(), mode);
        c.run().fails(&["--root", &shown]);
        c.call(&["list"]).fails(&["--root", &shown]);
        c.delete_force().fails(&["--root", &shown]);
        fs::set_permissions(c.bundle.state_root(), Permissions::from_mode(0o755)).expect("chmod");
        c.run().ok();
    }
}

#[test]
fn the_directory_for_temporary_files_is_no_root() {
    only_tare!("runc lists it");
    let mut command = Command::new(runtime());
    let bundle = Bundle::new();
    // Not the machine's own: any that is sticky and open to all.
    let temporary = bundle.dir.path().join("tmp");
    make(&temporary, 0o1777);
    finish(command.arg("--root").arg(&temporary).args(["list", "-q"]), bundle.dir.path()).fails(&["mode 1777"]);
}

#[test]
fn a_container_whose_directory_is_a_symlink_or_open_to_others_is_refused() {
    only_tare!("runc follows it");
    let c = Container::sleeping();
    c.launch();
    let dir = c.bundle.state_root().join(&c.id);
    let moved = c.beside("moved");
    fs::rename(&dir, &moved).expect("rename");
    symlink(&moved, &dir).expect("symlink");
    c.call(&["state", &c.id]).fails(&[&c.id]);
    c.delete_force().fails(&[&c.id]);
    assert_eq!(c.call(&["list"]).ok().stdout.lines().count(), 1);
    fs::remove_file(&dir).expect("remove");
    fs::rename(&moved, &dir).expect("rename");

    fs::set_permissions(&dir, Permissions::from_mode(0o777)).expect("chmod");
    c.call(&["state", &c.id]).fails(&["mode 0777 lets others change the container's record"]);
    c.delete_force().fails(&["mode 0777 lets others change the container's record"]);
    fs::set_permissions(&dir, Permissions::from_mode(0o711)).expect("chmod");
    assert_eq!(c.status(), "running");
}

#[test]
fn a_named_root_of_another_user_is_a_warning() {
    only_tare!("runc says nothing");
    need_root!("to give a directory away");
    let c = Container::sleeping();
    make(&c.bundle.state_root(), 0o700);
    chown(c.bundle.state_root(), Some(NOBODY), Some(NOBODY)).expect("chown");
    let warning = "belongs to user id 65534, not to the caller's (0)";
    let created = c.create().ok();
    assert_eq!(created.stderr.matches(warning).count(), 1, "{}", created.stderr);
    c.start().ok();
    // Callers read these with both streams merged.
    for args in [&["state", &c.id][..], &["ps", "--format", "json", &c.id], &["list"]] {
        c.call(args).ok().silent();
    }
    let log = c.beside("log");
    let log_flag = format!("--log={}", log.display());
    c.call(&[&log_flag, "state", &c.id]).ok().silent();
    assert!(fs::read_to_string(&log).expect("the log").contains(warning));
    let deleted = c.delete_force().ok();
    assert!(deleted.stderr.contains(warning), "{}", deleted.stderr);
    c.assert_nothing_left();
}

#[test]
fn a_root_that_is_missing_is_made_for_its_owner_alone() {
    let c = Container::new();
    c.save();
    let mut command = Command::new(runtime());
    command.args(["--root", "a/b"]).args(&c.global_args()[2..]);
    command.args(["run", "--keep", "--bundle", "bundle", &c.id]).current_dir(c.bundle.dir.path());
    c.finish(&mut command).ok();
    for made in ["a", "a/b"] {
        assert_eq!(c.beside(made).metadata().expect("stat").mode() & 0o777, 0o700, "{made}");
    }
    let mut command = Command::new(runtime());
    command.args(["--root", "a/b"]).args(&c.global_args()[2..]).args(["delete", &c.id]);
    c.finish(command.current_dir(c.bundle.dir.path())).ok();
    assert_eq!(fs::read_dir(c.beside("a/b")).expect("list").filter(|e| e.is_ok()).count(), 0);
}
