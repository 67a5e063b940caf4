//! `linux.resources.hugepageLimits`.

use std::path::Path;

use oci_spec::runtime::LinuxResources;

use super::needed;
use crate::cgroups::file;
use crate::error::{Context, Result};

pub(super) fn set(dir: Option<&Path>, resources: &LinuxResources) -> Result<()> {
    let limits = resources.hugepage_limits().as_deref().unwrap_or_default();
    if limits.is_empty() {
        return Ok(());
    }
    set_files(needed(dir, "hugetlb").context("linux.resources.hugepageLimits")?, resources, "limit_in_bytes")
}

/// The limit on usage and, where the kernel has it (5.7), on reservations: `hugetlb.2MB.SUFFIX` and
/// `hugetlb.2MB.rsvd.SUFFIX`.
pub(in crate::cgroups) fn set_files(dir: &Path, resources: &LinuxResources, suffix: &str) -> Result<()> {
    for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let path = || format!("linux.resources.hugepageLimits[{index}]");
        let (size, value) = (limit.page_size(), limit.limit().to_string());
        file::write(dir, &format!("hugetlb.{size}.{suffix}"), &value).with_context(path)?;
        match file::write(dir, &format!("hugetlb.{size}.rsvd.{suffix}"), &value) {
            Err(error) if file::is_gone(&error) => {}
            result => result.with_context(path)?,
        }
    }
    Ok(())
}
