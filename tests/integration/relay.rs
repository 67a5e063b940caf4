//! `run` with a terminal in the foreground, whose standard streams are slow, full, gone or not to
//! be waited for.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::container::Container;
use crate::runtime::{eventually, only_tare};

fn with_terminal(script: &str) -> Container {
    let mut c = Container::sh(script);
    c.config["process"]["terminal"] = json!(true);
    c.save();
    c
}

/// A pipe that no process inherits which another test starts meanwhile.
fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    (reader.into(), writer.into())
}

/// `run` in the foreground with these streams; what it says on standard error is the test's own.
fn run(c: &Container, input: impl Into<Stdio>, output: OwnedFd) -> Child {
    let mut command: Command = c.bundle_command("run", &[]);
    command.stdin(input).stdout(output).spawn().expect("start the runtime")
}

/// Waits for its end, and gives the exit status.
fn code(mut child: Child) -> Option<i32> {
    eventually("run ends", || child.try_wait().expect("wait")).code()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("kill");
}

fn wait_until_running(c: &Container) {
    eventually("it runs", || {
        let state = c.call(&["state", &c.id]);
        (state.exit_code() == 0 && state.json()["status"] == "running").then_some(())
    });
}

/// Reads to the end in a thread, a piece at a time, with a pause after each.
fn reader(mut from: impl Read + Send + 'static, piece: usize, pause: Duration) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut all, mut part) = (Vec::new(), vec![0; piece]);
        loop {
            match from.read(&mut part) {
                Ok(0) | Err(_) => return all,
                Ok(length) => all.extend_from_slice(&part[..length]),
            }
            thread::sleep(pause);
        }
    })
}

