//! `linux.namespaces`: which are new, and which are joined by path.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{FileStat, Mode, fstat, stat};
use oci_spec::runtime::{LinuxNamespaceType as Type, Spec};

use super::time_offsets;
use super::uid_mappings::is_rootless;
use crate::error::{Context as _, Result, bail, ensure};
use crate::mounts::proc_context::{self, Contexts, Way};
use crate::root::path::check_absolute;

/// A type, its name in config.json, in /proc/<pid>/ns and its flag, in the order of joining: the user namespace first,
/// because it owns the others; the mount namespace last, because paths change with it.
struct Kind(Type, &'static str, CloneFlags);

/// CLONE_NEWTIME (Linux 5.6), which nix has no name for.
const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

const KINDS: &[Kind] = &[
    Kind(Type::User, "user", CloneFlags::CLONE_NEWUSER),
    Kind(Type::Ipc, "ipc", CloneFlags::CLONE_NEWIPC),
    Kind(Type::Uts, "uts", CloneFlags::CLONE_NEWUTS),
    Kind(Type::Network, "network", CloneFlags::CLONE_NEWNET),
    Kind(Type::Pid, "pid", CloneFlags::CLONE_NEWPID),
    Kind(Type::Cgroup, "cgroup", CloneFlags::CLONE_NEWCGROUP),
    Kind(Type::Time, "time", NEWTIME),
    Kind(Type::Mount, "mount", CloneFlags::CLONE_NEWNS),
];

/// The container's namespaces, those to be joined open.
#[derive(Debug)]
pub struct Namespaces {
    new: CloneFlags,
    joined: Vec<(&'static str, CloneFlags, OwnedFd)>,
    by_way: bool,
    born_confined: Option<Way>,
}

/// Each type comes once, and paths are absolute.
pub fn check(spec: &Spec) -> Result<()> {
    let namespaces = configured(spec);
    for (index, namespace) in namespaces.iter().enumerate() {
        let name = kind(namespace.typ()).1;
        if namespaces[..index].iter().any(|other| other.typ() == namespace.typ()) {
            bail!("linux.namespaces[{index}]: duplicate namespace type {name:?}");
        }
        // An empty one is none: what Go programs write for a path that is not set.
        if let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            check_absolute(path).with_context(|| format!("linux.namespaces[{index}].path ({name})"))?;
        }
    }
    Ok(())
}

/// Does the container have a namespace of this type, new or joined?
pub fn has(spec: &Spec, wanted: Type) -> bool {
    configured(spec).iter().any(|namespace| namespace.typ() == wanted)
}

/// Does the container get a new namespace of this type?
pub fn is_new(spec: &Spec, wanted: Type) -> bool {
    configured(spec).iter().any(|namespace| {
        namespace.typ() == wanted && namespace.path().as_ref().is_none_or(|p| p.as_os_str().is_empty())
    })
}

/// The path by which a namespace of this type is joined.
pub fn path(spec: &Spec, wanted: Type) -> Option<&Path> {
    let path = configured(spec).iter().find(|namespace| namespace.typ() == wanted)?.path().as_deref();
    path.filter(|path| !path.as_os_str().is_empty())
}

/// The types of namespace that the container has, new or joined, as config.json names them.
pub fn names(spec: &Spec) -> Vec<String> {
    configured(spec).iter().map(|namespace| kind(namespace.typ()).1.to_owned()).collect()
}

/// The flags of these types.
pub fn flags(names: &[String]) -> CloneFlags {
    KINDS.iter().filter(|kind| names.iter().any(|name| name == kind.1)).map(|kind| kind.2).collect()
}

/// Who is in a container's namespaces already could otherwise look into this process, and the one that it makes, before
/// they are confined (CVE-2016-9962). It also closes this process's files in /proc to an ordinary user.
pub fn hide() -> Result<()> {
    prctl::set_dumpable(false).map_err(Errno::from_raw).context("PR_SET_DUMPABLE")
}

fn configured(spec: &Spec) -> &[oci_spec::runtime::LinuxNamespace] {
    spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default()
}

fn kind(wanted: Type) -> &'static Kind {
    // The table has every variant of the type; a new one would show in its unit test.
    KINDS.iter().find(|kind| kind.0 == wanted).unwrap_or(&KINDS[0])
}

