//! cgroup v1: a directory in each hierarchy, and in the unified one of a hybrid layout.

mod blkio;
mod cpu;
mod cpuset;
mod devices;
mod freezer;
pub(super) mod hugetlb;
mod memory;
mod net_cls;
mod net_prio;
pub(super) mod pids;
pub(super) mod rdma;
mod stats;

use std::cell::Cell;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::manager::{Entry, Manager, Placement};
use super::oom::OomWatch;
use super::spared::Spared;
use super::stats::Stats;
use super::{check, device_rules, file, removal, snapshot, tree, v2};
use crate::error::{Context, Error, Result, bail};
use crate::linux::uid_mappings::is_rootless;

/// The manager of a cgroup with a directory in each v1 hierarchy.
pub(super) struct V1 {
    placement: Placement,
    /// `linux.cgroupsPath` was given: without the permission to make it there is no going on.
    explicit: bool,
    /// Done in [`Manager::create`] or [`Manager::apply_devices`]: not to be done again by [`Manager::apply`].
    cpuset_done: Cell<bool>,
    devices_done: Cell<bool>,
    /// It is a new container's: no other one may get it until init is in.
    is_new: bool,
    /// What other containers have in it.
    spared: Spared,
}

impl V1 {
    pub(super) fn new(placement: Placement, explicit: bool) -> Self {
        let (cpuset_done, devices_done) = (Cell::new(false), Cell::new(false));
        Self { placement, explicit, cpuset_done, devices_done, is_new: false, spared: Spared::default() }
    }

    /// To leave alone what other containers have in it.
    pub(super) fn sparing(self, spared: Spared) -> Self {
        Self { spared, ..self }
    }

    fn dir(&self, controller: &str) -> Option<&Path> {
        self.placement.paths.get(controller).map(PathBuf::as_path)
    }

    fn unified(&self) -> Option<&Path> {
        self.dir("")
    }

    /// The unified hierarchy of a hybrid layout is systemd's, which finds a service's processes there, and may hold the
    /// huge pages. Where neither counts, the directory would only cost time (150 us of a start).
    fn needs_unified(&self, resources: Option<&LinuxResources>) -> bool {
        let huge_pages = resources.and_then(|resources| resources.hugepage_limits().as_ref());
        huge_pages.is_some_and(|limits| !limits.is_empty()) && self.dir("hugetlb").is_none()
            || Path::new("/run/systemd/system").exists()
    }

    /// Each v1 directory once, though `cpu,cpuacct` is two controllers.
    fn dirs(&self) -> Vec<&Path> {
        let mut dirs: Vec<&Path> = Vec::with_capacity(self.placement.paths.len());
        for (controller, dir) in &self.placement.paths {
            // By their bytes: part by part, as paths are compared, took as long as half of the reading of config.json.
            let is_new = || dirs.iter().all(|other| other.as_os_str() != dir.as_os_str());
            if !controller.is_empty() && is_new() {
                dirs.push(dir);
            }
        }
        dirs
    }

    /// The directory in the unified hierarchy, if it is there: it is not if the placement is that of the first record.
    fn made_unified(&self) -> Result<Option<&Path>> {
        let Some(dir) = self.unified() else { return Ok(None) };
        Ok(tree::is_there(dir)?.then_some(dir))
    }

    /// The hierarchy whose processes are the container's: runc's choice.
    fn main(&self) -> Option<&Path> {
        self.dir("devices").or_else(|| self.placement.paths.values().next().map(PathBuf::as_path))
    }

    fn refuse_occupied(&self, dir: &Path) -> Result<()> {
        tree::refuse_members(&tree::members(dir, &self.spared)?, dir)
    }

    fn refuse_frozen(&self, dir: &Path) -> Result<()> {
        if freezer::is_frozen(dir)? {
            bail!("container's cgroup unexpectedly frozen: {}", dir.display());
        }
        Ok(())
    }