/// How much processor time a process has used, in hundredths of a second.
fn used(child: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("read its stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // user and system time: the 14th and the 15th field, of which the first two are before the
    // parenthesis.
    fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// Of two seconds, what waits uses nearly nothing.
#[track_caller]
fn assert_idle(child: &Child) {
    let before = used(child);
    thread::sleep(Duration::from_secs(2));
    let used = used(child) - before;
    assert!(used < 25, "{used} hundredths of a second of the processor's time in two seconds");
}

#[test]
fn an_input_whose_writer_has_gone_is_not_asked_again() {
    let c = with_terminal("read line; echo \"<$line>\"; sleep 1000");
    let (input, mut writer) = std::io::pipe().expect("a pipe");
    let (output, stdout) = pipe();
    writer.write_all(b"the last words\n").expect("write");
    drop(writer);
    let child = run(&c, input, stdout);
    let mut text = String::new();
    let mut output = File::from(output);
    while !text.contains("<the last words>") {
        let mut part = [0; 100];
        let length = output.read(&mut part).expect("read");
        assert!(length > 0, "the end after {text:?}");
        text.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    assert_idle(&child);
    c.kill("KILL").ok();
    assert_eq!(code(child), Some(137));
    c.assert_nothing_left();
}

#[test]
fn a_terminal_that_the_program_opens_again_goes_on() {
    only_tare!("runc 1.1 loses what comes after");
    let close = "exec </dev/null >/dev/null 2>&1";
    let open = "exec </dev/tty >/dev/tty 2>&1";
    let wait = "until [ -e /dev/shm/go ]; do usleep 10000; done";
    let c = with_terminal(&format!(
        "echo before; {close}; touch /dev/shm/closed; {wait}; {open}; echo between; {close}; usleep 300000; \
         {open}; read line; echo \"<$line>\"; exit 6"
    ));
    let (input, mut writer) = std::io::pipe().expect("a pipe");
    let (output, stdout) = pipe();
    let output = reader(File::from(output), 4096, Duration::ZERO);
    let child = run(&c, input, stdout);
    wait_until_running(&c);
    let exec = |command: &[&str]| c.call(&[&["exec", &c.id], command].concat());
    eventually("it has closed its terminal", || {
        (exec(&["test", "-e", "/dev/shm/closed"]).exit_code() == 0).then_some(())
    });
    // What comes meanwhile waits for it.
    writer.write_all(b"input\n").expect("write");
    assert_idle(&child);
    exec(&["touch", "/dev/shm/go"]).ok();
    assert_eq!(code(child), Some(6));
    let text = String::from_utf8_lossy(&output.join().expect("read")).into_owned();
    let words: Vec<_> = text.lines().filter(|line| *line != "input").collect();
    assert_eq!(words, ["before", "between", "<input>"], "{text:?}");
    c.assert_nothing_left();
}

/// A megabyte of lines that are all different.
const LINES: u32 = 150_000;

fn assert_lines(all: &[u8]) {
    let expected: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
    assert_eq!(all.len(), expected.len(), "bytes");
    assert!(all == expected.as_bytes(), "the bytes differ");
}

#[test]
fn a_slow_reader_gets_every_byte() {
    let c = with_terminal(&format!("seq {LINES}"));
    let (output, stdout) = pipe();
    let output = reader(File::from(output), 16 * 1024, Duration::from_millis(10));
    assert_eq!(code(run(&c, Stdio::null(), stdout)), Some(0));
    assert_lines(&output.join().expect("read"));
}

#[test]
fn an_output_that_does_not_block_gets_every_byte() {
    only_tare!("the reference's errors of write are the output's end");
    let c = with_terminal(&format!("seq {LINES}"));
    let (output, stdout) = pipe();
    fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_WRONLY | OFlag::O_NONBLOCK)).expect("set O_NONBLOCK");
    let output = reader(File::from(output), 16 * 1024, Duration::from_millis(20));
    assert_eq!(code(run(&c, Stdio::null(), stdout)), Some(0));
    assert_lines(&output.join().expect("read"));

    let c = with_terminal(&format!("seq {LINES}"));
    let (output, stdout) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    stdout.set_nonblocking(true).expect("set O_NONBLOCK");
    let output = reader(output, 16 * 1024, Duration::from_millis(20));
    assert_eq!(code(run(&c, Stdio::null(), OwnedFd::from(stdout))), Some(0));
    assert_lines(&output.join().expect("read"));
}

#[test]
fn the_callers_streams_are_left_as_they_were() {
    only_tare!("the reference sets O_NONBLOCK");
    let c = with_terminal("echo x; sleep 1000");
    let (input, _writer) = pipe();
    let (output, stdout) = pipe();
    let flags = |fd: &OwnedFd| fcntl(fd, FcntlArg::F_GETFL).expect("F_GETFL");
    let before = [flags(&input), flags(&stdout)];
    let copies = [&input, &stdout].map(|fd| fd.try_clone().expect("dup"));
    let child = run(&c, input, stdout);
    let mut first = [0; 1];
    File::from(output).read_exact(&mut first).expect("read");
    assert_eq!([flags(&copies[0]), flags(&copies[1])], before);
    c.kill("KILL").ok();
    assert_eq!(code(child), Some(137));
}

/// A program that writes without an end and ends with 9 when it is asked to; its output is full
/// already.
fn with_full_output() -> (Container, Child, File) {
    let c = with_terminal(
        "trap 'exit 9' TERM; (trap '' TERM; while :; do echo xxxxxxxxxxxxxxxxxxxxxx; done) & \
         while :; do usleep 5000; done",
    );
    let (output, stdout) = pipe();
    let copy = stdout.try_clone().expect("dup");
    let child = run(&c, Stdio::null(), stdout);
    eventually("its output is full", || {
        thread::sleep(Duration::from_millis(100));
        let mut fds = [PollFd::new(copy.as_fd(), PollFlags::POLLOUT)];
        (poll(&mut fds, PollTimeout::ZERO).expect("poll") == 0).then_some(())
    });
    (c, child, File::from(output))
}

#[test]
fn a_full_output_keeps_no_signal_from_the_program() {
    let (c, child, output) = with_full_output();
    assert_idle(&child);
    signal(&child, Signal::SIGTERM);
    eventually("the program has ended", || {
        let state = c.call(&["state", &c.id]);
        (state.exit_code() != 0 || state.json()["status"] == "stopped").then_some(())
    });
    // The last of its output waits for the reader.
    let all = reader(output, 4096, Duration::ZERO);
    assert_eq!(code(child), Some(9));
    let all = all.join().expect("read");
    let whole = all.split(|&byte| byte == b'\n').filter(|line| line.len() == 22).count();
    assert!(whole > 100, "{whole} lines of {} bytes", all.len());
    c.assert_nothing_left();
}

#[test]
fn a_caller_that_asked_for_the_end_does_not_wait_for_a_reader_for_ever() {
    only_tare!("the reference waits for ever");
    let (c, child, _output) = with_full_output();
    signal(&child, Signal::SIGTERM);
    assert_eq!(code(child), Some(9));
    c.assert_nothing_left();
}

#[test]
fn after_the_programs_end_a_signal_ends_the_wait_for_a_reader() {
    only_tare!("the reference waits for ever");
    let (c, child, _output) = with_full_output();
    c.kill("KILL").ok();
    eventually("the program has ended", || (c.status() == "stopped").then_some(()));
    signal(&child, Signal::SIGTERM);
    assert_eq!(code(child), Some(137));
    c.assert_nothing_left();
}

#[test]
fn a_reader_that_has_gone_does_not_end_the_program() {
    let c = with_terminal("i=0; while [ $i -lt 2000 ]; do echo xxxxxxxxxxxxxxxxxxxxxx; i=$((i + 1)); done; exit 5");
    let (output, stdout) = pipe();
    drop(output);
    assert_eq!(code(run(&c, Stdio::null(), stdout)), Some(5));
    c.assert_nothing_left();
}
