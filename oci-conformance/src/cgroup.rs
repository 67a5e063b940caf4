//! The cgroup hierarchies of this machine, and where a process is in them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::case::skip;
use crate::mountinfo;

/// Which of a controller's two interfaces a value was read from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Version {
    /// A hierarchy for a few controllers.
    V1,
    /// The one hierarchy.
    V2,
}

/// The hierarchies mounted below /sys/fs/cgroup.
pub struct Hierarchies {
    /// Controllers (`name=systemd` too) and mount points.
    v1: Vec<(Vec<String>, PathBuf)>,
    v2: Option<PathBuf>,
}

impl Hierarchies {
    /// Reads this process's mount table.
    pub fn read() -> Result<Hierarchies> {
        Ok(parse(&fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?))
    }

    /// `v1` when any controller is there, also beside a `v2` that has some.
    pub fn layout(&self) -> &'static str {
        let is_controller = |name: &String| !name.contains('=') && name != "rw" && name != "ro";
        if self.v1.iter().any(|(names, _)| names.iter().any(is_controller)) { "v1" } else { "v2" }
    }

    /// Every mount point of a hierarchy.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|(_, point)| point.as_path()).chain(self.v2.as_deref())
    }

    /// Where a controller lives on this machine.
    pub fn version_of(&self, controller: &str) -> Option<Version> {
        if self.v1_root(controller).is_some() {
            return Some(Version::V1);
        }
        let controllers = fs::read_to_string(self.v2.as_ref()?.join("cgroup.controllers")).ok()?;
        controllers.split_whitespace().any(|name| name == controller).then_some(Version::V2)
    }

    fn v1_root(&self, controller: &str) -> Option<&Path> {
        let found = self.v1.iter().find(|(controllers, _)| controllers.iter().any(|name| name == controller))?;
        Some(&found.1)
    }

    /// The cgroup directory of a process for that controller; skips the case where there is no such controller.
    pub fn dir_of(&self, pid: i32, controller: &str) -> Result<(Version, PathBuf)> {
        let Some(version) = self.version_of(controller) else {
            skip!("no cgroup controller {controller} on this machine");
        };
        let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("read the process's cgroups")?;
        let (root, name) = match version {
            Version::V1 => (self.v1_root(controller), controller),
            Version::V2 => (self.v2.as_deref(), ""),
        };
        let (Some(root), Some(path)) = (root, path_in(&table, name)) else {
            bail!("process {pid} is in no cgroup of {controller}: {table}");
        };
        Ok((version, root.join(path.trim_start_matches('/'))))
    }

    /// Every existing cgroup directory of that path, taken from each hierarchy's root, and from where this process is:
    /// that is where a runtime may take a relative path from.
    pub fn existing(&self, path: &str) -> Vec<PathBuf> {
        let path = path.trim_start_matches('/');
        let dirs = self.roots().map(Path::to_owned).chain(self.our_own());
        let mut found: Vec<_> = dirs.map(|dir| dir.join(path)).filter(|dir| dir.is_dir()).collect();
        found.dedup();
        found
    }

    /// This process's directory in each hierarchy.
    fn our_own(&self) -> Vec<PathBuf> {
        let table = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let first = |names: &[String]| names.iter().find(|name| *name != "rw" && *name != "ro").cloned();
        let v1 = self.v1.iter().filter_map(|(names, root)| Some((first(names)?, root)));
        let all = v1.chain(self.v2.iter().map(|root| (String::new(), root)));
        all.filter_map(|(name, root)| Some(root.join(path_in(&table, &name)?.trim_start_matches('/')))).collect()
    }

    /// Gives a cgroup of the v1 cpu hierarchy, which is made, real-time bandwidth for those below it; false where there
    /// is no such hierarchy or no such bandwidth.
    pub fn allow_real_time(&self, path: &str) -> bool {
        let Some(dir) = self.v1_root("cpu").map(|root| root.join(path)) else { return false };
        fs::create_dir_all(&dir).is_ok() && fs::write(dir.join("cpu.rt_runtime_us"), "100000").is_ok()
    }

    /// Removes the cgroup of that path and those below it from every hierarchy, as far as they are empty.
    pub fn remove(&self, path: &str) {
        self.existing(path).iter().for_each(|dir| remove_below(dir));
    }
}

fn remove_below(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

fn parse(table: &str) -> Hierarchies {
    let mut found = Hierarchies { v1: Vec::new(), v2: None };
    for mount in mountinfo::parse(table) {
        match mount.kind.as_str() {
            "cgroup" => found.v1.push((mount.super_options, mount.point.into())),
            "cgroup2" => found.v2 = Some(mount.point.into()),
            _ => {}
        }
    }
    found
}

/// The path in the line of /proc/<pid>/cgroup that names the controller; the empty name is the unified hierarchy's.
pub fn path_in<'a>(table: &'a str, controller: &str) -> Option<&'a str> {
    let lines = table.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    lines.filter(|(names, _)| names.split(',').any(|name| name == controller)).map(|(_, path)| path).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_layout() {
        let found = parse(
            "1 2 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
             1 2 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             1 2 0:3 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n",
        );
        assert_eq!(found.version_of("cpuacct"), Some(Version::V1));
        assert_eq!(found.version_of("no-such-controller"), None);
        assert_eq!(found.roots().count(), 2);
    }

    #[test]
    fn lines_of_a_process() {
        let table = "12:cpu,cpuacct:/a/b\n1:name=systemd:/c:d\n0::/e\n";
        assert_eq!(path_in(table, "cpuacct"), Some("/a/b"));
        assert_eq!(path_in(table, "name=systemd"), Some("/c:d"));
        assert_eq!(path_in(table, ""), Some("/e"));
        assert_eq!(path_in(table, "memory"), None);
    }
}
