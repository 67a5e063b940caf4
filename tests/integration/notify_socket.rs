//! NOTIFY_SOCKET: who supervises the runtime hears of the container's program.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::container::Container;
use crate::runtime::{LIMIT, Running, eventually, is_tare, need_root, only_tare};

/// A container whose program finds a socket, and the supervisor's own.
fn supervised(script: &str) -> (Container, UnixDatagram) {
    let mut c = Container::sh(&format!("[ -S $NOTIFY_SOCKET ] && echo $NOTIFY_SOCKET; {script}"));
    c.writable_root();
    let supervisor = UnixDatagram::bind(c.beside("supervisor")).expect("bind");
    supervisor.set_read_timeout(Some(LIMIT)).expect("a timeout");
    (c, supervisor)
}

fn spawn(c: &Container, mut command: Command) -> Running {
    c.spawn(command.env("NOTIFY_SOCKET", c.beside("supervisor")))
}

/// Speaks as the program does, by the socket that the container has.
fn say(c: &Container, message: &str) {
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.set_write_timeout(Some(LIMIT)).expect("a timeout");
    let path = format!("/proc/{}/root/run/notify/notify.sock", c.pid());
    while let Err(error) = socket.send_to(message.as_bytes(), &path) {
        assert!(error.kind() == ErrorKind::Interrupted, "send: {error}");
    }
}

/// All messages until one that holds `last`. A descriptor that comes along is closed.
fn hear(supervisor: &UnixDatagram, last: &str) -> String {
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !heard.contains(last) {
        let length = match supervisor.recv(&mut buffer) {
            // A wait with a timeout is not begun again.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result.unwrap_or_else(|error| panic!("{error}; so far: {heard:?}")),
        };
        heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
        heard.push('\n');
    }
    heard
}

fn wait_until_running(c: &Container) {
    eventually("it runs", || {
        let state = c.call(&["state", &c.id]);
        (state.exit_code() == 0 && state.json()["status"] == "running").then_some(())
    });
}

/// What is told of readiness, with the process that is to be watched.
#[track_caller]
fn assert_ready(supervisor: &UnixDatagram, pid: i32) {
    let heard = hear(supervisor, "MAINPID=");
    let lines: Vec<&str> = heard.lines().collect();
    assert!(lines.contains(&"READY=1"), "{heard:?}");
    assert!(lines.contains(&format!("MAINPID={pid}").as_str()), "{pid}: {heard:?}");
    assert_eq!(heard.matches("MAINPID=").count(), 1, "{heard:?}");
}

/// Reads the barrier as well: who sends it does not go on before (runc 1.1 has none).
fn read_barrier(supervisor: &UnixDatagram) {
    if is_tare() {
        hear(supervisor, "BARRIER=1");
    }
}

