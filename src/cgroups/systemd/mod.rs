//! A transient scope of systemd, and its cgroup (v2): `--systemd-cgroup`.
//!
//! systemd makes the cgroup around a process that is there, and owns it; the scope is delegated, so that the runtime may
//! write the limits into its files itself. It is told of them as properties, too: what it writes when it next looks at
//! the unit must be the same. The device filter is the runtime's own: systemd does not see it, so that a daemon-reload
//! leaves it in force, and its own rules know no denial after an allowance.

mod annotation;
mod bus;
mod identity;
mod properties;
mod unit;
mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::sys::stat::stat;
use nix::unistd::geteuid;
use oci_spec::runtime::LinuxResources;

use super::layout::{self, Layout};
use super::manager::{Entry, Kind, Manager, Placement};
use super::oom::OomWatch;
use super::spared::Spared;
use super::stats::Stats;
use super::v2::V2;
use super::wanted::Wanted;
use crate::error::{Context as _, Result, bail, one_line};
use crate::linux::uid_mappings::is_rootless;
use bus::{Bus, Session};
use identity::{Found, Instance};
use properties::Version;
use unit::Unit;
use wire::Value;

/// The manager of a scope.
pub(super) struct Systemd {
    unit: Unit,
    /// The scope's cgroup: the same files as without systemd.
    cgroup: V2,
    bus: RefCell<Option<Bus>>,
    /// What the unit starts with; `None` for one that has been started.
    start: Option<Vec<(String, Value)>>,
    /// Other containers have cgroups in the scope's: it is not to be stopped, which would kill them.
    shared: bool,
}

/// Where a container's scope will be; connects to the user's systemd if it is theirs, whose own cgroup is above it.
pub(super) fn place(wanted: &Wanted<'_>) -> Result<Systemd> {
    if !Path::new("/run/systemd/system").is_dir() {
        bail!("--systemd-cgroup: systemd not running on this host, cannot use systemd cgroups manager");
    }
    let Layout::V2 { root } = layout::layout()? else {
        bail!("--systemd-cgroup: the systemd manager needs cgroup v2; use cgroupfs");
    };
    let session = session();
    let default_slice = if session == Session::User { "user.slice" } else { "system.slice" };
    let unit = Unit::of(wanted.path, wanted.id, default_slice)?;
    let mut start = vec![("Description".to_owned(), Value::Text(format!("tare container {}", wanted.id)))];
    start.extend(annotation::properties(wanted.annotations)?);
    let mark = identity::new_mark();
    identity::add_mark(&mut start, &mark);
    let mut bus = None;
    let mut dir = root.clone();
    if session == Session::User {
        let own = bus.insert(Bus::connect(session)?).property("ControlGroup")?;
        dir.push(own.trim_start_matches('/'));
    }
    dir.push(unit.path()?);
    let placement = Placement {
        kind: Kind::Systemd,
        paths: BTreeMap::from([(String::new(), dir)]),
        unit: Some(unit.name.clone()),
        unit_mark: Some(mark),
    };
    Ok(Systemd {
        unit,
        cgroup: V2::new(placement, root.clone(), true).owned_by(wanted.owner),
        bus: RefCell::new(bus),
        start: Some(start),
        shared: false,
    })
}

/// The scope of a container that exists.
pub(super) fn reopen(placement: Placement, name: String, spared: Spared) -> Systemd {
    Systemd {
        unit: Unit { name, slice: String::new() },
        shared: !spared.is_empty(),
        cgroup: V2::new(placement, PathBuf::from(layout::MOUNT_POINT), true).sparing(spared),
        bus: RefCell::new(None),
        start: None,
    }
}

/// systemd is ours to command if its socket is. Root of a user namespace owns it in a container that is a whole machine,
/// but not on the host of an ordinary user.
fn session() -> Session {
    match stat(bus::SYSTEM) {
        Ok(socket) if socket.st_uid == geteuid().as_raw() => Session::System,
        Ok(_) => Session::User,
        Err(_) if is_rootless() => Session::User,
        Err(_) => Session::System,
    }
}

impl Systemd {
    /// Does something on the connection, which is made when it is first needed, and again after it has failed.
    fn with_bus<T>(&self, act: impl FnOnce(&mut Bus) -> Result<T>) -> Result<T> {
        let mut bus = self.bus.borrow_mut();
        match bus.as_mut().filter(|bus| !bus.is_broken()) {
            Some(bus) => act(bus),
            None => act(bus.insert(Bus::connect(session())?)),
        }
    }

    /// Looks at what has the unit's name now. An ordinary user's systemd ends with their last session, and all of its
    /// units with it.
    fn find(&self) -> Result<Found> {
        let ended = || session() == Session::User && Bus::connect(Session::User).is_err();
        match self.with_bus(|bus| identity::find(bus, &self.unit.name, self.placement())) {
            Err(error) if ended() && !self.cgroup.exists()? => {
                log::debug!("{}", one_line(&error));
                Ok(Found::Gone)
            }
            result => result,
        }
    }

    /// Stops the unit and has systemd forget that it failed, if it did.
    fn stop(&self, instance: &Instance) -> Result<()> {
        let stopped = self.with_bus(|bus| instance.stop(bus));
        self.with_bus(|bus| instance.reset_failed(bus))?;
        match stopped {
            Err(error) if self.with_bus(|bus| instance.is_active(bus))? => Err(error),
            _ => Ok(()),
        }
    }

