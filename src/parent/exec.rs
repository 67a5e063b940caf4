//! The story of `exec`: one more program in a running container.

use std::cell::Cell;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::close;
use oci_spec::runtime::Process;

use super::serve::{Service, hand_over_pidfd};
use super::spawn::{self, spawn, spawn_by_way};
use crate::cgroups::{self, Below, Entry};
use crate::error::{Context as _, Result, bail, errno};
use crate::init::exec::Exec;
use crate::init::program::Launch;
use crate::linux::{intel_rdt, memory_policy, namespaces, personality};
use crate::process::listen_fds::Passed;
use crate::process::{self, exec_cpu_affinity, oom_score_adj, terminal};
use crate::protocol::{self, ToInit};
use crate::state::{Container, Kept, Record, Status, pid_file};
use crate::sys::fd::{end_child, pidfd_open};
use crate::timing::phase;

/// Callers know runc's words.
const NO_ENTRY: &str = "error adding pid of the program to cgroups";

/// What the command line says of the program.
#[derive(Debug)]
pub struct Options {
    /// The program.
    pub process: Process,
    /// `--pid-file`
    pub pid_file: Option<PathBuf>,
    /// `--console-socket`
    pub console_socket: Option<PathBuf>,
    /// `--pidfd-socket`
    pub pidfd_socket: Option<PathBuf>,
    /// `--detach`
    pub detached: bool,
    /// `--ignore-paused`
    pub ignore_paused: bool,
    /// `--cgroup`
    pub cgroup: Below,
    /// `--preserve-fds`
    pub preserved_fds: Passed,
}

/// Starts a program in a container. Returns it, and the terminal's master side, if nobody else has it.
pub fn exec(
    container: &Container,
    record: &Record,
    kept: &Kept,
    options: &Options,
) -> Result<(spawn::Process, Option<OwnedFd>)> {
    let (process, spec) = (&options.process, &kept.spec);
    phase("check the process");
    process::check(process)?;
    personality::check(spec)?;
    memory_policy::check(spec)?;
    terminal::check_socket(process, options.console_socket.as_deref(), options.detached)?;
    let cgroup = cgroups::reopen(&record.cgroup)?;
    match container.status(record)? {
        Status::Created | Status::Running => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => bail!("cannot exec in a paused container (use --ignore-paused to override)"),
        Status::Stopped | Status::Creating => bail!("cannot exec in a stopped container"),
    }
    let init = pidfd_open(record.init_process_pid).context("cannot exec in a stopped container")?;
    let namespaces = namespaces::flags(&record.namespaces);

    phase("clone");
    let (channel, far_end) = protocol::pair()?;
    let place = cgroups::reopen(&cgroups::below(&record.cgroup, &options.cgroup, record.init_process_pid)?)?;
    let entry = place.entry().context(NO_ENTRY)?;
    exec_cpu_affinity::apply_initial(process)?;
    let user_namespace = namespaces.contains(CloneFlags::CLONE_NEWUSER);
    let by_way = namespaces::by_way_of(namespaces);
    let story = |channel_of_program| {
        let _ = close(channel.number()); // the parent's end
        let launch = Launch {
            process,
            spec,
            filter: kept.filter.as_ref(),
            channel: channel_of_program,
            user_namespace,
            piped: terminal::is_piped(process, options.console_socket.as_deref()),
            preserved_fds: &options.preserved_fds,
        };
        let rootfs = record.mounts_before.map(|_| record.rootfs.as_path());
        Exec { launch, id: &record.id, init: &init, namespaces: namespaces - by_way, rootfs, cgroup: &entry }.run()
    };
    let spawned = if by_way.is_empty() {
        namespaces::for_child_of(&init, namespaces, || spawn(CloneFlags::empty(), &entry, || story(far_end)))
    } else {
        let enter = || {
            oom_score_adj::bequeath(process)?;
            namespaces::hide()?;
            setns(&init, by_way).context("join the container's namespaces").map(|()| CloneFlags::empty())
        };
        spawn_by_way(enter, (&entry, cgroup.as_ref()), (&channel, far_end), story)
    };
    // What the cgroup says of a program that is born in it: it has controllers enabled for its children.
    let spawned = spawned.map_err(|error| match errno(&error) {
        Some(Errno::EBUSY) => error.context(NO_ENTRY),
        _ => error,
    })?;
    log::debug!("the program in {:?} is pid {} on the host", record.id, spawned.pid);
    let adopted = matches!(entry, Entry::Adopted);
    drop(entry);

    let accompany = || -> Result<Option<OwnedFd>> {
        if by_way.is_empty() {
            oom_score_adj::apply(process, spawned.pid)?;
        }
        if adopted {
            place.attach(spawned.pid).context(NO_ENTRY)?;
            channel.send(ToInit::Placed)?;
        }
        intel_rdt::join(record, spawned.pid)?;
        phase("serve the process until it executes");
        channel.send(ToInit::Recorded)?;
        let console_socket = options.console_socket.as_deref();
        let late_devices = Cell::new(None);
        let service =
            Service { spec, process, container, record, cgroup: cgroup.as_ref(), late_devices, console_socket };
        let terminal = service.run_until_executed(&channel, &spawned)?;
        phase("pid file");
        hand_over_pidfd(options.pidfd_socket.as_deref(), "setns", &spawned)?;
        if let Some(path) = &options.pid_file {
            pid_file::write(path, spawned.pid)?;
        }
        Ok(terminal)
    };
    match accompany() {
        Ok(terminal) => Ok((spawned, terminal)),
        Err(error) => {
            end_child(spawned.pidfd.as_fd());
            Err(error)
        }
    }
}
