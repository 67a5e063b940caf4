//! `run` without `--detach`: stay with the container, pass signals and the terminal on, end as it
//! ends.

use std::cell::Cell;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::notify_socket::Proxy;
use super::relay::Relay;
use super::spawn::Process;
use crate::error::{Context as _, Result};
use crate::sys::fd::pidfd_send_signal;
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

/// How long the last of the output waits for a reader that takes nothing, in milliseconds, once the
/// caller has asked for the end.
const PATIENCE: u16 = 5000;

/// Signals kept until somebody looks: from before the program starts, so that none is lost.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    /// One of them asked a process to end.
    ask_to_end: Cell<bool>,
}

impl Signals {
    /// Blocks what is to be forwarded.
    pub fn catch() -> Result<Self> {
        let mut set = SigSet::all();
        NOT_FORWARDED.iter().filter(|&&signal| signal != Signal::SIGCHLD).for_each(|&signal| set.remove(signal));
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set, flags).context("signalfd")?;
        Ok(Self { fd, ask_to_end: Cell::new(false) })
    }

    fn next(&self) -> Result<Option<i32>> {
        let info = self.fd.read_signal().context("read signalfd")?;
        let signal = info.map(|info| info.ssi_signo as i32);
        if let Some(libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM) = signal {
            self.ask_to_end.set(true);
        }
        Ok(signal)
    }

    /// Takes all that have come; returns whether one of them asks a process to end.
    fn ask_to_end(&self) -> Result<bool> {
        self.ask_to_end.set(false);
        while self.next()?.is_some() {}
        Ok(self.ask_to_end.get())
    }
}

/// Stays until init ends; returns its exit status, 128 and the signal's number if a signal ended
/// it.
pub fn stay(init: &Process, signals: &Signals, master: Option<OwnedFd>, mut notify: Option<Proxy>) -> Result<i32> {
    timing::phase("wait for the container's end");
    let mut relay = master.map(Relay::new).transpose()?;
    loop {
        let own = [init.pidfd.as_fd(), signals.fd.as_fd()].map(|fd| Some(PollFd::new(fd, PollFlags::POLLIN)));
        let [master, input, output] = relay.as_ref().map_or([const { None }; 3], Relay::poll_fds);
        let said = notify.as_ref().map(Proxy::poll_fd);
        let [pidfd, signal] = own;
        let timeout = relay.as_ref().map_or(PollTimeout::NONE, Relay::timeout);
        let ready = wait([pidfd, signal, master, input, output, said], timeout)?;
        let [ended, signalled, master, input, output, said] = ready;
        if signalled {
            forward(init, signals, relay.as_ref())?;
        }
        if let Some(relay) = &mut relay {
            relay.pass_on([master, input, output]);
        }
        if let Some(notify) = notify.as_mut().filter(|_| said) {
            notify.pass_on();
        }
        if ended {
            let status = exit_status(init)?;
            notify.as_mut().map_or(Ok(()), Proxy::finish)?;
            return relay.map_or(Ok(()), |relay| finish(relay, signals)).map(|()| status);
        }
    }
}

/// Waits for one of these descriptors, and says which are ready. A descriptor that is missing never
/// is.
fn wait<const N: usize>(fds: [Option<PollFd<'_>>; N], timeout: PollTimeout) -> Result<[bool; N]> {
    let asked = fds.each_ref().map(Option::is_some);
    let mut present: Vec<_> = fds.into_iter().flatten().collect();
    match poll(&mut present, timeout) {
        Err(Errno::EINTR) => return Ok([false; N]),
        result => result.context("poll")?,
    };
    let mut ready = present.iter().map(|fd| fd.any().unwrap_or(false));
    Ok(asked.map(|asked| asked && ready.next().unwrap_or(false)))
}

/// Passes on the last of the program's output. A reader may take as long as it likes, unless the
/// caller asks for the end: there is no other process any more whom that could be meant for. A
/// caller that has asked before waits [`PATIENCE`] for a reader that takes nothing. Without a word:
/// standard error may be as full.
fn finish(mut relay: Relay, signals: &Signals) -> Result<()> {
    let asked_before = signals.ask_to_end.get();
    let timeout = if asked_before { PollTimeout::from(PATIENCE) } else { PollTimeout::NONE };
    let mut ready = false;
    while !relay.drain(ready) {
        let signal = PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN);
        let [signalled, room] = wait([Some(signal), relay.poll_output()], timeout)?;
        if signalled && signals.ask_to_end()? || asked_before && !signalled && !room {
            return Ok(());
        }
        ready = room;
    }
    Ok(())
}

fn exit_status(init: &Process) -> Result<i32> {
    match waitid(Id::PIDFd(init.pidfd.as_fd()), WaitPidFlag::WEXITED).context("wait for init")? {
        WaitStatus::Exited(_, status) => Ok(status),
        WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
        _ => Ok(255),
    }
}

fn forward(init: &Process, signals: &Signals, relay: Option<&Relay>) -> Result<()> {
    while let Some(signal) = signals.next()? {
        match Signal::try_from(signal) {
            // A child of ours, or one that was handed to us, may have ended: reap it, but not init,
            // whose end is waited for.
            Ok(Signal::SIGCHLD) => reap_others(init.pid),
            Ok(Signal::SIGWINCH) if relay.is_some() => relay.into_iter().for_each(Relay::resize),
            // The container may have ended between the two.
            _ => {
                let _ = pidfd_send_signal(init.pidfd.as_fd(), signal);
                log::debug!("signal {signal} was passed on to pid {}", init.pid);
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
