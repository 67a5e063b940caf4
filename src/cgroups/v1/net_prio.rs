//! `linux.resources.network.priorities`.

use std::path::Path;

use cgroups_rs::fs::net_prio::NetPrioController;
use oci_spec::runtime::LinuxResources;

use super::needed;
use crate::cgroups::file::converted;
use crate::error::{Context, Result};

pub(super) fn set(dir: Option<&Path>, resources: &LinuxResources) -> Result<()> {
    let priorities = resources.network().as_ref().and_then(|network| network.priorities().as_deref());
    for (index, priority) in priorities.unwrap_or_default().iter().enumerate() {
        let path = || format!("linux.resources.network.priorities[{index}]");
        let dir = needed(dir, "net_prio").with_context(path)?;
        let controller = NetPrioController::new(dir.into(), dir.into());
        converted(dir, controller.set_if_prio(priority.name(), priority.priority().into())).with_context(path)?;
    }
    Ok(())
}
