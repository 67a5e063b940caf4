//! Idmapped mounts: the options `idmap` and `ridmap`, `mounts[].uidMappings` and `gidMappings` (mount_setattr(2) with
//! MOUNT_ATTR_IDMAP, Linux 5.12).
//!
//! The kernel takes a mapping as a user namespace; the parent does it for init ([`super::sources`]).

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount, Spec};

use super::is_bind;
use super::options::Options;
use crate::error::{Context as _, Result, bail, ensure};
use crate::linux::{namespaces, uid_mappings};
use crate::sys::clone::{Side, fork};
use crate::sys::fd::pidfd_send_signal;
use crate::sys::mount::{Attributes, attr, set_attributes};

/// The mapping of one mount.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mapping<'a> {
    uids: &'a [LinuxIdMapping],
    gids: &'a [LinuxIdMapping],
}

/// A mapping is whole, for a bind mount, and there is one.
pub fn check(spec: &Spec, mount: &Mount, options: &Options<'_>) -> Result<()> {
    let own = own(mount);
    for (name, mappings) in [("uidMappings", own.uids), ("gidMappings", own.gids)] {
        if let Some(index) = mappings.iter().position(|mapping| mapping.size() == 0) {
            bail!("{name}[{index}].size: must not be 0");
        }
    }
    ensure!(own.uids.is_empty() == own.gids.is_empty(), "uidMappings and gidMappings are needed both, or none of them");
    if !is_wanted(mount) {
        return Ok(());
    }
    ensure!(is_bind(mount, options) && !options.remount, "an idmapped mount has to be a new bind mount");
    ensure!(
        !own.uids.is_empty() || namespaces::has(spec, LinuxNamespaceType::User),
        "idmap: needs uidMappings and gidMappings where the container has no user namespace"
    );
    Ok(())
}

fn own(mount: &Mount) -> Mapping<'_> {
    Mapping {
        uids: mount.uid_mappings().as_deref().unwrap_or_default(),
        gids: mount.gid_mappings().as_deref().unwrap_or_default(),
    }
}

/// With mappings a mount is an idmapped one also without the option, as runc has it.
pub fn is_wanted(mount: &Mount) -> bool {
    let is_option = |option: &String| option == "idmap" || option == "ridmap";
    mount.options().iter().flatten().any(is_option) || !own(mount).uids.is_empty()
}

/// Maps mounts, with one user namespace for each mapping that there is.
pub struct Mapper<'a> {
    spec: &'a Spec,
    known: Vec<(Mapping<'a>, OwnedFd)>,
}

impl<'a> Mapper<'a> {
    /// For the mounts of a container.
    pub fn new(spec: &'a Spec) -> Self {
        Self { spec, known: Vec::new() }
    }

    /// Maps a detached mount that is mapped by nothing yet.
    pub fn map(&mut self, mount: &'a Mount, options: &Options<'_>, tree: &OwnedFd) -> Result<()> {
        let wanted = match own(mount) {
            own if own.uids.is_empty() => of_the_container(self.spec),
            own => own,
        };
        let place = match self.known.iter().position(|(mapping, _)| *mapping == wanted) {
            Some(place) => place,
            None => {
                self.known.push((wanted, user_namespace(self.spec, wanted)?));
                self.known.len() - 1
            }
        };
        map(tree, &self.known[place].1, options.idmap == Some(true))
    }
}

fn map(tree: &OwnedFd, namespace: &OwnedFd, recursive: bool) -> Result<()> {
    let attributes = Attributes { set: attr::IDMAP, userns_fd: namespace.as_raw_fd() as u64, ..Attributes::default() };
    match set_attributes(tree.as_fd(), &attributes, recursive) {
        Err(errno @ Errno::EINVAL) => Err(errno).context("does its filesystem support idmapped mounts on this kernel?"),
        Err(errno @ Errno::EPERM) => {
            Err(errno).context("is it idmapped already, or its filesystem another user namespace's?")
        }
        result => Ok(result?),
    }
}

