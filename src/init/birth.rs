//! How a program's process comes into a pid namespace that others live in.
//!
//! Whoever is in the namespace may look into a process from its first instruction on: by /proc/<pid>/root, cwd, fd, mem and
//! exe, with CAP_SYS_PTRACE also of another user. So a process outside of the pid namespace does what needs the host or
//! privileges, closes what it holds, and becomes as confined as the container is. Then it forks the program's process, which
//! is inside from its first instruction on and does what only it can do: it leads a session, takes control of the terminal,
//! and executes.

use nix::errno::Errno;
use nix::unistd::setsid;
use oci_spec::runtime::Process;

use super::program::Launch;
use crate::error::{Context as _, Result};
use crate::linux::seccomp::Filter;
use crate::process::{no_new_privileges, rlimits, scheduler, terminal};
use crate::protocol::{ToInit, ToParent};
use crate::sys::clone::{SIBLING, fork_sibling};
use crate::sys::fd::kill;
use crate::sys::process::{exit, forget_environment};
use crate::timing::phase;

/// How often the parent makes room for one more process: those of the container may take it first.
const MOST_TRIES: usize = 16;

/// When a process is born in the container's pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// Not at all: the container has no pid namespace of its own, or nobody else is in it yet.
    Never,
    /// When nothing is left to do but to execute: as confined as the container is.
    Confined,
    /// Before the seccomp filter is loaded, because it refuses the birth or asks an agent: confined but for the filter.
    BeforeTheFilter,
    /// As [`Birth::BeforeTheFilter`], without `no_new_privs`: a filter is then loaded by a process with privileges. The
    /// namespaces are joined and all descriptors closed by then, but user and capabilities are not the program's yet.
    BeforePrivilegesGo,
}

impl Birth {
    /// Decides when a process is born, from the compiled filter: a call that the filter refuses may kill.
    pub fn of(process: &Process, filter: Option<&Filter>, gated: bool) -> Self {
        let Some(filter) = filter else { return Self::Confined };
        let passes = |(number, args): &(libc::c_long, [Option<u64>; 6])| filter.allows(*number, *args);
        if !filter.wants_listener() && calls(process, gated).iter().all(passes) {
            return Self::Confined;
        }
        if no_new_privileges::is_set(process) { Self::BeforeTheFilter } else { Self::BeforePrivilegesGo }
    }

    /// Returns whether there is a birth.
    pub fn is_due(self) -> bool {
        self != Self::Never
    }
}

/// The calls of a birth, with what is known of their arguments.
fn calls(process: &Process, gated: bool) -> Vec<(libc::c_long, [Option<u64>; 6])> {
    const NOTHING: [Option<u64>; 6] = [Some(0); 6];
    let with = |args: &[u64]| {
        let mut all = [None; 6];
        all.iter_mut().zip(args).for_each(|(to, arg)| *to = Some(*arg));
        all
    };
    let mut clone = NOTHING;
    clone[0] = Some(SIBLING);
    let mut calls = vec![(libc::SYS_clone, clone), (libc::SYS_setsid, NOTHING)];
    if terminal::is_wanted(process) {
        calls.push((libc::SYS_ioctl, with(&[0, libc::TIOCSCTTY, 0])));
    }
    if waits_to_be_alone(Birth::Confined, process, gated) {
        calls.push((libc::SYS_read, [None; 6]));
    }
    if rlimits::processes(process).is_some() {
        calls.push((libc::SYS_prlimit64, with(&[0, libc::RLIMIT_NPROC.into()])));
    }
    calls
}

/// Returns whether the new process waits until the one that made it is gone: RLIMIT_NPROC counts both, and a scheduling
/// policy that fork(2) loses is set by the parent. A listener, too, is taken out of a process that the parent knows, and
/// one that waits behind a gate (`gated`) is recorded before.
pub fn waits_to_be_alone(birth: Birth, process: &Process, gated: bool) -> bool {
    let has_more_to_do = gated || matches!(birth, Birth::BeforeTheFilter | Birth::BeforePrivilegesGo);
    has_more_to_do || rlimits::processes(process).is_some() || scheduler::is_lost_by_fork(process)
}

impl Launch<'_> {
    /// At its moment, goes on in a new process in the container's pid namespace, and ends the caller's.
    pub(super) fn be_born(&self, moment: Birth, gated: bool) -> Result<()> {
        if self.birth != moment {
            return Ok(());
        }
        phase("birth");
        rlimits::lift_processes(self.process)?;
        // The caller's, which is not the container's to read.
        forget_environment();
        if let Some(pid) = self.fork()? {
            if self.channel.send(&ToParent::Born(pid)).is_err() {
                // Nobody would know of it. The parent is the one to reap it, so the id cannot mean another.
                let _ = kill(pid, libc::SIGKILL);
            }
            exit(0)
        }
        setsid().context("setsid")?;
        if terminal::is_wanted(self.process) {
            terminal::take_control()?;
        }
        if waits_to_be_alone(self.birth, self.process, gated) {
            self.channel.wait_for(ToInit::Alone)?;
            rlimits::apply_processes(self.process)?;
        }
        Ok(())
    }

    fn fork(&self) -> Result<Option<libc::pid_t>> {
        let mut tries = 0;
        loop {
            match fork_sibling() {
                Err(Errno::EAGAIN) if tries < MOST_TRIES => {
                    tries += 1;
                    self.channel.send(&ToParent::NoRoom)?;
                    self.channel.wait_for(ToInit::Room)?;
                }
                result => return result.context("clone a process in the container's pid namespace"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::seccomp;

    fn birth(profile: &str, process: &str) -> Birth {
        let process = serde_json::from_str(&format!(r#"{{"cwd":"/","user":{{"uid":0,"gid":0}},{process}}}"#)).unwrap();
        let profile = serde_json::from_str(profile).unwrap();
        Birth::of(&process, Some(&seccomp::prepare(&profile, None).unwrap()), false)
    }

    const WITH: &str = r#""noNewPrivileges":true"#;
    const WITHOUT: &str = r#""noNewPrivileges":false"#;

    #[test]
    fn a_profile_that_refuses_the_birth_is_loaded_after_it() {
        let denies = |call: &str| {
            format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["{call}"],"action":"SCMP_ACT_ERRNO"}}]}}"#
            )
        };
        for call in ["clone", "setsid"] {
            assert_eq!(birth(&denies(call), WITH), Birth::BeforeTheFilter, "{call}");
            assert_eq!(birth(&denies(call), WITHOUT), Birth::BeforePrivilegesGo, "{call}");
        }
        for call in ["clone3", "ioctl", "setuid", "ptrace"] {
            assert_eq!(birth(&denies(call), WITH), Birth::Confined, "{call}");
        }
        assert_eq!(birth(&denies("ioctl"), r#""noNewPrivileges":true,"terminal":true"#), Birth::BeforeTheFilter);
    }

    #[test]
    fn a_profile_that_refuses_new_namespaces_allows_a_birth() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["setsid","execve","write"],"action":"SCMP_ACT_ALLOW"},
            {"names":["clone"],"action":"SCMP_ACT_ALLOW",
             "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        assert_eq!(birth(profile, WITH), Birth::Confined);
        let kills = profile.replace("SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS");
        assert_eq!(birth(&kills, WITHOUT), Birth::Confined);
    }
}
