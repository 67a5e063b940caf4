//! The caller's terminal in raw mode, and who sees to it that it does not stay so: a process that
//! outlives this one, however it ends. A shell that does not look after its terminal could not be
//! used any more.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpid, getppid};

use crate::error::{Context as _, Result};
use crate::sys::clone::{Side, fork};
use crate::sys::fd::{close_from, end_child};
use crate::sys::process::exit;

/// Tells the guard that this process is gone.
const GONE: Signal = Signal::SIGUSR1;

/// Standard input in raw mode, for as long as this lives.
#[derive(Debug)]
pub struct RawTerminal {
    before: Termios,
    guard: OwnedFd,
}

impl RawTerminal {
    /// Makes standard input, which is a terminal, raw. Signals have to be blocked: the guard waits
    /// for one, and is not to be ended by those that are meant for the container.
    pub fn new() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("terminal: tcgetattr")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        let parent = getpid();
        let guard = match fork(CloneFlags::empty(), None, false).context("clone the terminal's guard")? {
            Side::Parent(_, guard) => guard,
            Side::Child => watch(parent, &before),
        };
        let terminal = Self { before, guard };
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).context("terminal: tcsetattr")?;
        Ok(terminal)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
        end_child(self.guard.as_fd());
    }
}

/// The guard's life: it waits for the end of its parent, and puts the terminal right if nobody else
/// did.
fn watch(parent: Pid, before: &Termios) -> ! {
    // Nothing but the terminal: whoever waits for the end of a pipe must not wait for the guard.
    let _ = close_from(1, &[]);
    let _ = prctl::set_death_signal(GONE as isize).map_err(Errno::from_raw);
    let mut signals = SigSet::empty();
    signals.add(GONE);
    while getppid() == parent && signals.wait().is_ok() {}
    // A shell that has the terminal back may have set it already for itself.
    let raw = tcgetattr(io::stdin()).is_ok_and(|now| {
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        now.local_flags == raw.local_flags && now.input_flags == raw.input_flags && now.output_flags == raw.output_flags
    });
    if raw {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
    }
    exit(0)
}
