//! delete --force: it succeeds when nothing is left, and otherwise keeps what it takes to try
//! again.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::bundle::{is_rootless, make_private_dir};
use crate::container::{Container, is_alive};
use crate::runtime::{copy_program, eventually, need_root, only_tare, runtime};

fn record(c: &Container) -> PathBuf {
    c.bundle.state_root().join(&c.id).join("state.json")
}

#[test]
fn an_id_that_is_unknown_is_deleted_already() {
    let c = Container::new();
    c.delete_force().ok().silent();
    c.delete().fails(&["does not exist"]);
    // The root is there now.
    c.run().ok();
    c.delete_force().ok().silent();
    c.delete().fails(&["does not exist"]);
}

#[test]
fn a_root_that_cannot_be_searched_is_an_error() {
    only_tare!("runc says that it is deleted");
    let c = Container::sleeping();
    c.launch();
    let pid = c.pid();
    let (root, outcome);
    if is_rootless() {
        root = c.bundle.state_root();
        fs::set_permissions(&root, Permissions::from_mode(0o000)).expect("chmod");
        outcome = c.delete_force();
        fs::set_permissions(&root, Permissions::from_mode(0o700)).expect("chmod");
    } else {
        let program = c.beside("tare");
        copy_program(runtime(), &program);
        let mut command = Command::new(&program);
        command.args(c.global_args()).args(["delete", "--force", &c.id]).current_dir("/").uid(65534).gid(65534);
        outcome = c.finish(&mut command);
    }
    outcome.fails(&["permission denied"]);
    assert!(is_alive(pid));
    c.delete_force().ok();
    c.assert_nothing_left();
}

/// With few descriptors each call that opens something fails once, until there are enough of them.
#[test]
fn without_descriptors_nothing_is_said_to_be_deleted_that_is_not() {
    only_tare!("runc needs more of them");
    let c = Container::sleeping();
    c.launch();
    let pid = c.pid();
    let mut failed = 0;
    for limit in 3.. {
        assert!(limit < 64, "delete --force needs {limit} descriptors");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit} && exec \"$@\""), "sh"]).arg(runtime());
        command.args(c.global_args()).args(["delete", "--force", &c.id]);
        if c.finish(&mut command).exit_code() == 0 {
            break;
        }
        failed += 1;
        // The record is the last to go but for its directory.
        let state = c.call(&["state", &c.id]);
        assert!(state.exit_code() == 0 || !is_alive(pid), "with {limit}: {}", state.stderr);
        assert!(c.bundle.state_root().join(&c.id).exists(), "with {limit}");
    }
    assert!(failed > 0, "three descriptors are enough");
    c.assert_nothing_left();
}

#[test]
fn without_a_procfs_a_container_is_not_taken_for_stopped() {
    only_tare!("runc needs /proc");
    need_root!("for a mount namespace");
    let c = Container::sleeping();
    c.launch();
    let pid = c.pid();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"]).arg(runtime());
    command.args(c.global_args()).args(["delete", "--force", &c.id]);
    let outcome = c.finish(&mut command);
    assert_ne!(outcome.exit_code(), 0, "{}", outcome.stderr);
    assert!(is_alive(pid) && record(&c).exists(), "{}", outcome.stderr);
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn without_cgroups_to_be_seen_a_container_is_not_taken_for_gone() {
    only_tare!("runc removes its directory");
    need_root!("for a mount namespace");
    let c = Container::sleeping();
    c.launch();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"", "sh"]).arg(runtime());
    command.args(c.global_args()).args(["delete", "--force", &c.id]);
    let outcome = c.finish(&mut command);
    assert_ne!(outcome.exit_code(), 0, "{}", outcome.stderr);
    assert!(record(&c).exists(), "{}", outcome.stderr);
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn a_created_container_without_its_record_does_not_live_on() {
    only_tare!("runc removes the directory alone");
    let c = Container::sleeping();
    c.create().ok();
    let pid = c.pid();
    fs::remove_file(record(&c)).expect("remove the record");
    c.delete().fails(&["state.json is missing"]);
    assert!(is_alive(pid));
    c.delete_force().ok();
    assert!(!is_alive(pid));
    c.assert_nothing_left();
}