/// Both lists are empty for a namespace that is joined by its path.
fn of_the_container(spec: &Spec) -> Mapping<'_> {
    match namespaces::path(spec, LinuxNamespaceType::User) {
        Some(_) => Mapping { uids: &[], gids: &[] },
        None => {
            let (uids, gids) = uid_mappings::mappings(spec);
            Mapping { uids, gids }
        }
    }
}

fn user_namespace(spec: &Spec, mapping: Mapping<'_>) -> Result<OwnedFd> {
    match namespaces::path(spec, LinuxNamespaceType::User).filter(|_| mapping.uids.is_empty()) {
        Some(path) => open_namespace(path),
        None => new_namespace(mapping),
    }
}

fn open_namespace(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).with_context(|| format!("open {path:?}"))
}

/// A user namespace that only carries a mapping: a process is needed to make it, and is gone when it is in hand.
fn new_namespace(mapping: Mapping<'_>) -> Result<OwnedFd> {
    let made = fork(CloneFlags::CLONE_NEWUSER, None, false).context("clone a user namespace for the mapping")?;
    let Side::Parent(pid, pidfd) = made else { wait_to_be_killed() };
    let fill = || {
        uid_mappings::map(pid, "gid_map", "newgidmap", mapping.gids).context("gidMappings")?;
        uid_mappings::map(pid, "uid_map", "newuidmap", mapping.uids).context("uidMappings")?;
        open_namespace(Path::new(&format!("/proc/{pid}/ns/user")))
    };
    let namespace = fill();
    // Gone already is as good.
    let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    let _ = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED);
    namespace
}

fn wait_to_be_killed() -> ! {
    // Whether it works or not: who is to send the signal may be gone already, then nobody needs this process.
    let _ = prctl::set_death_signal(Signal::SIGKILL as isize);
    std::thread::sleep(std::time::Duration::from_secs(10));
    crate::sys::process::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(mount: &str, namespaces: &str) -> Result<()> {
        let spec = format!(
            r#"{{"ociVersion":"1.0.0","root":{{"path":"x"}},"linux":{{"namespaces":{namespaces}}},"mounts":[{mount}]}}"#
        );
        let spec: Spec = serde_json::from_str(&spec).unwrap();
        let mount = &spec.mounts().as_ref().unwrap()[0];
        check(&spec, mount, &Options::parse(mount.options().as_deref().unwrap_or_default()))
    }

    const MAPS: &str = r#""uidMappings":[{"containerID":0,"hostID":1,"size":1}]"#;

    #[test]
    fn a_mapping_is_whole_and_for_a_new_bind_mount() {
        let gids = MAPS.replace("uid", "gid");
        let bind = |rest: &str| format!(r#"{{"destination":"/m","source":"/s",{rest}}}"#);
        let good = bind(&format!(r#""options":["bind"],{MAPS},{gids}"#));
        checked(&good, "[]").unwrap();
        for bad in [
            bind(&format!(r#""options":["bind","idmap"],{MAPS}"#)),
            bind(&format!(r#""type":"tmpfs","options":["idmap"],{MAPS},{gids}"#)),
            bind(&format!(r#""options":["bind","remount"],{MAPS},{gids}"#)),
            bind(&format!(r#""options":["bind"],{MAPS},{}"#, gids.replace("\"size\":1", "\"size\":0"))),
        ] {
            assert!(checked(&bad, "[]").is_err(), "{bad}");
        }
    }

    #[test]
    fn without_a_mapping_it_is_the_containers_and_there_has_to_be_one() {
        for option in ["idmap", "ridmap"] {
            let mount = format!(r#"{{"destination":"/m","source":"/s","options":["bind","{option}"]}}"#);
            assert!(checked(&mount, "[]").is_err());
            checked(&mount, r#"[{"type":"user"}]"#).unwrap();
        }
    }
}
