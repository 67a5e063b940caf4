//! The story of `create`: from a bundle to an init that waits to be started.

use std::cell::Cell;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::SystemTime;

use nix::unistd::{close, geteuid};
use oci_spec::runtime::{ContainerState, Hooks, LinuxNamespaceType, LinuxResources, Spec};

use super::delete::PATIENCE;
use super::notify_socket;
use super::others;
use super::sealed_exe;
use super::serve::{Service, hand_over_pidfd, reaped};
use super::spawn::{Process, spawn, spawn_by_way};
use crate::cgroups::{self, Entry, Kind, Manager, PidsRoom, Placement, Wanted};
use crate::config::{self, Bundle};
use crate::error::{Context as _, Result, anyhow, ensure, one_line};
use crate::hooks::{self, Caller, Point};
use crate::hostname;
use crate::init::birth::Birth;
use crate::init::create::Init;
use crate::init::program::Launch;
use crate::linux::namespaces::{self, Namespaces, is_new};
use crate::linux::seccomp::{self, Cache, Filter};
use crate::linux::{intel_rdt, net_devices, sysctl, uid_mappings};
use crate::mounts::sources;
use crate::process::listen_fds::Passed;
use crate::process::{self, oom_score_adj, terminal};
use crate::protocol::{self, ToInit};
use crate::root::on_host;
use crate::state::{Container, Lock, Record, Root, kept, pid_file, status};
use crate::sys::fd::pidfd_send_signal;
use crate::timing::phase;

/// What the command line says of a new container.
#[derive(Debug)]
pub struct Options {
    /// `--root`: where the runtime keeps its containers.
    pub root: Root,
    /// The container's id.
    pub id: String,
    /// `--bundle`
    pub bundle: PathBuf,
    /// `--pid-file`
    pub pid_file: Option<PathBuf>,
    /// `--console-socket`
    pub console_socket: Option<PathBuf>,
    /// `--pidfd-socket`
    pub pidfd_socket: Option<PathBuf>,
    /// Nobody stays to hold the other end of a terminal: `create`, and `run --detach`.
    pub detached: bool,
    /// `--no-pivot`
    pub no_pivot: bool,
    /// `--no-new-keyring`
    pub no_new_keyring: bool,
    /// `--preserve-fds`, with those of LISTEN_FDS
    pub preserved_fds: Passed,
    /// `--systemd-cgroup`, `--cgroup-manager`
    pub cgroups: Kind,
}

/// A container that was created, locked until it is started or left.
#[derive(Debug)]
pub struct Created {
    /// Its directory.
    pub container: Container,
    /// Its record.
    pub record: Record,
    /// Its init.
    pub init: Process,
    /// The terminal's master side, if nobody else has it.
    pub terminal: Option<OwnedFd>,
    /// The right to change it.
    pub lock: Lock,
}