impl Namespaces {
    /// Opens the namespaces that are joined by path, and checks that they are what they should be.
    pub fn open(spec: &Spec, no_pivot: bool) -> Result<Self> {
        let mut namespaces = Self { new: CloneFlags::empty(), joined: Vec::new(), by_way: false, born_confined: None };
        for (index, namespace) in configured(spec).iter().enumerate() {
            let Kind(_, name, flag) = kind(namespace.typ());
            let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) else {
                namespaces.new |= *flag;
                continue;
            };
            let describe = || format!("linux.namespaces[{index}].path ({name}): open {path:?}");
            let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).with_context(describe)?;
            ensure!(is_namespace(&fd, *flag), "linux.namespaces[{index}].path: {path:?} is not a {name} namespace");
            // The kernel would say "Invalid argument" of the first, and the container's root become the host's in the second.
            if matches!(*flag, CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
                let own = is_named(&fd, "self", file_of(name)).with_context(describe)?;
                let of_the_host = is_named(&fd, "1", file_of(name)).with_context(describe)?;
                let whose = if own { "runtime's own" } else { "host's" };
                ensure!(
                    !own && !of_the_host,
                    "linux.namespaces[{index}].path: {path:?} is the {whose} {name} namespace: leave the entry out"
                );
            }
            namespaces.joined.push((name, *flag, fd));
        }
        let order = |flag: CloneFlags| KINDS.iter().position(|kind| kind.2 == flag);
        namespaces.joined.sort_by_key(|(_, flag, _)| order(*flag));
        let joins = |wanted: CloneFlags| namespaces.joined.iter().any(|(_, flag, _)| *flag == wanted);
        let joins_pid = joins(CloneFlags::CLONE_NEWPID);
        namespaces.born_confined = if joins_pid { proc_context::way(no_pivot) } else { None };
        let returns = joins_pid || namespaces.new.contains(NEWTIME);
        // Who has no privileges on the host cannot return to its namespaces.
        namespaces.by_way = joins(CloneFlags::CLONE_NEWUSER) || namespaces.born_confined() || returns && is_rootless();
        Ok(namespaces)
    }

    /// Returns whether the namespace of this type is joined by a path, however it is spelled, that leads to the runtime's own
    /// or the host's: that of process 1, as far as it may be looked at. What is set in it is not the container's alone.
    pub fn is_shared(&self, wanted: Type) -> Result<bool> {
        let Kind(_, name, flag) = kind(wanted);
        let Some((.., fd)) = self.joined.iter().find(|(_, joined, _)| joined == flag) else { return Ok(false) };
        let is = |process| is_named(fd, process, file_of(name)).with_context(|| format!("linux.namespaces ({name})"));
        Ok(is("self")? || is("1")?)
    }

    /// The flags that init is born with. The cgroup namespace comes later ([`Namespaces::join`]): made by clone3 it
    /// would have the parent's cgroup for its root. The time namespace is there before ([`Namespaces::for_child`]), and the
    /// user namespace that it belongs to, if the process that makes init has made both ([`Namespaces::enter`]).
    pub fn clone_flags(&self) -> CloneFlags {
        let before = if self.by_way { self.new & self.user_of_time() } else { CloneFlags::empty() };
        self.new - CloneFlags::CLONE_NEWCGROUP - NEWTIME - before
    }

    /// The new user namespace that a new time namespace belongs to: an ordinary user may make the second only in the first.
    fn user_of_time(&self) -> CloneFlags {
        if self.new.contains(NEWTIME) { CloneFlags::CLONE_NEWUSER } else { CloneFlags::empty() }
    }

    /// Is there a new user namespace?
    pub fn new_user(&self) -> bool {
        self.new.contains(CloneFlags::CLONE_NEWUSER)
    }

    /// Is there a user namespace to be joined? What is new has to be made by a process that is in it.
    pub fn joins_user(&self) -> bool {
        self.joined.iter().any(|(_, flag, _)| *flag == CloneFlags::CLONE_NEWUSER)
    }

    /// Has init to be made by another process, which is in them already ([`Self::enter`])?
    pub fn by_way(&self) -> bool {
        self.by_way
    }

    /// Is the process made in the pid namespace that is joined only when it is confined? Then the process that has entered
    /// all namespaces ([`Self::enter`]) goes on as init until that is so.
    pub fn born_confined(&self) -> bool {
        self.born_confined.is_some()
    }

    /// Is init seen by others from its first instruction on, before it is confined? It is so in a
    /// pid namespace that is joined, where no procfs can be made from outside
    /// ([`proc_context::way`]).
    pub fn seen_at_once(&self) -> bool {
        let joins_pid = self.joined.iter().any(|(_, flag, _)| *flag == CloneFlags::CLONE_NEWPID);
        joins_pid && !self.born_confined()
    }

    /// Prepares the container's procfs, where init is not in the pid namespace that it shows. What
    /// is called for may be seen in there.
    ///
    /// # Errors
    /// See [`Contexts::prepare`].
    pub fn prepare_procfs(&self, spec: &Spec) -> Result<Option<Contexts<'_>>> {
        let joined = |wanted| self.joined.iter().find(|(_, flag, _)| *flag == wanted).map(|(.., fd)| fd.as_fd());
        let (Some(way), Some(pids)) = (self.born_confined, joined(CloneFlags::CLONE_NEWPID)) else { return Ok(None) };
        Contexts::prepare(way, spec, pids, joined(CloneFlags::CLONE_NEWUSER)).map(Some)
    }

    /// In the process that will make init: joins all that is joined, and makes the time namespace, so that what init is
    /// born with belongs to the user namespace.
    ///
    /// What belongs to another user namespace, the host's perhaps, can only be joined before, with the host's privileges;
    /// what an ordinary user may join only after. So what is refused at first is tried again.
    pub fn enter(&self, spec: &Spec) -> Result<()> {
        let offsets = self.new.contains(NEWTIME).then(time_offsets::open).transpose()?;
        if !self.joined.is_empty() {
            hide()?;
        }
        let is_user = |flag: CloneFlags| flag == CloneFlags::CLONE_NEWUSER;
        let mut later = Vec::new();
        for entry in self.joined.iter().filter(|(_, flag, _)| !is_user(*flag)) {
            match setns(&entry.2, entry.1) {
                Err(Errno::EPERM) => later.push(entry),
                result => result.with_context(|| joining(entry.0))?,
            }
        }
        for (name, flag, fd) in self.joined.iter().filter(|(_, flag, _)| is_user(*flag)).chain(later) {
            setns(fd, *flag).with_context(|| joining(name))?;
        }
        unshare(self.new & self.user_of_time()).context("linux.namespaces: unshare the user namespace")?;
        if let Some(offsets) = offsets {
            unshare(NEWTIME).context("linux.namespaces: unshare the time namespace")?;
            time_offsets::apply(spec, &offsets)?;
        }
        Ok(())
    }

    /// Runs something whose child is born in the pid namespace that is joined, and in the new time namespace, whose
    /// clocks are set before anybody is in it. Only children enter these two: this process stays where it is, and gets
    /// its own namespaces for children back.
    pub fn for_child<T>(&self, spec: &Spec, spawn: impl FnOnce() -> Result<T>) -> Result<T> {
        let joined = self.joined.iter().find(|(_, flag, _)| *flag == CloneFlags::CLONE_NEWPID);
        let own_pid = joined.map(|_| open_own("pid")).transpose()?;
        let own_time = self.new.contains(NEWTIME).then(|| open_own("time")).transpose()?;
        if let Some((_, flag, joined)) = joined {
            hide()?;
            setns(joined, *flag).context("linux.namespaces: join the pid namespace")?;
        }
        if own_time.is_some() {
            unshare(NEWTIME).context("linux.namespaces: unshare the time namespace")?;
            time_offsets::apply(spec, &time_offsets::open()?)?;
        }
        let spawned = spawn();
        if let Some(own) = own_pid {
            setns(own, CloneFlags::CLONE_NEWPID).context("linux.namespaces: return to the own pid namespace")?;
        }
        if let Some(own) = own_time {
            setns(own, NEWTIME).context("linux.namespaces: return to the own time namespace")?;
        }
        spawned
    }

    /// The network namespace of init (`pid`): it may not have joined the one that it will join.
    pub fn network(&self, pid: i32) -> Result<OwnedFd> {
        let joined = self.joined.iter().find(|(_, flag, _)| *flag == CloneFlags::CLONE_NEWNET);
        match joined {
            Some((.., fd)) => fd.try_clone().context("linux.namespaces: dup the network namespace"),
            None => open_path(&format!("/proc/{pid}/ns/net")),
        }
    }

    /// In init, in its cgroup by now: joins what is joined by path and makes the new cgroup namespace.
    pub fn join(&self) -> Result<()> {
        // By way of another process all is joined by now.
        for (name, flag, fd) in self.joined.iter().filter(|_| !self.by_way) {
            if *flag != CloneFlags::CLONE_NEWPID {
                setns(fd, *flag).with_context(|| joining(name))?;
            }
        }
        if self.new.contains(CloneFlags::CLONE_NEWCGROUP) {
            unshare(CloneFlags::CLONE_NEWCGROUP).context("linux.namespaces: unshare the cgroup namespace")?;
        }
        Ok(())
    }
}

