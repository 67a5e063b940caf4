//! The conversation of the two stages, over one SOCK_SEQPACKET pair: a message a packet.
//!
//! | from   | message            | says                                              | the parent then                          |
//! |--------|--------------------|---------------------------------------------------|------------------------------------------|
//! | parent | `Placed`           | systemd has moved init into its cgroup            | (only with `--systemd-cgroup`)           |
//! | parent | `Mapped`           | uid_map and gid_map are written                   | (only with a new user namespace)         |
//! | parent | `Recorded`         | the pid is in state.json: init may outlive us     |                                          |
//! | init   | `Tree` + fd        | an idmapped mount's source out of the rootfs; the data is the mount's index | maps its ids |
//! | parent | `TreeMapped`       | they are mapped                                   |                                          |
//! | init   | `Hooks`            | namespaces and mounts are ready                   | runs prestart and createRuntime          |
//! | parent | `HooksDone`        | they succeeded                                    |                                          |
//! | init   | `Terminal` + fd    | the master side; the data is the terminal's name  | hands it to the console socket, or keeps it |
//! | init   | `Limits`           | in its user namespace it may not raise its limits | sets process.rlimits                     |
//! | parent | `LimitsSet`        | they are in force                                 |                                          |
//! | init   | `NoRoom`           | no process more may be made: pids.max is reached  | raises the limit for a moment            |
//! | parent | `Room`             | there may be room now                             |                                          |
//! | init   | `Born`             | the pid of the process that goes on in its place  | knows the new process                    |
//! | parent | `Alone`            | the process that sent `Born` is gone              |                                          |
//! | init   | `Listener`         | the number of seccomp's notify descriptor in init | takes it, hands it to seccomp.listenerPath |
//! | parent | `ListenerTaken`    | the listener has it: init may close it            |                                          |
//! | init   | `Waiting`          | all is done but the program: behind the gate      | writes the pid file                      |
//! | init   | `Failed`           | why; init is about to exit                        | cleans up and fails with it              |
//!
//! Init sends them in this order ([`Phase`]), `Tree` and `NoRoom` as often as it takes. `Born` is the first of all where
//! another process makes init in a user namespace that is joined; where a process is born in a pid namespace that others
//! live in, it comes at any time after `Limits`. Once a process is in a pid namespace with others, one that
//! may trace it may speak in its place: what it says is believed no further than this order, and a pid only of a child. The parent may say `Recorded` at any
//! time from there on, so init keeps it until it is asked for. A parent that dies is an end of file for init, and the other
//! way round.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Context as _, Result, anyhow, bail};
use crate::sys::fd::write_by_any_call;
use crate::sys::socket;

/// The longest packet; an error's text is cut to fit.
const LONGEST: usize = 8192;

/// What the parent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ToInit {
    /// Init is in its cgroup.
    Placed = 1,
    /// The user namespace's mappings are written.
    Mapped,
    /// Init's pid is recorded.
    Recorded,
    /// The tree that init sent has the owners that its mount asks for.
    TreeMapped,
    /// The hooks that init asked for have run.
    HooksDone,
    /// The resource limits are set.
    LimitsSet,
    /// The seccomp listener has the descriptor that init announced.
    ListenerTaken,
    /// The limit of processes was raised for a moment, if it was reached.
    Room,
    /// The process that announced this one is gone.
    Alone,
}

/// What init says.
#[derive(Debug)]
pub enum ToParent {
    /// The process that goes on was made, by another one than the parent: its pid in the parent's pid namespace. Only the
    /// number: a profile may refuse to send a descriptor.
    Born(i32),
    /// The kernel makes no process more.
    NoRoom,
    /// A detached tree, for the idmapped mount of this index: only who is privileged over its filesystem may map it.
    Tree(OwnedFd, usize),
    /// Run the hooks of the runtime's namespace.
    Hooks,
    /// The terminal's master side and name.
    Terminal(OwnedFd, String),
    /// Set the resource limits.
    Limits,
    /// The number of the seccomp listener's descriptor in init. Only the number: the filter is in force, and a call that
    /// passes descriptors may itself wait for the listener.
    Listener(i32),
    /// Init waits behind the gate.
    Waiting,
    /// Init gives up, for this reason.
    Failed(String),
}

