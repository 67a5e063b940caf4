//! cgroup v2: one directory, its controllers enabled from the root down.

mod controllers;
pub(super) mod cpu;
mod device_filter;
mod devices;
mod freezer;
pub(super) mod hugetlb;
pub(super) mod io;
pub(super) mod memory;
mod owner;
pub(super) mod stats;
mod unified;
mod v1_alone;

use std::cell::Cell;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use cgroups_rs::fs::{cpuset::CpuSetController, pid::PidController};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use oci_spec::runtime::LinuxResources;

use super::file::{self, converted};
use super::manager::{Entry, Manager, Placement};
use super::oom::OomWatch;
use super::spared::Spared;
use super::stats::Stats;
use super::{check, device_rules, removal, snapshot, tree, v1};
use crate::error::{Context, Error, Result, bail, errno};
use crate::linux::uid_mappings::is_rootless;

/// Whether an error is a permission that an unprivileged user lacks, the read-only mount of a container included.
pub(super) fn no_permission(error: &Error) -> bool {
    matches!(errno(error), Some(Errno::EPERM | Errno::EACCES | Errno::EROFS)) && is_rootless()
}

/// The words that callers know from runc, for who asked for a place where nothing may be made.
pub(super) fn unable_to_apply(error: Error) -> Error {
    if no_permission(&error) {
        return error.context("unable to apply cgroup configuration: permission denied");
    }
    error
}

/// For an ordinary user without a cgroup of their own: who wants no limits gets none.
pub(super) fn say_unlimited() {
    log::warn!("linux.cgroupsPath: no permission to make a cgroup: nothing limits or counts the container");
}

/// A descriptor of a cgroup's directory, for clone3 and bpf.
pub(super) fn open_dir(dir: &Path) -> Result<OwnedFd> {
    open(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("open {}", dir.display()))
}

/// Writes a file of a controller, and says so if that controller is what is missing.
fn set(dir: &Path, file: &str, value: &str) -> Result<()> {
    explained(dir, file, file::write(dir, file, value))
}

fn explained(dir: &Path, file: &str, result: Result<()>) -> Result<()> {
    let controller = file.split('.').next().unwrap_or(file);
    match result {
        Err(error) if file::is_gone(&error) && !controllers::has(dir, controller) => {
            Err(error.context(format!("controller {controller:?} not available")))
        }
        result => result,
    }
}

/// The manager of a cgroup in the unified hierarchy.
pub(super) struct V2 {
    placement: Placement,
    /// The hierarchy's mount point.
    root: PathBuf,
    /// `linux.cgroupsPath` was given: without the permission to make it there is no going on.
    explicit: bool,
    /// Done in [`Manager::apply_devices`]: not to be done again by [`Manager::apply`].
    devices_done: Cell<bool>,
    /// Who is to own it, if not the caller.
    owner: Option<u32>,
    /// It is a new container's: no other one may get it until init is in.
    is_new: bool,
    /// What other containers have in it.
    spared: Spared,
}

impl V2 {
    pub(super) fn new(placement: Placement, root: PathBuf, explicit: bool) -> Self {
        let (devices_done, spared) = (Cell::new(false), Spared::default());
        Self { placement, root, explicit, devices_done, owner: None, is_new: false, spared }
    }

    /// To leave alone what other containers have in it.
    pub(super) fn sparing(self, spared: Spared) -> Self {
        Self { spared, ..self }
    }

    /// To be owned by a user of the host.
    pub(super) fn owned_by(self, owner: Option<u32>) -> Self {
        Self { owner, ..self }
    }

    /// Somebody else's ids are not an ordinary user's to give to.
    fn set_owner(&self, dir: &Path) -> Result<()> {
        match self.owner.map_or(Ok(()), |owner| owner::set(dir, owner)) {
            Err(error) if no_permission(&error) => {
                log::debug!("{}", crate::error::one_line(&error));
                Ok(())
            }
            result => result,
        }
    }

    fn dir(&self) -> Option<&Path> {
        self.placement.paths.get("").map(PathBuf::as_path)
    }

    fn make(&self, dir: &Path, resources: Option<&LinuxResources>, made: &mut Vec<PathBuf>) -> Result<()> {
        if !tree::make(dir, made)? {
            self.check_unused()?;
        }
        controllers::enable_all(&self.root, dir)?;
        controllers::settle_type(&self.root, dir, resources)?;
        self.set_owner(dir)
    }