    fn version(&self, resources: &LinuxResources) -> Result<Option<Version>> {
        if !properties::needs_version(resources) {
            return Ok(None);
        }
        self.with_bus(|bus| bus.property("Version")).and_then(|text| Version::parse(&text)).map(Some)
    }
}

impl Manager for Systemd {
    fn placement(&self) -> &Placement {
        self.cgroup.placement()
    }

    fn check_unused(&self) -> Result<()> {
        self.cgroup.check_unused()
    }

    /// The cgroup comes with its first process ([`Manager::attach`]); what it starts with is prepared here.
    fn create(&mut self, resources: Option<&LinuxResources>) -> Result<()> {
        let Some(resources) = resources else { return Ok(()) };
        let mut resources = resources.clone();
        properties::round_quota(&mut resources);
        let version = self.version(&resources)?;
        let mut limits = properties::of(&resources, version)?;
        limits.extend(properties::oom_policy(&resources, version));
        if let Some(start) = &mut self.start {
            // What an annotation says of a property goes before what a resource says.
            limits.retain(|(name, _)| !start.iter().any(|(named, _)| named == name));
            start.extend(limits);
        }
        Ok(())
    }

    fn entry(&self) -> Result<Entry> {
        if self.start.is_some() || session() == Session::User { Ok(Entry::Adopted) } else { self.cgroup.entry() }
    }

    fn attach(&self, pid: i32) -> Result<()> {
        let Some(start) = &self.start else {
            let dir = self.placement().paths.get("").map_or(Path::new("/"), PathBuf::as_path);
            return self.with_bus(|bus| self.unit.attach(bus, pid, dir));
        };
        self.with_bus(|bus| self.unit.start(bus, pid, start)).context("linux.cgroupsPath")?;
        self.cgroup.adopt()
    }

    fn apply(&self, resources: &LinuxResources) -> Result<()> {
        self.apply_devices(resources)?;
        self.limit(resources)
    }

    fn apply_devices(&self, resources: &LinuxResources) -> Result<()> {
        self.cgroup.apply_devices(resources)
    }

    fn limit(&self, resources: &LinuxResources) -> Result<()> {
        let mut resources = resources.clone();
        properties::round_quota(&mut resources);
        self.cgroup.limit(&resources)
    }

    /// The files first: who refuses a value is the kernel, while systemd takes all properties of a call or none. When it
    /// writes the files of a property it may write others beside it, so that they are written once more.
    fn update(&self, resources: &LinuxResources, commit: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut resources = resources.clone();
        properties::round_quota(&mut resources);
        let properties = properties::of(&resources, self.version(&resources)?)?;
        self.cgroup.update_and(&resources, || {
            if !properties.is_empty() {
                self.with_bus(|bus| self.unit.set_properties(bus, &properties)).context("linux.resources")?;
                self.cgroup.limit(&resources)?;
            }
            commit()
        })
    }

    fn pids(&self) -> Result<Vec<i32>> {
        self.cgroup.pids()
    }

    fn is_ours(&self) -> Result<bool> {
        Ok(!matches!(self.find()?, Found::Foreign))
    }

    fn is_idle(&self) -> Result<bool> {
        self.cgroup.is_idle()
    }

    fn kill(&self) -> Result<()> {
        if self.cgroup.is_idle()? {
            return Ok(());
        }
        // The directory is held before it is asked whose it is: what is killed is what was asked about.
        let Some(held) = self.cgroup.held()? else { return Ok(()) };
        match self.find()? {
            Found::Foreign => Ok(()),
            Found::Ours(_) | Found::Gone => held.kill(),
        }
    }

    fn freeze(&self, frozen: bool) -> Result<()> {
        self.cgroup.freeze(frozen)
    }

    fn is_frozen(&self) -> Result<bool> {
        self.cgroup.is_frozen()
    }

    fn thaw_the_killed(&self) -> Result<()> {
        if self.cgroup.is_frozen()? && self.is_ours()? { self.cgroup.thaw_the_killed() } else { Ok(()) }
    }

    fn destroy(&self) -> Result<()> {
        let name = &self.unit.name;
        match self.find()? {
            Found::Foreign => return Ok(()),
            Found::Ours(instance) if !self.shared => {
                self.stop(&instance).with_context(|| format!("stop unit {name}"))?
            }
            Found::Ours(_) | Found::Gone => {}
        }
        match self.cgroup.destroy() {
            // Another has the name already, and with it the directory.
            Err(error) if matches!(self.find()?, Found::Foreign) => {
                log::debug!("{}", one_line(&error));
                Ok(())
            }
            result => result,
        }
    }

    fn oom_kills(&self) -> u64 {
        self.cgroup.oom_kills()
    }

    fn stats(&self) -> Result<Stats> {
        self.cgroup.stats()
    }

    fn watch_oom(&self) -> Result<OomWatch> {
        self.cgroup.watch_oom()
    }

    fn exists(&self) -> Result<bool> {
        self.cgroup.exists()
    }
}

#[cfg(test)]
mod tests;
