//! NOTIFY_SOCKET (sd_notify(3)): who supervises the runtime learns when the container's program is ready.
//!
//! The program gets a socket of its own in /run/notify, runc's place for it. What it says there is passed on; that it is
//! ready, together with the id of the process to watch from then on, which it cannot know.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe;
use oci_spec::runtime::{Mount, Spec};

use crate::error::{Context as _, Result};
use crate::state::Container;
use crate::sys::socket::send;

const VARIABLE: &str = "NOTIFY_SOCKET";
/// In the container's directory.
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// In the container.
const INSIDE: &str = "/run/notify";

/// What the program may say. Which process is the main one is not among it, nor anything that comes with descriptors.
const PASSED_ON: &[&str] = &[
    "READY=",
    "RELOADING=",
    "MONOTONIC_USEC=",
    "STOPPING=",
    "STATUS=",
    "ERRNO=",
    "BUSERROR=",
    "EXIT_STATUS=",
    "WATCHDOG=",
    "EXTEND_TIMEOUT_USEC=",
];

/// How long the supervisor may take to say that it has read everything, in seconds: runc's time.
const PATIENCE: u16 = 30;

/// Gives the program a way to the socket, if the runtime has one. True if it has.
pub fn configure(spec: &mut Spec, container: &Path) -> Result<bool> {
    if host_socket().is_none() {
        return Ok(false);
    }
    let mut mount = Mount::default();
    let source = std::path::absolute(container).context("--root")?.join(DIRECTORY);
    mount.set_destination(INSIDE.into()).set_typ(None).set_source(Some(source));
    mount.set_options(Some(["bind", "nosuid", "noexec", "nodev", "ro"].map(String::from).to_vec()));
    spec.mounts_mut().get_or_insert_default().push(mount);
    if let Some(process) = spec.process_mut() {
        process.env_mut().get_or_insert_default().push(format!("{VARIABLE}={INSIDE}/{SOCKET}"));
    }
    Ok(true)
}

/// Makes the directory that is mounted; the socket comes into it when somebody reads it.
pub fn make_directory(container: &Container) -> Result<()> {
    fs::create_dir(container.path().join(DIRECTORY))
        .and_then(|()| fs::set_permissions(container.path().join(DIRECTORY), Permissions::from_mode(0o755)))
        .with_context(|| format!("{VARIABLE}: make its directory"))
}

/// The socket of whoever supervises the runtime.
fn host_socket() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|path| path.starts_with(['/', '@']))
}

/// Both sides of the conversation, and who stands in between.
#[derive(Debug)]
pub struct Proxy {
    program: UnixDatagram,
    supervisor: UnixDatagram,
    main_pid: u32,
}

impl Proxy {
    /// Listens to the program, if it was created with a socket and the runtime has one. `main_pid` is the process to watch
    /// once it is ready.
    pub fn open(container: &Container, main_pid: u32) -> Result<Option<Self>> {
        let Some(host) = host_socket().filter(|_| container.path().join(DIRECTORY).exists()) else { return Ok(None) };
        if !container.is_gated()? {
            // It runs, and whoever started it may still listen.
            return Ok(None);
        }
        let supervisor = match connect(&host) {
            Ok(socket) => socket,
            Err(error) => {
                log::warn!("{VARIABLE}={host:?}: {error}; nobody will hear of the container");
                return Ok(None);
            }
        };
        let program = listen(container).with_context(|| format!("{VARIABLE}: make the container's socket"))?;
        Ok(Some(Self { program, supervisor, main_pid }))
    }

    /// Where the program's messages come in.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Passes on what the program has said; true if it is ready. A supervisor that does not listen is no reason to fail.
    pub fn pass_on(&self) -> bool {
        let mut buffer = [0; 4096];
        let mut ready = false;
        // A descriptor that comes with a message is closed by the kernel: that is what a barrier waits for.
        while let Ok(length) = self.program.recv(&mut buffer) {
            let said = String::from_utf8_lossy(&buffer[..length]);
            let Some(message) = rewrite(&said, self.main_pid) else { continue };
            ready |= said.lines().any(is_ready);
            if let Err(error) = self.supervisor.send(message.as_bytes()) {
                log::warn!("{VARIABLE}: pass {message:?} on: {error}");
            }
        }
        ready
    }

    /// Stays until the program is ready, or the container has ended, and the supervisor knows of it: it would ignore a
    /// message of a process that is gone.
    pub fn stay_until_ready(&self, init: &OwnedFd) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(init.as_fd(), PollFlags::POLLIN), PollFd::new(self.fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                result => result.context("poll")?,
            };
            let ended = fds[0].any().unwrap_or(false);
            if self.pass_on() {
                return self.wait_for_supervisor();
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// sd_notify_barrier(3): whoever has read the message closes the descriptor in it.
    fn wait_for_supervisor(&self) -> Result<()> {
        let (read, write) = pipe().context("pipe")?;
        send(self.supervisor.as_fd(), b"BARRIER=1", Some(write.as_fd()))
            .with_context(|| format!("{VARIABLE}: send"))?;
        drop(write);
        let mut closed = [PollFd::new(read.as_fd(), PollFlags::empty())];
        if poll(&mut closed, PollTimeout::from(PATIENCE * 1000)).context("poll")? == 0 {
            log::warn!("{VARIABLE}: the supervisor did not answer in {PATIENCE} s");
        }
        Ok(())
    }
}

/// A message as the supervisor is to get it; none if nothing of it is for the supervisor.
fn rewrite(message: &str, main_pid: u32) -> Option<String> {
    let lines = message.lines().filter(|line| PASSED_ON.iter().any(|start| line.starts_with(start)));
    let mut rewritten: String = lines.map(|line| format!("{line}\n")).collect();
    if message.lines().any(is_ready) {
        rewritten.push_str(&format!("MAINPID={main_pid}\n"));
    }
    Some(rewritten).filter(|message| !message.is_empty())
}

fn is_ready(line: &str) -> bool {
    line == "READY=1"
}

fn connect(host: &str) -> io::Result<UnixDatagram> {
    let address = match host.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(host)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

fn listen(container: &Container) -> Result<UnixDatagram> {
    // A socket's path has only 108 bytes: this one is short wherever the directory is.
    let path = container.short_path().join(DIRECTORY).join(SOCKET);
    // Of somebody who listened before, and whose `start` failed.
    let _ = fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path)?;
    socket.set_nonblocking(true)?;
    // Whoever the program is in its user namespace, it may speak.
    fs::set_permissions(&path, Permissions::from_mode(0o777))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_comes_with_the_process_to_watch_and_no_other_does() {
        assert_eq!(rewrite("MAINPID=1\nREADY=1\nSTATUS=up", 42).unwrap(), "READY=1\nSTATUS=up\nMAINPID=42\n");
        assert_eq!(rewrite("STATUS=soon", 42).unwrap(), "STATUS=soon\n");
        for nothing in ["", "MAINPID=1", "BARRIER=1", "FDSTORE=1\nFDNAME=x", "MAINPIDFDID=7\nMAINPIDFD=1"] {
            assert_eq!(rewrite(nothing, 42), None, "{nothing:?}");
        }
        // What only looks like it, in the middle of a status.
        assert_eq!(rewrite("STATUS=READY=1", 42).unwrap(), "STATUS=READY=1\n");
    }
}
