//! The parent's half of the conversation: what init asks for, until it waits behind its gate.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::UnixAddr;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use oci_spec::runtime::{ContainerState, LinuxResources, Process as OciProcess, Spec};

use super::delete::PATIENCE;
use super::sealed_exe;
use super::spawn::{self, Process};
use crate::cgroups::{Manager, PidsRoom};
use crate::error::{Context as _, Result, anyhow, bail, ensure};
use crate::hooks::{self, Caller, Point, ends_before};
use crate::init::birth::{Birth, waits_to_be_alone};
use crate::linux::seccomp;
use crate::mounts::sources;
use crate::process::{rlimits, scheduler, terminal};
use crate::protocol::{Parent, Phase, ToInit, ToParent};
use crate::state::{Container, Record, status};
use crate::sys::peer::Peer;

/// How long the limit of processes stays raised for one that is to be born.
const LONGEST_BIRTH: Duration = Duration::from_secs(2);

/// Records a process before it goes on.
pub type Announce<'a> = &'a dyn Fn(&Process) -> Result<()>;

/// What the parent needs to answer init.
pub struct Service<'a> {
    /// The configuration.
    pub spec: &'a Spec,
    /// The process that is on its way: the configuration's, or that of `exec`.
    pub process: &'a OciProcess,
    /// The container's directory, in which hooks are recorded.
    pub container: &'a Container,
    /// The record, with init's pid.
    pub record: &'a Record,
    /// The container's cgroup.
    pub cgroup: &'a dyn Manager,
    /// Device rules that are to be in force only when init has made its devices, and before any
    /// hook.
    pub late_devices: Cell<Option<&'a LinuxResources>>,
    /// `--console-socket`
    pub console_socket: Option<&'a Path>,
    /// When the process is born in the container's pid namespace.
    pub birth: Birth,
    /// Records the process that is born, before it goes on.
    pub announce: Option<Announce<'a>>,
    /// Makes room for it where `linux.resources.pids.limit` is reached.
    pub room: Option<PidsRoom<'a>>,
}