fn joining(name: &str) -> String {
    format!("linux.namespaces: join the {name} namespace")
}

/// Does something in another network namespace, and returns to the own one.
pub fn in_network<T>(namespace: &OwnedFd, what: impl FnOnce() -> Result<T>) -> Result<T> {
    let own = open_own("net")?;
    setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the container's network namespace")?;
    let result = what();
    setns(own, CloneFlags::CLONE_NEWNET).context("return to the own network namespace")?;
    result
}

fn open_own(name: &str) -> Result<OwnedFd> {
    open_path(&format!("/proc/self/ns/{name}"))
}

fn open_path(path: &str) -> Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("linux.namespaces: open {path}"))
}

/// Returns the name of a type in `/proc/<pid>/ns`.
fn file_of(name: &str) -> &str {
    match name {
        "network" => "net",
        "mount" => "mnt",
        name => name,
    }
}

/// Returns whether it is this namespace of a process in /proc; false where that one may not be looked at.
fn is_named(namespace: &OwnedFd, process: &str, file: &str) -> nix::Result<bool> {
    let identity = |found: FileStat| (found.st_dev, found.st_ino);
    match stat(format!("/proc/{process}/ns/{file}").as_str()) {
        Ok(found) => Ok(identity(found) == identity(fstat(namespace)?)),
        Err(Errno::EACCES | Errno::EPERM | Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The kernel says which type of namespace a descriptor is; any other file is not one.
fn is_namespace(fd: &OwnedFd, flag: CloneFlags) -> bool {
    crate::sys::process::namespace_type(fd.as_fd()).is_ok_and(|found| found == flag.bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_told_from_another_and_from_a_file() {
        let open = |path| open(path, OFlag::O_RDONLY, Mode::empty()).unwrap();
        assert!(is_namespace(&open("/proc/self/ns/net"), CloneFlags::CLONE_NEWNET));
        assert!(!is_namespace(&open("/proc/self/ns/ipc"), CloneFlags::CLONE_NEWNET));
        assert!(!is_namespace(&open("/dev/null"), CloneFlags::CLONE_NEWNET));
    }

    #[test]
    fn every_type_has_its_own_entry() {
        use Type::*;
        for wanted in [Mount, Cgroup, Uts, Ipc, User, Pid, Network, Time] {
            assert_eq!(kind(wanted).0, wanted);
        }
    }
}
