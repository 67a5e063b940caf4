//! The story of init: from a copy of the parent's memory to the container's program.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::OwnedFd;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{fchdir, setsid};
use oci_spec::runtime::{ContainerState, LinuxNamespaceType};

use super::keyring;
use super::program::{Launch, Program};
use crate::cgroups::Entry;
use crate::config::Bundle;
use crate::error::{Context as _, Result, one_line, words};
use crate::hooks::{self, Caller, Point};
use crate::hostname;
use crate::linux::{
    devices, loopback, masked_paths, mount_label, namespaces, namespaces::Namespaces, readonly_paths,
    rootfs_propagation, sysctl,
};
use crate::mounts::{self, proc_context::Contexts, sources};
use crate::panics;
use crate::process::{apparmor_profile, cwd, exec_cpu_affinity, interpreter, selinux_label, terminal};
use crate::protocol::{ToInit, ToParent};
use crate::root::{Rootfs, on_host, pivot, readonly};
use crate::state::{Container, Record, gate::Gate, gate::Obstacle};
use crate::sys;
use crate::timing::phase;

/// What init has of the parent's, by being a copy of it.
pub struct Init<'a> {
    /// The checked configuration.
    pub bundle: &'a Bundle,
    /// The program and the conversation.
    pub launch: Launch<'a>,
    /// The container's directory, for the gate.
    pub container: &'a Container,
    /// The record, for the state that hooks are given.
    pub record: &'a Record,
    /// Namespaces to be joined.
    pub namespaces: &'a Namespaces,
    /// Where a procfs comes from that shows a pid namespace which init is not in.
    pub shown_pids: Option<&'a Contexts<'a>>,
    /// The sources of bind mounts that the parent has opened.
    pub sources: &'a sources::Sources,
    /// The way into the cgroup.
    pub cgroup: &'a Entry,
    /// `--no-pivot`
    pub no_pivot: bool,
    /// `--no-new-keyring`
    pub no_new_keyring: bool,
}

