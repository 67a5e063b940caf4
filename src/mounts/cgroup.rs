//! Mounts of type `cgroup`: the container's own view of its cgroup, on the hierarchies that the host has.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::options::Options;
use super::{Surroundings, decorate, destination, filesystem, place};
use crate::cgroups::{Hierarchy, Layout, layout};
use crate::error::{Context as _, Result, anyhow, bail, errno};
use crate::linux::mount_label;
use crate::sys::mount::{Attributes, attr, clone_tree, set_attributes};

/// Mounts the container's view of its cgroup at `path`.
pub fn mount(options: &Options<'_>, path: &Path, around: Surroundings<'_>) -> Result<()> {
    let onto = destination::directory(around.rootfs, path)?;
    match layout()? {
        Layout::V2 { root } => mount_v2(root, options, &onto, around),
        Layout::V1(hierarchies) => mount_v1(hierarchies, options, &onto, around),
        Layout::None => bail!("the host has no cgroup filesystem"),
    }
}

/// Without a cgroup namespace the whole hierarchy is seen, so that the paths in /proc/self/cgroup are there.
fn mount_v2(root: &Path, options: &Options<'_>, onto: &OwnedFd, around: Surroundings<'_>) -> Result<()> {
    let mount = match filesystem::open("cgroup2", "cgroup", &[], options.attributes.set) {
        // Not the kernel's to give in a user namespace that does not own the cgroup namespace.
        Err(error) if matches!(errno(&error), Some(Errno::EPERM | Errno::EBUSY)) => {
            let own = around.placement.paths.get("").filter(|_| around.cgroup_namespace);
            bound(own.map_or(root, PathBuf::as_path))?
        }
        result => result?,
    };
    place(mount.as_fd(), onto.as_fd())?;
    decorate(mount.as_fd(), options)
}

/// A tmpfs with a directory for each hierarchy, named as on the host, and links for controllers that share one.
fn mount_v1(hierarchies: &[Hierarchy], options: &Options<'_>, onto: &OwnedFd, around: Surroundings<'_>) -> Result<()> {
    const SAFE: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let context = mount_label::option("tmpfs", around.label);
    let wanted: Vec<&str> = ["mode=755"].into_iter().chain(context.as_deref()).collect();
    let tmpfs = filesystem::open("tmpfs", "tmpfs", &wanted, SAFE | options.attributes.set & !attr::RDONLY)?;
    place(tmpfs.as_fd(), onto.as_fd())?;
    for hierarchy in hierarchies {
        mount_hierarchy(hierarchy, options, tmpfs.as_fd(), around)
            .with_context(|| format!("hierarchy {}", hierarchy.controllers.join(",")))?;
    }
    if options.attributes.set & attr::RDONLY != 0 {
        let attributes = Attributes { set: attr::RDONLY, ..Attributes::default() };
        set_attributes(tmpfs.as_fd(), &attributes, false).context("make it read-only")?;
    }
    let rest = Options { propagation: options.propagation.clone(), ..Options::default() };
    decorate(tmpfs.as_fd(), &rest)
}

fn mount_hierarchy(
    hierarchy: &Hierarchy,
    options: &Options<'_>,
    tmpfs: BorrowedFd<'_>,
    around: Surroundings<'_>,
) -> Result<()> {
    let name = hierarchy.mount_point.file_name().ok_or_else(|| anyhow!("{:?} has no name", hierarchy.mount_point))?;
    mkdirat(tmpfs, name, Mode::from_bits_truncate(0o755)).with_context(|| format!("mkdir {name:?}"))?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let onto = openat(tmpfs, name, flags, Mode::empty()).with_context(|| format!("open {name:?}"))?;
    let mount = if around.cgroup_namespace {
        let wanted: Vec<&str> = hierarchy.controllers.iter().flat_map(|controller| superblock(controller)).collect();
        filesystem::open("cgroup", "cgroup", &wanted, options.attributes.set)?
    } else {
        let own = hierarchy.controllers.iter().find_map(|controller| around.placement.paths.get(controller));
        bound(own.unwrap_or(&hierarchy.mount_point))?
    };
    place(mount.as_fd(), onto.as_fd())?;
    decorate(mount.as_fd(), options)?;
    for controller in hierarchy.controllers.iter().filter(|_| hierarchy.controllers.len() > 1) {
        match symlinkat(name, tmpfs, controller.as_str()) {
            Err(errno) if errno != Errno::EEXIST => return Err(errno).with_context(|| format!("link {controller}")),
            _ => {}
        }
    }
    Ok(())
}

/// The mount options that name a v1 hierarchy.
fn superblock(controller: &str) -> impl Iterator<Item = &str> {
    let none = controller.starts_with("name=").then_some("none");
    none.into_iter().chain([controller])
}

/// The container's cgroup as the host sees it, for a container that shares the host's cgroup namespace.
fn bound(own: &Path) -> Result<OwnedFd> {
    clone_tree(AT_FDCWD, own, true).with_context(|| format!("bind the cgroup {own:?}"))
}
