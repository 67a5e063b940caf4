//! `linux.resources.hugepageLimits`.

use std::path::Path;

use oci_spec::runtime::LinuxResources;

use super::{controllers, explained};
use crate::cgroups::layout;
use crate::cgroups::v1::hugetlb;
use crate::error::{Context, Result};

pub(super) fn set(dir: &Path, resources: &LinuxResources) -> Result<()> {
    explained(dir, "hugetlb", hugetlb::set_files(dir, resources, "max"))
}

/// The same in the unified directory of a hybrid layout. The controller is enabled there only when a limit asks for it:
/// the hierarchy is systemd's.
pub(in crate::cgroups) fn set_in_hybrid(dir: &Path, resources: &LinuxResources) -> Result<()> {
    if resources.hugepage_limits().as_ref().is_none_or(Vec::is_empty) {
        return Ok(());
    }
    if let Some(unified) = layout::unified()? {
        controllers::enable(&unified.mount_point, dir, "hugetlb").context("linux.resources.hugepageLimits")?;
    }
    set(dir, resources)
}
