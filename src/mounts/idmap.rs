//! Idmapped mounts: the options `idmap` and `ridmap`, `mounts[].uidMappings` and `gidMappings` (mount_setattr(2) with
//! MOUNT_ATTR_IDMAP, Linux 5.12).
//!
//! The kernel takes a mapping as a user namespace, and only from who is privileged over the filesystem. That is the parent
//! on the host.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_file};
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount, Spec};

use super::is_bind;
use super::options::Options;
use crate::error::{Context as _, Result, anyhow, ensure};
use crate::linux::{ids, namespaces, uid_mappings};
use crate::sys::clone::{Side, fork};
use crate::sys::fd::end_child;
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
        ids::check_mappings(mappings).map_err(|error| anyhow!("{name}{error}"))?;
    }
    ensure!(own.uids.is_empty() == own.gids.is_empty(), "uidMappings and gidMappings are needed both, or none of them");
    if !is_wanted(mount, options) {
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
pub fn is_wanted(mount: &Mount, options: &Options<'_>) -> bool {
    options.idmap.is_some() || !own(mount).uids.is_empty()
}

/// The user namespaces that stand for mappings: many mounts have the same one.
#[derive(Default)]
pub struct Mapper<'a>(Vec<(Mapping<'a>, OwnedFd)>);

impl<'a> Mapper<'a> {
    /// Maps the ids of a detached tree as the mount asks for, if it does.
    pub fn map(&mut self, tree: &OwnedFd, spec: &'a Spec, mount: &'a Mount, options: &Options<'_>) -> Result<()> {
        if !is_wanted(mount, options) {
            return Ok(());
        }
        let wanted = match own(mount) {
            own if own.uids.is_empty() => of_the_container(spec),
            own => own,
        };
        let place = match self.0.iter().position(|(mapping, _)| *mapping == wanted) {
            Some(place) => place,
            None => {
                self.0.push((wanted, user_namespace(spec, wanted)?));
                self.0.len() - 1
            }
        };
        map(tree, &self.0[place].1, options.idmap == Some(true))
    }
}

fn map(tree: &OwnedFd, namespace: &OwnedFd, recursive: bool) -> Result<()> {
    use std::os::fd::AsRawFd as _;
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
    open_file(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).with_context(|| format!("open {path:?}"))
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
    end_child(pidfd.as_fd());
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
