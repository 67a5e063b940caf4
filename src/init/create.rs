//! The story of init: from a copy of the parent's memory to the container's program.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setresgid, setresuid, setsid, write};
use oci_spec::runtime::{ContainerState, LinuxNamespaceType, Process};

use super::keyring;
use crate::cgroups::Entry;
use crate::config::Bundle;
use crate::error::{Context as _, Result, anyhow, bail, one_line, words};
use crate::hooks::{self, Point};
use crate::linux::seccomp::Filter;
use crate::linux::{
    devices, loopback, masked_paths, namespaces, namespaces::Namespaces, readonly_paths, rootfs_propagation, sysctl,
};
use crate::process::{apparmor_profile, args, capabilities, cwd, env, no_new_privileges, rlimits, terminal, user};
use crate::protocol::{self, ToInit, ToParent};
use crate::root::{Rootfs, pivot, readonly};
use crate::state::{Container, Record, gate::Gate};
use crate::sys;
use crate::{hostname, mounts};

/// What init has of the parent's, by being a copy of it.
pub struct Init<'a> {
    /// The checked configuration.
    pub bundle: &'a Bundle,
    /// Its process.
    pub process: &'a Process,
    /// The container's directory, for the gate.
    pub container: &'a Container,
    /// The record, for the state that hooks are given.
    pub record: &'a Record,
    /// Namespaces to be joined.
    pub namespaces: &'a Namespaces,
    /// The way into the cgroup.
    pub cgroup: &'a Entry,
    /// The compiled seccomp profile.
    pub filter: Option<&'a Filter>,
    /// The end of the conversation.
    pub channel: protocol::Init,
    /// `--no-pivot`
    pub no_pivot: bool,
    /// `--no-new-keyring`
    pub no_new_keyring: bool,
    /// `--preserve-fds`, with those of LISTEN_FDS: how many descriptors after the standard ones stay open.
    pub preserved_fds: u32,
}