/// Creates a container. On failure nothing of it is left.
pub fn create(options: &Options) -> Result<Created> {
    phase("config.json: parse, check");
    let mut bundle = config::load(&options.bundle)?;
    phase("seccomp: compile or find the filter");
    let filter = prepare_filter(&bundle.spec, &options.root)?;
    // Before the notify socket's variable is added: it is for init alone.
    let kept = kept::encode(&bundle.spec, filter.as_ref())?;
    let notifies = notify_socket::configure(&mut bundle.spec, &options.root.path().join(&options.id))?;
    let process = process::of(&bundle.spec)?;
    terminal::check_socket(process, options.console_socket.as_deref(), options.detached)?;
    let namespaces = Namespaces::open(&bundle.spec, options.no_pivot)?;
    sysctl::check_joined(&bundle.spec, &namespaces)?;
    hostname::check_joined(&bundle.spec, &namespaces)?;
    net_devices::check_joined(&bundle.spec, &namespaces)?;
    let rdt = intel_rdt::place(&bundle.spec, &options.id)?;

    phase("state directory");
    let (container, lock) = Container::create(&options.root, &options.id)?;
    let mut undo = Undo::new(&container, &lock);
    container.keep(&kept)?;
    if notifies {
        notify_socket::make_directory(&container)?;
    }
    phase("mounts: open sources");
    let sources = sources::open_all(&bundle)?;
    phase("cgroup: place, record, gate");
    let mut cgroup = cgroups::place(&Wanted::of(&bundle.spec, options.cgroups, &options.id))?;
    // Before it is recorded as ours: from then on whatever is in it may be killed.
    cgroup.check_unused()?;
    let mut record = record_of(&bundle, &options.id, cgroup.placement().clone())?;
    record.intel_rdt = rdt;
    container.save(&record)?;
    container.make_gate()?;
    let resources = resources(&bundle.spec);
    phase("cgroup: create");
    cgroup.create(Some(&resources))?;
    let cgroup = undo.cgroup.insert(cgroup);
    record.cgroup = cgroup.placement().clone();
    // While nothing is in it: between two writes of the v1 list everything is denied. Rules that could deny init to make
    // the container's devices come when it has made them.
    let (early_devices, late_devices) = match cgroups::deny_by_default(&resources) {
        true => (Some(&resources), None),
        false => (None, Some(&resources)),
    };
    let entry = cgroup.entry()?;
    let adopted = matches!(entry, Entry::Adopted);
    if let Some(resources) = early_devices.filter(|_| !adopted) {
        phase("cgroup: devices");
        cgroup.apply_devices(resources)?;
    }

    if namespaces.born_confined() || namespaces.seen_at_once() {
        // Nothing that runs from the clone is seen while a descriptor of it is open.
        sealed_exe::let_go();
    }
    let shown_pids = namespaces.prepare_procfs(&bundle.spec)?;
    phase("clone");
    let (channel, init_channel) = protocol::pair()?;
    // Who is in a pid namespace that is joined sees the process only when it is confined.
    let birth = match namespaces.born_confined() {
        true => Birth::of(process, filter.as_ref(), true),
        false => Birth::Never,
    };
    let story = |channel_of_init| {
        // Only closed, not unlocked: the lock is the parent's, and so is its end of the conversation.
        let _ = close(lock.number());
        let _ = close(channel.number());
        let init = Init {
            bundle: &bundle,
            launch: Launch {
                process,
                spec: &bundle.spec,
                filter: filter.as_ref(),
                channel: channel_of_init,
                user_namespace: namespaces.new_user() || namespaces.joins_user(),
                piped: terminal::is_piped(process, options.console_socket.as_deref()),
                birth,
                preserved_fds: &options.preserved_fds,
            },
            container: &container,
            record: &record,
            namespaces: &namespaces,
            shown_pids: shown_pids.as_ref(),
            sources: &sources,
            cgroup: &entry,
            no_pivot: options.no_pivot,
            no_new_keyring: options.no_new_keyring,
        };
        init.run()
    };
    let init = if namespaces.by_way() {
        let enter = || {
            oom_score_adj::bequeath(process)?;
            namespaces.enter(&bundle.spec).map(|()| namespaces.clone_flags())
        };
        let stays = namespaces.born_confined();
        spawn_by_way(stays, enter, (&entry, cgroup.as_ref()), (&channel, init_channel), story)?
    } else {
        let flags = namespaces.clone_flags();
        namespaces.for_child(&bundle.spec, || spawn(flags, &entry, || story(init_channel)))?
    };
    let init = undo.init.insert(init);
    phase("id mappings, network devices, intelRdt");

    log::debug!("init of {:?} is pid {} on the host", options.id, init.pid);
    if !namespaces.by_way() {
        oom_score_adj::apply(process, init.pid)?;
    }
    if adopted {
        adopt(cgroup.as_ref(), init, early_devices, &channel)?;
    }
    if namespaces.new_user() {
        uid_mappings::apply(&bundle.spec, init.pid)?;
        channel.send(ToInit::Mapped)?;
    } else if namespaces.joins_user() {
        uid_mappings::check_joined(&bundle.spec, init.pid)?;
    }
    net_devices::apply(&bundle.spec, &namespaces, init.pid)?;
    intel_rdt::apply(&bundle.spec, record.intel_rdt.as_ref(), init.pid)?;
    phase("record with the pid");
    record.init_process_pid = init.pid;
    record.init_process_start = status::start_time(init.pid)?.unwrap_or_default();
    container.save(&record)?;
    channel.send(ToInit::Recorded)?;
    drop(entry);

    // Init mounts meanwhile; the limits are there before any hook, and before the program.
    phase("cgroup: limits");
    cgroup.limit(&resources)?;
    let hooks = bundle.spec.hooks().as_ref();
    undo.hooks = hooks;
    let console_socket = options.console_socket.as_deref();
    let announce = |born: &Process| {
        let start = status::start_time(born.pid)?.unwrap_or_default();
        container.save(&Record { init_process_pid: born.pid, init_process_start: start, ..record.clone() })
    };
    let service = Service {
        spec: &bundle.spec,
        process,
        container: &container,
        record: &record,
        cgroup: cgroup.as_ref(),
        late_devices: Cell::new(late_devices),
        console_socket,
        birth,
        announce: Some(&announce),
        room: Some(PidsRoom { container: None, whole: cgroup.placement(), place: cgroup.placement() }),
    };
    phase("serve init until it waits for start");
    let terminal = service.run(&channel, init)?;
    if init.pid != record.init_process_pid {
        record.init_process_pid = init.pid;
        record.init_process_start = status::start_time(init.pid)?.unwrap_or_default();
    }
    phase("pid file");
    hand_over_pidfd(options.pidfd_socket.as_deref(), "standard", init)?;
    container.finish_gate()?;
    if let Some(path) = &options.pid_file {
        pid_file::write(path, init.pid)?;
    }
    log::debug!("init of {:?} waits to be started", options.id);
    let init = undo.disarm()?;
    Ok(Created { container, record, init, terminal, lock })
}

