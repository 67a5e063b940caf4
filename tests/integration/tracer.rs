//! Stops each process that a command makes before its first instruction, so that what others could see of it is looked at
//! when there is the most to see, and not by winning a race.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::container::Container;
use crate::runtime::{LIMIT, read_text, runtime};

/// PTRACE_EVENT_STOP of ptrace(2): the first stop of a new process.
const EVENT_STOP: i32 = 128;

/// In the environment of the traced command.
pub const SECRET: &str = "TARE_TEST_SECRET";

/// What a traced command left.
pub struct Traced {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the runtime, and calls `look` with each process that it makes, stopped at its first instruction. A process that
/// `look` says true of is not followed any further. `None`: nothing may be traced here.
pub fn run(c: &Container, args: &[&str], look: impl FnMut(i32) -> bool) -> Option<Traced> {
    let (stdout, stderr) = (c.beside("traced.stdout"), c.beside("traced.stderr"));
    // The shell waits until it is traced.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read go && exec \"$@\" </dev/null", "sh"]).arg(runtime()).args(c.global_args()).args(args);
    command.stdin(Stdio::piped()).env(SECRET, SECRET);
    command.stdout(File::create(&stdout).expect("create")).stderr(File::create(&stderr).expect("create"));
    let mut shell = command.spawn().expect("start a shell");
    let pid = Pid::from_raw(i32::try_from(shell.id()).expect("a pid"));
    let options = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
    if let Err(errno) = ptrace::seize(pid, options) {
        assert_eq!(errno, Errno::EPERM, "seize {pid}");
        drop(shell.stdin.take());
        shell.wait().expect("reap the shell");
        return None;
    }
    shell.stdin.take().expect("a pipe").write_all(b"go\n").expect("write to the shell");
    let code = follow(pid, look);
    let _ = shell.wait(); // its end was heard of already
    Some(Traced { code, stdout: read_text(&stdout), stderr: read_text(&stderr) })
}

/// Follows the processes until the first of them ends; returns its exit code. The maker of a process stands still while the
/// new one is looked at.
fn follow(first: Pid, mut look: impl FnMut(i32) -> bool) -> i32 {
    let end = Instant::now() + LIMIT;
    let mut traced = vec![first];
    loop {
        let mut is_idle = true;
        for index in 0..traced.len() {
            let pid = traced[index];
            let status = match waitpid(pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => continue,
                status => status.unwrap_or_else(|errno| panic!("wait for {pid}: {errno}")),
            };
            is_idle = false;
            match status {
                WaitStatus::Exited(_, code) if pid == first => return code,
                WaitStatus::Signaled(_, signal, _) if pid == first => return 128 + signal as i32,
                WaitStatus::PtraceEvent(_, _, event) => {
                    let new = if event == EVENT_STOP { None } else { ptrace::getevent(pid).ok() };
                    traced.extend(new.and_then(|new| look_at_new(new, &mut look)));
                    // It may have been killed meanwhile.
                    let _ = ptrace::cont(pid, None);
                }
                WaitStatus::Stopped(_, signal) => {
                    let _ = ptrace::cont(pid, Some(signal).filter(|&signal| signal != Signal::SIGTRAP));
                }
                _ => {}
            }
        }
        assert!(Instant::now() < end, "the traced command still runs after {LIMIT:?}");
        if is_idle {
            sleep(Duration::from_millis(1));
        }
    }
}

/// Returns the new process if it is to be followed.
fn look_at_new(pid: i64, look: &mut impl FnMut(i32) -> bool) -> Option<Pid> {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    match waitpid(pid, Some(WaitPidFlag::__WALL)) {
        Ok(WaitStatus::PtraceEvent(_, _, EVENT_STOP)) => {}
        _ => return None, // killed meanwhile
    }
    let is_done = look(pid.as_raw());
    let _ = if is_done { ptrace::detach(pid, None) } else { ptrace::cont(pid, None) };
    (!is_done).then_some(pid)
}

/// Returns whether a process is in the pid namespace of another one.
pub fn shares_pids(pid: i32, with: i32) -> bool {
    let of = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
    of(pid).is_ok_and(|own| of(with).is_ok_and(|other| own == other))
}