    fn make_one(
        &self,
        controller: &str,
        dir: &Path,
        resources: Option<&LinuxResources>,
        made: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let new = tree::make(dir, made).map_err(v2::unable_to_apply).context("linux.cgroupsPath")?;
        if !new {
            match controller {
                "devices" => self.refuse_occupied(dir),
                "freezer" => self.refuse_frozen(dir),
                _ => Ok(()),
            }
            .context("linux.cgroupsPath")?;
        }
        match controller {
            "cpuset" => {
                cpuset::inherit(dir, new, resources)?;
                self.cpuset_done.set(true);
                Ok(())
            }
            // A process with a realtime policy cannot enter a cgroup without realtime bandwidth.
            "cpu" => resources.map_or(Ok(()), |resources| cpu::set_realtime(dir, resources)),
            _ => Ok(()),
        }
    }

    fn make_all(&mut self, resources: Option<&LinuxResources>, made: &mut Vec<PathBuf>) -> Result<()> {
        let mut denied = Vec::new();
        let mut last: Option<&Path> = None;
        for (controller, dir) in &self.placement.paths {
            // cpu and cpuacct of one mount are neighbours in the map; three controllers have more to do than mkdir.
            if last == Some(dir) && !matches!(controller.as_str(), "cpuset" | "devices" | "freezer") {
                continue;
            }
            match self.make_one(controller, dir, resources, made) {
                Ok(()) => last = Some(dir),
                Err(error) if !self.explicit && v2::no_permission(&error) => denied.push(dir.clone()),
                Err(error) => return Err(error),
            }
        }
        self.placement.paths.retain(|_, dir| !denied.contains(dir));
        if self.placement.paths.is_empty() {
            v2::say_unlimited();
        }
        Ok(())
    }

    fn limits(&self, resources: &LinuxResources) -> Result<()> {
        if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
            bail!("linux.resources.unified: invalid configuration: cannot use unified on cgroup v1");
        }
        if !self.cpuset_done.take() {
            cpuset::set(self.dir("cpuset"), resources)?;
        }
        memory::set(self.dir("memory"), resources)?;
        cpu::set(self.dir("cpu"), resources)?;
        pids::set(self.dir("pids"), resources)?;
        blkio::set(self.dir("blkio"), resources)?;
        match (self.dir("hugetlb"), self.unified()) {
            // The controller may live in the unified hierarchy of a hybrid layout.
            (None, Some(unified)) => v2::hugetlb::set_in_hybrid(unified, resources)?,
            (dir, _) => hugetlb::set(dir, resources)?,
        }
        net_cls::set(self.dir("net_cls"), resources)?;
        net_prio::set(self.dir("net_prio"), resources)?;
        rdma::set(self.dir("rdma"), resources)
    }
}

/// The directory of a controller that a property needs.
fn needed<'a>(dir: Option<&'a Path>, controller: &str) -> Result<&'a Path> {
    dir.with_context(|| format!("cannot set {controller} limit: container could not join or create cgroup"))
}

/// Says that a container's cgroup is gone, and not what fails without it.
pub(super) fn refuse_gone(dir: &Path) -> Result<()> {
    if !tree::is_there(dir)? {
        bail!("the container's cgroup is gone: {}", dir.display());
    }
    Ok(())
}

impl Manager for V1 {
    fn placement(&self) -> &Placement {
        &self.placement
    }

    fn check_unused(&self) -> Result<()> {
        if let Some(dir) = self.main() {
            self.refuse_occupied(dir)?;
        }
        if let Some(dir) = self.dir("freezer") {
            self.refuse_frozen(dir)?;
        }
        Ok(())
    }

    fn create(&mut self, resources: Option<&LinuxResources>) -> Result<()> {
        if self.unified().is_some() && !self.needs_unified(resources) {
            self.placement.paths.remove("");
        }
        let mut made = Vec::with_capacity(self.placement.paths.len());
        let result = self.make_all(resources, &mut made);
        if result.is_err() {
            tree::unmake(&made);
        }
        self.is_new = result.is_ok();
        result
    }

