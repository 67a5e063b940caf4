//! `root.readonly`.

use oci_spec::runtime::Spec;

use super::Rootfs;
use crate::error::{Context as _, Result};
use crate::sys::mount::{Attributes, attr, set_attributes};

/// Makes the rootfs read-only, but not what is mounted below it.
pub fn apply(spec: &Spec, rootfs: &Rootfs) -> Result<()> {
    if !spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false)) {
        return Ok(());
    }
    let attributes = Attributes { set: attr::RDONLY, ..Attributes::default() };
    set_attributes(rootfs.fd(), &attributes, false).context("root.readonly")
}
