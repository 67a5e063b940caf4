//! kill: signals by name and number, and what callers match in its errors.

use crate::container::Container;
use crate::runtime::only_tare;

/// Prints the name of each signal it gets.
const TRAPS: &str = "for s in TERM HUP USR1 USR2 INT; do trap \"echo got $s\" $s; done; echo ready; \
                     while :; do usleep 5000; done";

#[test]
fn signals_are_named_in_every_usual_way() {
    let c = Container::sh(TRAPS);
    let created = c.launch();
    c.wait_for_output(&created, "ready\n");
    let spellings = [
        ("TERM", "TERM"),
        ("SIGHUP", "HUP"),
        ("10", "USR1"),
        ("usr2", "USR2"),
        ("sigint", "INT"),
        ("15", "TERM"),
        ("SIGUSR1", "USR1"),
    ];
    let mut expected = "ready\n".to_owned();
    for (spelling, name) in spellings {
        c.kill(spelling).ok().silent();
        expected.push_str(&format!("got {name}\n"));
        assert_eq!(c.wait_for_output(&created, &expected), expected);
    }
}

#[test]
fn the_default_signal_is_term() {
    let c = Container::sh("trap 'echo got TERM; exit 0' TERM; echo ready; while :; do usleep 5000; done");
    let created = c.launch();
    c.wait_for_output(&created, "ready\n");
    c.call(&["kill", &c.id]).ok().silent();
    c.wait_for_status("stopped");
    assert_eq!(c.wait_for_output(&created, "got"), "ready\ngot TERM\n");
}

#[test]
fn realtime_signals_are_sent_by_number() {
    let c = Container::sh("trap 'echo got 40' 40; echo ready; while :; do usleep 5000; done");
    let created = c.launch();
    c.wait_for_output(&created, "ready\n");
    c.kill("40").ok();
    c.wait_for_output(&created, "got 40\n");
}

#[test]
fn an_unknown_signal_is_refused() {
    let c = Container::sleeping();
    c.launch();
    for signal in ["SIGNOPE", "TERMX", "-1x", "1x", "999"] {
        let outcome = c.call(&["kill", "--", &c.id, signal]);
        assert_eq!(outcome.exit_code(), 1, "{signal:?}: {}", outcome.stderr);
    }
    c.kill("SIGNOPE").fails(&["signal", "SIGNOPE"]);
    assert_eq!(c.status(), "running");
}

#[test]
fn a_stopped_container_is_not_running() {
    let c = Container::new();
    c.launch();
    c.wait_for_status("stopped");
    c.kill("TERM").fails(&["container not running"]);
    c.kill("9").fails(&["container not running"]);
}

#[test]
fn all_is_accepted_in_both_spellings_and_on_a_stopped_container() {
    for flag in ["--all", "-a"] {
        let mut c = Container::sh("sleep 1000 & echo ready; wait");
        c.share_the_hosts_pids();
        let created = c.launch();
        c.wait_for_output(&created, "ready");
        c.call(&["kill", flag, &c.id, "KILL"]).ok().silent();
        c.wait_for_status("stopped");
        c.call(&["kill", flag, &c.id, "KILL"]).ok();
        c.delete().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn a_created_container_can_be_killed() {
    let c = Container::sleeping();
    c.create().ok();
    c.kill("9").ok();
    c.wait_for_status("stopped");
}

#[test]
fn a_created_container_ends_on_a_signal_that_asks_for_it() {
    for signal in ["TERM", "INT", "HUP"] {
        let c = Container::sleeping();
        c.create().ok();
        c.kill(signal).ok().silent();
        c.wait_for_status("stopped");
        c.delete().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn every_signal_is_known_by_its_name_and_its_number() {
    let c = Container::sleeping();
    c.create().ok();
    // 0 sends nothing; STOP and CONT and those that are ignored by default leave the container as it is.
    for signal in ["0", "CONT", "SIGCONT", "sigcont", "18", "CHLD", "SIGURG", "winch", "RTMIN", "SIGRTMIN+3", "rtmax-1"]
    {
        let outcome = c.kill(signal);
        // runc has no names for realtime signals.
        if crate::runtime::is_tare() || !signal.to_ascii_uppercase().contains("RT") {
            outcome.ok().silent();
        }
    }
    assert_eq!(c.status(), "created");
}

#[test]
fn all_whose_ids_match_are_killed_and_deleted() {
    only_tare!("--regex is crun's");
    let first = Container::sleeping();
    let (second, other) = (first.twin(), first.twin());
    for c in [&first, &second, &other] {
        c.launch();
    }
    let both = format!("^({}|{})$", first.id, second.id);
    first.call(&["kill", "--regex", &both, "KILL"]).ok().silent();
    for c in [&first, &second] {
        c.wait_for_status("stopped");
    }
    // What is stopped has nothing to send a signal to.
    first.call(&["kill", "--regex", &both, "KILL"]).ok().silent();
    first.call(&["delete", "-r", &format!("^{}$", first.id), &format!("^{}$", second.id)]).ok().silent();
    first.assert_nothing_left();
    second.assert_nothing_left();
    assert_eq!(other.status(), "running");
    first.call(&["delete", "--regex", "^no such id$"]).ok().silent();
    first.call(&["delete", "--regex", "("]).fails(&["--regex", "("]);
    first.call(&["kill", "--regex", "[", "KILL"]).fails(&["--regex", "["]);
}

#[test]
fn what_outlived_init_without_a_pid_namespace_is_killed() {
    only_tare!("runc 1.1 sends nothing to a stopped container without --all; 1.3 kills what is left of it");
    let mut c = Container::sh("sleep 1000 & echo $!");
    c.share_the_hosts_pids();
    let created = c.launch();
    c.wait_for_status("stopped");
    let pid = c.wait_for_output(&created, "\n").trim().parse().expect("the pid of what goes on");
    assert!(crate::container::is_alive(pid));
    c.kill("TERM").fails(&["container not running"]);
    c.kill("KILL").ok().silent();
    crate::runtime::eventually("it is gone", || (!crate::container::is_alive(pid)).then_some(()));
    c.kill("KILL").fails(&["container not running"]);
}
