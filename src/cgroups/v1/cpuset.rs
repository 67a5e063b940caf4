//! `linux.resources.cpu.cpus` and `.mems`. A v1 cpuset starts empty and takes no process until both are set.

use std::path::Path;

use cgroups_rs::fs::cpuset::CpuSetController;
use oci_spec::runtime::LinuxResources;

use super::needed;
use crate::cgroups::file::{self, converted};
use crate::error::{Context, Result};

fn configured(resources: &LinuxResources) -> [Option<&str>; 2] {
    let list = |list: &'_ Option<String>| list.as_deref().is_some_and(|list| !list.is_empty());
    match resources.cpu() {
        Some(cpu) => {
            [cpu.cpus().as_deref().filter(|_| list(cpu.cpus())), cpu.mems().as_deref().filter(|_| list(cpu.mems()))]
        }
        None => [None, None],
    }
}

/// Fills the container's directory with the config's lists or, without, with what its parent has.
pub(super) fn inherit(dir: &Path, new: bool, resources: Option<&LinuxResources>) -> Result<()> {
    let [cpus, mems] = resources.map_or([None, None], configured);
    for (file, property, value) in
        [("cpuset.cpus", "linux.resources.cpu.cpus", cpus), ("cpuset.mems", "linux.resources.cpu.mems", mems)]
    {
        if let Some(parent) = dir.parent().filter(|_| new || value.is_some()) {
            let inherited = filled(parent, file)?;
            file::write(dir, file, value.unwrap_or(inherited.trim())).context(property)?;
        } else {
            filled(dir, file)?;
        }
    }
    Ok(())
}

/// The list of a directory, copied down from the first ancestor that has one. The hierarchy's root always has.
fn filled(dir: &Path, file: &str) -> Result<String> {
    let own = file::read(dir, file)?;
    let Some(parent) = dir.parent().filter(|_| own.trim().is_empty()) else { return Ok(own) };
    let inherited = filled(parent, file)?;
    file::write(dir, file, inherited.trim())?;
    Ok(inherited)
}

pub(super) fn set(dir: Option<&Path>, resources: &LinuxResources) -> Result<()> {
    let [cpus, mems] = configured(resources);
    if cpus.is_none() && mems.is_none() {
        return Ok(());
    }
    let dir = needed(dir, "cpuset").context("linux.resources.cpu")?;
    let controller = CpuSetController::new(dir.into(), dir.into(), false);
    if let Some(cpus) = cpus {
        converted(dir, controller.set_cpus(cpus)).context("linux.resources.cpu.cpus")?;
    }
    if let Some(mems) = mems {
        converted(dir, controller.set_mems(mems)).context("linux.resources.cpu.mems")?;
    }
    Ok(())
}
