//! `linux.cgroupsPath` to directories.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::layout::{self, Hierarchy};
use crate::error::{Result, anyhow};

/// Resolves `.` and `..` by the text alone, as if the path's start were the root: it can never lead out of the mount.
/// Absolute stays absolute, relative stays relative.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if path.is_absolute() { Path::new("/").join(clean) } else { clean }
}

/// A directory for each controller that runc joins too: the kernel's and systemd's, not other named hierarchies.
pub(super) fn v1(hierarchies: &[Hierarchy], unified: Option<&Hierarchy>, inner: &Path) -> BTreeMap<String, PathBuf> {
    let mut paths = BTreeMap::new();
    for hierarchy in hierarchies {
        let dir = match inner.strip_prefix("/") {
            Ok(below) => hierarchy.mount_point.join(below),
            Err(_) => hierarchy.own_dir().join(inner),
        };
        for controller in &hierarchy.controllers {
            if !controller.starts_with("name=") || controller == "name=systemd" {
                paths.insert(controller.clone(), dir.clone());
            }
        }
    }
    // Below the mount point even if relative, as runc: the own unified cgroup of a service has processes, and systemd
    // watches only what is in its own.
    if let Some(unified) = unified {
        paths.insert(String::new(), unified.mount_point.join(inner.strip_prefix("/").unwrap_or(inner)));
    }
    paths
}

/// The directory in the unified hierarchy. A relative path is below the parent of the runtime's own cgroup: that one has
/// processes (the runtime), so that controllers cannot be enabled for its children.
pub(super) fn v2(root: &Path, inner: &Path) -> Result<PathBuf> {
    if let Ok(below) = inner.strip_prefix("/") {
        return Ok(root.join(below));
    }
    let own = layout::read("/proc/self/cgroup")?;
    let own = layout::own_unified(&own).ok_or_else(|| anyhow!("/proc/self/cgroup: no line 0::"))?;
    Ok(beside(root, Path::new(own), inner))
}

fn beside(root: &Path, own: &Path, inner: &Path) -> PathBuf {
    // A runtime outside of its cgroup namespace's root sees /../x.
    let own = clean(own);
    let parent = own.parent().unwrap_or(Path::new("/"));
    root.join(parent.strip_prefix("/").unwrap_or(parent)).join(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leads_out_of_the_mount() {
        for (path, expected) in [
            ("/../../../etc", "/etc"),
            ("../../../../etc/some/path", "etc/some/path"),
            ("/a/./b//c/../d/", "/a/b/d"),
            ("a/../../b", "b"),
            ("/..", "/"),
            ("..", ""),
            ("system.slice:docker:x", "system.slice:docker:x"),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    fn hierarchy(controllers: &[&str], mount_point: &str, root: &str, own: &str) -> Hierarchy {
        Hierarchy {
            controllers: controllers.iter().map(|name| name.to_string()).collect(),
            mount_point: mount_point.into(),
            root: root.into(),
            own_path: own.into(),
        }
    }

    #[test]
    fn v1_absolute_is_below_the_mount_point_and_relative_below_the_own_cgroup() {
        let hierarchies = [
            hierarchy(&["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct", "/", "/own"),
            hierarchy(&["name=elogind"], "/sys/fs/cgroup/elogind", "/", "/"),
            hierarchy(&["name=systemd"], "/sys/fs/cgroup/systemd", "/docker/abc", "/docker/abc"),
        ];
        let unified = hierarchy(&[], "/sys/fs/cgroup/unified", "/", "/own");
        let paths = v1(&hierarchies, Some(&unified), Path::new("/pod/x"));
        assert_eq!(paths["cpuacct"], Path::new("/sys/fs/cgroup/cpu,cpuacct/pod/x"));
        assert_eq!(paths[""], Path::new("/sys/fs/cgroup/unified/pod/x"));
        let paths = v1(&hierarchies, None, Path::new("x"));
        assert_eq!(paths["cpu"], Path::new("/sys/fs/cgroup/cpu,cpuacct/own/x"));
        assert_eq!(paths["name=systemd"], Path::new("/sys/fs/cgroup/systemd/x"));
        assert_eq!(paths.len(), 3);
    }

    #[test]
    fn v2_relative_is_beside_the_own_cgroup() {
        let root = Path::new("/sys/fs/cgroup");
        assert_eq!(beside(root, Path::new("/user.slice/s.scope"), Path::new("x")), root.join("user.slice/x"));
        assert_eq!(beside(root, Path::new("/"), Path::new("x")), root.join("x"));
        assert_eq!(beside(root, Path::new("/../../a"), Path::new("x")), root.join("x"));
    }
}
