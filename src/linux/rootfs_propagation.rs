//! `linux.rootfsPropagation`.

use nix::mount::MsFlags;
use oci_spec::runtime::{LinuxNamespaceType as Type, Spec};

use super::namespaces;
use crate::error::{Context as _, Result, bail, ensure};
use crate::root::Rootfs;
use crate::sys::mount::{Attributes, set_attributes};

/// The word is one that the kernel has a flag for, and it is about mounts of the container's own.
pub fn check(spec: &Spec) -> Result<()> {
    let possible = of(spec)?.is_none() || namespaces::has(spec, Type::Mount);
    ensure!(possible, "linux.rootfsPropagation: not possible without a mount namespace of the container's own");
    Ok(())
}

/// What becomes of the host's mounts in the new mount namespace. Only a shared root keeps them shared, so that mounts of
/// the container can reach the host by volumes that are shared too; otherwise they receive the host's changes at most.
pub fn of_the_host(spec: &Spec) -> Result<MsFlags> {
    Ok(match of(spec)? {
        Some((MsFlags::MS_SHARED, _)) => MsFlags::MS_SHARED,
        Some((MsFlags::MS_PRIVATE | MsFlags::MS_UNBINDABLE, _)) => MsFlags::MS_PRIVATE,
        _ => MsFlags::MS_SLAVE,
    })
}

/// Gives the container's root its propagation, after all mounts are there.
pub fn apply(spec: &Spec, rootfs: &Rootfs) -> Result<()> {
    let Some((propagation, recursive)) = of(spec)? else { return Ok(()) };
    let attributes = Attributes { propagation: propagation.bits(), ..Attributes::default() };
    set_attributes(rootfs.fd(), &attributes, recursive).context("linux.rootfsPropagation")
}

fn of(spec: &Spec) -> Result<Option<(MsFlags, bool)>> {
    let configured = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    Ok(Some(match configured.unwrap_or_default() {
        "" => return Ok(None),
        "shared" => (MsFlags::MS_SHARED, false),
        "rshared" => (MsFlags::MS_SHARED, true),
        "slave" => (MsFlags::MS_SLAVE, false),
        "rslave" => (MsFlags::MS_SLAVE, true),
        "private" => (MsFlags::MS_PRIVATE, false),
        "rprivate" => (MsFlags::MS_PRIVATE, true),
        "unbindable" => (MsFlags::MS_UNBINDABLE, false),
        "runbindable" => (MsFlags::MS_UNBINDABLE, true),
        other => bail!(
            "linux.rootfsPropagation: {other:?} is none of shared, slave, private, unbindable (or these with an r before)"
        ),
    }))
}
