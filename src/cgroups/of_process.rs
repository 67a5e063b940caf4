//! The cgroup of a container whose record is lost, by the process that is in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::layout::{self, Layout, own_unified};
use super::manager::{Kind, Placement};
use super::path;
use crate::error::Result;

/// Returns where a process is, as far as the cgroup is named for the container: another one it may
/// share with others.
pub fn of_process(pid: i32, id: &str) -> Result<Placement> {
    let text = layout::read(&format!("/proc/{pid}/cgroup"))?;
    let mut paths = BTreeMap::new();
    match layout::layout()? {
        Layout::V2 { root } => {
            let inner = own_unified(&text).map(|inner| path::clean(Path::new(inner)));
            paths.extend(inner.map(|inner| (String::new(), below(root, &inner))));
        }
        Layout::V1(hierarchies) => {
            for line in text.lines() {
                let mut fields = line.splitn(3, ':').skip(1);
                let (Some(controllers), Some(inner)) = (fields.next(), fields.next()) else { continue };
                let inner = path::clean(Path::new(inner));
                let unified = layout::unified()?.filter(|_| controllers.is_empty());
                let at = unified.or_else(|| hierarchies.iter().find(|at| at.controllers.join(",") == controllers));
                let Some(at) = at else { continue };
                let Ok(inner) = inner.strip_prefix(&at.root) else { continue };
                let dir = below(&at.mount_point, inner);
                paths.extend(controllers.split(',').map(|controller| (controller.to_owned(), dir.clone())));
            }
        }
        Layout::None => {}
    }
    paths.retain(|_, dir| dir.file_name().is_some_and(|name| is_named_for(name, id)));
    Ok(Placement { paths, ..Placement::none(Kind::Cgroupfs) })
}

fn below(mount_point: &Path, inner: &Path) -> PathBuf {
    mount_point.join(inner.strip_prefix("/").unwrap_or(inner))
}

/// A cgroup of cgroupfs has the id as its name, a scope of systemd ends in it.
fn is_named_for(name: &OsStr, id: &str) -> bool {
    let Some(name) = name.to_str() else { return false };
    name == id || name.strip_suffix(".scope").is_some_and(|scope| scope == id || scope.ends_with(&format!("-{id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_named_for_a_container_or_may_be_shared() {
        for name in ["x", "x.scope", "tare-x.scope"] {
            assert!(is_named_for(OsStr::new(name), "x"), "{name}");
        }
        for name in ["", "y", "xx", "tare-x", "tare-xx.scope", "init.scope", "session-1.scope"] {
            assert!(!is_named_for(OsStr::new(name), "x"), "{name}");
        }
    }

    #[test]
    fn a_process_elsewhere_gives_no_cgroup() {
        let own = i32::try_from(std::process::id()).unwrap();
        if *layout::layout().unwrap() == Layout::None {
            println!("skipped: no cgroups");
            return;
        }
        assert!(of_process(own, "no such container").unwrap().paths.is_empty());
    }
}
