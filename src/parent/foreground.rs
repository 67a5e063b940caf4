//! `run` without `--detach`: stay with the container, pass signals and the terminal on, end as it ends.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{read, write};

use super::notify_socket::Proxy;
use super::spawn::Process;
use super::terminal_guard::RawTerminal;
use crate::error::{Context as _, Result};
use crate::sys::fd::pidfd_send_signal;
use crate::sys::terminal;
use crate::timing;

/// Signals that have a meaning for this process itself, or cannot be caught.
const NOT_FORWARDED: &[Signal] = &[
    Signal::SIGCHLD,
    Signal::SIGPIPE,
    Signal::SIGURG,
    Signal::SIGKILL,
    Signal::SIGSTOP,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

/// Signals kept until somebody looks: from before the program starts, so that none is lost.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks what is to be forwarded.
    pub fn catch() -> Result<Self> {
        let mut set = SigSet::all();
        NOT_FORWARDED.iter().filter(|&&signal| signal != Signal::SIGCHLD).for_each(|&signal| set.remove(signal));
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        SignalFd::with_flags(&set, flags).map(Self).context("signalfd")
    }
}

/// Stays until init ends; returns its exit status, 128 and the signal's number if a signal ended it.
pub fn stay(init: &Process, signals: &Signals, master: Option<OwnedFd>, notify: Option<&Proxy>) -> Result<i32> {
    timing::phase("wait for the container's end");
    let mut console = master.map(Console::new).transpose()?;
    loop {
        let mut fds =
            vec![PollFd::new(init.pidfd.as_fd(), PollFlags::POLLIN), PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
        if let Some(console) = &console {
            fds.extend(console.poll_fds());
        }
        fds.extend(notify.map(|notify| PollFd::new(notify.fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => result.context("poll")?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if ready[1] {
            forward(init, signals, console.as_ref())?;
        }
        if let Some(console) = &mut console {
            console.relay(ready.get(2) == Some(&true), ready.get(3) == Some(&true));
        }
        notify.map(Proxy::pass_on);
        if ready[0] {
            if let Some(console) = &mut console {
                console.drain();
            }
            return exit_status(init);
        }
    }
}

fn exit_status(init: &Process) -> Result<i32> {
    match waitid(Id::PIDFd(init.pidfd.as_fd()), WaitPidFlag::WEXITED).context("wait for init")? {
        WaitStatus::Exited(_, status) => Ok(status),
        WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
        _ => Ok(255),
    }
}

fn forward(init: &Process, signals: &Signals, console: Option<&Console>) -> Result<()> {
    while let Some(info) = signals.0.read_signal().context("read signalfd")? {
        let signal = info.ssi_signo as i32;
        match Signal::try_from(signal) {
            // A child of ours, or one that was handed to us, may have ended: reap it, but not init, whose end is waited for.
            Ok(Signal::SIGCHLD) => reap_others(init.pid),
            Ok(Signal::SIGWINCH) if console.is_some() => console.into_iter().for_each(Console::resize),
            // The container may have ended between the two.
            _ => {
                log::debug!("signal {signal} is passed on to pid {}", init.pid);
                let _ = pidfd_send_signal(init.pidfd.as_fd(), signal);
            }
        }
    }
    Ok(())
}

fn reap_others(init: i32) {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, look) {
        match status.pid() {
            Some(pid) if pid.as_raw() != init => {
                let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
            }

            _ => return,
        }
    }
}

/// The caller's terminal, in raw mode, connected to the container's.
struct Console {
    master: OwnedFd,
    input: io::Stdin,
    /// None: standard input is no terminal.
    _raw: Option<RawTerminal>,
    reading_input: bool,
    reading_output: bool,
}

impl Console {
    fn new(master: OwnedFd) -> Result<Self> {
        let raw = io::stdin().is_terminal().then(RawTerminal::new).transpose()?;
        let console = Self { master, input: io::stdin(), _raw: raw, reading_input: true, reading_output: true };
        console.resize();
        Ok(console)
    }

    /// Gives the container's terminal the size of the caller's.
    fn resize(&self) {
        if let Ok((rows, columns)) = terminal::size(io::stdin().as_fd()) {
            let _ = terminal::set_size(self.master.as_fd(), rows, columns);
        }
    }

    fn poll_fds(&self) -> [PollFd<'_>; 2] {
        let events = |wanted: bool| if wanted { PollFlags::POLLIN } else { PollFlags::empty() };
        [
            PollFd::new(self.master.as_fd(), events(self.reading_output)),
            PollFd::new(self.input.as_fd(), events(self.reading_input)),
        ]
    }

    fn relay(&mut self, output: bool, input: bool) {
        if output && self.reading_output {
            self.reading_output = copy(self.master.as_fd(), io::stdout().as_fd());
        }
        if input && self.reading_input {
            self.reading_input = copy(io::stdin().as_fd(), self.master.as_fd());
        }
    }

    /// Passes on what the program wrote before it ended: reading fails once the last other end is closed.
    fn drain(&mut self) {
        let ready = |console: &Self| {
            let mut fds = [PollFd::new(console.master.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
        };
        while self.reading_output && ready(self) {
            self.reading_output = copy(self.master.as_fd(), io::stdout().as_fd());
        }
    }
}

/// Copies what is there to be read; false: the source has ended.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 16384];
    let length = match read(from, &mut buffer) {
        Ok(0) => return false,
        Ok(length) => length,
        Err(Errno::EINTR | Errno::EAGAIN) => return true,
        // EIO: nobody has the terminal's other end open any more.
        Err(_) => return false,
    };
    let mut left = &buffer[..length];
    while !left.is_empty() {
        match write(to, left) {
            Ok(written) => left = &left[written..],
            Err(Errno::EINTR) => continue,
            // The reader of our output is gone: the container goes on, its output is lost, as with a pipe.
            Err(_) => break,
        }
    }
    true
}
