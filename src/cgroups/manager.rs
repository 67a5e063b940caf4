//! The trait that the stages use, and the one place that chooses who implements it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::file;
use super::layout::{self, Layout};
use super::oom::OomWatch;
use super::spared::Spared;
use super::stats::Stats;
use super::v1::V1;
use super::v2::V2;
use super::wanted::Wanted;
use super::{check, path, systemd};
use crate::error::{Context as _, Result, bail};

/// Who makes the container's cgroup (`--cgroup-manager`, `--systemd-cgroup`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No cgroup at all: the container stays in the caller's.
    Disabled,
    /// Directories in the cgroup file systems.
    Cgroupfs,
    /// A transient unit of systemd.
    Systemd,
}

/// Where the container's cgroup is. Recorded in `state.json` before anything is created, so that `delete --force`
/// converges after a SIGKILL at any instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Who makes it.
    pub kind: Kind,
    /// Controller (or `name=systemd`) to absolute directory; the unified hierarchy's key is `""`. v2 has that one key
    /// only, hybrid has it beside the others. Empty: there is no cgroup.
    pub paths: BTreeMap<String, PathBuf>,
    /// The name of systemd's unit, if it is systemd's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What this create, and no other, has written into the unit's properties: tells it from another unit of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_mark: Option<String>,
}

impl Placement {
    /// No cgroup.
    pub fn none(kind: Kind) -> Self {
        Self { kind, paths: BTreeMap::new(), unit: None, unit_mark: None }
    }
}

/// How a process gets into the cgroup.
#[derive(Debug)]
pub enum Entry {
    /// There is nothing to enter.
    Nothing,
    /// v1: `tasks` files, open for writing. The single-threaded process writes `0` to each: a thread that moves itself
    /// skips the kernel's global threadgroup lock, which writing a pid to `cgroup.procs` takes.
    Tasks(Vec<OwnedFd>),
    /// v2: the directory, for clone3's `CLONE_INTO_CGROUP` (Linux 5.7).
    Into(OwnedFd),
    /// Hybrid: both.
    Both {
        /// As [`Entry::Tasks`].
        tasks: Vec<OwnedFd>,
        /// As [`Entry::Into`].
        into: OwnedFd,
    },
    /// The process waits until the parent has had it moved in ([`Manager::attach`]).
    Adopted,
}

impl Entry {
    /// The files to which the process writes `0`.
    pub fn tasks(&self) -> &[OwnedFd] {
        match self {
            Entry::Tasks(tasks) | Entry::Both { tasks, .. } => tasks,
            Entry::Nothing | Entry::Into(_) | Entry::Adopted => &[],
        }
    }

    /// The directory for `CLONE_INTO_CGROUP`.
    pub fn into_dir(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Entry::Into(into) | Entry::Both { into, .. } => Some(into.as_fd()),
            Entry::Nothing | Entry::Tasks(_) | Entry::Adopted => None,
        }
    }
}

/// The container's cgroup.
pub trait Manager {
    /// Where it is. After [`Manager::create`] it may have fewer paths than before: none without the permission to make
    /// them (rootless, no `linux.cgroupsPath`, no limits), not the unified one of a hybrid layout where it has no use.
    /// What was recorded before stays good for killing and removing.
    fn placement(&self) -> &Placement;

    /// Refuses a cgroup that exists with processes in it or frozen. To be called before the placement is recorded:
    /// from then on `delete --force` may kill what is in there.
    fn check_unused(&self) -> Result<()>;

    /// Makes the directories. v2: enables the controllers in the ancestors' `cgroup.subtree_control`; v1: hands
    /// `cpuset.cpus` and `cpuset.mems` down. Refuses what [`Manager::check_unused`] refuses. On failure removes what it
    /// made.
    fn create(&mut self, resources: Option<&LinuxResources>) -> Result<()>;

    /// How a process gets in.
    fn entry(&self) -> Result<Entry>;

    /// Moves a process in from outside, if it is [`Entry::Adopted`]. systemd makes the cgroup around its first process.
    fn attach(&self, pid: i32) -> Result<()>;

