//! The story of a further program in a running container.

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
use crate::process::{apparmor_profile, exec_cpu_affinity, interpreter, selinux_label, terminal};
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
        phase("namespaces");
        self.join()?;
        log::debug!("exec: nsexec container setup: is in its cgroup and namespaces");
        self.enter_root()?;
        self.launch.become_root_of_the_user_namespace()?;
        phase("wait for the parent");
        self.launch.outlive_the_parent()?;
        phase("session, terminal");
        setsid().context("setsid")?;
        selinux_label::apply_to_keyring(process)?;
        keyring::join(self.id)?;
        let terminal = self.open_terminal()?;
        apparmor_profile::apply(process)?;
        if let Some(slave) = terminal {
            terminal::use_as_stdio(slave)?;
        }
        log::debug!("exec: child process in init(): is in the container");
        log::debug!("exec: setns_init: about to exec: gives up its privileges, and the log with them");
        let program = self.launch.give_up_privileges(None)?;
        phase("execute the program");
        self.launch.channel.send(&ToParent::Waiting)?;
        let errno = program.execute();
        bail!("{}", interpreter::explain(program.path(), errno))
    }

    /// All at once, by init itself: no path of a namespace that could have come to mean another. The parent saw to the
    /// pid namespace, which only children enter.
    fn join(&self) -> Result<()> {
        let namespaces = self.namespaces - CloneFlags::CLONE_NEWPID;
        if namespaces.is_empty() {
            return Ok(());
        }
        setns(self.init, namespaces).context("join the container's namespaces")
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