impl Init<'_> {
    /// Becomes the container's program. Never returns: a failure is told to the parent, or to `start`.
    pub fn run(self) -> ! {
        panics::tell_parent(&self.launch.channel);
        let Err(error) = self.story();
        // The parent, if it is still there, prints it.
        let _ = self.launch.channel.send(&ToParent::Failed(one_line(&error)));
        sys::process::exit(1)
    }

    fn story(&self) -> Result<Infallible> {
        let spec = &self.bundle.spec;
        phase("gate, cgroup");
        self.launch.live_only_as_long_as_the_parent()?;
        let gate = Gate::take(self.container)?;
        let process = self.launch.process;
        let labels = (apparmor_profile::open(process)?, selinux_label::open(process)?);
        self.launch.enter_cgroup(self.cgroup)?;
        phase("namespaces, session");
        exec_cpu_affinity::reset();
        self.namespaces.join()?;
        if self.namespaces.new_user() {
            self.launch.channel.wait_for(ToInit::Mapped)?;
        }
        self.launch.become_root_of_the_user_namespace()?;
        self.lead_a_session()?;
        log::debug!("init: nsexec container setup: is in its cgroup and namespaces");

        phase("rootfs");
        let propagation = rootfs_propagation::of_the_host(spec)?;
        if self.has_own_mounts() {
            pivot::cut_host_propagation(propagation)?;
        }
        let rootfs = pivot::mount_rootfs(&self.bundle.rootfs, propagation)?;
        umask(Mode::empty());
        mounts::mount_all(spec, self.surroundings(&rootfs))?;
        phase("devices");
        devices::make(spec, &rootfs)?;
        cwd::make(self.launch.process, &rootfs)?;
        log::debug!("init: child process in init(): has made mounts and devices");
        phase("wait for the record, hooks");
        self.launch.outlive_the_parent()?;
        self.let_the_parent_run_its_hooks()?;
        self.run_create_container_hooks(&rootfs)?;
        phase("terminal");
        let terminal = self.open_terminal(&rootfs)?;
        mounts::seal_dev(spec, &rootfs)?;
        phase("readonlyPaths");
        readonly_paths::apply(spec, &rootfs)?;
        phase("maskedPaths");
        masked_paths::apply(spec, &rootfs)?;
        phase("pivot");
        self.change_root(&rootfs)?;
        rootfs_propagation::apply(spec, &rootfs)?;
        readonly::apply(spec, &rootfs)?;
        drop(rootfs);
        log::debug!("init: has the rootfs as its root");

        phase("hostname, loopback, sysctl");
        hostname::apply(spec)?;
        loopback::bring_up(spec)?;
        apparmor_profile::set(process, labels.0)?;
        sysctl::apply(spec)?;
        if let Some(slave) = terminal {
            terminal::use_as_stdio(slave)?;
            if !self.launch.birth.is_due() {
                terminal::take_control()?;
            }
        }
        selinux_label::set(process, labels.1)?;
        log::debug!("init: closing the pipe to signal completion: gives up its privileges, and the log with them");
        let program = self.launch.give_up_privileges(Some(&gate))?;

        phase("wait for start");
        self.launch.channel.send(&ToParent::Waiting)?;
        self.wait_at_the_gate(&gate, program)
    }

    fn lead_a_session(&self) -> Result<()> {
        setsid().context("setsid")?;
        if !self.no_new_keyring {
            selinux_label::apply_to_keyring(self.launch.process)?;
            keyring::join(&self.record.id)?;
        }
        Ok(())
    }

    fn surroundings<'s>(&'s self, rootfs: &'s Rootfs) -> mounts::Surroundings<'s> {
        mounts::Surroundings {
            rootfs,
            bundle: self.bundle,
            cgroup_namespace: namespaces::has(&self.bundle.spec, LinuxNamespaceType::Cgroup),
            placement: &self.record.cgroup,
            label: mount_label::of(&self.bundle.spec),
            sources: self.sources,
            shown_pids: self.shown_pids,
            channel: &self.launch.channel,
        }
    }

    fn has_own_mounts(&self) -> bool {
        namespaces::has(&self.bundle.spec, LinuxNamespaceType::Mount)
    }

    fn let_the_parent_run_its_hooks(&self) -> Result<()> {
        let hooks = self.bundle.spec.hooks().as_ref();
        if Point::Prestart.of(hooks).is_empty() && Point::CreateRuntime.of(hooks).is_empty() {
            return Ok(());
        }
        self.launch.channel.send(&ToParent::Hooks)?;
        self.launch.channel.wait_for(ToInit::HooksDone)
    }

    fn run_hooks(&self, point: Point, status: ContainerState, environment: &[CString]) -> Result<()> {
        let hooks = self.bundle.spec.hooks().as_ref();
        if point.of(hooks).is_empty() {
            return Ok(());
        }
        // In the container's view, as runc has it: init cannot know its id outside.
        let record = Record { init_process_pid: std::process::id() as i32, ..self.record.clone() };
        hooks::run(point, hooks, &record.state(status)?, Caller::Init(environment))
    }

    /// They find themselves in the rootfs, as runc's do: it is nobody's root yet.
    fn run_create_container_hooks(&self, rootfs: &Rootfs) -> Result<()> {
        if Point::CreateContainer.of(self.bundle.spec.hooks().as_ref()).is_empty() {
            return Ok(());
        }
        fchdir(rootfs.fd()).context("hooks.createContainer: enter the rootfs")?;
        self.run_hooks(Point::CreateContainer, ContainerState::Creating, &[])
    }

    fn open_terminal(&self, rootfs: &Rootfs) -> Result<Option<OwnedFd>> {
        if !terminal::is_wanted(self.launch.process) {
            return Ok(None);
        }
        let terminal = terminal::open(self.launch.process, rootfs, self.launch.piped)?;
        terminal::mount_console(&terminal, rootfs)?;
        self.launch.channel.send(&ToParent::Terminal(terminal.master, terminal.name))?;
        Ok(Some(terminal.slave))
    }

    fn change_root(&self, rootfs: &Rootfs) -> Result<()> {
        match self.no_pivot {
            // Anything else would change the host's root.
            _ if !self.has_own_mounts() => on_host::enter(rootfs.fd()),
            true => pivot::move_root(rootfs.fd(), &self.bundle.rootfs),
            false => pivot::pivot(rootfs, rootfs_propagation::of_the_host(&self.bundle.spec)?),
        }
    }

    fn wait_at_the_gate(&self, gate: &Gate, program: Program) -> ! {
        // `create` is gone: from here on it is `start` that hears of failures.
        if let Err(errno) = gate.wait() {
            self.give_up(gate, Obstacle::Program, &format!("wait for start: {}", words(errno)));
        }
        phase("hooks: startContainer");
        if let Err(error) = self.run_hooks(Point::StartContainer, ContainerState::Created, &program.env) {
            self.give_up(gate, Obstacle::Hook, &one_line(&error));
        }
        phase("execute the program");
        if let Err(errno) = gate.announce() {
            self.give_up(gate, Obstacle::Program, &format!("tell `start`: {}", words(errno)));
        }
        let errno = program.execute();
        self.give_up(gate, Obstacle::Program, &interpreter::explain(program.path(), errno))
    }

    fn give_up(&self, gate: &Gate, obstacle: Obstacle, reason: &str) -> ! {
        gate.report(obstacle, reason);
        sys::process::exit(1)
    }
}
