//! A standard stream of the caller's that is read or written without ever waiting for its other
//! end. The caller's open file description is shared with others and stays as it is: O_NONBLOCK is
//! a flag of that.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, makedev};
use nix::unistd::{isatty, read, write};

use crate::error::{Context as _, Result};

/// How much a pipe takes without waiting that poll(2) says can be written (pipe(7), PIPE_BUF).
const PIPE_ROOM: usize = 4096;
/// The same for a terminal, of which poll(2) says no more than that there is room.
const TERMINAL_ROOM: usize = 64;

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the stream to this process.
    In,
    /// From this process to the stream.
    Out,
}

/// One end of a standard stream.
#[derive(Debug)]
pub struct Stream {
    fd: OwnedFd,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// A call never waits: a file, or a pipe or terminal that was opened again.
    Directly,
    /// With MSG_DONTWAIT.
    AsSocket,
    /// Only what poll(2) has said to be ready, so many bytes at a time.
    WhenReady(usize),
}

impl Stream {
    /// Takes a standard stream. A pipe or a terminal is opened again, which gives it a description
    /// of its own.
    pub fn open(standard: BorrowedFd<'_>, way: Way) -> Result<Self> {
        let what = || format!("standard {}", if way == Way::In { "input" } else { "output" });
        let found = fstat(standard).with_context(what)?;
        let room = match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFIFO => Some(PIPE_ROOM),
            SFlag::S_IFCHR if isatty(standard).unwrap_or(false) => Some(TERMINAL_ROOM),
            _ => None,
        };
        let (fd, how) = match room.map(|room| (room, open_again(standard, &found, way))) {
            Some((_, Ok(fd))) => (fd, How::Directly),
            // Another user's, such as the terminal after su(1).
            Some((room, Err(_))) => (standard.try_clone_to_owned().with_context(what)?, How::WhenReady(room)),
            None => {
                let is_socket = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK;
                let how = if is_socket { How::AsSocket } else { How::Directly };
                (standard.try_clone_to_owned().with_context(what)?, how)
            }
        };
        Ok(Self { fd, how })
    }

    /// Returns whether it may be used before poll(2) has said that it is ready.
    pub fn never_waits(&self) -> bool {
        !matches!(self.how, How::WhenReady(_))
    }

    /// Reads what is there; 0 is the end. EAGAIN: nothing is.
    pub fn read(&self, buffer: &mut [u8]) -> nix::Result<usize> {
        repeat(|| match self.how {
            How::AsSocket => recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT),
            _ => read(&self.fd, buffer),
        })
    }

    /// Writes as much as there is room for. EAGAIN: there is none.
    pub fn write(&self, bytes: &[u8]) -> nix::Result<usize> {
        repeat(|| match self.how {
            How::AsSocket => send(self.fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL),
            How::Directly => write(&self.fd, bytes),
            How::WhenReady(room) => write(&self.fd, &bytes[..bytes.len().min(room)]),
        })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_again(standard: BorrowedFd<'_>, found: &FileStat, way: Way) -> nix::Result<OwnedFd> {
    if found.st_rdev == makedev(5, 2) {
        return Err(Errno::ENXIO); // /dev/ptmx, whose every opening is a terminal of its own
    }
    let access = if way == Way::In { OFlag::O_RDONLY } else { OFlag::O_WRONLY };
    let granted = OFlag::from_bits_truncate(fcntl(standard, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
    if granted != access && granted != OFlag::O_RDWR {
        return Err(Errno::EBADF);
    }
    let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let fd = open(format!("/proc/self/fd/{}", standard.as_raw_fd()).as_str(), flags, Mode::empty())?;
    let again = fstat(&fd)?;
    match (again.st_dev, again.st_ino, again.st_rdev) == (found.st_dev, found.st_ino, found.st_rdev) {
        true => Ok(fd),
        false => Err(Errno::ESTALE),
    }
}

fn repeat(mut call: impl FnMut() -> nix::Result<usize>) -> nix::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => continue,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use nix::unistd::pipe;

    /// Writes until there is no room, reads all of it, and finds the end when the writer is gone.
    fn fill_and_empty(reader: Stream, writer: Stream) {
        let mut written = 0;
        loop {
            match writer.write(&[b'x'; 10_000]) {
                Ok(count) => written += count,
                Err(errno) => break assert_eq!(errno, Errno::EAGAIN),
            }
        }
        let mut buffer = [0; 30_000];
        while written > 0 {
            written -= reader.read(&mut buffer).unwrap();
        }
        assert_eq!(reader.read(&mut buffer), Err(Errno::EAGAIN));
        drop(writer);
    }

    #[test]
    fn a_pipe_that_cannot_be_opened_again_is_written_as_it_has_room() {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let (out, into) = pipe().unwrap();
        // Nobody may open a pipe for reading by a descriptor that was opened for writing.
        assert!(!Stream::open(into.as_fd(), Way::In).unwrap().never_waits());
        let stream = Stream { fd: into, how: How::WhenReady(PIPE_ROOM) };
        let has_room = || poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO).unwrap() > 0;
        let mut written = 0;
        while has_room() {
            written += stream.write(&[b'x'; 10_000]).unwrap();
        }
        assert!(written >= PIPE_ROOM, "{written}");
        drop(out);
        assert_eq!(stream.write(b"x"), Err(Errno::EPIPE));
    }

    #[test]
    fn neither_a_pipe_nor_a_socket_is_waited_for_and_the_callers_flags_stay() {
        let (out, into) = pipe().unwrap();
        let flags = |fd: &OwnedFd| fcntl(fd, FcntlArg::F_GETFL).unwrap();
        let before = flags(&into);
        fill_and_empty(Stream::open(out.as_fd(), Way::In).unwrap(), Stream::open(into.as_fd(), Way::Out).unwrap());
        assert_eq!(flags(&into), before);

        let (one, other) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap();
        fill_and_empty(Stream::open(one.as_fd(), Way::In).unwrap(), Stream::open(other.as_fd(), Way::Out).unwrap());
        let reader = Stream::open(one.as_fd(), Way::In).unwrap();
        drop(other);
        assert_eq!(reader.read(&mut [0; 10]), Ok(0));
    }
}
