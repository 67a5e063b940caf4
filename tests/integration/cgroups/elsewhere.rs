//! A container and its cgroup that have come apart: processes of others in it, an init that was
//! moved out, a cgroup that is gone.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cgroup_tree::{empty, has_v1, named, v1_dir};
use crate::container::Container;
use crate::runtime::{need_cgroupfs, need_root, only_tare, skip};

/// A process of the host.
struct Stranger(Child);

impl Stranger {
    fn new() -> Stranger {
        Stranger(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("start sleep"))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Cgroups beside a container's, with its name and more: they go with the value, and their
/// processes too.
struct Beside(Vec<PathBuf>);

impl Beside {
    /// Moves init out of each of its own cgroups.
    fn move_init(c: &Container) -> Beside {
        let pid = c.pid().to_string();
        let beside = Beside(named(&c.id).iter().map(|own| own.with_file_name(format!("{}-beside", c.id))).collect());
        for dir in &beside.0 {
            fs::create_dir(dir).expect("mkdir");
            if dir.to_string_lossy().contains("/cpuset/") {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let above = fs::read_to_string(dir.with_file_name(file)).expect("read");
                    fs::write(dir.join(file), above).expect("write");
                }
            }
            fs::write(dir.join("cgroup.procs"), &pid).expect("move init");
        }
        beside
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        for dir in &self.0 {
            while dir.exists() && fs::remove_dir(dir).is_err() && Instant::now() < end {
                empty(dir);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Removes the cgroups that init has left.
fn remove_own(c: &Container) {
    for dir in named(&c.id).iter().filter(|dir| !dir.to_string_lossy().contains("-beside")) {
        crate::runtime::eventually("its cgroup is removed", || {
            (fs::remove_dir(dir).is_ok() || !dir.exists()).then_some(())
        });
    }
}

#[test]
fn delete_names_a_process_that_it_has_not_killed() {
    need_root!("only root may move a process of the host");
    only_tare!("runc tries for a longer time and names no process");
    if !has_v1("memory") || !has_v1("devices") {
        skip!("on cgroup v2 whatever is in the cgroup is killed");
    }
    let c = Container::sleeping();
    c.launch();
    let stranger = Stranger::new();
    // A container's processes are looked for in the devices' hierarchy: there is none of the
    // host's.
    let dir = v1_dir(c.pid(), "memory");
    fs::write(dir.join("cgroup.procs"), stranger.pid()).expect("move the stranger");
    let begin = Instant::now();
    c.delete_force().fails(&["rmdir", &format!("(pid {})", stranger.pid()), "device or resource busy"]);
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    // What is needed to try again is there.
    assert_eq!(c.status(), "stopped");
    let pid = stranger.0.id().try_into().expect("a pid");
    assert!(crate::container::is_alive(pid), "it is not the container's to kill");
    drop(stranger);
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn run_keeps_the_programs_status_when_its_cgroup_cannot_be_removed() {
    need_root!("only root may move a process of the host");
    only_tare!("runc loses it");
    if !has_v1("memory") || !has_v1("devices") {
        skip!("on cgroup v2 whatever is in the cgroup is killed");
    }
    let mut c = Container::sh("until [ -e /tmp/go ]; do usleep 10000; done; exit 42");
    c.writable_root();
    c.save();
    let run = c.spawn(&mut c.bundle_command("run", &[]));
    crate::runtime::eventually("it runs", || {
        let outcome = c.call(&["state", &c.id]);
        (outcome.exit_code() == 0 && outcome.json()["status"] == "running").then_some(())
    });
    let stranger = Stranger::new();
    fs::write(v1_dir(c.pid(), "memory").join("cgroup.procs"), stranger.pid()).expect("move the stranger");
    fs::write(c.rootfs().join("tmp/go"), "").expect("write");
    let outcome = run.wait().code(42);
    assert!(outcome.stderr.contains(&stranger.pid()), "{}", outcome.stderr);
    drop(stranger);
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn delete_from_within_the_containers_cgroup_does_not_end_itself() {
    need_root!("only root may move a process of the host");
    // systemd ends the whole unit, and this process with it.
    need_cgroupfs!();
    only_tare!("runc kills itself");
    let c = Container::sleeping();
    c.launch();
    let dirs = named(&c.id);
    // A shell that moves itself in, and becomes the command.
    let delete = c.command(&["delete", "--force", &c.id]);
    let mut shell = Command::new("sh");
    let moves: String = dirs.iter().map(|dir| format!("echo $$ >{}/cgroup.procs && ", dir.display())).collect();
    shell.args(["-c", &format!("{moves} exec \"$@\""), "sh"]).stdin(Stdio::null());
    shell.arg(delete.get_program()).args(delete.get_args());
    let outcome = c.finish(&mut shell);
    outcome.fails(&["rmdir"]);
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn all_reaches_an_init_that_was_moved_out_of_its_cgroup() {
    need_root!("only root may move processes about");
    need_cgroupfs!();
    only_tare!("runc signals what is in the cgroup");
    for (signal, gone) in [("KILL", false), ("KILL", true), ("USR1", false), ("USR1", true)] {
        let c = Container::sh("trap 'exit 3' USR1; echo ready; while :; do usleep 5000; done");
        let created = c.launch();
        c.wait_for_output(&created, "ready");
        let beside = Beside::move_init(&c);
        if gone {
            remove_own(&c);
        }
        c.call(&["kill", "--all", &c.id, signal]).ok().silent();
        c.wait_for_status("stopped");
        drop(beside);
        c.delete().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn an_update_says_that_the_cgroup_is_gone() {
    need_root!("only root may move processes about");
    need_cgroupfs!();
    only_tare!("runc names the first limit");
    let c = Container::sleeping();
    c.launch();
    let beside = Beside::move_init(&c);
    remove_own(&c);
    c.call(&["update", "--pids-limit", "20", &c.id]).fails(&["the container's cgroup is gone", &c.id]);
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    drop(beside);
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn a_second_container_cannot_have_the_cgroup_of_a_living_one() {
    need_cgroupfs!();
    need_root!("an ordinary user has no cgroup of a name of their choice");
    let mut first = Container::sleeping();
    first.config["linux"]["cgroupsPath"] = serde_json::json!(format!("/{}", first.id));
    let mut second = first.twin();
    second.config = first.config.clone();
    first.launch();
    second.create().fails(&["cgroup is not empty"]);
    second.delete_force().ok();
    assert_eq!(first.status(), "running");
}
