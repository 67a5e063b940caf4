//! `linux.resources.network.classID`.

use std::path::Path;

use oci_spec::runtime::LinuxResources;

use super::needed;
use crate::cgroups::file;
use crate::error::{Context, Result};

pub(super) fn set(dir: Option<&Path>, resources: &LinuxResources) -> Result<()> {
    let class = resources.network().as_ref().and_then(|network| network.class_id()).filter(|class| *class != 0);
    let Some(class) = class else { return Ok(()) };
    let dir = needed(dir, "net_cls").context("linux.resources.network.classID")?;
    file::write(dir, "net_cls.classid", &class.to_string()).context("linux.resources.network.classID")
}
