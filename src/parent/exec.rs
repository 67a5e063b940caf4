//! The story of `exec`: one more program in a running container.

use std::cell::Cell;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::close;
use oci_spec::runtime::Process;

use super::sealed_exe;
use super::serve::{Service, hand_over_pidfd};
use super::spawn::{self, spawn};
use crate::cgroups::{self, Below, Entry, PidsRoom};
use crate::error::{Context as _, Result, bail, errno};
use crate::init::birth::Birth;
use crate::init::exec::Exec;
use crate::init::program::Launch;
use crate::linux::{intel_rdt, memory_policy, namespaces, personality};
use crate::process::listen_fds::Passed;
use crate::process::{self, exec_cpu_affinity, terminal};
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
    // Before the status is asked for, which tells that the number still means init: afterwards it might mean another.
    let init = pidfd_open(record.init_process_pid);
    match container.status(record)? {
        Status::Created | Status::Running => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => bail!("cannot exec in a paused container (use --ignore-paused to override)"),
        Status::Stopped => bail!("cannot exec in a stopped container"),
        Status::Creating => bail!("cannot exec in a container that is still being created"),
    }
    let init = init.context("cannot exec in a stopped container")?;
    let namespaces = namespaces::flags(&record.namespaces);

    phase("clone");
    let (channel, far_end) = protocol::pair()?;
    let place = cgroups::reopen(&cgroups::below(&record.cgroup, &options.cgroup, record.init_process_pid)?)?;
    let entry = place.entry().context(NO_ENTRY)?;
    exec_cpu_affinity::apply_initial(process)?;
    // Who is in the pid namespace sees the process only when it is confined.
    let birth = match namespaces.contains(CloneFlags::CLONE_NEWPID) {
        true => Birth::of(process, kept.filter.as_ref(), false),
        false => Birth::Never,
    };
    let setup = || {
        let _ = close(channel.number()); // the parent's end
        let launch = Launch {
            process,
            spec,
            filter: kept.filter.as_ref(),
            channel: far_end,
            user_namespace: namespaces.contains(CloneFlags::CLONE_NEWUSER),
            piped: terminal::is_piped(process, options.console_socket.as_deref()),
            birth,
            preserved_fds: &options.preserved_fds,
        };
        let rootfs = record.mounts_before.map(|_| record.rootfs.as_path());
        Exec { launch, id: &record.id, init: &init, namespaces, rootfs, cgroup: &entry }.run()
    };
    let spawned = spawn(CloneFlags::empty(), &entry, setup);
    // What the cgroup says of a program that is born in it: it has controllers enabled for its children.
    let mut spawned = spawned.map_err(|error| match errno(&error) {
        Some(Errno::EBUSY) => error.context(NO_ENTRY),
        _ => error,
    })?;
    log::debug!("pid {} on the host enters {:?}", spawned.pid, record.id);
    let adopted = matches!(entry, Entry::Adopted);
    drop(entry);

    let mut accompany = || -> Result<Option<OwnedFd>> {
        if adopted {
            place.attach(spawned.pid).context(NO_ENTRY)?;
            channel.send(ToInit::Placed)?;
        }
        intel_rdt::join(record, spawned.pid)?;
        phase("serve the process until it executes");
        // While a descriptor of the clone is open, a process with a user namespace of its own could make it writable: it is
        // closed in both before anything is born that has it for its file.
        sealed_exe::let_go();
        channel.send(ToInit::Recorded)?;
        let service = Service {
            spec,
            process,
            container,
            record,
            cgroup: cgroup.as_ref(),
            late_devices: Cell::new(None),
            console_socket: options.console_socket.as_deref(),
            birth,
            announce: None,
            room: Some(PidsRoom { container: Some(container), whole: cgroup.placement(), place: place.placement() }),
        };
        let terminal = service.run_until_executed(&channel, &mut spawned)?;
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
            if birth.is_due() {
                spawn::end_children();
            }
            Err(error)
        }
    }
}