/// What a mistake or a program may have put in the record's place: it is not waited for, not
/// followed, and not forgotten.
#[test]
fn a_record_that_is_no_file_is_an_error_and_the_container_stays() {
    only_tare!("runc waits for a fifo");
    let c = Container::sleeping();
    c.launch();
    let pid = c.pid();
    let (path, kept) = (record(&c), c.beside("kept"));
    fs::rename(&path, &kept).expect("move the record");
    let put: [(&str, &dyn Fn()); 3] = [
        ("not a regular file", &|| mkfifo(&path, Mode::S_IRWXU).expect("mkfifo")),
        ("symlink", &|| symlink(&kept, &path).expect("symlink")),
        ("not a regular file", &|| fs::create_dir(&path).expect("mkdir")),
    ];
    for (said, put) in put {
        put();
        for args in [&["state", &c.id][..], &["kill", &c.id], &["delete", &c.id], &["delete", "-f", &c.id]] {
            c.call(args).fails(&[said]);
        }
        assert_eq!(c.call(&["list"]).ok().stdout.lines().count(), 1);
        assert!(is_alive(pid));
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    }
    fs::rename(&kept, &path).expect("move the record back");
    c.delete_force().ok().silent();
    c.assert_nothing_left();
}

#[test]
fn a_created_container_whose_record_is_damaged_does_not_live_on() {
    only_tare!("runc removes the directory alone");
    for damage in ["", "{ half", "null", "{\"id\":1}"] {
        let c = Container::sleeping();
        c.create().ok();
        let pid = c.pid();
        fs::write(record(&c), damage).expect("damage the record");
        c.call(&["state", &c.id]).fails(&["state.json"]);
        c.delete().fails(&["state.json"]);
        assert!(is_alive(pid));
        c.delete_force().ok();
        assert!(!is_alive(pid));
        c.assert_nothing_left();
    }
}

#[test]
fn a_running_container_is_found_by_what_is_left_of_its_record() {
    only_tare!("runc removes the directory alone");
    let c = Container::sleeping();
    c.launch();
    let pid = c.pid();
    let text = fs::read_to_string(record(&c)).expect("read the record");
    let key = "\"init_process_start\":";
    let start = text.find(key).expect("a start time") + key.len();
    let end = start + text[start..].find(',').expect("an end") + 1;
    fs::write(record(&c), &text[..end]).expect("cut the record");
    c.delete_force().ok();
    assert!(!is_alive(pid));
    c.assert_nothing_left();
}

#[test]
fn a_running_container_that_cannot_be_found_keeps_its_directory() {
    only_tare!("runc removes the directory alone");
    let c = Container::sleeping();
    c.launch();
    let pid = c.pid();
    let text = fs::read(record(&c)).expect("read the record");
    for damage in ["", "{ half", "\"init_process_pid\":1,\"init_process_start\":1,"] {
        fs::write(record(&c), damage).expect("damage the record");
        c.delete_force().fails(&["state.json", "no process of the container is found", &c.id]);
        assert!(is_alive(pid) && record(&c).exists());
    }
    fs::write(record(&c), text).expect("restore the record");
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn a_directory_without_a_record_is_removed() {
    only_tare!("runc keeps no such directory");
    let c = Container::sleeping();
    c.launch();
    let pid = c.pid();
    let dir = c.bundle.state_root().join("left");
    make_private_dir(&dir);
    c.call(&["delete", "--force", "left"]).ok();
    assert!(!dir.exists());
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
    eventually("the container has stopped", || (!is_alive(pid)).then_some(()));
    c.delete_force().ok();
    c.assert_nothing_left();
}
