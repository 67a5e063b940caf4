//! Nothing stays behind: after many runs, after failures, after a parent that was killed at any moment.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::container::{Container, is_alive, leftovers};
use crate::runtime::{eventually, is_tare, only_tare};

/// A container whose every id of the test begins with the same mark.
fn marked() -> (Container, String) {
    let c = Container::new();
    let mark = format!("{}-many", c.id);
    (c, mark)
}

/// The files below the test's directory but for the outputs of commands.
fn files(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("list").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("stdout.") || name.starts_with("stderr.") {
                continue;
            }
            found.insert(entry.path().display().to_string());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    found
}

#[track_caller]
fn nothing_left(c: &Container, mark: &str, before: &BTreeSet<String>) {
    let end = Instant::now() + Duration::from_secs(2);
    let mut found = leftovers(mark, c.bundle.dir.path());
    while !found.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
        found = leftovers(mark, c.bundle.dir.path());
    }
    assert_eq!(found, Vec::<String>::new());
    let new: Vec<String> = files(c.bundle.dir.path()).difference(before).cloned().collect();
    let root = c.bundle.state_root().display().to_string();
    assert_eq!(new.iter().filter(|path| **path != root).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn two_hundred_runs_leave_nothing() {
    let (mut c, mark) = marked();
    c.run().ok();
    let before = files(c.bundle.dir.path());
    for n in 0..if is_tare() { 200 } else { 20 } {
        c.id = format!("{mark}-{n}");
        c.run().ok();
    }
    nothing_left(&c, &mark, &before);
}

#[test]
fn fifty_lifecycles_leave_nothing() {
    let (mut c, mark) = marked();
    c.run().ok();
    let before = files(c.bundle.dir.path());
    for n in 0..if is_tare() { 50 } else { 5 } {
        c.id = format!("{mark}-{n}");
        c.launch();
        c.wait_for_status("stopped");
        c.delete().ok();
    }
    nothing_left(&c, &mark, &before);
}

#[test]
fn fifty_failed_creates_leave_nothing() {
    let (mut c, mark) = marked();
    c.run().ok();
    c.save();
    let before = files(c.bundle.dir.path());
    let good = c.config.clone();
    let spoil: [fn(&mut Value); 10] = [
        |config| config["process"]["args"] = json!(["/no/such/program"]),
        |config| config["process"]["cwd"] = json!("/etc/passwd"),
        |config| config["root"]["path"] = json!("nowhere"),
        |config| config["linux"]["namespaces"][0]["type"] = json!("sideways"),
        |config| config["mounts"][1]["type"] = json!("sidefs"),
        |config| config["mounts"][3]["options"] = json!(["size=lots"]),
        |config| config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] }),
        |config| config["hooks"] = json!({ "createContainer": [{ "path": "/bin/false" }] }),
        |config| config["linux"]["sysctl"] = json!({ "net.no.such": "1" }),
        |config| config["linux"]["resources"]["cpu"] = json!({ "cpus": "4000" }),
    ];
    for n in 0..if is_tare() { 50 } else { 10 } {
        c.id = format!("{mark}-{n}");
        c.config = good.clone();
        spoil[n % spoil.len()](&mut c.config);
        c.create().code(1);
    }
    nothing_left(&c, &mark, &before);
}

#[test]
fn a_create_killed_at_any_moment_is_cleaned_up_by_force() {
    only_tare!("runc 1.1 leaves cgroups and processes");
    let (mut c, mark) = marked();
    c.args(&["sleep", "1000"]);
    // How long a create takes decides where the kills fall.
    let begin = Instant::now();
    c.id = format!("{mark}-whole");
    c.create().ok();
    let whole = begin.elapsed();
    c.delete_force().ok();
    let before = files(c.bundle.dir.path());
    let rounds = 60;
    for n in 0..rounds {
        c.id = format!("{mark}-{n}");
        c.save();
        let mut create = c.spawn(&mut c.bundle_command("create", &[]));
        std::thread::sleep(whole * n / rounds);
        create.child.kill().expect("kill create");
        create.wait();
        c.delete_force().ok();
        let left = c.bundle.state_root().join(&c.id);
        assert!(left.symlink_metadata().is_err(), "{} after a kill in round {n}", left.display());
    }
    nothing_left(&c, &mark, &before);
}

#[test]
fn a_run_killed_at_any_moment_is_cleaned_up_by_force() {
    only_tare!("runc 1.1 leaves cgroups and processes");
    let (mut c, mark) = marked();
    c.id = format!("{mark}-whole");
    let begin = Instant::now();
    c.run().ok();
    let whole = begin.elapsed();
    let before = files(c.bundle.dir.path());
    let rounds = 40;
    for n in 0..rounds {
        c.id = format!("{mark}-{n}");
        c.save();
        let mut run = c.spawn(&mut c.bundle_command("run", &[]));
        std::thread::sleep(whole * n / rounds);
        run.child.kill().expect("kill run");
        run.wait();
        c.delete_force().ok();
    }
    nothing_left(&c, &mark, &before);
}

#[test]
fn init_ends_when_the_parent_dies_before_start() {
    only_tare!("runc 1.1 may leave its init waiting");
    let c = Container::new();
    let mut slow = c.twin();
    // The parent waits for this hook: the moment to kill it is certain.
    let flag = c.beside("hook-runs");
    slow.config["hooks"] = json!({ "createRuntime": [{
        "path": "/bin/sh", "args": ["sh", "-c", format!("echo $$ >{}; exec sleep 1000", flag.display())]
    }] });
    slow.save();
    let mut create = slow.spawn(&mut slow.bundle_command("create", &[]));
    crate::runtime::eventually("the hook runs", || {
        fs::read_to_string(&flag).is_ok_and(|text| text.ends_with('\n')).then_some(())
    });
    create.child.kill().expect("kill create");
    create.wait();
    slow.delete_force().ok();
    let hook: i32 = fs::read_to_string(&flag).expect("read").trim().parse().expect("a pid");
    if is_alive(hook) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(hook), nix::sys::signal::Signal::SIGKILL);
    }
    slow.assert_nothing_left();
}

#[test]
fn a_damaged_state_can_be_deleted_by_force() {
    let c = Container::sleeping();
    c.create().ok();
    let pid = c.pid();
    let dir = c.bundle.state_root().join(&c.id);
    fs::write(dir.join("state.json"), "{ half").expect("damage the state");
    let state = c.call(&["state", &c.id]);
    assert_eq!(state.exit_code(), 1, "{}", state.stdout);
    if is_tare() {
        c.delete_force().ok();
        assert!(!dir.exists());
    }
    if is_alive(pid) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).expect("remove the state directory");
    }
}

#[test]
fn the_hosts_mount_table_does_not_grow() {
    let c = Container::new();
    // Those of other tests come and go meanwhile: one that stays is a leak.
    let mounts = || -> BTreeSet<String> {
        fs::read_to_string("/proc/self/mountinfo").expect("read").lines().map(str::to_owned).collect()
    };
    let before = mounts();
    for _ in 0..5 {
        c.run().ok();
    }
    let own = c.bundle.dir.path().display().to_string();
    eventually("no mount is left", || {
        let elsewhere = |line: &&String| !line.contains("/tare-test-") || line.contains(&own);
        mounts().difference(&before).find(elsewhere).is_none().then_some(())
    });
}
