//! create, start, state, delete: the operations of the runtime spec and their order.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use serde_json::json;

use crate::bundle::make_private_dir;
use crate::container::Container;
use crate::runtime::{is_tare, only_tare};

#[test]
fn a_container_goes_from_created_to_running_to_stopped() {
    let c = Container::sleeping();
    c.create().ok().silent().prints("");
    assert_eq!(c.status(), "created");
    c.start().ok().silent().prints("");
    assert_eq!(c.status(), "running");
    c.kill("KILL").ok().silent().prints("");
    c.wait_for_status("stopped");
    c.delete().ok().silent().prints("");
    c.assert_nothing_left();
}

#[test]
fn the_program_does_not_run_before_start() {
    let c = Container::sh("echo started; sleep 1000");
    let created = c.create().ok();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(fs::read_to_string(&created.stdout_file).expect("read stdout"), "");
    c.start().ok();
    c.wait_for_output(&created, "started\n");
}

#[test]
fn the_state_has_what_the_specs_schema_asks() {
    let mut c = Container::sleeping();
    c.config["annotations"] = json!({ "com.example.key": "value", "empty": "" });
    c.create().ok();
    for status in ["created", "running"] {
        let state = c.state();
        assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{state}");
        assert_eq!(state["id"], json!(c.id));
        assert_eq!(state["status"], json!(status));
        assert!(state["pid"].as_i64().is_some_and(|pid| pid > 1), "{state}");
        assert_eq!(state["bundle"], json!(c.bundle.path()));
        assert_eq!(state["annotations"], json!({ "com.example.key": "value", "empty": "" }));
        if status == "created" {
            c.start().ok();
        }
    }
}

#[test]
fn the_bundle_is_absolute_in_the_state_when_given_relative() {
    let c = Container::sleeping();
    c.save();
    c.finish(c.command(&["create", "--bundle", "bundle", &c.id]).current_dir(c.bundle.dir.path())).ok();
    assert_eq!(c.state()["bundle"], json!(c.bundle.path()));
}

#[test]
fn the_bundle_is_the_working_directory_by_default() {
    let c = Container::sh("echo fine");
    c.save();
    c.finish(c.command(&["run", &c.id]).current_dir(c.bundle.path())).ok().prints("fine\n");
}

#[test]
fn a_stopped_state_keeps_its_bundle_and_tells_no_living_pid() {
    let c = Container::new();
    c.launch();
    c.wait_for_status("stopped");
    let state = c.state();
    assert_eq!(state["bundle"], json!(c.bundle.path()));
    assert_eq!(state["pid"].as_i64().unwrap_or(0), 0, "{state}");
}

#[test]
fn the_pid_file_holds_the_pid_and_no_newline() {
    let c = Container::sleeping();
    let file = c.beside("pid");
    c.create_with(&["--pid-file", file.to_str().expect("a path")]).ok();
    assert_eq!(fs::read_to_string(&file).expect("read the pid file"), c.pid().to_string());
    // Written to a temporary file and renamed: nothing else may stay in the directory.
    let names: Vec<_> = fs::read_dir(c.bundle.dir.path()).expect("list").flatten().map(|e| e.file_name()).collect();
    let known = ["bundle", "state", "pid"];
    let strange = |name: &&std::ffi::OsString| {
        let name = name.to_string_lossy();
        !known.contains(&&*name) && !name.starts_with("stdout.") && !name.starts_with("stderr.")
    };
    assert_eq!(names.iter().find(strange), None);
}

#[test]
fn the_pid_is_init_of_the_container() {
    let c = Container::sleeping();
    c.launch();
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).expect("read status");
    let nspid = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("NSpid");
    assert_eq!(nspid.split_whitespace().last(), Some("1"), "{nspid}");
}

#[test]
fn start_works_once() {
    let c = Container::sleeping();
    c.launch();
    c.start().fails(&["cannot start an already running container"]);
    assert_eq!(c.status(), "running");
}

#[test]
fn a_stopped_container_does_not_start_again() {
    let c = Container::new();
    c.launch();
    c.wait_for_status("stopped");
    c.start().fails(&["cannot start a container that has stopped"]);
}

#[test]
fn of_two_concurrent_starts_one_wins() {
    only_tare!("runc 1.1 can hang in the start that loses");
    let mut c = Container::sh("echo once; sleep 1000");
    for _ in 0..10 {
        let created = c.create().ok();
        let both = [c.spawn(&mut c.command(&["start", &c.id])), c.spawn(&mut c.command(&["start", &c.id]))];
        let codes: Vec<i32> = both.into_iter().map(|start| start.wait().exit_code()).collect();
        assert!(codes == [0, 1] || codes == [1, 0], "{codes:?}");
        assert_eq!(c.wait_for_output(&created, "once\n"), "once\n");
        c = {
            c.delete_force().ok();
            let next = c.twin();
            drop(c);
            next
        };
    }
}

#[test]
fn delete_of_a_running_container_is_refused() {
    let c = Container::sleeping();
    c.launch();
    c.delete().fails(&["not stopped"]);
    assert_eq!(c.status(), "running");
}

#[test]
fn delete_of_a_created_container_ends_it() {
    let c = Container::sleeping();
    c.create().ok();
    c.delete().ok().silent();
    c.assert_nothing_left();
}

