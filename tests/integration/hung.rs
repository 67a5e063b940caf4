//! A hook that hangs, and a socket whose peer never accepts or reads, keep nobody from ending the
//! container.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, connect, listen, socket};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::container::{Container, is_alive};
use crate::runtime::{Running, eventually, only_tare};

/// How long what ends within a second may take on a loaded or emulated machine.
const SOON: Duration = Duration::from_secs(25);

/// A hook that says its pid, and that of a child of its own, and hangs.
fn hanging(c: &Container) -> Value {
    let script = format!("sleep 60 & echo $! $$ >{0}.new; mv {0}.new {0}; wait", c.beside("hook.pid").display());
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }])
}

/// The hook's child and the hook, once it runs.
fn hook_of(c: &Container) -> (i32, i32) {
    let text = eventually("the hook runs", || fs::read_to_string(c.beside("hook.pid")).ok());
    let (child, hook) = text.trim().split_once(' ').expect("two pids");
    (child.parse().expect("a pid"), hook.parse().expect("a pid"))
}

/// `delete --force` ends the hook, but not what the hook has started.
#[track_caller]
fn delete_ends(c: &Container, (child, hook): (i32, i32)) {
    let begin = Instant::now();
    c.delete_force().ok();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    eventually("the hook has ended", || (!is_alive(hook)).then_some(()));
    let child_lives = is_alive(child);
    let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
    assert!(child_lives, "a descendant of the hook is none of the runtime's");
}

#[test]
fn a_hung_create_runtime_hook_holds_up_nobody() {
    only_tare!("runc 1.1 knows no container yet");
    for kind in ["prestart", "createRuntime"] {
        let mut c = Container::sleeping();
        c.config["hooks"][kind] = hanging(&c);
        c.save();
        let create = c.spawn(&mut c.bundle_command("create", &[]));
        let hook = hook_of(&c);
        assert_eq!(c.status(), "creating");
        c.call(&["pause", &c.id]).fails(&["being created"]);
        c.call(&["resume", &c.id]).fails(&["being created"]);
        c.call(&["update", "--pids-limit", "100", &c.id]).fails(&["being created"]);
        c.start().fails(&["being created"]);
        c.call(&["exec", &c.id, "true"]).code(255);
        c.delete().fails(&["creating"]);
        delete_ends(&c, hook);
        create.wait().fails(&[kind]);
        c.assert_nothing_left();
    }
}

#[test]
fn a_container_that_is_being_created_can_be_killed() {
    only_tare!("runc 1.1 knows no container yet");
    let mut c = Container::sleeping();
    c.config["hooks"]["createRuntime"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c",
        format!("echo 0 $$ >{0}.new; mv {0}.new {0}; while kill -0 $PPID; do sleep 0.01; [ -e {1} ] && exit 0; done",
            c.beside("hook.pid").display(), c.beside("go").display())] }]);
    c.save();
    let create = c.spawn(&mut c.bundle_command("create", &[]));
    hook_of(&c);
    c.kill("KILL").ok();
    fs::write(c.beside("go"), "").expect("let the hook end");
    create.wait().fails(&[]);
    c.assert_nothing_left();
}

#[test]
fn a_hung_hook_is_ended_also_when_create_was_killed() {
    only_tare!("runc 1.1 knows no container yet");
    let mut c = Container::sleeping();
    c.config["hooks"]["createRuntime"] = hanging(&c);
    c.save();
    let mut create = c.spawn(&mut c.bundle_command("create", &[]));
    let hook = hook_of(&c);
    create.child.kill().expect("kill create");
    create.wait();
    delete_ends(&c, hook);
    c.assert_nothing_left();
}

#[test]
fn a_hung_poststart_hook_holds_up_nobody() {
    only_tare!("runc 1.1 runs poststart at the end of create");
    for verb in ["start", "run"] {
        let mut c = Container::sleeping();
        c.config["hooks"]["poststart"] = hanging(&c);
        c.save();
        let command = match verb {
            "run" => c.spawn(&mut c.bundle_command("run", &["--detach"])),
            _ => {
                c.create().ok();
                c.spawn(&mut c.command(&["start", &c.id]))
            }
        };
        let hook = hook_of(&c);
        c.call(&["pause", &c.id]).ok();
        assert_eq!(c.status(), "paused");
        c.call(&["resume", &c.id]).ok();
        assert_eq!(c.status(), "running");
        c.call(&["exec", &c.id, "true"]).ok();
        c.delete().fails(&["running"]);
        delete_ends(&c, hook);
        command.wait().fails(&["poststart"]);
        c.assert_nothing_left();
    }
}

