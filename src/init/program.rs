//! The last steps of both stories: from a process in the container to the container's program.

use std::ffi::{CString, OsStr};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{Gid, Uid, setresgid, setresuid, write};
use oci_spec::runtime::{Process, Spec};

use super::birth::Birth;
use crate::cgroups::Entry;
use crate::error::{Context as _, Result, bail};
use crate::linux::seccomp::Filter;
use crate::linux::{memory_policy, personality};
use crate::process::listen_fds::Passed;
use crate::process::{args, capabilities, cwd, env, io_priority, no_new_privileges, rlimits, scheduler, user};
use crate::protocol::{self, ToInit, ToParent};
use crate::state::gate::Gate;
use crate::sys;
use crate::timing::phase;

/// What the program is to be, and the conversation with the parent.
pub struct Launch<'a> {
    /// The program's process.
    pub process: &'a Process,
    /// The container's configuration.
    pub spec: &'a Spec,
    /// The compiled seccomp profile.
    pub filter: Option<&'a Filter>,
    /// The end of the conversation.
    pub channel: protocol::Init,
    /// The process is in a user namespace of the container's.
    pub user_namespace: bool,
    /// The terminal, if there is one, ends in a pipe or a file: [`crate::process::terminal::is_piped`].
    pub piped: bool,
    /// When the program's process is born in the container's pid namespace.
    pub birth: Birth,
    /// `--preserve-fds`, with those of LISTEN_FDS: how many descriptors after the standard ones stay open.
    pub preserved_fds: &'a Passed,
}

