//! `linux.resources.unified`: files of the cgroup, named and valued by the config.

use std::path::Path;

use nix::errno::Errno;
use oci_spec::runtime::LinuxResources;

use super::controllers;
use super::cpu::is_idle;
use crate::cgroups::file;
use crate::error::{Context, Error, Result, errno};

/// Writes them in the order of their names, a value of several lines in several writes: the kernel reads one line each.
pub(super) fn set(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(unified) = resources.unified() else { return Ok(()) };
    let mut entries: Vec<_> = unified.iter().collect();
    entries.sort_unstable();
    for (key, value) in entries {
        if key == "cpu.weight" && is_idle(resources) {
            log::warn!("linux.resources.unified: unable to apply both cpu.idle and cpu.weight: it is idle");
            continue;
        }
        write(dir, key, value).with_context(|| format!("linux.resources.unified[{key:?}]"))?;
    }
    Ok(())
}

fn write(dir: &Path, key: &str, value: &str) -> Result<()> {
    let result = file::open(dir, key).and_then(|open| {
        if !value.contains('\n') {
            return file::write_to(&open, dir, key, value);
        }
        value.lines().filter(|line| !line.is_empty()).try_for_each(|line| file::write_to(&open, dir, key, line))
    });
    let Err(error) = result else { return Ok(()) };
    Err(match (errno(&error), key.split_once('.')) {
        (Some(Errno::ENOENT), None) => error.context(form(key)),
        (Some(Errno::ENOENT), Some((controller, _)))
            if controller != "cgroup" && !controllers::has(dir, controller) =>
        {
            error.context(format!("unified resource {key:?} can't be set: controller {controller:?} not available"))
        }
        _ => unable(key, error),
    })
}

fn form(key: &str) -> String {
    format!("unified resource {key:?} must be in the form CONTROLLER.PARAMETER")
}

fn unable(key: &str, error: Error) -> Error {
    error.context(format!("unable to set unified resource {key:?}"))
}
