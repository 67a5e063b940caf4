//! `--pidfd-socket`: who listens gets the process itself, which unlike its id cannot come to mean another.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::container::Container;
use crate::process::terminal::receive;
use crate::runtime::only_tare;

/// The process that a pidfd stands for.
fn pid_of(pidfd: &std::fs::File) -> String {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(path).expect("read");
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.unwrap_or_else(|| panic!("no pidfd: {text}")).trim().to_owned()
}

#[test]
fn the_socket_gets_init_and_a_further_program() {
    only_tare!("runc 1.1 has no --pidfd-socket");
    let c = Container::sleeping();
    let path = c.beside("pidfd.sock");
    let listener = UnixListener::bind(&path).expect("listen");
    let flag = path.to_str().expect("a path");
    c.create_with(&["--pidfd-socket", flag]).ok().silent();
    let (name, init) = receive(&listener);
    assert_eq!((name.as_str(), pid_of(&init)), ("standard", c.pid().to_string()));
    c.start().ok();

    let file = c.beside("exec.pid");
    let arguments = ["exec", "--detach", "--pid-file", file.to_str().expect("a path"), "--pidfd-socket", flag];
    c.call(&[&arguments[..], &[c.id.as_str(), "sleep", "1000"]].concat()).ok().silent();
    let (name, program) = receive(&listener);
    let pid = std::fs::read_to_string(&file).expect("the pid file");
    assert_eq!((name.as_str(), pid_of(&program)), ("setns", pid));

    c.delete_force().ok();
    let mut ended = [PollFd::new(init.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut ended, PollTimeout::from(5000u16)), Ok(1), "it tells that init has ended");
}

#[test]
fn a_socket_that_is_not_there_fails_and_leaves_nothing() {
    only_tare!("runc 1.1 has no --pidfd-socket");
    let c = Container::sleeping();
    c.create_with(&["--pidfd-socket", "/no/such/socket"]).fails(&["--pidfd-socket", "/no/such/socket", "no such file"]);
    c.assert_nothing_left();
}