    /// `linux.resources`, all of it, the device rules included (unless [`Manager::apply_devices`] did them already).
    /// A container without `linux.resources` wants `LinuxResources::default()`: its devices are denied all the same.
    fn apply(&self, resources: &LinuxResources) -> Result<()>;

    /// `linux.resources.devices` and the default rules after them. On v1 the kernel cannot replace a list in one step:
    /// a process in the cgroup is denied everything for some microseconds, so call it while the cgroup is still empty,
    /// unless init has to mount a block device that the rules deny.
    fn apply_devices(&self, resources: &LinuxResources) -> Result<()>;

    /// `linux.resources` without the devices. On failure what was written stays.
    fn limit(&self, resources: &LinuxResources) -> Result<()>;

    /// The same for a container that runs, all or nothing: if one value is refused, or `commit` fails, all are what they
    /// were before.
    fn update(&self, resources: &LinuxResources, commit: &dyn Fn() -> Result<()>) -> Result<()>;

    /// All processes in the cgroup and below, but for those of cgroups that are spared ([`reopen_sparing`]).
    fn pids(&self) -> Result<Vec<i32>>;

    /// Whether the cgroup is still this container's: a name of systemd's may have come to another
    /// unit. For signals that are not sent by [`Manager::kill`], which asks itself.
    fn is_ours(&self) -> Result<bool> {
        Ok(true)
    }

    /// Whether it has neither processes nor sub-cgroups, or is gone.
    fn is_idle(&self) -> Result<bool>;

    /// SIGKILL to all of them, also when they keep forking. Bounded; does not wait until they are gone.
    fn kill(&self) -> Result<()>;

    /// Freezes (and waits until all are frozen) or thaws.
    fn freeze(&self, frozen: bool) -> Result<()>;

    /// Whether it is frozen itself (not by an ancestor).
    fn is_frozen(&self) -> Result<bool>;

    /// On v1 a frozen process does not even die: after a SIGKILL its cgroup has to thaw. One that was removed meanwhile,
    /// as systemd does when its last process ends, has nothing left to thaw.
    fn thaw_the_killed(&self) -> Result<()> {
        if !self.is_frozen()? {
            return Ok(());
        }
        match self.freeze(false) {
            Err(error) if file::is_gone(&error) => Ok(()),
            result => result,
        }
    }

    /// Removes the cgroup and what the container made below it; already gone is success. Waits, bounded, for processes
    /// that are about to leave. An error names the processes that stay.
    fn destroy(&self) -> Result<()>;

    /// Kills what is in it and removes it.
    fn remove_all(&self) -> Result<()> {
        self.kill()?;
        self.destroy()
    }

    /// How many processes the kernel's OOM killer ended here; 0 if unknown.
    fn oom_kills(&self) -> u64;

    /// What its processes have used. An error if it is gone, or if there is none.
    fn stats(&self) -> Result<Stats>;

    /// Begins to listen for the kernel's OOM killer. An error if nothing counts its memory.
    fn watch_oom(&self) -> Result<OomWatch>;

    /// Whether its directory is there. An error if that cannot be seen: it is not gone then.
    fn exists(&self) -> Result<bool>;
}

/// Works out where the container's cgroup is; creates nothing. With cgroupfs an absolute `linux.cgroupsPath` is below
/// the mount point, a relative one below the runtime's own cgroup, none is `<id>` there; with systemd it is
/// `slice:prefix:name`, and annotations may add to the unit's properties.
pub fn place(wanted: &Wanted<'_>) -> Result<Box<dyn Manager>> {
    let &Wanted { kind, path: asked, id, .. } = wanted;
    match kind {
        Kind::Disabled => return Ok(Box::new(NoCgroup::new(kind))),
        Kind::Systemd => return Ok(Box::new(systemd::place(wanted)?)),
        Kind::Cgroupfs => {}
    }
    let inner = path::clean(asked.unwrap_or(Path::new(id)));
    if inner.file_name().is_none() {
        // What is removed and killed with the container would be everything.
        bail!("linux.cgroupsPath: {:?} is the root of the hierarchy", asked.unwrap_or(Path::new(id)));
    }
    match layout::layout()? {
        Layout::V1(hierarchies) => {
            let unified = layout::unified()?;
            let paths = path::v1(hierarchies, unified, &inner);
            Ok(Box::new(V1::new(Placement { paths, ..Placement::none(kind) }, asked.is_some())))
        }
        Layout::V2 { root } => {
            let dir = path::v2(root, &inner)?;
            let placement = Placement { paths: BTreeMap::from([(String::new(), dir)]), ..Placement::none(kind) };
            Ok(Box::new(V2::new(placement, root.clone(), asked.is_some()).owned_by(wanted.owner)))
        }
        Layout::None => bail!("linux.cgroupsPath: no cgroup file system is mounted at /sys/fs/cgroup"),
    }
}

