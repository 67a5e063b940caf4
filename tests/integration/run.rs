//! run: the exit status, the standard streams, detaching, keeping.

use std::fs::File;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::container::Container;
use crate::runtime::{eventually, read_text};

#[test]
fn the_exit_status_is_the_programs() {
    for code in [0, 1, 3, 127, 255] {
        let c = Container::sh(&format!("exit {code}"));
        c.run().code(code).silent();
        c.assert_nothing_left();
    }
}

#[test]
fn a_signal_gives_128_and_its_number() {
    for signal in [9, 15, 1] {
        let mut c = Container::sh(&format!("kill -{signal} $$; sleep 10"));
        // The first process of a pid namespace does not get the signals it sends itself.
        c.share_the_hosts_pids();
        c.run().code(128 + signal).silent();
        c.assert_nothing_left();
    }
}

#[test]
fn a_kill_from_outside_shows_in_the_exit_status() {
    let c = Container::sleeping();
    c.save();
    let running = c.spawn(&mut c.bundle_command("run", &[]));
    eventually("the container runs", || {
        let state = c.call(&["state", &c.id]);
        (state.exit_code() == 0 && state.json()["status"] == "running").then_some(())
    });
    c.kill("KILL").ok();
    running.wait().code(128 + 9);
    c.assert_nothing_left();
}

#[test]
fn signals_to_the_foreground_run_reach_the_program() {
    let c = Container::sh("trap 'echo got; exit 7' TERM; echo ready; while :; do usleep 5000; done");
    c.save();
    let running = c.spawn(&mut c.bundle_command("run", &[]));
    eventually("the program is ready", || running.stdout().contains("ready").then_some(()));
    kill(Pid::from_raw(i32::try_from(running.child.id()).expect("a pid")), Signal::SIGTERM).expect("kill");
    running.wait().code(7).prints("ready\ngot\n");
    c.assert_nothing_left();
}

#[test]
fn the_standard_streams_pass_through() {
    let c = Container::sh("cat; echo problem >&2");
    c.save();
    let input = c.beside("input");
    std::fs::write(&input, "one\ntwo\n").expect("write");
    let outcome = c.finish(c.bundle_command("run", &[]).stdin(Stdio::from(File::open(input).expect("open"))));
    let outcome = outcome.ok().prints("one\ntwo\n");
    assert_eq!(outcome.stderr, "problem\n");
}

#[test]
fn detached_it_returns_while_the_program_runs() {
    for flag in ["--detach", "-d"] {
        let c = Container::sh("echo hello; sleep 1000");
        let pid_file = c.beside("pid");
        let outcome = c.run_with(&[flag, "--pid-file", pid_file.to_str().expect("a path")]).ok().silent();
        c.wait_for_output(&outcome, "hello\n");
        assert_eq!(c.status(), "running");
        assert_eq!(read_text(&pid_file), c.pid().to_string());
        c.delete_force().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn kept_it_is_there_until_deleted() {
    let c = Container::sh("exit 5");
    c.run_with(&["--keep"]).code(5);
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn processes_left_by_the_program_end_with_it() {
    let mut c = Container::sh("sleep 1000 & sleep 1000 & exit 4");
    c.run().code(4);
    c.assert_nothing_left();
    c.share_the_hosts_pids();
    c.run().code(4);
    c.assert_nothing_left();
}

#[test]
fn output_of_a_fast_program_is_never_lost() {
    let c = Container::sh("echo x");
    for _ in 0..20 {
        c.run().ok().prints("x\n");
    }
}

#[test]
fn the_subreaper_flag_is_accepted() {
    let c = Container::sh("echo fine");
    c.run_with(&["--no-subreaper"]).ok().prints("fine\n");
    c.run_with(&["-no-subreaper"]).ok().prints("fine\n");
}

#[test]
fn no_new_keyring_is_accepted() {
    let c = Container::sh("echo fine");
    c.run_with(&["--no-new-keyring"]).ok().prints("fine\n");
}

#[test]
fn concurrent_runs_do_not_disturb_each_other() {
    let containers: Vec<Container> = (0..8).map(|n| Container::sh(&format!("exit {n}"))).collect();
    let running: Vec<_> = containers
        .iter()
        .map(|c| {
            c.save();
            c.spawn(&mut c.bundle_command("run", &[]))
        })
        .collect();
    for (expected, one) in (0..).zip(running) {
        one.wait().code(expected);
    }
    for c in &containers {
        c.assert_nothing_left();
    }
}
