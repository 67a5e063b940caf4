//! Who may act on a container: the holder of its lock, and nobody waits for that without end.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

use crate::container::{Container, is_alive};
use crate::runtime::{eventually, need_cgroupfs, need_root, only_tare};

/// The lock of a container's directory, taken by this process as a command of the runtime would.
fn lock(c: &Container) -> Flock<File> {
    let directory = File::open(c.bundle.state_root().join(&c.id)).expect("open the state directory");
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).expect("lock it")
}

#[test]
fn delete_does_not_wait_for_itself_when_the_record_comes_late() {
    only_tare!("the record has another shape");
    for force in [false, true] {
        let c = Container::sleeping();
        c.create().ok();
        let record = c.bundle.state_root().join(&c.id).join("state.json");
        let aside = c.beside("state.json");
        fs::rename(&record, &aside).expect("take the record away");
        let lock = lock(&c);
        let args: &[&str] = if force { &["delete", "--force", &c.id] } else { &["delete", &c.id] };
        let delete = c.spawn(&mut c.command(args));
        // Long enough for it to have looked; if it has not, the test only shows less.
        std::thread::sleep(Duration::from_millis(300));
        fs::rename(&aside, &record).expect("put the record back");
        drop(lock);
        delete.wait().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn a_directory_without_a_record_is_removed() {
    only_tare!("runc 1.1 says that it does not exist");
    let c = Container::new();
    for args in [&["delete", &c.id][..], &["delete", "--force", &c.id]] {
        // As a `create` that was killed leaves it; others may not write to it, whatever the umask
        // is.
        let path = c.bundle.state_root().join(&c.id);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).expect("mkdir");
        c.call(args).ok();
        c.assert_nothing_left();
    }
}

#[test]
fn a_failing_create_leaves_another_container_that_has_got_its_id() {
    only_tare!("runc 1.1 has another state directory");
    need_root!("two cgroups");
    need_cgroupfs!();
    let mut first = Container::sleeping();
    let (started, go) = (first.beside("started"), first.beside("go"));
    let script = format!("touch {}; while [ ! -e {} ]; do sleep 0.01; done; exit 1", started.display(), go.display());
    first.config["hooks"]["createRuntime"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    first.save();
    let create = first.spawn(&mut first.bundle_command("create", &[]));
    eventually("the hook runs", || started.exists().then_some(()));

    // Removed by hand, and made anew.
    let state = first.bundle.state_root().join(&first.id);
    fs::remove_dir_all(&state).expect("remove the state directory");
    let mut second = first.twin();
    second.id.clone_from(&first.id);
    second.config = crate::bundle::default_config();
    second.args(&["sleep", "1000"]);
    second.config["linux"]["cgroupsPath"] = json!(format!("/{}-second", first.id));
    second.launch();
    let pid = second.pid();

    fs::write(&go, "").expect("let the hook fail");
    create.wait().fails(&["createRuntime"]);
    assert!(state.join("state.json").exists() && is_alive(pid));
    assert_eq!(second.status(), "running");
    second.delete_force().ok();
    assert!(!is_alive(pid));
    second.assert_nothing_left();
}

#[test]
fn no_command_waits_for_a_lock_for_ever() {
    only_tare!("runc has no lock");
    let c = Container::sleeping();
    c.create().ok();
    let lock = lock(&c);
    let commands: [&[&str]; 6] = [
        &["start", &c.id],
        &["pause", &c.id],
        &["resume", &c.id],
        &["update", "--pids-limit", "100", &c.id],
        &["delete", &c.id],
        &["delete", "--force", &c.id],
    ];
    let running: Vec<_> = commands.iter().map(|args| c.spawn(&mut c.command(args))).collect();
    // What needs no lock goes on.
    c.state();
    for command in running {
        command.wait().fails(&["locked by"]);
    }
    drop(lock);
    c.delete_force().ok();
    c.assert_nothing_left();
}
