//! Between the caller's standard streams and the container's terminal. Nothing is read before there
//! is room for it, no call waits, and no descriptor is asked about that has nothing to say: poll(2)
//! is the only place to wait, together with the signals and the container's end.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::unistd::{getpgrp, read, tcgetpgrp, write};

use super::stream::{Stream, Way};
use super::terminal_guard::RawTerminal;
use crate::error::{Context as _, Result};
use crate::sys::terminal;

/// How long a terminal that the program has closed, or that is another job's, is left alone, in
/// milliseconds: nothing tells of its being opened again.
const PAUSE: u16 = 50;

/// How much is passed on after the program's end: more than any terminal holds, and less than other
/// processes could go on writing for ever.
const LAST_WORDS: usize = 1 << 20;

/// The caller's standard streams, connected to the container's terminal.
#[derive(Debug)]
pub struct Relay {
    master: OwnedFd,
    /// None: it has ended.
    input: Option<Stream>,
    /// None: nobody reads it any more.
    output: Option<Stream>,
    to_program: Buffer,
    to_caller: Buffer,
    /// The program has closed its terminal, which it may open again.
    is_hung_up: bool,
    /// The caller's terminal is another job's at the moment.
    is_in_background: bool,
    left_to_drain: usize,
    /// None: standard input is no terminal.
    _raw: Option<RawTerminal>,
}

impl Relay {
    /// Connects the standard streams to the container's terminal. A terminal on standard input
    /// becomes raw for as long as the relay lives; signals have to be blocked.
    pub fn new(master: OwnedFd) -> Result<Self> {
        let raw = io::stdin().is_terminal().then(RawTerminal::new).transpose()?;
        // Init had the only other descriptor of it, and has closed it.
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).context("terminal: set O_NONBLOCK")?;
        let relay = Self {
            master,
            input: Some(Stream::open(io::stdin().as_fd(), Way::In)?),
            output: Some(Stream::open(io::stdout().as_fd(), Way::Out)?),
            to_program: Buffer::new(),
            to_caller: Buffer::new(),
            is_hung_up: false,
            is_in_background: false,
            left_to_drain: LAST_WORDS,
            _raw: raw,
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of the caller's.
    pub fn resize(&self) {
        if let Ok((rows, columns)) = terminal::size(io::stdin().as_fd()) {
            let _ = terminal::set_size(self.master.as_fd(), rows, columns);
        }
    }

    /// Returns what is waited for: the container's terminal, the input, the output. A descriptor
    /// without an event is left out, because poll(2) reports a hang-up that nobody has asked for.
    pub fn poll_fds(&self) -> [Option<PollFd<'_>>; 3] {
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, self.to_caller.is_empty());
        events.set(PollFlags::POLLOUT, !self.to_program.is_empty());
        let is_asked = !self.is_hung_up && !events.is_empty();
        let master = is_asked.then(|| PollFd::new(self.master.as_fd(), events));
        let input = self.input.as_ref().filter(|_| self.to_program.is_empty() && !self.is_in_background);
        [master, input.map(|input| PollFd::new(input.as_fd(), PollFlags::POLLIN)), self.poll_output()]
    }

    /// Returns the output, if something waits for room there.
    pub fn poll_output(&self) -> Option<PollFd<'_>> {
        let output = self.output.as_ref().filter(|_| !self.to_caller.is_empty());
        output.map(|output| PollFd::new(output.as_fd(), PollFlags::POLLOUT))
    }

    /// Returns how long poll(2) may wait.
    pub fn timeout(&self) -> PollTimeout {
        match self.is_hung_up || self.is_in_background {
            true => PollTimeout::from(PAUSE),
            false => PollTimeout::NONE,
        }
    }

    /// Passes on what can be; `ready` is what poll(2) has said of [`Self::poll_fds`].
    pub fn pass_on(&mut self, [master, input, output]: [bool; 3]) {
        self.is_hung_up = false;
        self.is_in_background = false;
        if input {
            self.read_input();
        }
        if master && self.to_caller.is_empty() {
            self.is_hung_up |= !self.read_master();
        }
        self.write_master();
        self.write_output(output);
    }

    /// Passes on what the program wrote before it ended; false: there is no room in the output,
    /// `ready` once there is.
    pub fn drain(&mut self, mut ready: bool) -> bool {
        loop {
            if self.to_caller.is_empty() {
                // Reading fails when nothing is left.
                if self.left_to_drain == 0 || !self.read_master() || self.to_caller.is_empty() {
                    return true;
                }
                self.left_to_drain = self.left_to_drain.saturating_sub(self.to_caller.len());
            }
            self.write_output(std::mem::take(&mut ready));
            if !self.to_caller.is_empty() {
                return false;
            }
        }
    }

    /// False: no process has the terminal's other side open (EIO).
    fn read_master(&mut self) -> bool {
        match self.to_caller.fill(|room| read(&self.master, room)) {
            Ok(length) => length > 0,
            Err(errno) => matches!(errno, Errno::EAGAIN | Errno::EINTR),
        }
    }

    fn write_master(&mut self) {
        match self.to_program.take(|bytes| write(&self.master, bytes)) {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            // The program may open it again, and then this is its input.
            Err(_) => self.is_hung_up = true,
        }
    }

    fn read_input(&mut self) {
        let Some(input) = self.input.as_ref().filter(|_| self.to_program.is_empty()) else { return };
        match self.to_program.fill(|room| input.read(room)) {
            Ok(0) => self.input = None,
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(Errno::EIO) if is_in_background() => self.is_in_background = true,
            Err(_) => self.input = None,
        }
    }

    fn write_output(&mut self, ready: bool) {
        let Some(output) = &self.output else { return self.to_caller.clear() };
        if !ready && !output.never_waits() {
            return;
        }
        let Err(errno) = self.to_caller.take(|bytes| output.write(bytes)) else { return };
        if errno == Errno::EAGAIN {
            return;
        }
        // A reader that has gone is the caller's choice, and the program goes on as it would with a
        // pipe.
        if !matches!(errno, Errno::EPIPE | Errno::ECONNRESET) {
            log::warn!("standard output: write: {}; what the program writes from here on is lost", errno.desc());
        }
        self.output = None;
        self.to_caller.clear();
    }
}

/// Reading from the terminal of a session whose foreground is another job fails with EIO, because
/// SIGTTIN is blocked.
fn is_in_background() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group != getpgrp())
}

/// What was read and is not written yet.
struct Buffer {
    bytes: Box<[u8]>,
    begin: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: vec![0; 16 * 1024].into(), begin: 0, end: 0 }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.end - self.begin
    }

    fn clear(&mut self) {
        (self.begin, self.end) = (0, 0);
    }

    /// Fills an empty buffer.
    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> nix::Result<usize>) -> nix::Result<usize> {
        let length = read(&mut self.bytes)?;
        (self.begin, self.end) = (0, length);
        Ok(length)
    }

    /// Takes out of it what could be written.
    fn take(&mut self, write: impl FnOnce(&[u8]) -> nix::Result<usize>) -> nix::Result<()> {
        if !self.is_empty() {
            self.begin += write(&self.bytes[self.begin..self.end])?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}
