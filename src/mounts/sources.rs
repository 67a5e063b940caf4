//! The sources of bind mounts that only the parent can open: an idmapped one needs the host's privileges, and with a user
//! namespace init has none above directories that are closed to the container's root (Podman's own are). The parent opens
//! them before init is made; init attaches what it finds in its copy of the memory.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::MsFlags;
use nix::unistd::geteuid;
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::idmap::{self, Mapper};
use super::options::Options;
use super::{Surroundings, flags, host_copy, is_bind, name, options_of};
use crate::config::Bundle;
use crate::error::{Context as _, Result, anyhow, errno};
use crate::linux::{namespaces, rootfs_propagation};
use crate::protocol::{ToInit, ToParent};
use crate::sys::mount::{Attributes, clone_tree, set_attributes};

/// The sources, detached, with all their options but not attached anywhere.
#[derive(Debug, Default)]
pub struct Sources(Vec<(usize, OwnedFd)>);

impl Sources {
    /// That of the mount with this index, if the parent opened it.
    pub fn of(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.0.iter().find(|(of, _)| *of == index).map(|(_, tree)| tree.as_fd())
    }
}

/// Opens what init could not. In the parent, before init is made.
pub fn open_all(bundle: &Bundle) -> Result<Sources> {
    let user_namespace = namespaces::has(&bundle.spec, LinuxNamespaceType::User);
    let mounts = bundle.spec.mounts().iter().flatten().enumerate();
    let wanted = mounts.map(|(index, mount)| Wanted { index, mount, options: options_of(mount) }).filter(|wanted| {
        let closed = || is_bind(wanted.mount, &wanted.options) && !wanted.options.remount;
        (wanted.is_idmapped() || user_namespace && closed()) && inside(wanted.mount, bundle).is_none()
    });
    let wanted: Vec<_> = wanted.collect();
    if user_namespace && !wanted.is_empty() && geteuid().is_root() {
        host_copy::within(|| open_each(bundle, wanted))
    } else {
        open_each(bundle, wanted)
    }
}

/// A mount whose source is opened, with its index.
struct Wanted<'a> {
    index: usize,
    mount: &'a Mount,
    options: Options<'a>,
}

impl Wanted<'_> {
    fn is_idmapped(&self) -> bool {
        idmap::is_wanted(self.mount, &self.options)
    }
}

fn open_each(bundle: &Bundle, wanted: Vec<Wanted<'_>>) -> Result<Sources> {
    let mut sources = Sources::default();
    let mut mapper = Mapper::default();
    for wanted in wanted {
        let (index, mount, idmapped) = (wanted.index, wanted.mount, wanted.is_idmapped());
        let options = wanted.options;
        let tree = match open(&path(mount, &bundle.path), options.bind == Some(true)) {
            // An ordinary user's init has more privileges than its parent.
            Err(error) if !idmapped && errno(&error) == Some(Errno::EPERM) => continue,
            result => result.with_context(|| name(index, mount))?,
        };
        prepare(&tree, bundle, mount, &options, &mut mapper).with_context(|| name(index, mount))?;
        sources.0.push((index, tree));
    }
    Ok(sources)
}

/// Gives a clone its owners, flags and propagation.
fn prepare<'a>(
    tree: &OwnedFd,
    bundle: &'a Bundle,
    mount: &'a Mount,
    options: &Options<'_>,
    mapper: &mut Mapper<'a>,
) -> Result<()> {
    part_from_host(&bundle.spec, tree)?;
    let source = path(mount, &bundle.path);
    mapper.map(tree, &bundle.spec, mount, options).with_context(|| format!("id map {source:?}"))?;
    flags::set(tree.as_fd(), options)
}

/// Clones the part of the host's tree that is mounted.
fn open(path: &Path, recursive: bool) -> Result<OwnedFd> {
    clone_tree(AT_FDCWD, path, recursive).with_context(|| format!("open the source {path:?}"))
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

/// Opens a source in init: with what is already mounted, where it is in the rootfs. The parent maps the ids of an idmapped
/// one.
pub fn open_in_init(index: usize, mount: &Mount, options: &Options<'_>, around: Surroundings<'_>) -> Result<OwnedFd> {
    let (bundle, recursive) = (around.bundle, options.bind == Some(true));
    let tree = match inside(mount, bundle) {
        Some(path) => clone_tree(around.rootfs.fd(), &path, recursive)
            .with_context(|| format!("open the source {:?}", bundle.rootfs.join(path))),
        None => open(&path(mount, &bundle.path), recursive),
    }?;
    if idmap::is_wanted(mount, options) {
        let copy = tree.try_clone().context("dup")?;
        around.channel.send(&ToParent::Tree(copy, index))?;
        around.channel.wait_for(ToInit::TreeMapped)?;
    }
    Ok(tree)
}

/// Maps the ids of a tree that init has opened. In the parent.
pub fn map(tree: &OwnedFd, index: usize, spec: &Spec) -> Result<()> {
    let mount = spec.mounts().as_ref().and_then(|mounts| mounts.get(index));
    let mount = mount.ok_or_else(|| anyhow!("init sent the source of a mount {index} that is not there"))?;
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    Mapper::default()
        .map(tree, spec, mount, &options_of(mount))
        .with_context(|| format!("{}: id map {source:?}", name(index, mount)))
}

/// Where the source is in the rootfs, if its path says that it is. Init has that open, so it needs no way to it.
fn inside(mount: &Mount, bundle: &Bundle) -> Option<PathBuf> {
    let path = path(mount, &bundle.path);
    let inside = path.strip_prefix(&bundle.rootfs).ok()?;
    inside.components().all(|part| matches!(part, Component::Normal(_))).then(|| inside.to_owned())
}

/// The absolute path of a bind mount's source.
fn path(mount: &Mount, bundle: &Path) -> PathBuf {
    bundle.join(mount.source().as_deref().unwrap_or(Path::new("")))
}