/// The cgroup of a container that exists, from its state.
pub fn reopen(placement: &Placement) -> Result<Box<dyn Manager>> {
    reopen_sparing(placement, Spared::default())
}

/// As [`reopen`]; what other containers have in it or below it is neither killed nor removed.
pub fn reopen_sparing(placement: &Placement, spared: Spared) -> Result<Box<dyn Manager>> {
    let placement = placement.clone();
    if placement.kind == Kind::Systemd {
        let unit = placement.unit.clone().context("state.json: the container's cgroup has no unit")?;
        return Ok(Box::new(systemd::reopen(placement, unit, spared)));
    }
    Ok(match (placement.paths.len(), placement.paths.contains_key("")) {
        (0, _) => Box::new(NoCgroup::new(placement.kind)),
        (1, true) => Box::new(V2::new(placement, PathBuf::from(layout::MOUNT_POINT), true).sparing(spared)),
        _ => Box::new(V1::new(placement, true).sparing(spared)),
    })
}

/// Is a container frozen whose init is in this state (proc_pid_stat(5))?
pub fn is_frozen(placement: &Placement, init: u8) -> Result<bool> {
    // What the v1 freezer has frozen waits uninterruptibly (D), on every kernel, and all of the cgroup has to: the file need
    // not be asked. What v2's has waits as most processes do (S).
    if placement.paths.contains_key("freezer") && matches!(init, b'R' | b'S') {
        return Ok(false);
    }
    reopen(placement)?.is_frozen()
}

/// `--cgroup-manager disabled`, or a rootless container that was allowed no cgroup.
struct NoCgroup {
    placement: Placement,
}

impl NoCgroup {
    fn new(kind: Kind) -> Self {
        Self { placement: Placement::none(kind) }
    }
}

impl Manager for NoCgroup {
    fn placement(&self) -> &Placement {
        &self.placement
    }
    fn check_unused(&self) -> Result<()> {
        Ok(())
    }
    fn create(&mut self, _: Option<&LinuxResources>) -> Result<()> {
        Ok(())
    }
    fn entry(&self) -> Result<Entry> {
        Ok(Entry::Nothing)
    }
    fn attach(&self, _: i32) -> Result<()> {
        Ok(())
    }
    fn apply(&self, resources: &LinuxResources) -> Result<()> {
        self.limit(resources)
    }
    // Every caller that runs containers without a cgroup still sends the default device rules: there is nobody to
    // enforce them, as with runc's rootless containers.
    fn apply_devices(&self, _: &LinuxResources) -> Result<()> {
        Ok(())
    }
    fn limit(&self, resources: &LinuxResources) -> Result<()> {
        match check::limited(resources) {
            Some(property) => bail!("{property}: the container has no cgroup that could limit it"),
            None => Ok(()),
        }
    }
    fn update(&self, resources: &LinuxResources, commit: &dyn Fn() -> Result<()>) -> Result<()> {
        self.limit(resources).and_then(|()| commit())
    }
    fn pids(&self) -> Result<Vec<i32>> {
        Ok(Vec::new())
    }
    fn is_idle(&self) -> Result<bool> {
        Ok(true)
    }
    fn kill(&self) -> Result<()> {
        Ok(())
    }
    fn freeze(&self, _: bool) -> Result<()> {
        bail!("cannot toggle freezer: cgroups not configured for container")
    }
    fn is_frozen(&self) -> Result<bool> {
        Ok(false)
    }
    fn destroy(&self) -> Result<()> {
        Ok(())
    }
    fn oom_kills(&self) -> u64 {
        0
    }
    fn stats(&self) -> Result<Stats> {
        bail!("the container has no cgroup that could count what it uses")
    }
    fn watch_oom(&self) -> Result<OomWatch> {
        bail!("the container has no cgroup")
    }
    fn exists(&self) -> Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::one_line;

