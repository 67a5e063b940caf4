//! Sources of bind mounts that the parent opens on the host: idmapped ones, and all of a container with a user namespace.
//!
//! The kernel maps the ids of a mount only for who is privileged over its filesystem, and init, which is nobody on the
//! host, may not even reach what engines keep in directories of their own. Init attaches what it finds in its copy of the
//! parent's memory.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::fcntl::AT_FDCWD;
use nix::mount::MsFlags;
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::idmap::{self, Mapper};
use super::options::Options;
use super::{decorate, is_bind, name, source};
use crate::config::Bundle;
use crate::error::{Context as _, Result};
use crate::linux::{namespaces, rootfs_propagation};
use crate::sys::mount::{Attributes, clone_tree, set_attributes};

/// The opened sources, detached, with all their options but not attached anywhere.
#[derive(Debug, Default)]
pub struct Sources(Vec<(usize, OwnedFd)>);

impl Sources {
    /// That of the mount with this index, if the parent has opened it.
    pub fn of(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.0.iter().find(|(of, _)| *of == index).map(|(_, tree)| tree.as_fd())
    }
}

/// Opens the sources that are the parent's to open, before it makes anything.
pub fn open(bundle: &Bundle) -> Result<Sources> {
    let mut sources = Sources::default();
    let mut mapper = Mapper::new(&bundle.spec);
    let strange = namespaces::has(&bundle.spec, LinuxNamespaceType::User);
    for (index, mount) in bundle.spec.mounts().iter().flatten().enumerate() {
        let mapped = idmap::is_wanted(mount);
        if !mapped && !strange {
            continue;
        }
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        if !mapped && (options.remount || !is_bind(mount, &options)) {
            continue;
        }
        if let Some(tree) = open_one(bundle, mount, &options, &mut mapper).with_context(|| name(index, mount))? {
            sources.0.push((index, tree));
        }
    }
    Ok(sources)
}

fn open_one<'a>(
    bundle: &'a Bundle,
    mount: &'a Mount,
    options: &Options<'_>,
    mapper: &mut Mapper<'a>,
) -> Result<Option<OwnedFd>> {
    let source = source(mount, &bundle.path);
    let mapped = idmap::is_wanted(mount);
    let tree = match clone_tree(AT_FDCWD, &source, options.bind == Some(true)) {
        // An ordinary user may clone mounts only in its own namespaces: init does it there, or says why it cannot.
        Err(_) if !mapped => return Ok(None),
        result => result.with_context(|| format!("open the source {source:?}"))?,
    };
    part_from_host(&bundle.spec, &tree)?;
    if mapped {
        mapper.map(mount, options, &tree).with_context(|| format!("id map {source:?}"))?;
    }
    decorate(tree.as_fd(), options)?;
    Ok(Some(tree))
}

/// The clone of a shared mount is a peer of the host's own: it gets what init gives the host's mounts.
fn part_from_host(spec: &Spec, tree: &OwnedFd) -> Result<()> {
    let propagation = rootfs_propagation::of_the_host(spec)?;
    if propagation == MsFlags::MS_SHARED || !namespaces::has(spec, LinuxNamespaceType::Mount) {
        return Ok(());
    }
    let attributes = Attributes { propagation: propagation.bits(), ..Attributes::default() };
    set_attributes(tree.as_fd(), &attributes, true).context("part the mount from the host's")
}
