//! The loopback interface of a new network namespace: it is born down, and every program expects it up (runc does so).

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::namespaces;
use crate::error::{Context as _, Result};
use crate::sys::network::set_up;

/// Brings `lo` up, if the network namespace is the container's own.
pub fn bring_up(spec: &Spec) -> Result<()> {
    if !namespaces::is_new(spec, LinuxNamespaceType::Network) {
        return Ok(());
    }
    set_up("lo").context("linux.namespaces: bring up the loopback interface")
}
