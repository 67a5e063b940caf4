//! Which controllers a v2 cgroup has, and the kind of cgroup it is.

use std::path::Path;

use oci_spec::runtime::LinuxResources;

use crate::cgroups::{check, file};
use crate::error::{Context, Result, bail};

/// Whether a cgroup has a controller.
pub(super) fn has(dir: &Path, controller: &str) -> bool {
    file::read(dir, "cgroup.controllers").is_ok_and(|text| names(&text, controller))
}

fn names(list: &str, controller: &str) -> bool {
    list.split_whitespace().any(|name| name == controller)
}

/// Enables all of the root's controllers in the ancestors, as runc: callers read statistics of every controller,
/// limited or not. One that cannot be enabled is no error until a limit needs it.
pub(super) fn enable_all(root: &Path, dir: &Path) -> Result<()> {
    let available = file::read(root, "cgroup.controllers")?;
    enable(root, dir, &available)
}

/// Enables controllers for a directory, in each ancestor from the root down that has them not enabled yet.
pub(super) fn enable(root: &Path, dir: &Path, controllers: &str) -> Result<()> {
    let own = file::read(dir, "cgroup.controllers")?;
    if controllers.split_whitespace().all(|controller| names(&own, controller)) {
        return Ok(());
    }
    let below = dir.strip_prefix(root).with_context(|| format!("{} is not below {}", dir.display(), root.display()))?;
    let mut current = root.to_owned();
    for name in below.components() {
        let enabled = file::read(&current, "cgroup.subtree_control")?;
        let missing: Vec<_> =
            controllers.split_whitespace().filter(|controller| !names(&enabled, controller)).collect();
        let line = missing.iter().map(|controller| format!("+{controller}")).collect::<Vec<_>>().join(" ");
        // The kernel takes all of a line or nothing.
        if !missing.is_empty() && file::write(&current, "cgroup.subtree_control", &line).is_err() {
            for controller in missing {
                if let Err(error) = file::write(&current, "cgroup.subtree_control", &format!("+{controller}")) {
                    log::debug!("{}", crate::error::one_line(&error));
                }
            }
        }
        current.push(name);
    }
    Ok(())
}

/// Below a threaded cgroup, or one that has processes of its own beside enabled controllers, a new cgroup is invalid: it
/// can be threaded, with the controllers that know threads (cpu, cpuset, pids), or not be used at all.
pub(super) fn settle_type(root: &Path, dir: &Path, resources: Option<&LinuxResources>) -> Result<()> {
    let kind = kind(dir)?;
    if kind == DOMAIN {
        return Ok(());
    }
    if let Some(property) = resources.and_then(needs_domain) {
        bail!("{property}: cannot enter cgroupv2 {:?} with domain controllers -- it is in {kind:?} mode", dir);
    }
    if kind == INVALID {
        make_threaded(root, dir)?;
        // An ancestor that was invalid took none.
        enable_all(root, dir)?;
    }
    Ok(())
}

const DOMAIN: &str = "domain";
const INVALID: &str = "domain invalid";

fn kind(dir: &Path) -> Result<String> {
    Ok(file::read(dir, "cgroup.type")?.trim().to_owned())
}

/// From the outermost on: only below a valid cgroup can another one be.
fn make_threaded(root: &Path, dir: &Path) -> Result<()> {
    let mut above: Vec<_> = dir.ancestors().take_while(|ancestor| *ancestor != root).collect();
    above.reverse();
    for dir in above {
        if kind(dir)? == INVALID {
            file::write(dir, "cgroup.type", "threaded")?;
        }
    }
    Ok(())
}

fn needs_domain(resources: &LinuxResources) -> Option<&'static str> {
    let mut domain = LinuxResources::default();
    domain
        .set_memory(*resources.memory())
        .set_block_io(resources.block_io().clone())
        .set_hugepage_limits(resources.hugepage_limits().clone());
    check::limited(&domain)
}