    /// The same by a descriptor of the directory, which cannot come to mean another; `None` if it is gone.
    pub(super) fn held(&self) -> Result<Option<Held>> {
        let Some(dir) = self.dir() else { return Ok(None) };
        let descriptor = match open_dir(dir) {
            Err(error) if file::is_gone(&error) => return Ok(None),
            result => result?,
        };
        // With the dot it is the directory itself, for lstat(2), too.
        let short = PathBuf::from(format!("/proc/self/fd/{}/.", descriptor.as_raw_fd()));
        let placement = Placement { paths: [(String::new(), short.clone())].into(), ..self.placement.clone() };
        let spared = self.spared.moved(dir, &short);
        let cgroup = Self::new(placement, self.root.clone(), true).sparing(spared);
        Ok(Some(Held { cgroup, _descriptor: descriptor }))
    }

    /// Takes over a cgroup that systemd has made around its first process.
    pub(super) fn adopt(&self) -> Result<()> {
        let Some(dir) = self.dir() else { return Ok(()) };
        controllers::enable_all(&self.root, dir).context("linux.cgroupsPath")?;
        self.set_owner(dir)
    }

    /// [`Manager::update`], and what else may refuse the new values: then, too, the files are what they were before.
    pub(super) fn update_and(&self, resources: &LinuxResources, also: impl FnOnce() -> Result<()>) -> Result<()> {
        self.dir().map_or(Ok(()), v1::refuse_gone)?;
        let before = self.dir().map(|dir| snapshot::v2(dir, resources));
        let changed = self.limit(resources).and_then(|()| also());
        if let (Err(_), Some(before)) = (&changed, before) {
            before.restore();
        }
        changed
    }

    fn limits(&self, resources: &LinuxResources) -> Result<()> {
        let Some(dir) = self.dir() else {
            return check::limited(resources)
                .map_or(Ok(()), |property| bail!("{property}: the container has no cgroup that could limit it"));
        };
        v1_alone::refuse(resources)?;
        if let Some(pids) = resources.pids() {
            let controller = PidController::new(dir.into(), dir.into(), true);
            let result = converted(dir, controller.set_pid_max(v1::pids::limit(pids.limit())));
            explained(dir, "pids.max", result).context("linux.resources.pids.limit")?;
        }
        memory::set(dir, resources)?;
        io::set(dir, resources)?;
        cpu::set(dir, resources)?;
        set_cpuset(dir, resources)?;
        hugetlb::set(dir, resources)?;
        v1::rdma::set(Some(dir), resources)?;
        unified::set(dir, resources)
    }
}

/// A cgroup that is addressed by a descriptor.
pub(super) struct Held {
    cgroup: V2,
    _descriptor: OwnedFd,
}

impl Held {
    /// As [`Manager::kill`].
    pub(super) fn kill(&self) -> Result<()> {
        self.cgroup.kill()
    }
}

fn set_cpuset(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    let controller = CpuSetController::new(dir.into(), dir.into(), true);
    if let Some(cpus) = cpu.cpus().as_deref().filter(|cpus| !cpus.is_empty()) {
        let result = converted(dir, controller.set_cpus(cpus));
        explained(dir, "cpuset.cpus", result).context("linux.resources.cpu.cpus")?;
    }
    if let Some(mems) = cpu.mems().as_deref().filter(|mems| !mems.is_empty()) {
        let result = converted(dir, controller.set_mems(mems));
        explained(dir, "cpuset.mems", result).context("linux.resources.cpu.mems")?;
    }
    Ok(())
}

impl Manager for V2 {
    fn placement(&self) -> &Placement {
        &self.placement
    }

    fn check_unused(&self) -> Result<()> {
        let Some(dir) = self.dir() else { return Ok(()) };
        tree::refuse_members(&tree::members(dir, &self.spared)?, dir)?;
        if freezer::is_frozen(dir)? {
            bail!("container's cgroup unexpectedly frozen: {}", dir.display());
        }
        Ok(())
    }

    fn create(&mut self, resources: Option<&LinuxResources>) -> Result<()> {
        let Some(dir) = self.dir() else { return Ok(()) };
        let mut made = Vec::with_capacity(1);
        let Err(error) = self.make(dir, resources, &mut made) else {
            self.is_new = true;
            return Ok(());
        };
        tree::unmake(&made);
        if self.explicit || !no_permission(&error) {
            return Err(unable_to_apply(error).context("linux.cgroupsPath"));
        }
        if let Some(property) = resources.and_then(check::limited) {
            let why = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
            return Err(error.context(why).context(property));
        }
        say_unlimited();
        self.placement.paths.clear();
        Ok(())
    }

