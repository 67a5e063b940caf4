//! `--systemd-cgroup`: only the unit that a container's own create has started is ever stopped.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::bundle::is_rootless;
use crate::container::{Container, is_alive};
use crate::runtime::{Running, by_systemd, eventually, only_tare, skip};

macro_rules! need_systemd {
    () => {
        if !by_systemd() {
            skip!("TARE_TEST_CGROUPS=systemd is not set");
        }
    };
}

/// A command for the manager that has the containers' units.
fn manager(program: &str) -> Command {
    let mut command = Command::new(program);
    if is_rootless() {
        command.arg("--user");
    }
    command.stdin(Stdio::null());
    command
}

fn property(unit: &str, name: &str) -> String {
    let output = manager("systemctl").args(["--no-pager", "show", "--value", "--property", name, unit]).output();
    String::from_utf8(output.expect("systemctl").stdout).expect("text").trim().to_owned()
}

/// Gives the container a unit of its own name in this slice.
fn scope(c: &mut Container, slice: &str) -> String {
    c.config["linux"]["cgroupsPath"] = json!(format!("{slice}:tt:{}", c.id));
    format!("tt-{}.scope", c.id)
}

/// A sleeping process in a scope that no container has started.
struct Foreign {
    child: Child,
    unit: String,
}

impl Foreign {
    fn start(unit: &str) -> Foreign {
        let mut command = manager("systemd-run");
        command.args(["--quiet", "--scope", "--collect", "--unit", unit, "sleep", "1000"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start systemd-run");
        let foreign = Foreign { child, unit: unit.to_owned() };
        eventually("the other unit is there", || (property(unit, "ActiveState") == "active").then_some(()));
        foreign
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(property(&self.unit, "ActiveState"), "active");
        assert!(is_alive(self.child.id().try_into().expect("a pid")));
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn exactly_one_of_several_that_start_at_once_in_one_unit_runs() {
    need_systemd!();
    only_tare!("runc's failing create stops the unit of the other one");
    for _ in 0..3 {
        let mut first = Container::sleeping();
        let unit = scope(&mut first, "");
        let mut all = vec![first];
        for _ in 0..3 {
            let twin = all[0].twin();
            all.push(twin);
        }
        all[0].save();
        let starting: Vec<Running> = all.iter().map(|c| c.spawn(&mut c.bundle_command("run", &["--detach"]))).collect();
        let outcomes: Vec<_> = starting.into_iter().map(Running::wait).collect();
        let codes: Vec<i32> = outcomes.iter().map(|outcome| outcome.exit_code()).collect();
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
        for (c, code) in all.iter().zip(codes) {
            if code == 0 {
                assert_eq!(c.status(), "running");
                assert_eq!(property(&unit, "ActiveState"), "active");
            } else {
                assert_eq!(code, 1);
                assert!(!c.bundle.state_root().join(&c.id).exists(), "{} has left its directory", c.id);
            }
        }
    }
}

#[test]
fn a_create_that_fails_leaves_the_unit_that_has_the_name_alone() {
    need_systemd!();
    only_tare!("runc stops it");
    let mut c = Container::sleeping();
    // In another slice, so that its cgroup is empty.
    let unit = scope(&mut c, "tt-elsewhere.slice");
    let foreign = Foreign::start(&unit);
    c.create().fails(&[&unit, "another container or service has a unit of this name"]);
    foreign.assert_untouched();
    assert!(!c.bundle.state_root().join(&c.id).exists());
    drop(foreign);
}

#[test]
fn delete_leaves_a_unit_that_got_the_name_later_alone() {
    need_systemd!();
    only_tare!("runc stops it");
    for flags in [&[][..], &["--force"]] {
        let mut c = Container::sleeping();
        let unit = scope(&mut c, "");
        c.launch();
        c.kill("KILL").ok();
        c.wait_for_status("stopped");
        eventually("the unit has ended", || (property(&unit, "ActiveState") != "active").then_some(()));
        let foreign = Foreign::start(&unit);
        c.call(&["kill", "--all", &c.id, "TERM"]).ok();
        c.call(&["kill", "--all", &c.id, "KILL"]).ok();
        c.call(&[&["delete"], flags, &[c.id.as_str()]].concat()).ok();
        foreign.assert_untouched();
        assert!(!c.bundle.state_root().join(&c.id).exists());
        drop(foreign);
    }
}

#[test]
fn a_unit_is_known_after_a_daemon_reload() {
    need_systemd!();
    let mut c = Container::sleeping();
    let unit = scope(&mut c, "");
    c.config["annotations"] = json!({ "org.systemd.property.Documentation": "['https://example.com/x']" });
    c.launch();
    assert!(manager("systemctl").arg("daemon-reload").status().expect("systemctl").success());
    assert!(property(&unit, "Documentation").contains("https://example.com/x"));
    c.delete_force().ok();
    assert_eq!(property(&unit, "LoadState"), "not-found");
    c.assert_nothing_left();
}

#[test]
fn a_record_of_a_build_without_marks_is_deleted_with_its_unit() {
    need_systemd!();
    only_tare!("the record is ours");
    let mut c = Container::sleeping();
    let unit = scope(&mut c, "");
    c.launch();
    let path = c.bundle.state_root().join(&c.id).join("state.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    let mark = record["cgroup"].as_object_mut().expect("an object").remove("unit_mark");
    assert!(mark.is_some_and(|mark| mark.is_string()), "{record}");
    fs::write(&path, record.to_string()).expect("write");
    c.delete_force().ok();
    assert_eq!(property(&unit, "LoadState"), "not-found");
    c.assert_nothing_left();
}