#[test]
fn a_hung_hook_of_init_is_ended_with_it() {
    only_tare!("runc 1.1 knows no container yet");
    for kind in ["createContainer", "startContainer"] {
        let mut c = Container::sleeping();
        let notes = c.beside("notes");
        fs::create_dir(&notes).expect("mkdir");
        fs::create_dir(c.rootfs().join("notes")).expect("mkdir");
        c.add_mount(json!({ "destination": "/notes", "type": "bind", "source": notes, "options": ["bind", "rw"] }));
        let seen = if kind == "startContainer" { Path::new("/notes") } else { &notes };
        let script = format!("echo >{}; exec sleep 1000", seen.join("runs").display());
        c.config["hooks"][kind] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script],
            "env": ["PATH=/usr/bin:/bin"] }]);
        c.save();
        let create = c.spawn(&mut c.bundle_command("create", &[]));
        let command = match kind {
            "startContainer" => {
                create.wait().ok();
                c.spawn(&mut c.command(&["start", &c.id]))
            }
            _ => create,
        };
        eventually("the hook runs", || notes.join("runs").exists().then_some(()));
        if kind == "startContainer" {
            c.call(&["pause", &c.id]).ok();
            c.call(&["resume", &c.id]).ok();
        } else {
            c.call(&["pause", &c.id]).fails(&["being created"]);
        }
        let begin = Instant::now();
        c.delete_force().ok();
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        assert!(command.wait().status.is_some(), "it ends");
        c.assert_nothing_left();
    }
}

#[test]
fn a_hung_poststop_hook_is_ended_by_force_after_a_while() {
    only_tare!("runc 1.1 has removed the state before");
    let mut c = Container::sleeping();
    c.config["hooks"]["poststop"] = hanging(&c);
    c.launch();
    let delete = c.spawn(&mut c.command(&["delete", "--force", &c.id]));
    let (child, hook) = hook_of(&c);
    c.delete_force().ok();
    delete.wait().ok();
    assert!(!is_alive(hook));
    let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
    c.assert_nothing_left();
}

#[test]
fn a_hook_that_does_not_read_its_state_is_held_to_its_time() {
    let mut c = Container::new();
    c.config["annotations"] = json!({ "key": "x".repeat(300_000) });
    c.config["hooks"]["createRuntime"] = json!([{ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }]);
    c.create().fails(&["createRuntime"]);
    c.assert_nothing_left();
}

/// A listener, and those that wait for it to accept them.
type Deaf = (UnixListener, Vec<OwnedFd>);

/// A socket whose queue of connections is full.
fn deaf(path: &Path) -> Deaf {
    let listener = UnixListener::bind(path).expect("bind");
    listen(&listener, Backlog::new(0).expect("a backlog")).expect("listen");
    let mut waiting = Vec::new();
    loop {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let client = socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("socket");
        match connect(client.as_raw_fd(), &UnixAddr::new(path).expect("a path")) {
            Ok(()) => waiting.push(client),
            Err(Errno::EAGAIN) => return (listener, waiting),
            Err(errno) => panic!("connect: {errno}"),
        }
    }
}

/// A container whose `create` waits for a socket of that kind, which nobody serves.
fn waiting_for_socket(kind: &str) -> (Container, Running, Deaf) {
    let mut c = Container::sleeping();
    let path = c.beside("deaf.sock");
    let deaf = deaf(&path);
    let path = path.to_str().expect("a path").to_owned();
    let flag = format!("--{kind}");
    let mut flags = vec![flag.as_str(), path.as_str()];
    match kind {
        "console-socket" => c.config["process"]["terminal"] = json!(true),
        "listenerPath" => {
            flags.clear();
            c.config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "x".repeat(1000),
                "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }]
            });
        }
        _ => {}
    }
    c.save();
    let create = c.spawn(&mut c.bundle_command("create", &flags));
    (c, create, deaf)
}

const SOCKETS: &[&str] = &["console-socket", "pidfd-socket", "listenerPath"];

#[test]
fn a_socket_that_nobody_serves_holds_up_nobody() {
    only_tare!("runc 1.1 knows no container yet");
    for kind in SOCKETS {
        let (c, create, _listener) = waiting_for_socket(kind);
        eventually("it is being created", || {
            let state = c.call(&["state", &c.id]);
            (state.exit_code() == 0 && state.json()["pid"].as_i64()? > 0).then_some(())
        });
        c.call(&["pause", &c.id]).fails(&["being created"]);
        c.delete_force().ok();
        create.wait().code(1);
        c.assert_nothing_left();
    }
}

#[test]
fn a_socket_that_nobody_serves_is_not_waited_for_without_end() {
    only_tare!("runc waits without end");
    let waiting: Vec<_> = SOCKETS.iter().map(|kind| (kind, waiting_for_socket(kind))).collect();
    for (kind, (c, create, _listener)) in waiting {
        create.wait().fails(&[kind, "timed out"]);
        c.assert_nothing_left();
    }
}

#[test]
fn exec_ends_with_the_container_while_it_waits_for_a_socket() {
    only_tare!("runc waits without end");
    let c = Container::sleeping();
    c.launch();
    let path = c.beside("deaf.sock");
    let _listener = deaf(&path);
    let path = path.to_str().expect("a path");
    let exec = c.spawn(&mut c.command(&["exec", "--tty", "--detach", "--console-socket", path, &c.id, "true"]));
    std::thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    c.delete_force().ok();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    exec.wait().code(255);
    c.assert_nothing_left();
}
