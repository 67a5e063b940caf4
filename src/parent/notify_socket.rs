//! NOTIFY_SOCKET (sd_notify(3)): who supervises the runtime learns when the container's program is
//! ready.
//!
//! The program gets a socket of its own in /run/notify, runc's place for it. What it says there is
//! passed on; that it is ready, together with the id of the process to watch from then on, which it
//! cannot know.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use oci_spec::runtime::{Mount, Spec};

use super::notify_message::{self, Message};
use crate::error::{Context as _, Result};
use crate::state::Container;
use crate::sys::socket::send;

const VARIABLE: &str = "NOTIFY_SOCKET";
/// In the container's directory.
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// In the container.
const INSIDE: &str = "/run/notify";

/// How long the supervisor may take to read what it is told when that is waited for: runc's time.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same once the container has ended.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// How many messages are passed on at a time: a program that never stops keeps nothing else from
/// being noticed.
const AT_A_TIME: usize = 16;

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
    fs::create_dir(container.short_path().join(DIRECTORY))
        .and_then(|()| fs::set_permissions(container.short_path().join(DIRECTORY), Permissions::from_mode(0o755)))
        .with_context(|| format!("{VARIABLE}: make its directory"))
}

/// The socket of whoever supervises the runtime.
fn host_socket() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|path| path.starts_with(['/', '@']))
}

/// Both sides of the conversation, and what is on its way. A supervisor that does not read stops
/// the program's messages, and nothing else.
#[derive(Debug)]
pub struct Proxy {
    program: UnixDatagram,
    supervisor: UnixDatagram,
    main_pid: u32,
    /// What the supervisor has no room for yet, and whether it says that the program is ready.
    waiting: Option<(String, bool)>,
    /// The supervisor has been told.
    is_ready: bool,
    has_warned: bool,
}

impl Proxy {
    /// Listens to the program, if it was created with a socket and the runtime has one. `main_pid`
    /// is the process to watch once it is ready.
    pub fn open(container: &Container, main_pid: u32) -> Result<Option<Self>> {
        let Some(host) = host_socket().filter(|_| container.short_path().join(DIRECTORY).exists()) else {
            return Ok(None);
        };
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
        Ok(Some(Self { program, supervisor, main_pid, waiting: None, is_ready: false, has_warned: false }))
    }

    /// Returns what is waited for: the program's next message, or room for the last one.
    pub fn poll_fd(&self) -> PollFd<'_> {
        match self.waiting {
            None => PollFd::new(self.program.as_fd(), PollFlags::POLLIN),
            Some(_) => PollFd::new(self.supervisor.as_fd(), PollFlags::POLLOUT),
        }
    }

    /// Passes on some of what the program has said, as far as the supervisor has room for it.
    /// False: there may be more.
    pub fn pass_on(&mut self) -> bool {
        let mut buffer = [0; notify_message::LONGEST + 1];
        for _ in 0..AT_A_TIME {
            if !self.send() {
                return false;
            }
            // A descriptor that comes with a message is closed by the kernel: that is what a
            // barrier waits for.
            let Ok(length) = self.program.recv(&mut buffer) else { return true };
            if let Some(message) = Message::parse(&buffer[..length]) {
                self.waiting = Some((message.compose(self.main_pid), message.is_ready()));
            }
        }
        self.send();
        false
    }

    /// False: the supervisor has no room. One that does not listen is no reason to fail.
    fn send(&mut self) -> bool {
        let Some((message, says_ready)) = &self.waiting else { return true };
        match self.supervisor.send(message.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if !self.has_warned => {
                self.has_warned = true; // the program could fill the log
                log::warn!("{VARIABLE}: pass a message on: {error}");
            }
            _ => {}
        }
        self.is_ready |= *says_ready;
        self.waiting = None;
        true
    }

    /// Passes on what the program said before it ended.
    pub fn finish(&mut self) -> Result<()> {
        let deadline = Instant::now() + LAST_PATIENCE;
        while !self.pass_on() {
            let is_over = match self.waiting {
                Some(_) => !wait(&mut [self.poll_fd()], Some(deadline))?,
                None => Instant::now() >= deadline,
            };
            if is_over {
                break;
            }
        }
        Ok(())
    }

    /// Stays until the program is ready, or the container has ended, and the supervisor knows of
    /// it: it would ignore a message of a process that is gone.
    pub fn stay_until_ready(mut self, init: &OwnedFd) -> Result<()> {
        // From when on the program's readiness waits for the supervisor.
        let mut deadline = None;
        loop {
            self.pass_on();
            if self.is_ready {
                return self.wait_for_supervisor();
            }
            if deadline.is_none() && self.waiting.as_ref().is_some_and(|(_, says_ready)| *says_ready) {
                deadline = Some(Instant::now() + PATIENCE);
            }
            let mut fds = [self.poll_fd(), PollFd::new(init.as_fd(), PollFlags::POLLIN)];
            if !wait(&mut fds, deadline)? {
                self.warn_of_silence();
                return Ok(());
            }
            if fds[1].any().unwrap_or(false) {
                self.finish()?;
                return if self.is_ready { self.wait_for_supervisor() } else { Ok(()) };
            }
        }
    }

    /// sd_notify_barrier(3): whoever has read the message closes the descriptor in it.
    fn wait_for_supervisor(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let (read, write) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
        loop {
            match send(self.supervisor.as_fd(), b"BARRIER=1", Some(write.as_fd())) {
                Err(Errno::EAGAIN) => {}
                Err(errno) => {
                    log::warn!("{VARIABLE}: send a barrier: {}", errno.desc());
                    return Ok(());
                }
                Ok(()) => break,
            }
            let mut room = [PollFd::new(self.supervisor.as_fd(), PollFlags::POLLOUT)];
            if !wait(&mut room, Some(deadline))? {
                self.warn_of_silence();
                return Ok(());
            }
        }
        drop(write);
        let mut closed = [PollFd::new(read.as_fd(), PollFlags::empty())];
        while !closed[0].any().unwrap_or(false) {
            if !wait(&mut closed, Some(deadline))? {
                self.warn_of_silence();
                break;
            }
        }
        Ok(())
    }

    fn warn_of_silence(&self) {
        log::warn!("{VARIABLE}: the supervisor did not answer in {} s", PATIENCE.as_secs());
    }
}

/// Waits for one of these descriptors, or an interruption. False: the deadline came first.
fn wait(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> Result<bool> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).as_millis() + 1);
    let timeout = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    match poll(fds, timeout) {
        Err(Errno::EINTR) => Ok(true),
        Ok(0) => Ok(deadline.is_none_or(|deadline| Instant::now() < deadline)),
        result => result.map(|_| true).context("poll"),
    }
}

fn connect(host: &str) -> io::Result<UnixDatagram> {
    let address = match host.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(host)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
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