impl Service<'_> {
    /// Serves init until it waits. Returns the terminal's master side, unless it was handed to a
    /// console socket. `init` is replaced by the process that is born.
    pub fn run(&self, channel: &Parent, init: &mut Process) -> Result<Option<OwnedFd>> {
        sealed_exe::let_go();
        let mut phase = Phase::Mounting;
        let mut terminal = None;
        let mut awaited = self.birth.is_due();
        while phase != Phase::Waiting {
            let message = channel.receive()?.ok_or_else(|| how_it_died(init, self.cgroup))?;
            phase = phase.next(&message)?;
            self.answer_or_take_on(message, channel, init, &mut terminal, &mut awaited)?;
        }
        ensure!(!awaited, "init did not say which process goes on");
        self.limit_devices()?;
        Ok(terminal)
    }

    fn limit_devices(&self) -> Result<()> {
        self.late_devices.take().map_or(Ok(()), |resources| self.cgroup.apply_devices(resources))
    }

    /// Serves a process that executes its program at once: that closes its end of the conversation.
    /// `process` is replaced by the one that is born.
    pub fn run_until_executed(&self, channel: &Parent, process: &mut Process) -> Result<Option<OwnedFd>> {
        sealed_exe::let_go();
        let mut phase = if terminal::is_wanted(self.process) { Phase::Hooked } else { Phase::Terminal };
        let mut terminal = None;
        let mut awaited = self.birth.is_due();
        while let Some(message) = channel.receive()? {
            phase = phase.next(&message)?;
            self.answer_or_take_on(message, channel, process, &mut terminal, &mut awaited)?;
        }
        ensure!(!(awaited && phase == Phase::Waiting), "init did not say which process goes on");
        match phase {
            Phase::Waiting if status::has_executed(process.pid, None)? != Some(false) => Ok(terminal),
            _ => Err(how_it_died(process, self.cgroup)),
        }
    }

    /// `awaited`: a process is to be born, which replaces this one.
    fn answer_or_take_on(
        &self,
        message: ToParent,
        channel: &Parent,
        process: &mut Process,
        terminal: &mut Option<OwnedFd>,
        awaited: &mut bool,
    ) -> Result<()> {
        match message {
            ToParent::NoRoom if *awaited => self.make_room(channel),
            ToParent::Born(pid) if *awaited => {
                *awaited = false;
                self.take_on(pid, channel, process)
            }
            message => self.answer(message, channel, process, terminal),
        }
    }

    /// Takes on the process that was born, and waits for the end of the one that made it.
    fn take_on(&self, pid: i32, channel: &Parent, process: &mut Process) -> Result<()> {
        let maker = std::mem::replace(process, spawn::adopt(pid)?);
        waitid(Id::PIDFd(maker.pidfd.as_fd()), WaitPidFlag::WEXITED).context("wait for the process that made it")?;
        log::debug!("the program is pid {pid} on the host");
        if !waits_to_be_alone(self.birth, self.process, self.announce.is_some()) {
            return Ok(());
        }
        if let Some(announce) = self.announce {
            announce(process)?;
        }
        if scheduler::is_lost_by_fork(self.process) {
            scheduler::apply(self.process, self.spec, pid)?;
        }
        channel.send(ToInit::Alone)
    }

    fn make_room(&self, channel: &Parent) -> Result<()> {
        let made = self.room.as_ref().map(PidsRoom::make).transpose()?;
        channel.send(ToInit::Room)?;
        if made.is_some() {
            // The limit is the old one again when the process is made, or cannot be made in that
            // time.
            channel.wait_for_a_message(LONGEST_BIRTH)?;
        }
        Ok(())
    }

    fn answer(
        &self,
        message: ToParent,
        channel: &Parent,
        process: &Process,
        terminal: &mut Option<OwnedFd>,
    ) -> Result<()> {
        match message {
            ToParent::Tree(tree, index) => {
                sources::map(&tree, index, self.spec)?;
                channel.send(ToInit::TreeMapped)
            }
            ToParent::Hooks => {
                self.limit_devices()?;
                self.run_hooks()?;
                channel.send(ToInit::HooksDone)
            }
            ToParent::Terminal(master, name) => {
                *terminal = self.hand_over_terminal(master, &name, process)?;
                Ok(())
            }
            ToParent::Limits => {
                if self.birth.is_due() {
                    rlimits::apply_all_but_processes(self.process, process.pid)?;
                } else {
                    rlimits::apply(self.process, process.pid)?;
                }
                channel.send(ToInit::LimitsSet)
            }
            ToParent::Listener(number) => {
                self.hand_over_listener(process, number)?;
                channel.send(ToInit::ListenerTaken)
            }
            ToParent::Waiting => Ok(()),
            ToParent::NoRoom | ToParent::Born(_) => bail!("init said {message:?}, which nobody waits for"),
            ToParent::Failed(reason) => bail!("{reason}"),
        }
    }

    fn run_hooks(&self) -> Result<()> {
        let state = self.record.state(ContainerState::Creating)?;
        for point in [Point::Prestart, Point::CreateRuntime] {
            hooks::run(point, self.spec.hooks().as_ref(), &state, Caller::Parent(self.container))?;
        }
        Ok(())
    }

    fn hand_over_terminal(&self, master: OwnedFd, name: &str, process: &Process) -> Result<Option<OwnedFd>> {
        let Some(path) = self.console_socket else { return Ok(Some(master)) };
        hand_over(path, name, master.as_fd(), process).with_context(|| format!("--console-socket {path:?}"))?;
        Ok(None)
    }

    fn hand_over_listener(&self, init: &Process, number: i32) -> Result<()> {
        let profile = self.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        let profile = profile.ok_or_else(|| anyhow!("init sent a seccomp listener without a profile"))?;
        let listener = seccomp::take(init.pidfd.as_fd(), number)?;
        seccomp::hand_over(
            profile,
            listener,
            (init.pid, init.pidfd.as_fd()),
            &self.record.state(ContainerState::Creating)?,
        )
    }
}

/// Gives a process to who listens for it, if anybody does: `kind` is runc's word for an init or a
/// further program.
pub fn hand_over_pidfd(pidfd_socket: Option<&Path>, kind: &str, process: &Process) -> Result<()> {
    let Some(path) = pidfd_socket else { return Ok(()) };
    hand_over(path, kind, process.pidfd.as_fd(), process).with_context(|| format!("--pidfd-socket {path:?}"))
}

/// Sends one descriptor, with a name, to a unix socket, as long as the process lives.
fn hand_over(path: &Path, name: &str, descriptor: BorrowedFd<'_>, process: &Process) -> Result<()> {
    let peer = Peer::connect(&UnixAddr::new(path)?, process.pidfd.as_fd()).context("connect")?;
    peer.send(name.as_bytes(), descriptor).context("send")
}

/// Waits for a child to end, and takes its status; false: it has not ended in this time.
pub fn reaped(pidfd: &OwnedFd, patience: Duration) -> Result<bool> {
    let ended = ends_before(pidfd, Instant::now() + patience).context("wait for init's end")?;
    if ended {
        // An error: it is the child of another process, which takes the status.
        let _ = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
    }
    Ok(ended)
}

/// Init ended without a word: the kernel knows why, and there is one usual reason.
pub fn how_it_died(init: &Process, cgroup: &dyn Manager) -> crate::error::Error {
    // It has closed its end of the conversation, so it is about to end.
    let _ = ends_before(&init.pidfd, Instant::now() + PATIENCE);
    match waitid(Id::PIDFd(init.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG) {
        Ok(WaitStatus::Signaled(..)) if cgroup.oom_kills() > 0 => {
            anyhow!("init was killed for want of memory: linux.resources.memory.limit is too low to start a container")
        }
        Ok(WaitStatus::Signaled(_, signal, _)) => anyhow!("init was killed by {signal}"),
        Ok(WaitStatus::Exited(_, status)) => anyhow!("init exited with status {status}"),
        _ => anyhow!("init is gone"),
    }
}