#[test]
fn delete_by_force_ends_a_running_container() {
    let c = Container::sh("trap '' TERM; while :; do sleep 1; done");
    c.launch();
    c.delete_force().ok().silent();
    c.assert_nothing_left();
}

#[test]
fn delete_by_force_ends_processes_that_share_the_hosts_pid_namespace() {
    let mut c = Container::sh("sleep 1000 & sleep 1000 & echo ready; wait");
    c.share_the_hosts_pids();
    let created = c.launch();
    c.wait_for_output(&created, "ready");
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn an_unknown_id_does_not_exist() {
    let c = Container::new();
    for verb in ["state", "start", "delete"] {
        c.call(&[verb, "nowhere"]).fails(&["does not exist"]);
    }
    c.call(&["kill", "nowhere", "TERM"]).fails(&["does not exist"]);
    c.call(&["delete", "--force", "nowhere"]).ok().silent();
}

#[test]
fn an_id_in_use_is_refused_and_its_container_unharmed() {
    let c = Container::sleeping();
    c.launch();
    c.create().fails(&["already", "exist"]);
    c.run().fails(&["already", "exist"]);
    assert_eq!(c.status(), "running");
}

#[test]
fn an_id_is_free_again_after_delete() {
    let c = Container::new();
    for _ in 0..3 {
        c.launch();
        c.wait_for_status("stopped");
        c.delete().ok();
    }
    c.assert_nothing_left();
}

#[test]
fn ids_that_are_no_file_name_are_refused() {
    let c = Container::new();
    c.save();
    let bundle = c.bundle.path();
    let bundle = bundle.to_str().expect("a path");
    for id in ["", ".", "..", "a/b", "../x", "/abs", "a b", "a\nb", "é", "a*b"] {
        for verb in ["create", "run"] {
            let outcome = c.call(&[verb, "--bundle", bundle, "--", id]);
            if outcome.exit_code() == 0 {
                c.call(&["delete", "--force", "--", id]);
            }
            assert_eq!(outcome.exit_code(), 1, "{verb} {id:?}: {}", outcome.stderr);
            // The reference does not name the id when it is empty.
            assert!(!is_tare() || outcome.stderr.contains("id"), "{verb} {id:?}: {}", outcome.stderr);
        }
    }
    assert!(!c.beside("x").exists());
    assert_eq!(c.call(&["list", "-q"]).ok().stdout, "");
}

#[test]
fn unsafe_ids_do_not_reach_the_disk_in_other_verbs() {
    let c = Container::new();
    let victim = c.beside("victim");
    fs::create_dir(&victim).expect("mkdir");
    make_private_dir(&c.bundle.state_root());
    for verb in ["state", "start", "delete"] {
        assert_ne!(c.call(&[verb, "../victim"]).exit_code(), 0);
    }
    c.call(&["delete", "--force", "../victim"]);
    c.call(&["delete", "--force", ".."]);
    assert!(victim.exists() && c.bundle.path().exists());
}

#[test]
fn ids_with_all_allowed_characters_work() {
    let mut c = Container::sh("echo fine");
    c.id.push_str("_A.b+c-0");
    c.run().ok().prints("fine\n");
    c.assert_nothing_left();
}

#[test]
fn a_changed_config_json_does_not_change_a_created_container() {
    let c = Container::sh("echo first; sleep 1000");
    let created = c.create().ok();
    fs::write(c.config_file(), "not even JSON").expect("write config.json");
    assert_eq!(c.status(), "created");
    c.start().ok();
    c.wait_for_output(&created, "first\n");
    fs::remove_file(c.config_file()).expect("remove config.json");
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn the_state_directories_are_private() {
    let c = Container::sleeping();
    c.create().ok();
    let mode = |path: &std::path::Path| fs::metadata(path).expect("stat").permissions().mode() & 0o7777;
    let root = c.bundle.state_root();
    assert!([0o700, 0o711].contains(&mode(&root)), "{:o}", mode(&root));
    let dir = root.join(&c.id);
    assert!([0o700, 0o711].contains(&mode(&dir)), "{:o}", mode(&dir));
    for entry in fs::read_dir(dir).expect("list").flatten() {
        // The fifo is opened from the container, as its user, through a descriptor; the directory guards its name.
        if entry.file_type().expect("type").is_fifo() {
            continue;
        }
        assert_eq!(mode(&entry.path()) & 0o022, 0, "{} is writable for others", entry.path().display());
    }
}

#[test]
fn a_container_whose_init_was_killed_from_outside_is_stopped() {
    let c = Container::sleeping();
    c.launch();
    let pid = nix::unistd::Pid::from_raw(c.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill");
    c.wait_for_status("stopped");
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn a_created_container_whose_init_was_killed_is_stopped() {
    let c = Container::sleeping();
    c.create().ok();
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    assert_eq!(c.start().exit_code(), 1);
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn the_rootfs_is_found_below_the_bundle_or_by_an_absolute_path() {
    let mut c = Container::sh("cat /etc/mark");
    c.config["root"]["path"] = json!("./rootfs/../rootfs");
    fs::write(c.rootfs().join("etc/mark"), "relative\n").expect("write");
    c.run().ok().prints("relative\n");
    let elsewhere = c.beside("elsewhere");
    fs::rename(c.rootfs(), &elsewhere).expect("rename");
    c.config["root"]["path"] = json!(elsewhere);
    c.run().ok().prints("relative\n");
}
