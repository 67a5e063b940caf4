//! A further program in a running container: from a copy of the parent's memory, outside of the container's pid namespace, to
//! the program's process inside.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::setsid;

use super::keyring;
use super::program::Launch;
use crate::cgroups::Entry;
use crate::error::{Context as _, Result, bail, one_line};
use crate::linux::namespaces;
use crate::panics;
use crate::process::{apparmor_profile, exec_cpu_affinity, interpreter, oom_score_adj, selinux_label, terminal};
use crate::protocol::ToParent;
use crate::root::{Rootfs, on_host};
use crate::sys;
use crate::timing::phase;

/// What the new process has of the parent's, by being a copy of it.
pub struct Exec<'a> {
    /// The program and the conversation.
    pub launch: Launch<'a>,
    /// The container's id, which names its keyring.
    pub id: &'a str,
    /// The container's init.
    pub init: &'a OwnedFd,
    /// Which of init's namespaces the container does not share with the host.
    pub namespaces: CloneFlags,
    /// Where the root is, if no mount namespace leads to it.
    pub rootfs: Option<&'a Path>,
    /// The way into the cgroup.
    pub cgroup: &'a Entry,
}

impl Exec<'_> {
    /// Becomes the program. Never returns: a failure is told to the parent.
    pub fn run(self) -> ! {
        panics::tell_parent(&self.launch.channel);
        let Err(error) = self.story();
        // The parent, if it is still there, prints it.
        let _ = self.launch.channel.send(&ToParent::Failed(one_line(&error)));
        sys::process::exit(255)
    }

    fn story(&self) -> Result<Infallible> {
        let process = self.launch.process;
        phase("cgroup");
        self.launch.live_only_as_long_as_the_parent()?;
        self.launch.enter_cgroup(self.cgroup)?;
        exec_cpu_affinity::apply_final(process)?;
        // The host's /proc is at hand, and shows this process, until it joins the namespaces.
        oom_score_adj::bequeath(process)?;
        selinux_label::apply_to_keyring(process)?;
        selinux_label::apply(process)?;
        apparmor_profile::apply(process)?;
        phase("namespaces");
        self.join()?;
        log::debug!("exec: nsexec container setup: is in its cgroup and namespaces");
        self.enter_root()?;
        self.launch.become_root_of_the_user_namespace()?;
        phase("session, terminal");
        // A group of its own: the I/O priority is a group's.
        setsid().context("setsid")?;
        keyring::join(self.id)?;
        let terminal = self.open_terminal()?;
        if let Some(slave) = terminal {
            terminal::use_as_stdio(slave)?;
            if !self.launch.birth.is_due() {
                terminal::take_control()?;
            }
        }
        phase("wait for the parent");
        self.launch.outlive_the_parent()?;
        log::debug!("exec: child process in init(): is in the container");
        log::debug!("exec: setns_init: about to exec: gives up its privileges, and the log with them");
        let program = self.launch.give_up_privileges(None)?;
        phase("execute the program");
        self.launch.channel.send(&ToParent::Waiting)?;
        let errno = program.execute();
        bail!("{}", interpreter::explain(program.path(), errno))
    }

    /// Joins all namespaces at once, by init itself: no path could have come to mean another. Only children enter the pid
    /// namespace: what is born there.
    fn join(&self) -> Result<()> {
        if self.namespaces.is_empty() {
            return Ok(());
        }
        namespaces::hide()?;
        setns(self.init, self.namespaces).context("join the container's namespaces")
    }

    fn enter_root(&self) -> Result<()> {
        let Some(path) = self.rootfs else { return Ok(()) };
        let rootfs = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .with_context(|| format!("root.path: open {path:?}"))?;
        on_host::enter(rootfs.as_fd())
    }

    fn open_terminal(&self) -> Result<Option<OwnedFd>> {
        if !terminal::is_wanted(self.launch.process) {
            return Ok(None);
        }
        let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .context("open the container's root")?;
        let terminal = terminal::open(self.launch.process, &Rootfs::new(root), self.launch.piped)?;
        self.launch.channel.send(&ToParent::Terminal(terminal.master, terminal.name))?;
        Ok(Some(terminal.slave))
    }
}