/// How far init has come: the legal order of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Namespaces and mounts.
    Mounting,
    /// The hooks were asked for.
    Hooked,
    /// The terminal was sent.
    Terminal,
    /// The limits were asked for.
    Limited,
    /// The seccomp listener was sent.
    Listening,
    /// Behind the gate.
    Waiting,
}

impl Phase {
    /// The phase after a message; each but `Tree` comes at most once, and never after a later one.
    pub fn next(self, message: &ToParent) -> Result<Self> {
        let next = match message {
            // The process that is born may speak before the one that announces it: the parent knows whether it waits for it.
            ToParent::NoRoom | ToParent::Born(_) => return Ok(self),
            ToParent::Tree(..) if self == Self::Mounting => return Ok(self),
            ToParent::Tree(..) => Self::Mounting,
            ToParent::Hooks => Self::Hooked,
            ToParent::Terminal(..) => Self::Terminal,
            ToParent::Limits => Self::Limited,
            ToParent::Listener(_) => Self::Listening,
            ToParent::Waiting => Self::Waiting,
            ToParent::Failed(_) => return Ok(self),
        };
        if next <= self {
            bail!("init said {message:?} out of order, after {self:?}");
        }
        Ok(next)
    }
}

/// The parent's end.
#[derive(Debug)]
pub struct Parent(OwnedFd);

/// Init's end.
#[derive(Debug)]
pub struct Init {
    socket: OwnedFd,
    /// The parent has said so, while something else was waited for.
    recorded: Cell<bool>,
}

/// Makes the two ends.
pub fn pair() -> Result<(Parent, Init)> {
    let (parent, init) = socket::seqpacket_pair().context("socketpair")?;
    Ok((Parent(parent), Init { socket: init, recorded: Cell::new(false) }))
}

impl Parent {
    /// The descriptor's number, for init to close its copy.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Says something to init. One that has given up hears nothing: why is to be received.
    pub fn send(&self, message: ToInit) -> Result<()> {
        match socket::send(self.0.as_fd(), &[message as u8], None) {
            Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            result => result.with_context(|| format!("tell init: {message:?}")),
        }
    }

    /// Waits until init's next message can be received, for at most `limit`.
    pub fn wait_for_a_message(&self, limit: Duration) -> Result<()> {
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], limit) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("hear from init: poll"),
        }
    }

    /// Waits for init's next message; `None` if init is gone without a word.
    pub fn receive(&self) -> Result<Option<ToParent>> {
        let mut buffer = [0; LONGEST];
        let received = match socket::receive(self.0.as_fd(), &mut buffer) {
            // Init died with something of ours unread, which is told once, before its own last words.
            Err(Errno::ECONNRESET) => socket::receive(self.0.as_fd(), &mut buffer),
            result => result,
        };
        let (length, fd) = received.context("hear from init")?;
        let Some((&tag, data)) = buffer[..length].split_first() else { return Ok(None) };
        let text = || String::from_utf8_lossy(data).into_owned();
        let missing = || anyhow!("init sent message {tag:?} without its descriptor");
        Ok(Some(match tag {
            b'B' => ToParent::Born(text().parse().context("hear from init: its pid")?),
            b'N' => ToParent::NoRoom,
            b'M' => ToParent::Tree(fd.ok_or_else(missing)?, text().parse().context("hear from init: a mount's index")?),
            b'H' => ToParent::Hooks,
            b'R' => ToParent::Limits,
            b'T' => ToParent::Terminal(fd.ok_or_else(missing)?, text()),
            b'L' => ToParent::Listener(text().parse().context("hear from init: the listener's number")?),
            b'W' => ToParent::Waiting,
            b'F' => ToParent::Failed(text().replace(char::is_control, " ")),
            _ => bail!("init sent an unknown message {tag:?}"),
        }))
    }
}