impl Init<'_> {
    /// Becomes the container's program. Never returns: a failure is told to the parent, or to `start`.
    pub fn run(self) -> ! {
        let Err(error) = self.story();
        // The parent, if it is still there, prints it.
        let _ = self.channel.send(&ToParent::Failed(one_line(&error)));
        sys::process::exit(1)
    }

    fn story(&self) -> Result<Infallible> {
        let spec = &self.bundle.spec;
        self.live_only_as_long_as_the_parent()?;
        let gate = Gate::take(self.container)?;
        self.enter_cgroup()?;
        self.namespaces.join()?;
        self.become_root_of_the_user_namespace()?;
        self.outlive_the_parent()?;
        self.lead_a_session()?;

        let propagation = rootfs_propagation::of_the_host(spec)?;
        pivot::cut_host_propagation(propagation)?;
        let rootfs = pivot::mount_rootfs(&self.bundle.rootfs, propagation)?;
        umask(Mode::empty());
        mounts::mount_all(spec, self.surroundings(&rootfs))?;
        devices::make(spec, &rootfs)?;
        cwd::make(self.process, &rootfs)?;
        self.let_the_parent_run_its_hooks()?;
        self.run_hooks(Point::CreateContainer, ContainerState::Creating)?;
        let terminal = self.open_terminal(&rootfs)?;
        mounts::seal_dev(spec, &rootfs)?;
        readonly_paths::apply(spec, &rootfs)?;
        masked_paths::apply(spec, &rootfs)?;
        self.change_root(&rootfs)?;
        rootfs_propagation::apply(spec, &rootfs)?;
        readonly::apply(spec, &rootfs)?;
        drop(rootfs);

        hostname::apply(spec)?;
        loopback::bring_up(spec)?;
        apparmor_profile::apply(self.process)?;
        sysctl::apply(spec)?;
        if let Some(slave) = terminal {
            terminal::use_as_stdio(slave)?;
        }
        user::set_umask(self.process);
        no_new_privileges::apply(self.process)?;
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go.
        self.confine(!no_new_privileges::is_set(self.process))?;
        self.limit_resources()?;
        self.become_the_containers_user()?;
        let program = self.prepare_program()?;
        self.close_descriptors()?;
        self.confine(no_new_privileges::is_set(self.process))?;

        self.channel.send(&ToParent::Waiting)?;
        self.wait_at_the_gate(&gate, program)
    }

    /// Until the pid is recorded, nobody else could find and stop this process.
    fn live_only_as_long_as_the_parent(&self) -> Result<()> {
        prctl::set_death_signal(Signal::SIGKILL as isize)
            .map_err(|errno| anyhow!("PR_SET_PDEATHSIG: {}", words(Errno::from_raw(errno))))
    }

    fn outlive_the_parent(&self) -> Result<()> {
        self.channel.wait_for(ToInit::Recorded)?;
        prctl::set_death_signal(0).map_err(|errno| anyhow!("PR_SET_PDEATHSIG: {}", words(Errno::from_raw(errno))))
    }

    /// A thread that moves itself takes none of the kernel's global locks, unlike a move by another process.
    fn enter_cgroup(&self) -> Result<()> {
        for tasks in self.cgroup.tasks() {
            write(tasks, b"0").context("linux.cgroupsPath: enter the cgroup")?;
        }
        Ok(())
    }

    fn become_root_of_the_user_namespace(&self) -> Result<()> {
        if !self.namespaces.new_user() {
            return Ok(());
        }
        self.channel.wait_for(ToInit::Mapped)?;
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        setresgid(gid, gid, gid).context("linux.gidMappings: become group 0 (is 0 mapped?)")?;
        setresuid(uid, uid, uid).context("linux.uidMappings: become user 0 (is 0 mapped?)")
    }

    fn lead_a_session(&self) -> Result<()> {
        setsid().context("setsid")?;
        if !self.no_new_keyring {
            keyring::join(&self.record.id)?;
        }
        Ok(())
    }

    fn surroundings<'s>(&'s self, rootfs: &'s Rootfs) -> mounts::Surroundings<'s> {
        mounts::Surroundings {
            rootfs,
            bundle: &self.bundle.path,
            cgroup_namespace: namespaces::has(&self.bundle.spec, LinuxNamespaceType::Cgroup),
            placement: &self.record.cgroup,
        }
    }

    fn let_the_parent_run_its_hooks(&self) -> Result<()> {
        let hooks = self.bundle.spec.hooks().as_ref();
        if Point::Prestart.of(hooks).is_empty() && Point::CreateRuntime.of(hooks).is_empty() {
            return Ok(());
        }
        self.channel.send(&ToParent::Hooks)?;
        self.channel.wait_for(ToInit::HooksDone)
    }

    fn run_hooks(&self, point: Point, status: ContainerState) -> Result<()> {
        let hooks = self.bundle.spec.hooks().as_ref();
        if point.of(hooks).is_empty() {
            return Ok(());
        }
        // In the container's view, as runc has it: init cannot know its id outside.
        let record = Record { init_process_pid: std::process::id() as i32, ..self.record.clone() };
        hooks::run(point, hooks, &record.state(status)?)
    }

    fn open_terminal(&self, rootfs: &Rootfs) -> Result<Option<OwnedFd>> {
        if !terminal::is_wanted(self.process) {
            return Ok(None);
        }
        let terminal = terminal::open(self.process, rootfs)?;
        terminal::mount_console(&terminal, rootfs)?;
        self.channel.send(&ToParent::Terminal(terminal.master, terminal.name))?;
        Ok(Some(terminal.slave))
    }

    fn change_root(&self, rootfs: &Rootfs) -> Result<()> {
        match self.no_pivot {
            true => pivot::move_root(rootfs.fd()),
            false => pivot::pivot(rootfs, rootfs_propagation::of_the_host(&self.bundle.spec)?),
        }
    }

    /// Loads the seccomp filter, if this is its moment.
    fn confine(&self, now: bool) -> Result<()> {
        let Some(filter) = self.filter.filter(|_| now) else { return Ok(()) };
        if let Some(listener) = filter.load()? {
            self.channel.send(&ToParent::Listener(listener.as_raw_fd()))?;
            self.channel.wait_for(ToInit::ListenerTaken)?;
        }
        Ok(())
    }

    fn limit_resources(&self) -> Result<()> {
        if !self.namespaces.new_user() || self.process.rlimits().is_none() {
            return rlimits::apply(self.process, 0);
        }
        self.channel.send(&ToParent::Limits)?;
        self.channel.wait_for(ToInit::LimitsSet)
    }

    fn become_the_containers_user(&self) -> Result<()> {
        let capabilities = capabilities::Sets::of(self.process);
        let inside = cwd::enter(self.process)?;
        capabilities.apply_bounding()?;
        user::own_streams(self.process)?;
        user::become_user(self.process)?;
        if !inside {
            cwd::enter_as_user(self.process)?;
        }
        capabilities.apply()
    }

    fn prepare_program(&self) -> Result<Program> {
        let environment = env::prepare(self.process, || user::home(self.process));
        let arguments = self.process.args().as_deref().unwrap_or_default();
        let Some(name) = arguments.first() else { bail!("process.args: must name a program") };
        let path = args::find(name, env::value(&environment, "PATH").unwrap_or_default())?;
        Ok(Program {
            path: args::to_c_string(&path)?,
            args: args::to_c_strings(arguments)?,
            env: args::to_c_strings(&environment)?,
        })
    }

    /// From here on, whatever is open and not the program's to have closes when it is executed (CVE-2024-21626).
    fn close_descriptors(&self) -> Result<()> {
        sys::fd::cloexec_from(3 + self.preserved_fds).context("close_range")?;
        // What the runtime's language set up for itself must not be the program's.
        sys::fd::default_signal(Signal::SIGPIPE).context("reset SIGPIPE")?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).context("reset the signal mask")
    }

    fn wait_at_the_gate(&self, gate: &Gate, program: Program) -> Result<Infallible> {
        gate.wait().context("wait for start")?;
        if let Err(error) = self.run_hooks(Point::StartContainer, ContainerState::Created) {
            gate.report(&one_line(&error));
            sys::process::exit(1);
        }
        let errno = program.execute();
        gate.report(&format!("exec {}: {}", program.path.to_string_lossy(), args::go_words(errno)));
        sys::process::exit(1)
    }
}

/// All that execve(2) needs.
struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    fn execute(&self) -> Errno {
        sys::process::execve(&self.path, &sys::process::pointers(&self.args), &sys::process::pointers(&self.env))
    }
}
