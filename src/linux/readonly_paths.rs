//! `linux.readonlyPaths`.

use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType as Type, Spec};

use super::namespaces;
use crate::error::{Context as _, Result, ensure};
use crate::root::Rootfs;
use crate::root::path::{check_absolute, clean};
use crate::sys::mount::{Attributes, attach, attr, clone_tree, set_attributes};

/// Every path is absolute. Without a mount namespace the cover would be the host's.
pub fn check(spec: &Spec) -> Result<()> {
    let possible = namespaces::has(spec, Type::Mount) || configured(spec).next().is_none();
    ensure!(possible, "linux.readonlyPaths: unable to restrict paths without a mount namespace of the container's own");
    configured(spec).try_for_each(|path| check_absolute(Path::new(path))).context("linux.readonlyPaths")
}

/// Mounts each path on itself, read-only. What is not there needs no protection.
pub fn apply(spec: &Spec, rootfs: &Rootfs) -> Result<()> {
    configured(spec).try_for_each(|path| protect(path, rootfs).with_context(|| format!("linux.readonlyPaths {path:?}")))
}

fn protect(path: &str, rootfs: &Rootfs) -> Result<()> {
    let Some(place) = rootfs.find_unlinked(&clean(Path::new(path)))? else { return Ok(()) };
    let tree = clone_tree(place.as_fd(), c"", true).context("clone the mount")?;
    let attributes = Attributes { set: attr::RDONLY, ..Attributes::default() };
    set_attributes(tree.as_fd(), &attributes, false).context("make it read-only")?;
    attach(tree.as_fd(), place.as_fd()).context("attach it")
}

fn configured(spec: &Spec) -> impl Iterator<Item = &String> {
    spec.linux().iter().flat_map(|linux| linux.readonly_paths()).flatten()
}