    fn entry(&self) -> Result<Entry> {
        let Some(dir) = self.dir() else { return Ok(Entry::Nothing) };
        let descriptor = open_dir(dir)?;
        if self.is_new {
            tree::claim(descriptor.as_fd(), dir)?;
        }
        Ok(Entry::Into(descriptor))
    }

    fn attach(&self, pid: i32) -> Result<()> {
        self.dir().map_or(Ok(()), |dir| file::write(dir, "cgroup.procs", &pid.to_string()))
    }

    fn apply(&self, resources: &LinuxResources) -> Result<()> {
        check::check(resources)?;
        if !self.devices_done.take() {
            self.apply_devices(resources)?;
            self.devices_done.set(false);
        }
        self.limits(resources)
    }

    fn apply_devices(&self, resources: &LinuxResources) -> Result<()> {
        let rules = device_rules::rules(resources)?;
        let Some(dir) = self.dir() else { return Ok(()) };
        match devices::set(dir, &rules) {
            // bpf(2) is not for user namespaces; runc ignores it there, too.
            Err(error) if no_permission(&error) => log::debug!("{}", crate::error::one_line(&error)),
            result => result.context("linux.resources.devices")?,
        }
        self.devices_done.set(true);
        Ok(())
    }

    fn limit(&self, resources: &LinuxResources) -> Result<()> {
        check::check(resources)?;
        self.limits(resources)
    }

    fn update(&self, resources: &LinuxResources, commit: &dyn Fn() -> Result<()>) -> Result<()> {
        self.update_and(resources, commit)
    }

    fn pids(&self) -> Result<Vec<i32>> {
        self.dir().map_or(Ok(Vec::new()), |dir| Ok(tree::members(dir, &self.spared)?.pids))
    }

    fn is_idle(&self) -> Result<bool> {
        self.dir().map_or(Ok(true), tree::is_idle)
    }

    fn kill(&self) -> Result<()> {
        let Some(dir) = self.dir() else { return Ok(()) };
        let members = tree::members(dir, &self.spared)?;
        if members.count() == 0 {
            return Ok(());
        }
        // The kernel's way takes all that is below, the others' and this process included.
        if !self.spared.is_empty() || members.pids.contains(&tree::own_pid()) {
            return tree::kill_all(dir, &self.spared);
        }
        match file::write(dir, "cgroup.kill", "1") {
            Ok(()) => Ok(()),
            // Before Linux 5.14, and in a threaded cgroup. A frozen v2 cgroup's processes die of SIGKILL.
            Err(error) if matches!(errno(&error), Some(Errno::ENOENT | Errno::EOPNOTSUPP)) => {
                let _ = freezer::freeze(dir, true); // only so that nothing forks meanwhile; kill_all ends without
                tree::kill_all(dir, &self.spared)
            }
            Err(error) if file::is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn freeze(&self, frozen: bool) -> Result<()> {
        let dir = self.dir().context("cannot toggle freezer: cgroups not configured for container")?;
        freezer::freeze(dir, frozen)
    }

    fn is_frozen(&self) -> Result<bool> {
        self.dir().map_or(Ok(false), freezer::is_frozen)
    }

    fn destroy(&self) -> Result<()> {
        removal::remove(self.dir().into_iter(), &self.spared)
    }

    fn oom_kills(&self) -> u64 {
        self.dir().map_or(0, |dir| file::count(dir, "memory.events", "oom_kill"))
    }

    fn stats(&self) -> Result<Stats> {
        let Some(dir) = self.dir() else { bail!("the container's cgroup is gone") };
        let stats = stats::read(dir)?;
        // Afterwards: a file that went with the cgroup reads as nothing counted.
        v1::refuse_gone(dir)?;
        Ok(stats)
    }

    fn watch_oom(&self) -> Result<OomWatch> {
        OomWatch::v2(self.dir().context("the container has no cgroup")?)
    }

    fn exists(&self) -> Result<bool> {
        self.dir().map_or(Ok(false), tree::is_there)
    }
}

#[cfg(test)]
mod tests;