impl Init {
    /// The descriptor's number, for init to keep it.
    pub fn number(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Says something to the parent.
    pub fn send(&self, message: &ToParent) -> Result<()> {
        let number;
        let (tag, fd, text) = match message {
            ToParent::Born(pid) => {
                number = pid.to_string();
                (b'B', None, number.as_str())
            }
            ToParent::NoRoom => (b'N', None, ""),
            ToParent::Tree(tree, index) => {
                number = index.to_string();
                (b'M', Some(tree.as_fd()), number.as_str())
            }
            ToParent::Hooks => (b'H', None, ""),
            ToParent::Limits => (b'R', None, ""),
            ToParent::Terminal(fd, name) => (b'T', Some(fd.as_fd()), name.as_str()),
            ToParent::Listener(fd) => {
                number = fd.to_string();
                (b'L', None, number.as_str())
            }
            ToParent::Waiting => (b'W', None, ""),
            ToParent::Failed(reason) => (b'F', None, reason.as_str()),
        };
        let packet = packet(tag, text);
        match fd {
            None => write_by_any_call(self.number(), &packet),
            fd => socket::send(self.socket.as_fd(), &packet, fd),
        }
        .context("tell the parent")
    }

    /// Waits until the parent says this.
    pub fn wait_for(&self, wanted: ToInit) -> Result<()> {
        if wanted == ToInit::Recorded && self.recorded.get() {
            return Ok(());
        }
        let mut buffer = [0; 1];
        loop {
            // read(2): a usable seccomp profile allows it rather than recvmsg(2).
            match nix::unistd::read(&self.socket, &mut buffer) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("hear from the parent"),
                Ok(1) if buffer[0] == wanted as u8 => return Ok(()),
                Ok(1) if buffer[0] == ToInit::Recorded as u8 => self.recorded.set(true),
                Ok(0) => bail!("the parent is gone"),
                _ => bail!("the parent said {} instead of {wanted:?}", buffer[0]),
            }
        }
    }
}

fn packet(tag: u8, text: &str) -> Vec<u8> {
    let mut packet = Vec::with_capacity(1 + text.len());
    packet.push(tag);
    packet.extend_from_slice(&text.as_bytes()[..text.len().min(LONGEST - 1)]);
    packet
}

/// Tells the parent why init gives up, by the number of the descriptor ([`Init::number`]). Nothing can be done if that fails.
pub fn tell_failure(number: RawFd, reason: &str) {
    let _ = write_by_any_call(number, &packet(b'F', reason));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_travels_whole_and_an_end_is_told_from_a_message() {
        let (parent, init) = pair().unwrap();
        parent.send(ToInit::Recorded).unwrap();
        init.wait_for(ToInit::Recorded).unwrap();
        init.send(&ToParent::Failed("mounts[3]: open \"/x\": No such file or directory".into())).unwrap();
        drop(init);
        let heard = parent.receive().unwrap().unwrap();
        assert!(matches!(heard, ToParent::Failed(reason) if reason.ends_with("No such file or directory")));
        assert!(parent.receive().unwrap().is_none());
    }

    #[test]
    fn the_last_words_are_heard_of_an_init_that_did_not_listen() {
        let (parent, init) = pair().unwrap();
        parent.send(ToInit::Mapped).unwrap();
        init.send(&ToParent::Failed("why".into())).unwrap();
        drop(init);
        parent.send(ToInit::Recorded).unwrap();
        assert!(matches!(parent.receive().unwrap(), Some(ToParent::Failed(reason)) if reason == "why"));
        assert!(parent.receive().unwrap().is_none());
    }

    #[test]
    fn init_cannot_go_back() {
        let hooked = Phase::Mounting.next(&ToParent::Hooks).unwrap();
        assert!(hooked.next(&ToParent::Hooks).is_err());
        let waiting = hooked.next(&ToParent::Waiting).unwrap();
        assert!(waiting.next(&ToParent::Hooks).is_err());
    }
}
