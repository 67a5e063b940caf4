//! A unix stream socket of the caller's (console, pidfd, seccomp listener) whose peer may never
//! accept or read: waiting for it is bounded, and ends with the process that the descriptor is
//! about.

use std::io::IoSlice;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};

/// How long the peer may take in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// A full queue of connections cannot be polled for.
const PAUSE: Duration = Duration::from_millis(10);

/// The connection. Errors are ETIMEDOUT for a peer that is too slow and ESRCH if the process ended
/// meanwhile.
#[derive(Debug)]
pub struct Peer<'a> {
    socket: OwnedFd,
    process: BorrowedFd<'a>,
    deadline: Instant,
}

impl<'a> Peer<'a> {
    /// Connects to the peer, as long as the process of this pidfd lives.
    pub fn connect(address: &UnixAddr, process: BorrowedFd<'a>) -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        let peer = Self { socket, process, deadline: Instant::now() + PATIENCE };
        loop {
            match connect(peer.socket.as_raw_fd(), address) {
                Ok(()) => return Ok(peer),
                Err(Errno::EAGAIN) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            }
            peer.check()?;
            sleep(PAUSE);
        }
    }

    /// Sends a message and a descriptor, which goes with the first piece of it.
    pub fn send(&self, message: &[u8], descriptor: BorrowedFd<'_>) -> nix::Result<()> {
        let descriptors = [descriptor.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let mut control: &[ControlMessage<'_>] = &rights;
        let mut left = message;
        loop {
            match sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(left)], control, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(sent) => {
                    left = left.get(sent..).unwrap_or_default();
                    control = &[];
                }
                Err(Errno::EAGAIN) => self.wait()?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            if left.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits until the peer has read something.
    fn wait(&self) -> nix::Result<()> {
        self.check()?;
        let mut fds =
            [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT), PollFd::new(self.process, PollFlags::POLLIN)];
        let left = self.deadline.saturating_duration_since(Instant::now());
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Whether to wait on.
    fn check(&self) -> nix::Result<()> {
        if poll(&mut [PollFd::new(self.process, PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|ended| ended > 0) {
            return Err(Errno::ESRCH);
        }
        if Instant::now() >= self.deadline {
            return Err(Errno::ETIMEDOUT);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::pidfd_open;
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};

    #[test]
    fn a_peer_that_does_not_read_is_waited_for_until_the_process_ends() {
        let path = std::env::temp_dir().join(format!("tare-peer-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let mut process = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd_open(process.id() as i32).unwrap();
        let peer = Peer::connect(&UnixAddr::new(&path).unwrap(), pidfd.as_fd()).unwrap();
        peer.send(b"small", pidfd.as_fd()).unwrap();
        let killer = std::thread::spawn(move || {
            sleep(Duration::from_millis(50));
            process.kill().unwrap();
            process.wait().unwrap();
        });
        assert_eq!(peer.send(&vec![0; 8 << 20], pidfd.as_fd()), Err(Errno::ESRCH));
        killer.join().unwrap();
        drop(peer);
        let mut received = [0; 5];
        listener.accept().unwrap().0.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"small");
        std::fs::remove_file(&path).unwrap();
    }
}