/// Has init moved into its cgroup, which systemd makes around it, and lets it go on.
fn adopt(
    cgroup: &dyn Manager,
    init: &Process,
    devices: Option<&LinuxResources>,
    channel: &protocol::Parent,
) -> Result<()> {
    cgroup.attach(init.pid)?;
    if let Some(resources) = devices {
        cgroup.apply_devices(resources)?;
    }
    channel.send(ToInit::Placed)
}

/// The compiled seccomp profile of a configuration.
fn prepare_filter(spec: &Spec, root: &Root) -> Result<Option<Filter>> {
    let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else { return Ok(None) };
    let cache = Cache::open(&root.make()?).inspect_err(|why| log::debug!("no seccomp cache: {}", one_line(why))).ok();
    seccomp::prepare(profile, cache.as_ref()).map(Some).context("linux.seccomp")
}

/// Without the property there are no limits, but the devices are denied all the same.
fn resources(spec: &Spec) -> LinuxResources {
    spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default()
}

fn record_of(bundle: &Bundle, id: &str, cgroup: Placement) -> Result<Record> {
    let hooks = bundle.spec.hooks().as_ref();
    let kept = |point: Point| Some(point.of(hooks).to_vec()).filter(|hooks| !hooks.is_empty());
    let mut later = Hooks::default();
    later.set_poststart(kept(Point::Poststart)).set_poststop(kept(Point::Poststop));
    let mounts_before = match namespaces::has(&bundle.spec, LinuxNamespaceType::Mount) {
        true => None,
        false => Some(on_host::count(&bundle.rootfs)?),
    };
    let mut limits = resources(&bundle.spec);
    limits.set_devices(None);
    Ok(Record {
        id: id.to_owned(),
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        created: humantime::format_rfc3339_nanos(SystemTime::now()).to_string(),
        owner: geteuid().as_raw(),
        init_process_pid: 0,
        init_process_start: 0,
        private_pid_namespace: is_new(&bundle.spec, LinuxNamespaceType::Pid),
        namespaces: namespaces::names(&bundle.spec),
        cgroup,
        intel_rdt: None,
        mounts_before,
        resources: limits,
        annotations: bundle.spec.annotations().clone(),
        hooks: Some(later).filter(|hooks| *hooks != Hooks::default()),
        foreign: None,
    })
}

/// Takes everything back that was made, in the reverse order, unless creating succeeds.
struct Undo<'a> {
    container: &'a Container,
    lock: &'a Lock,
    cgroup: Option<Box<dyn Manager>>,
    init: Option<Process>,
    hooks: Option<&'a Hooks>,
    armed: bool,
}

impl<'a> Undo<'a> {
    fn new(container: &'a Container, lock: &'a Lock) -> Self {
        Self { container, lock, cgroup: None, init: None, hooks: None, armed: true }
    }

    fn disarm(mut self) -> Result<Process> {
        self.armed = false;
        self.init.take().ok_or_else(|| anyhow!("init was not started"))
    }

    /// Ends init and removes what is around it.
    fn destroy(&self) -> Result<()> {
        if let Some(init) = &self.init {
            let _ = pidfd_send_signal(init.pidfd.as_fd(), libc::SIGKILL);
        }
        let record = self.container.load()?;
        // What other containers have in the cgroup is spared. The record names all that may have been made; it is gone if
        // somebody has removed the directory.
        let cgroup = match (&self.cgroup, &record) {
            (Some(_), Some(record)) => Some(others::cgroup_sparing_others(self.container, &record.cgroup)?),
            (Some(cgroup), None) => Some(others::cgroup_sparing_others(self.container, cgroup.placement())?),
            _ => None,
        };
        if let Some(cgroup) = &cgroup {
            cgroup.thaw_the_killed()?;
            cgroup.kill()?;
        }
        if let Some(init) = &self.init {
            ensure!(reaped(&init.pidfd, PATIENCE)?, "init (pid {}) did not end after SIGKILL", init.pid);
        }
        if let Some(cgroup) = &cgroup {
            cgroup.destroy()?;
        }
        let Some(record) = record else { return Ok(()) };
        on_host::unmount(&record)?;
        intel_rdt::remove(&record)?;
        if self.hooks.is_some() {
            let state = record.state(ContainerState::Stopped)?;
            hooks::run_all_and_warn(Point::Poststop, self.hooks, &state, Caller::Parent(self.container));
        }
        Ok(())
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // What could not be removed stays on record: without its directory nobody could try again.
        if let Err(error) = self.destroy().and_then(|()| self.container.remove(self.lock)) {
            let id = self.container.id();
            log::warn!("clean up: {}; run \"delete --force {id}\" to try again", one_line(&error));
        }
    }
}
