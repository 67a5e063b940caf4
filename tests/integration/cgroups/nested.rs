//! Containers whose cgroups lie in each other's: what is one's own goes, what is another's stays.

use serde_json::json;

use crate::cgroup_tree::{empty, named};
use crate::container::{Container, is_alive};
use crate::runtime::{need_cgroupfs, need_root, only_tare};

/// Two containers of one state root, the second one's cgroup below the first one's. Neither has
/// processes in between.
fn nested() -> (Container, Container) {
    let mut outer = Container::sleeping();
    outer.config["linux"]["cgroupsPath"] = json!(format!("/{}", outer.id));
    let mut inner = outer.twin();
    inner.config["linux"]["cgroupsPath"] = json!(format!("/{}/{}", outer.id, inner.id));
    (outer, inner)
}

/// A cgroup in a container's own, as an engine in it makes them.
fn make_sub_cgroups(c: &Container) {
    for dir in named(&c.id).iter().filter(|dir| dir.ends_with(&c.id)) {
        std::fs::create_dir_all(dir.join("sub/sub")).expect("mkdir");
    }
}

#[test]
fn deleting_a_container_spares_another_ones_cgroup_below() {
    need_cgroupfs!();
    need_root!("an ordinary user has no cgroup of a name of their choice");
    only_tare!("runc 1.1 kills what is below");
    for verb in ["kill --all", "delete"] {
        let (outer, inner) = nested();
        outer.launch();
        inner.launch();
        make_sub_cgroups(&outer);
        let (outer_pid, inner_pid) = (outer.pid(), inner.pid());
        if verb == "delete" {
            let outcome = outer.delete_force().ok();
            assert!(outcome.stderr.contains(&inner.id), "it says whose cgroup is left: {}", outcome.stderr);
            assert!(outer.call(&["state", &outer.id]).exit_code() != 0, "it is gone");
        } else {
            outer.call(&["kill", "--all", &outer.id, "KILL"]).ok();
            outer.wait_for_status("stopped");
        }
        assert!(!is_alive(outer_pid) && is_alive(inner_pid), "{verb}");
        assert_eq!(inner.status(), "running", "{verb}");
        assert_eq!(inner.call(&["exec", &inner.id, "echo", "still here"]).ok().stdout, "still here\n");
        let sub = |dir: &std::path::PathBuf| dir.to_string_lossy().contains("/sub");
        assert!(verb != "delete" || !named(&outer.id).iter().any(sub), "the container's own sub-cgroups go");
        inner.delete_force().ok();
        inner.assert_nothing_left();
        outer.delete_force().ok();
        remove_left(&outer);
    }
}

#[test]
fn what_outlives_init_is_killed_and_not_what_is_another_containers() {
    need_cgroupfs!();
    need_root!("an ordinary user has no cgroup of a name of their choice");
    only_tare!("runc 1.1 kills what is below");
    let (mut outer, inner) = nested();
    outer.script("sleep 1000 & echo $!; exec sleep 1000");
    outer.share_the_hosts_pids();
    let created = outer.launch();
    let child: i32 = outer.wait_for_output(&created, "\n").trim().parse().expect("the pid of a child");
    inner.launch();
    let inner_pid = inner.pid();
    outer.delete_force().ok();
    crate::runtime::eventually("its child is gone", || (!is_alive(child)).then_some(()));
    assert!(is_alive(inner_pid));
    inner.delete_force().ok();
    inner.assert_nothing_left();
    remove_left(&outer);
}

#[test]
fn a_stopped_container_leaves_the_cgroup_to_the_one_that_has_it_now() {
    need_cgroupfs!();
    need_root!("an ordinary user has no cgroup of a name of their choice");
    only_tare!("runc 1.1 kills whatever is in the cgroup");
    let mut first = Container::new();
    first.config["linux"]["cgroupsPath"] = json!(format!("/{}", first.id));
    first.launch();
    first.wait_for_status("stopped");
    let mut second = first.twin();
    second.args(&["sleep", "1000"]);
    second.launch();
    first.delete().ok();
    assert_eq!(second.status(), "running");
    second.call(&["exec", &second.id, "true"]).ok();
    second.delete_force().ok();
    second.assert_nothing_left();
    first.assert_nothing_left();
}

#[test]
fn no_two_that_start_at_once_in_one_cgroup_both_run() {
    need_cgroupfs!();
    need_root!("an ordinary user has no cgroup of a name of their choice");
    only_tare!("runc lets several in");
    for _ in 0..8 {
        let mut first = Container::sleeping();
        first.config["linux"]["cgroupsPath"] = json!(format!("/{}", first.id));
        let mut all = vec![first];
        for _ in 0..3 {
            let twin = all[0].twin();
            all.push(twin);
        }
        all[0].save();
        let starting: Vec<_> = all.iter().map(|c| c.spawn(&mut c.bundle_command("run", &["--detach"]))).collect();
        let codes: Vec<i32> = starting.into_iter().map(|running| running.wait().exit_code()).collect();
        // The losers may all have seen each other; never do two have it.
        assert!(codes.iter().filter(|code| **code == 0).count() <= 1, "{codes:?}");
        for (c, code) in all.iter().zip(codes) {
            match code {
                0 => assert_eq!(c.status(), "running"),
                code => assert_eq!(code, 1),
            }
        }
        let mark = all[0].id.clone();
        drop(all);
        crate::runtime::eventually("the cgroup is gone", || {
            named(&mark).iter().all(|dir| std::fs::remove_dir(dir).is_ok() || !dir.exists()).then_some(())
        });
    }
}

/// The outer cgroup was left, because the inner one was in it: it is empty now.
#[track_caller]
fn remove_left(outer: &Container) {
    for dir in named(&outer.id) {
        empty(&dir);
        crate::runtime::eventually("it is removed", || {
            (std::fs::remove_dir(&dir).is_ok() || !dir.exists()).then_some(())
        });
    }
    outer.assert_nothing_left();
}
