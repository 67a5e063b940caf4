//! `process.terminal` and `process.consoleSize`.

use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use nix::sys::termios::tcgetattr;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::container::Container;
use crate::runtime::{Outcome, eventually, only_tare, runtime};

/// Receives what a runtime sends on a console socket: the data of the one message and its one descriptor.
pub fn receive(listener: &UnixListener) -> (String, fs::File) {
    listener.set_nonblocking(true).expect("a listener that does not block");
    let stream = eventually("the runtime connects to the console socket", || listener.accept().ok()).0;
    stream.set_nonblocking(false).expect("a stream that blocks");
    stream.set_read_timeout(Some(crate::runtime::LIMIT)).expect("a time limit");
    let mut data = [0; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut data)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .expect("receive the terminal");
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    assert_eq!(descriptors.len(), 1, "one descriptor is sent");
    let mut rest = Vec::new();
    (&stream).read_to_end(&mut rest).expect("read the rest");
    assert_eq!(rest, b"", "one message is sent");
    let name = String::from_utf8(data[..got.bytes].to_vec()).expect("a name");
    (name, fs::File::from(descriptors.remove(0)))
}

fn with_terminal(script: &str) -> Container {
    let mut c = Container::sh(script);
    c.config["process"]["terminal"] = json!(true);
    c
}

/// `create --console-socket`, the terminal it sends, and its outcome.
fn create_on_socket(c: &Container) -> (String, fs::File, Outcome) {
    let path = c.beside("console.sock");
    let listener = UnixListener::bind(&path).expect("bind the console socket");
    c.save();
    let create = c.spawn(&mut c.bundle_command("create", &["--console-socket", path.to_str().expect("a path")]));
    let (name, terminal) = receive(&listener);
    (name, terminal, create.wait().ok())
}