#[test]
fn detached_it_stays_until_the_program_is_ready() {
    let (c, supervisor) = supervised("sleep 1000");
    c.save();
    let mut run = spawn(&c, c.bundle_command("run", &["--detach"]));
    wait_until_running(&c);
    if is_tare() {
        say(&c, "STATUS=warming up\nMAINPID=1");
        assert_eq!(hear(&supervisor, "STATUS"), "STATUS=warming up\n\n");
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(run.child.try_wait().expect("wait").is_none(), "it is not ready yet");
    say(&c, "READY=1\nMAINPID=1");
    assert_ready(&supervisor, c.pid());
    read_barrier(&supervisor);
    let outcome = run.wait().ok().silent();
    assert_eq!(c.wait_for_output(&outcome, "\n"), "/run/notify/notify.sock\n");
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn a_created_container_tells_when_it_is_started() {
    let (c, supervisor) = supervised("sleep 1000");
    c.save();
    spawn(&c, c.bundle_command("create", &[])).wait().ok().silent();
    let start = spawn(&c, c.command(&["start", &c.id]));
    wait_until_running(&c);
    if is_tare() {
        // A start that comes too late takes nothing away from the first.
        spawn(&c, c.command(&["start", &c.id])).wait().fails(&["running"]);
    }
    say(&c, "READY=1");
    assert_ready(&supervisor, c.pid());
    read_barrier(&supervisor);
    start.wait().ok().silent();
}

#[test]
fn in_the_foreground_the_runtime_is_the_process_to_watch() {
    let (c, supervisor) = supervised("sleep 1000");
    c.save();
    let run = spawn(&c, c.bundle_command("run", &[]));
    wait_until_running(&c);
    say(&c, "READY=1");
    assert_ready(&supervisor, run.child.id() as i32);
    if is_tare() {
        say(&c, "WATCHDOG=1\nFDSTORE=1");
        assert_eq!(hear(&supervisor, "WATCHDOG"), "WATCHDOG=1\n\n");
    }
    c.kill("KILL").ok();
    run.wait().code(137);
    c.assert_nothing_left();
}

#[test]
fn a_program_that_ends_first_is_not_waited_for() {
    only_tare!("the reference takes a zombie for a container that runs");
    let (c, _supervisor) = supervised("exit 3");
    c.save();
    spawn(&c, c.bundle_command("run", &["--detach"])).wait().ok();
    c.wait_for_status("stopped");
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn the_root_of_a_user_namespace_reaches_its_socket() {
    only_tare!("the reference mounts by a path that the container's root may not enter");
    need_root!("an ordinary user's containers all have one");
    let mut c = crate::linux::uid_mappings::mapped("stat -c '%a %F' $NOTIFY_SOCKET; sleep 1000");
    c.config["process"]["user"] = json!({ "uid": 5, "gid": 5 });
    // Its root may not make it: the rootfs is another one's.
    std::fs::create_dir_all(c.rootfs().join("run/notify")).expect("mkdir");
    let supervisor = UnixDatagram::bind(c.beside("supervisor")).expect("bind");
    supervisor.set_read_timeout(Some(LIMIT)).expect("a timeout");
    c.save();
    let run = spawn(&c, c.bundle_command("run", &["--detach"]));
    wait_until_running(&c);
    say(&c, "READY=1");
    assert_ready(&supervisor, c.pid());
    read_barrier(&supervisor);
    let outcome = run.wait().ok();
    assert_eq!(c.wait_for_output(&outcome, "\n"), "777 socket\n");
}

/// No message of the container's names a main process or keeps a descriptor, however its receiver
/// ends a line.
#[test]
fn no_byte_of_the_program_makes_a_line_that_it_may_not_say() {
    only_tare!("the reference takes a carriage return for text");
    let (c, supervisor) = supervised("sleep 1000");
    c.save();
    let run = spawn(&c, c.bundle_command("run", &[]));
    wait_until_running(&c);
    let ends = ["\r", "\r\n", "\n\r", "\n", "\0", "\u{b}", "\u{c}", "\u{1c}", "\u{1e}", "\u{85}", "\u{2028}"];
    let firsts = ["STATUS=x", "WATCHDOG=1", "ERRNO=5"];
    for (count, (end, first)) in ends.iter().flat_map(|end| firsts.map(|first| (end, first))).enumerate() {
        say(&c, &format!("{first}{end}MAINPID=1{end}FDSTORE=1{end}"));
        let last = format!("STATUS=after {count}");
        say(&c, &last);
        let heard = hear(&supervisor, &last);
        assert!(!heard.contains("MAINPID") && !heard.contains("FDSTORE"), "{first} {end:?}: {heard:?}");
        let is_other = |letter: char| letter != '\n' && letter.is_control();
        assert!(!heard.contains(is_other), "{first} {end:?}: {heard:?}");
        if matches!(*end, "\r" | "\n" | "\r\n") {
            assert!(heard.starts_with(&format!("{first}\n")), "{first} {end:?}: {heard:?}");
        }
    }
    c.kill("KILL").ok();
    run.wait().code(137);
}

/// Says as much as there is room for on the way to a supervisor that does not read. Returns how
/// much that is.
fn fill(c: &Container) -> usize {
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(format!("/proc/{}/root/run/notify/notify.sock", c.pid())).expect("connect");
    socket.set_nonblocking(true).expect("a socket that does not block");
    let (mut said, mut full) = (0, 0);
    // Full several times in a row: the runtime passes on what it can meanwhile.
    while full < 20 {
        match socket.send(format!("STATUS={said}").as_bytes()) {
            Ok(_) => (said, full) = (said + 1, 0),
            Err(_) => {
                full += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    said
}

#[test]
fn a_supervisor_that_does_not_read_keeps_nothing_else_from_being_noticed() {
    only_tare!("the reference waits for it");
    let (c, supervisor) = supervised("trap 'exit 7' TERM; while :; do usleep 5000; done");
    c.save();
    let run = spawn(&c, c.bundle_command("run", &[]));
    wait_until_running(&c);
    let said = fill(&c);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(run.child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
    run.wait().code(7);
    c.assert_nothing_left();
    drop(supervisor);

    // Once it reads, it gets all of them.
    let (c, supervisor) = supervised("sleep 1000");
    c.save();
    let run = spawn(&c, c.bundle_command("run", &["--detach"]));
    wait_until_running(&c);
    let said = said.min(fill(&c));
    let heard = hear(&supervisor, &format!("STATUS={}\n", said - 1));
    let expected: String = (0..said).map(|number| format!("STATUS={number}\n\n")).collect();
    assert_eq!(heard, expected);
    fill(&c);
    c.kill("KILL").ok();
    run.wait().ok();
}

#[test]
fn a_supervisor_that_is_gone_is_no_reason_to_fail() {
    only_tare!("the reference's start fails");
    let (c, supervisor) = supervised("exit 3");
    drop(supervisor);
    c.save();
    let outcome = spawn(&c, c.bundle_command("run", &[])).wait().code(3);
    assert!(outcome.stderr.contains("NOTIFY_SOCKET"), "{}", outcome.stderr);
    c.assert_nothing_left();
}