/// Signals that ask a program to end.
const ENDING: &[Signal] = &[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

impl Launch<'_> {
    /// Until the pid is recorded, nobody else could find and stop this process.
    pub fn live_only_as_long_as_the_parent(&self) -> Result<()> {
        prctl::set_death_signal(Signal::SIGKILL as isize).map_err(Errno::from_raw).context("PR_SET_PDEATHSIG")
    }

    /// Waits until others know of this process, and lives on if the parent then dies. As late as can be: the parent
    /// writes its record meanwhile.
    pub fn outlive_the_parent(&self) -> Result<()> {
        self.channel.wait_for(ToInit::Recorded)?;
        if self.birth.is_due() {
            return Ok(()); // only what is born lives on
        }
        prctl::set_death_signal(0).map_err(Errno::from_raw).context("PR_SET_PDEATHSIG")
    }

    /// A thread that moves itself takes none of the kernel's global locks, unlike a move by another process.
    pub fn enter_cgroup(&self, cgroup: &Entry) -> Result<()> {
        for tasks in cgroup.tasks() {
            write(tasks, b"0").context("linux.cgroupsPath: enter the cgroup")?;
        }
        if matches!(cgroup, Entry::Adopted) { self.channel.wait_for(ToInit::Placed) } else { Ok(()) }
    }

    /// Nothing of the host's user is left once the user namespace is entered: its root acts from here on.
    pub fn become_root_of_the_user_namespace(&self) -> Result<()> {
        if !self.user_namespace {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        setresgid(gid, gid, gid).context("linux.gidMappings: become group 0 (is 0 mapped?)")?;
        setresuid(uid, uid, uid).context("linux.uidMappings: become user 0 (is 0 mapped?)")
    }

    /// Gives up all that the program is not to have, and gets it ready to be executed. Of this process's descriptors only
    /// the gate's and the conversation's are left.
    pub fn give_up_privileges(&self, gate: Option<&Gate>) -> Result<Program> {
        let privileged_filter = !no_new_privileges::is_set(self.process);
        let home = self.home()?;
        phase("limits, descriptors, cwd");
        user::set_umask(self.process);
        no_new_privileges::apply(self.process)?;
        if !(self.birth.is_due() && scheduler::is_lost_by_fork(self.process)) {
            scheduler::apply(self.process, self.spec, 0)?;
        }
        io_priority::apply(self.process)?;
        personality::apply(self.spec)?;
        memory_policy::apply(self.spec)?;
        self.limit_resources()?;
        self.reset_signals()?;
        if gate.is_some() {
            // Nobody has to start it: what ends a program ends init, too.
            sys::process::end_on(ENDING).context("sigaction")?;
        }
        self.close_descriptors(gate)?;
        let inside = cwd::enter(self.process)?;
        self.be_born(Birth::BeforePrivilegesGo, gate.is_some())?;
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go. Profiles are written for programs: as
        // much as possible of what init does is done by now, so that they need not allow it.
        self.confine(privileged_filter)?;
        phase("capabilities, user");
        self.become_the_containers_user(inside)?;
        phase("find the program");
        let program = self.find_program(home)?;
        self.be_born(Birth::BeforeTheFilter, gate.is_some())?;
        self.confine(!privileged_filter)?;
        self.be_born(Birth::Confined, gate.is_some())?;
        Ok(program)
    }

    /// Loads the seccomp filter, if this is its moment.
    fn confine(&self, now: bool) -> Result<()> {
        let Some(filter) = self.filter.filter(|_| now) else { return Ok(()) };
        phase("seccomp: load the filter");
        if let Some(listener) = filter.load()? {
            self.channel.send(&ToParent::Listener(listener.as_raw_fd()))?;
            self.channel.wait_for(ToInit::ListenerTaken)?;
        }
        Ok(())
    }

    fn limit_resources(&self) -> Result<()> {
        if !self.user_namespace || self.process.rlimits().is_none() {
            return if self.birth.is_due() {
                rlimits::apply_all_but_processes(self.process, 0)
            } else {
                rlimits::apply(self.process, 0)
            };
        }
        self.channel.send(&ToParent::Limits)?;
        self.channel.wait_for(ToInit::LimitsSet)
    }

    fn become_the_containers_user(&self, inside: bool) -> Result<()> {
        let capabilities = capabilities::Sets::of(self.process);
        capabilities.apply_bounding()?;
        user::own_streams(self.process)?;
        user::become_user(self.process, self.user_namespace)?;
        if !inside {
            cwd::enter_as_user(self.process)?;
        }
        capabilities.apply()
    }

    /// Before the limits and the change of user, either of which may keep the file from being read.
    fn home(&self) -> Result<Option<Vec<u8>>> {
        if env::has_home(self.process) { Ok(None) } else { user::home(self.process).map(Some) }
    }

    fn find_program(&self, home: Option<Vec<u8>>) -> Result<Program> {
        let passed = &self.preserved_fds.env;
        let environment = env::prepare(self.process, passed, || home.unwrap_or_default())?;
        let arguments = self.process.args().as_deref().unwrap_or_default();
        let Some(name) = arguments.first() else { bail!("process.args: must name a program") };
        let configured = self.process.env().as_deref().unwrap_or_default();
        let path = args::find(name, env::value(configured, "PATH").unwrap_or_default())?;
        Ok(Program { path: args::to_c_string(&path)?, args: args::to_c_strings(arguments)?, env: environment })
    }

    /// What is open and not the program's to have is the host's, and init may wait for `start` in a pid namespace with
    /// others, who see it in /proc (CVE-2024-21626): it closes now, and not only when the program is executed. What is kept,
    /// and what init opens after this, is close-on-exec from the beginning.
    fn close_descriptors(&self, gate: Option<&Gate>) -> Result<()> {
        // The log's file is one of them.
        log::set_max_level(log::LevelFilter::Off);
        let kept: Vec<_> = gate.map(Gate::number).into_iter().chain([self.channel.number()]).collect();
        sys::fd::close_from(self.preserved_fds.end(), &kept).context("close_range")
    }

    /// Neither what the caller ignores or blocks nor what the runtime has set up for itself is the program's. Before a
    /// filter, whose profile need not allow these calls.
    fn reset_signals(&self) -> Result<()> {
        sys::process::default_signals().context("sigaction")?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).context("reset the signal mask")
    }
}

/// All that execve(2) needs.
pub struct Program {
    path: CString,
    args: Vec<CString>,
    /// Its environment; hooks in the container that have none of their own get it, as with runc.
    pub env: Vec<CString>,
}

impl Program {
    /// What is executed.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.to_bytes()))
    }

    /// Replaces this program; returns only when that failed.
    pub fn execute(&self) -> Errno {
        sys::process::execve(&self.path, &sys::process::pointers(&self.args), &sys::process::pointers(&self.env))
    }
}
