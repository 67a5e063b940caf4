//! `mounts`: each entry becomes a detached mount first and is then attached to a place that was resolved in the rootfs.

pub mod bind;
pub mod cgroup;
pub mod destination;
pub mod filesystem;
pub mod flags;
pub mod host_copy;
pub mod idmap;
pub mod mountinfo;
pub mod options;
pub mod proc_context;
pub mod proc_opener;
pub mod procfs;
pub mod sources;
pub mod tmpcopyup;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use oci_spec::runtime::{Mount, Spec};

use crate::config::Bundle;
use crate::error::{Context as _, Result, bail, ensure};
use crate::linux::ids;
use crate::root::Rootfs;
use crate::root::path::clean;
use crate::sys::mount::{Attributes, attach, attr, set_attributes};
use crate::timing::phase_of;
use options::Options;

/// What mounting has to know of the container beyond the entry itself.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The rootfs's mount.
    pub rootfs: &'a Rootfs,
    /// Relative sources of bind mounts are below the bundle.
    pub bundle: &'a Bundle,
    /// The container has a cgroup namespace of its own.
    pub cgroup_namespace: bool,
    /// The container's cgroup, for a view of it without a cgroup namespace.
    pub placement: &'a crate::cgroups::Placement,
    /// `linux.mountLabel`
    pub label: Option<&'a str>,
    /// The sources that the parent opened.
    pub sources: &'a sources::Sources,
    /// Where a procfs comes from that shows another pid namespace than the one that this process is
    /// in.
    pub shown_pids: Option<&'a proc_context::Contexts<'a>>,
    /// The parent's ear: it maps the owners of a source that is in the rootfs.
    pub channel: &'a crate::protocol::Init,
}

/// Checks all entries; nothing is looked up yet.
pub fn check(spec: &Spec) -> Result<()> {
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        ensure!(!mount.destination().as_os_str().is_empty(), "mounts[{index}].destination: must not be empty");
        check_one(spec, mount).with_context(|| name(index, mount))?;
    }
    Ok(())
}

fn check_one(spec: &Spec, mount: &Mount) -> Result<()> {
    let destination = mount.destination();
    if destination.is_relative() {
        log::warn!("mounts: destination {destination:?} is not absolute; it is taken from the container's root");
    }
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let is_bind = is_bind(mount, &options);
    if !is_bind && !options.remount && mount.typ().as_deref().unwrap_or_default().is_empty() {
        bail!("type is missing, and there is no bind or rbind among the options");
    }
    ensure!(!options.copy_up || mount.typ().as_deref() == Some("tmpfs"), "tmpcopyup is for a tmpfs only");
    ensure!(!is_bind || mount.source().is_some(), "source is missing: a bind mount needs one");
    options.filesystem.iter().try_for_each(|option| ids::check_option(option))?;
    idmap::check(spec, mount, &options)
}

/// How an entry is named in messages.
fn name(index: usize, mount: &Mount) -> String {
    format!("mounts[{index}] ({})", mount.destination().display())
}

/// For bind mounts the type is a dummy (config.md, "Linux mount options"), but people write it there as well.
fn is_bind(mount: &Mount, options: &Options<'_>) -> bool {
    options.bind.is_some() || mount.typ().as_deref() == Some("bind")
}

/// Mounts all entries in their order. A read-only /dev is left writable; [`seal_dev`] comes after the devices.
pub fn mount_all(spec: &Spec, around: Surroundings<'_>) -> Result<()> {
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        phase_of(|| name(index, mount));
        mount_one(index, mount, around).with_context(|| name(index, mount))?;
    }
    Ok(())
}

/// The options of an entry, for now: /dev is sealed later.
fn options_of(mount: &Mount) -> Options<'_> {
    let mut options = Options::parse(mount.options().as_deref().unwrap_or_default());
    if clean(mount.destination()).as_os_str() == "/dev" {
        options.attributes.set &= !attr::RDONLY;
        options.attributes.clear &= !attr::RDONLY;
    }
    options
}

fn mount_one(index: usize, mount: &Mount, around: Surroundings<'_>) -> Result<()> {
    let mut options = options_of(mount);
    let path = clean(mount.destination());
    if options.remount {
        let place = around.rootfs.find(&path)?.with_context(|| format!("remount: {path:?} does not exist"))?;
        return decorate(place.as_fd(), &options);
    }
    if let Some(tree) = around.sources.of(index) {
        return bind::attach(tree, &path, around);
    }
    if is_bind(mount, &options) {
        return bind::mount(index, mount, &options, &path, around);
    }
    match mount.typ().as_deref().unwrap_or_default() {
        "cgroup" | "cgroup2" => cgroup::mount(&options, &path, around),
        fstype => filesystem::mount(fstype, mount.source().as_deref(), &mut options, &path, around),
    }
}

/// Sets the attributes and the propagation of a mount in hand.
fn decorate(mount: BorrowedFd<'_>, options: &Options<'_>) -> Result<()> {
    change(mount, &options.attributes, false)?;
    decorate_below(mount, options)
}

/// Sets what reaches the mounts below, too: the recursive attributes, and the propagation.
fn decorate_below(mount: BorrowedFd<'_>, options: &Options<'_>) -> Result<()> {
    change(mount, &options.recursive, true)?;
    for &(propagation, recursive) in &options.propagation {
        let attributes = Attributes { propagation: propagation.bits(), ..Attributes::default() };
        set_attributes(mount, &attributes, recursive).context("set the propagation")?;
    }
    Ok(())
}

fn change(mount: BorrowedFd<'_>, attributes: &Attributes, recursive: bool) -> Result<()> {
    if attributes.set | attributes.clear == 0 {
        return Ok(());
    }
    let set = |attributes: &Attributes| set_attributes(mount, attributes, recursive);
    match set(attributes) {
        // In a user namespace the flags that the host has set are locked: those that were not asked away stay. How access
        // times are kept is one value, not a flag: it is what was asked for, or the kernel refuses it.
        Err(nix::errno::Errno::EPERM) if attributes.set != 0 => {
            set(&Attributes { clear: attributes.set | attributes.clear & attr::ATIME, ..*attributes })
        }
        result => result,
    }
    .context("set the mount's attributes")
}

/// Attaches a mount to its place and opens it there: what is below the path from now on.
fn place(mount: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> Result<()> {
    attach(mount, onto).context("attach the mount")
}

/// Makes /dev read-only where its mount asks for it, now that the devices are in it.
pub fn seal_dev(spec: &Spec, rootfs: &Rootfs) -> Result<()> {
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let is_read_only = || {
            let options = Options::parse(mount.options().as_deref().unwrap_or_default());
            options.attributes.set & attr::RDONLY != 0
        };
        if clean(mount.destination()).as_os_str() != "/dev" || !is_read_only() {
            continue;
        }
        let dev = rootfs.find(Path::new("/dev"))?.with_context(|| name(index, mount))?;
        let attributes = Attributes { set: attr::RDONLY, ..Attributes::default() };
        set_attributes(dev.as_fd(), &attributes, false).with_context(|| name(index, mount))?;
    }
    Ok(())
}

/// Is this path of the container a bind mount of the config, and so not the runtime's to fill?
pub fn is_bound(spec: &Spec, path: &Path) -> bool {
    let bound = |mount: &Mount| {
        clean(mount.destination()).as_os_str() == path.as_os_str()
            && is_bind(mount, &Options::parse(mount.options().as_deref().unwrap_or_default()))
    };
    spec.mounts().iter().flatten().any(bound)
}