    #[test]
    fn a_container_without_a_cgroup_takes_devices_but_no_limits() {
        let manager = place(&Wanted::at(Kind::Disabled, Some(Path::new("/x")), "x")).unwrap();
        let mut resources: LinuxResources =
            serde_json::from_str(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#).unwrap();
        manager.apply(&resources).unwrap();
        resources.set_pids(serde_json::from_str(r#"{"limit":5}"#).unwrap());
        let error = manager.apply(&resources).unwrap_err();
        assert!(one_line(&error).starts_with("linux.resources.pids: "), "{}", one_line(&error));
        assert!(matches!(manager.entry().unwrap(), Entry::Nothing));
    }

    #[test]
    fn the_root_of_the_hierarchy_is_nobodys_cgroup() {
        for path in ["/", "..", "/a/../.."] {
            let error = place(&Wanted::at(Kind::Cgroupfs, Some(Path::new(path)), "x")).err().expect("refused");
            assert!(one_line(&error).starts_with("linux.cgroupsPath: "), "{}", one_line(&error));
        }
    }

    /// The body, run by the test below as a user without permissions.
    #[test]
    #[ignore = "run by a_user_without_permission_goes_on_without_limits"]
    fn as_nobody() {
        assert!(!nix::unistd::geteuid().is_root());
        let id = "tare-test-nobody";
        let mut manager = place(&Wanted::at(Kind::Cgroupfs, None, id)).unwrap();
        manager.create(None).unwrap();
        assert!(manager.placement().paths.is_empty(), "{:?}", manager.placement());
        assert!(matches!(manager.entry().unwrap(), Entry::Nothing));
        manager.apply(&LinuxResources::default()).unwrap();
        let limited: LinuxResources = serde_json::from_str(r#"{"pids":{"limit":5}}"#).unwrap();
        let line = one_line(&manager.apply(&limited).unwrap_err());
        assert!(line.starts_with("linux.resources.pids: "), "{line}");
        let mut explicit = place(&Wanted::at(Kind::Cgroupfs, Some(Path::new("/tare-test-nobody")), id)).unwrap();
        let line = one_line(&explicit.create(None).unwrap_err());
        let expected = "linux.cgroupsPath: unable to apply cgroup configuration: permission denied: mkdir ";
        assert!(line.starts_with(expected) && line.ends_with("Permission denied"), "{line}");
        let mut limiting = place(&Wanted::at(Kind::Cgroupfs, None, id)).unwrap();
        assert!(limiting.create(Some(&limited)).and_then(|()| limiting.apply(&limited)).is_err());
    }

    #[test]
    fn a_user_without_permission_goes_on_without_limits() {
        use std::os::unix::process::CommandExt;
        if !nix::unistd::geteuid().is_root() || *layout::layout().unwrap() == Layout::None {
            println!("skipped: needs root, to become nobody, and cgroups");
            return;
        }
        // A copy, because the build directory may be closed to others.
        let binary = std::env::temp_dir().join(format!("tare-nobody-{}", std::process::id()));
        std::fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
        let output = std::process::Command::new(&binary)
            .args(["--exact", "cgroups::manager::tests::as_nobody", "--ignored"])
            .current_dir("/")
            .uid(65534)
            .gid(65534)
            .output();
        std::fs::remove_file(&binary).unwrap();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn a_placement_survives_its_json() {
        let placement = Placement {
            paths: BTreeMap::from([("memory".into(), "/sys/fs/cgroup/memory/x".into())]),
            ..Placement::none(Kind::Cgroupfs)
        };
        let json = serde_json::to_string(&placement).unwrap();
        assert_eq!(json, r#"{"kind":"cgroupfs","paths":{"memory":"/sys/fs/cgroup/memory/x"}}"#);
        assert_eq!(serde_json::from_str::<Placement>(&json).unwrap(), placement);
    }
}