    fn entry(&self) -> Result<Entry> {
        let mut tasks = Vec::with_capacity(self.placement.paths.len());
        for dir in self.dirs() {
            let file = OwnedFd::from(file::open(dir, "tasks")?);
            if self.is_new && self.main() == Some(dir) {
                tree::claim(file.as_fd(), dir)?;
            }
            tasks.push(file);
        }
        let unified = self.made_unified()?;
        Ok(match (tasks.is_empty(), unified) {
            (true, None) => Entry::Nothing,
            (true, Some(unified)) => Entry::Into(v2::open_dir(unified)?),
            (false, None) => Entry::Tasks(tasks),
            (false, Some(unified)) => Entry::Both { tasks, into: v2::open_dir(unified)? },
        })
    }

    fn attach(&self, pid: i32) -> Result<()> {
        let pid = pid.to_string();
        let unified = self.made_unified()?;
        self.dirs().into_iter().chain(unified).try_for_each(|dir| file::write(dir, "cgroup.procs", &pid))
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
        let result = match self.dir("devices") {
            Some(dir) => devices::set(dir, &rules),
            None => Err(Error::msg("the devices controller is not mounted, or its cgroup could not be created")),
        };
        match result {
            // Nobody can enforce device rules in a user namespace, and runc does not try.
            Err(error) if self.dir("devices").is_none() || v2::no_permission(&error) => {
                if !is_rootless() {
                    return Err(error.context("linux.resources.devices"));
                }
                log::debug!("linux.resources.devices: ignored without privileges");
            }
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
        for dir in self.dirs() {
            refuse_gone(dir)?;
        }
        let before = snapshot::v1(|controller| self.dir(controller), resources);
        self.limit(resources).and_then(|()| commit()).inspect_err(|_| before.restore())
    }

    fn pids(&self) -> Result<Vec<i32>> {
        self.main().map_or(Ok(Vec::new()), |dir| Ok(tree::members(dir, &self.spared)?.pids))
    }

    fn is_idle(&self) -> Result<bool> {
        self.main().map_or(Ok(true), tree::is_idle)
    }

    fn kill(&self) -> Result<()> {
        let Some(dir) = self.main() else { return Ok(()) };
        let pids = self.pids()?;
        if pids.is_empty() {
            return Ok(());
        }
        // Freezing would stop the processes of the others, too, and this one if it is in there.
        let alone = self.spared.is_empty() && !pids.contains(&tree::own_pid());
        let Some(freezer) = self.dir("freezer").filter(|_| alone) else { return tree::kill_all(dir, &self.spared) };
        // Frozen processes do not fork; the signal waits until they thaw. A freezer that does not get there in time
        // (processes in uninterruptible sleep) must not keep us from killing.
        let frozen = freezer::freeze(freezer, true);
        if let Err(error) = &frozen {
            log::debug!("{}", crate::error::one_line(error));
        }
        let killed = tree::kill_all(dir, &self.spared);
        match freezer::freeze(freezer, false) {
            Err(error) if !file::is_gone(&error) => Err(error),
            _ => killed,
        }
    }

    fn freeze(&self, frozen: bool) -> Result<()> {
        let dir = self.dir("freezer").context("cannot toggle freezer: cgroups not configured for container")?;
        freezer::freeze(dir, frozen)
    }

    fn is_frozen(&self) -> Result<bool> {
        self.dir("freezer").map_or(Ok(false), freezer::is_frozen)
    }

    fn destroy(&self) -> Result<()> {
        removal::remove(self.dirs().into_iter().chain(self.unified()), &self.spared)
    }

    fn oom_kills(&self) -> u64 {
        self.dir("memory").map_or(0, |dir| file::count(dir, "memory.oom_control", "oom_kill"))
    }

    fn stats(&self) -> Result<Stats> {
        let stats = stats::read(|controller| self.dir(controller))?;
        // Afterwards: a file that went with the cgroup reads as nothing counted.
        if !self.exists()? {
            bail!("the container's cgroup is gone");
        }
        Ok(stats)
    }

    fn watch_oom(&self) -> Result<OomWatch> {
        OomWatch::v1(self.dir("memory").context("the memory controller is not mounted, or not the container's")?)
    }

    fn exists(&self) -> Result<bool> {
        self.main().map_or(Ok(false), tree::is_there)
    }
}

#[cfg(test)]
mod tests;