/// Reads until the other side is closed, which a pty tells by EIO.
pub fn read_terminal(mut terminal: &fs::File) -> String {
    let mut text = Vec::new();
    let mut part = [0; 1024];
    loop {
        match terminal.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(n) => text.extend_from_slice(&part[..n]),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn the_console_socket_gets_one_terminal_with_its_name() {
    let c = with_terminal("tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; stat -c '%F' /dev/console");
    let (name, terminal, _) = create_on_socket(&c);
    assert!(!name.is_empty() && name.contains("pt"), "{name:?}");
    c.start().ok();
    let text = read_terminal(&terminal);
    assert_eq!(text.replace("\r\n", "\n"), "/dev/pts/0\nall\ncharacter special file\n");
    c.wait_for_status("stopped");
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn the_terminal_is_the_programs_controlling_terminal() {
    let c = with_terminal("cat /proc/self/stat | cut -d' ' -f7; echo through >/dev/tty; echo console >/dev/console");
    let (_, terminal, _) = create_on_socket(&c);
    c.start().ok();
    let text = read_terminal(&terminal);
    let lines: Vec<&str> = text.lines().collect();
    assert_ne!(lines[0], "0", "no controlling terminal: {text}");
    assert_eq!(&lines[1..], ["through", "console"]);
}

#[test]
fn input_and_control_characters_reach_the_program() {
    let c = with_terminal(
        "trap 'echo interrupted; exit 3' INT; read line; echo \"<$line>\"; while :; do usleep 5000; done",
    );
    let (_, mut terminal, _) = create_on_socket(&c);
    c.start().ok();
    terminal.write_all(b"hello\n").expect("write");
    let mut text = String::new();
    let mut part = [0; 256];
    while !text.contains("<hello>") {
        let n = terminal.read(&mut part).expect("read");
        text.push_str(&String::from_utf8_lossy(&part[..n]));
    }
    terminal.write_all(&[3]).expect("write ^C");
    assert!(read_terminal(&terminal).contains("interrupted"));
    c.wait_for_status("stopped");
}

#[test]
fn its_size_is_the_configured_one() {
    let mut c = with_terminal("stty size");
    c.config["process"]["consoleSize"] = json!({ "height": 33, "width": 111 });
    let (_, terminal, _) = create_on_socket(&c);
    c.start().ok();
    assert_eq!(read_terminal(&terminal).trim(), "33 111");
}

#[test]
fn it_belongs_to_the_user() {
    let mut c = with_terminal("stat -L -c '%u %a' /dev/console; stat -c %u /dev/pts/0");
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let (_, terminal, _) = create_on_socket(&c);
    c.start().ok();
    let text = read_terminal(&terminal);
    assert!(text.starts_with("1000 "), "{text}");
    assert!(text.trim().ends_with("1000"), "{text}");
}

#[test]
fn run_detached_uses_the_console_socket_too() {
    let c = with_terminal("echo detached");
    let path = c.beside("console.sock");
    let listener = UnixListener::bind(&path).expect("bind the console socket");
    c.save();
    let flags = ["--detach", "--console-socket", path.to_str().expect("a path")];
    let run = c.spawn(&mut c.bundle_command("run", &flags));
    let (_, terminal) = receive(&listener);
    run.wait().ok().silent();
    assert_eq!(read_terminal(&terminal).trim(), "detached");
}

#[test]
fn without_a_socket_create_refuses_a_terminal() {
    let c = with_terminal("true");
    c.create().fails(&["console socket"]);
    c.assert_nothing_left();
    c.run_with(&["--detach"]).fails(&["console socket"]);
    c.assert_nothing_left();
}

#[test]
fn a_socket_without_a_terminal_is_refused() {
    let c = Container::new();
    let path = c.beside("console.sock");
    let _listener = UnixListener::bind(&path).expect("bind the console socket");
    c.create_with(&["--console-socket", path.to_str().expect("a path")]).fails(&["console"]);
    c.assert_nothing_left();
}

#[test]
fn a_socket_nobody_listens_on_is_refused() {
    let c = with_terminal("true");
    let path = c.beside("nobody.sock");
    c.create_with(&["--console-socket", path.to_str().expect("a path")]).fails(&["nobody.sock"]);
    c.assert_nothing_left();
}

#[test]
fn dev_console_is_absent_without_a_terminal() {
    let c = Container::sh("[ -e /dev/console ] || echo absent");
    c.run().ok().prints("absent\n");
}

/// `run` in the foreground of a terminal that `script` makes.
fn in_foreground(c: &Container, before: &str, input: &str) -> Outcome {
    c.save();
    let line = format!(
        "{before} {} --root {} run --bundle {} {}",
        runtime().display(),
        c.bundle.state_root().display(),
        c.bundle.path().display(),
        c.id
    );
    let file = c.beside("input");
    fs::write(&file, input).expect("write");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::from(fs::File::open(file).expect("open")));
    c.finish(&mut command)
}

#[test]
fn run_in_the_foreground_passes_output_and_the_exit_status() {
    let c = with_terminal("[ -t 0 ] && [ -t 1 ] && echo terminal; exit 6");
    let outcome = in_foreground(&c, "", "").code(6);
    assert!(outcome.stdout.contains("terminal\r\n"), "{:?}", outcome.stdout);
    c.assert_nothing_left();
}

#[test]
fn run_in_the_foreground_passes_the_size_on() {
    // The reference sets the size when the program already runs.
    let c = with_terminal(
        "for i in $(seq 500); do s=$(stty size 2>/dev/null); [ \"$s\" = '21 77' ] && break; usleep 2000; done; echo $s",
    );
    let outcome = in_foreground(&c, "stty rows 21 cols 77;", "").ok();
    assert!(outcome.stdout.contains("21 77\r\n"), "{:?}", outcome.stdout);
}

#[test]
fn a_new_size_of_the_callers_terminal_reaches_the_program() {
    let c = with_terminal("echo ready; until stty size | grep '^33 101$'; do usleep 5000; done; exit 5");
    let size = |rows, columns| nix::pty::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = nix::pty::openpty(Some(&size(24, 80)), None).expect("openpty");
    c.save();
    let slave = || Stdio::from(pty.slave.try_clone().expect("dup"));
    let mut child = c.bundle_command("run", &[]).stdin(slave()).stdout(slave()).stderr(slave()).spawn().expect("run");
    let master = fs::File::from(pty.master);
    let mut text = String::new();
    let mut part = [0; 256];
    while !text.contains("ready") {
        let n = (&master).read(&mut part).expect("read");
        text.push_str(&String::from_utf8_lossy(&part[..n]));
    }
    resize(&master, 33, 101);
    // It is nobody's controlling terminal, so the kernel tells nobody.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).expect("kill");
    let status = eventually("run ends", || child.try_wait().expect("wait"));
    assert_eq!(status.code(), Some(5));
}

#[test]
fn a_runtime_that_is_killed_leaves_the_callers_terminal_as_it_was() {
    only_tare!("the reference leaves it raw");
    for signal in [nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGABRT] {
        let c = with_terminal("echo ready; sleep 1000");
        let pty = nix::pty::openpty(None, None).expect("openpty");
        let before = tcgetattr(&pty.slave).expect("tcgetattr");
        c.save();
        let slave = || Stdio::from(pty.slave.try_clone().expect("dup"));
        let mut child =
            c.bundle_command("run", &[]).stdin(slave()).stdout(slave()).stderr(slave()).spawn().expect("run");
        eventually("the terminal is raw", || {
            let now = tcgetattr(&pty.slave).expect("tcgetattr");
            (now.local_flags != before.local_flags).then_some(())
        });
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal)
            .expect("kill");
        child.wait().expect("wait");
        eventually("the terminal is as it was", || {
            let now = tcgetattr(&pty.slave).expect("tcgetattr");
            let same = now.local_flags == before.local_flags && now.input_flags == before.input_flags;
            (same && now.output_flags == before.output_flags).then_some(())
        });
        // Its input ended with its other side.
        c.delete_force().ok();
        c.assert_nothing_left();
    }
}

/// Sets the size of a terminal, from outside.
fn resize(terminal: &fs::File, rows: u16, columns: u16) {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).expect("tcsetwinsize");
}

#[test]
fn run_in_the_foreground_leaves_the_callers_terminal_as_it_was() {
    let c = with_terminal("true");
    let pty = nix::pty::openpty(None, None).expect("openpty");
    let before = tcgetattr(&pty.slave).expect("tcgetattr");
    c.save();
    let slave = || Stdio::from(pty.slave.try_clone().expect("dup"));
    let mut child = c.bundle_command("run", &[]).stdin(slave()).stdout(slave()).stderr(slave()).spawn().expect("run");
    let status = eventually("run ends", || child.try_wait().expect("wait"));
    assert!(status.success(), "{status}");
    let after = tcgetattr(&pty.slave).expect("tcgetattr");
    assert_eq!(before.local_flags, after.local_flags);
    assert_eq!(before.input_flags, after.input_flags);
    assert_eq!(before.output_flags, after.output_flags);
}

#[test]
fn a_pipe_gets_the_lines_as_the_program_wrote_them() {
    with_terminal("echo one; echo two").run().ok().prints("one\ntwo\n");
}
