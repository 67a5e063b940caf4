//! `linux.intelRdt`: the group of the resctrl filesystem that the container's processes are in (Intel Resource Director
//! Technology: shares of the last-level cache and of the memory bandwidth).

mod stats;
mod update;

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, statfs};
use nix::unistd::mkdir;
use oci_spec::runtime::{LinuxIntelRdt, Spec};
use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Error, Result, anyhow, ensure};
use crate::mounts::mountinfo::Line;
use crate::state::Record;

pub use stats::{Stats, stats};
pub use update::{Update, update};

/// Where the kernel has a directory for the filesystem.
const USUAL_PLACE: &str = "/sys/fs/resctrl";
/// RDTGROUP_SUPER_MAGIC
const RESCTRL_MAGIC: FsType = FsType(0x0765_5821);

/// Where a container is in the resctrl filesystem. Recorded before anything of it is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// The filesystem's mount point.
    root: PathBuf,
    /// The group's directory.
    group: PathBuf,
    /// The directory of the container's own monitoring group in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitoring: Option<PathBuf>,
    /// The group is made for this container, and removed with it.
    own: bool,
}

/// What the specification and the kernel's names ask for; whether the kernel takes a schema only it knows.
pub fn check(spec: &Spec) -> Result<()> {
    let Some(rdt) = configured(spec) else { return Ok(()) };
    if let Some(class) = class(rdt) {
        let plain = !matches!(class, "." | "..") && !class.contains('/');
        ensure!(plain || class == "/", "linux.intelRdt.closID: {class:?} is not the name of a directory");
    }
    let one_line = |text: &str| !text.contains('\n');
    ensure!(rdt.l3_cache_schema().as_deref().is_none_or(one_line), "linux.intelRdt.l3CacheSchema: is not one line");
    if let Some(schema) = given(rdt.mem_bw_schema()) {
        ensure!(schema.starts_with("MB:"), "linux.intelRdt.memBwSchema: {schema:?} does not start with \"MB:\"");
        ensure!(one_line(schema), "linux.intelRdt.memBwSchema: is not one line");
    }
    let bad = rdt.schemata().iter().flatten().position(|line| !one_line(line));
    ensure!(bad.is_none(), "linux.intelRdt.schemata[{}]: is not one line", bad.unwrap_or_default());
    Ok(())
}

/// Works out where the container is going to be; makes nothing.
pub fn place(spec: &Spec, id: &str) -> Result<Option<Placement>> {
    let Some(rdt) = configured(spec) else { return Ok(None) };
    let root = mount_point().context("linux.intelRdt")?;
    place_in(root, rdt, id).context("linux.intelRdt").map(Some)
}

/// Makes the groups and puts a process into them; all that it starts is born there.
pub fn apply(spec: &Spec, placement: Option<&Placement>, pid: i32) -> Result<()> {
    let (Some(rdt), Some(placement)) = (configured(spec), placement) else { return Ok(()) };
    placement.make(rdt).and_then(|()| placement.enter(pid)).context("linux.intelRdt")
}

/// Puts a further process of a container into its groups.
pub fn join(record: &Record, pid: i32) -> Result<()> {
    record.intel_rdt.as_ref().map_or(Ok(()), |placement| placement.enter(pid)).context("linux.intelRdt")
}

/// Removes what was made for a container that has ended.
pub fn remove(record: &Record) -> Result<()> {
    record.intel_rdt.as_ref().map_or(Ok(()), Placement::remove).context("linux.intelRdt")
}

fn configured(spec: &Spec) -> Option<&LinuxIntelRdt> {
    spec.linux().as_ref()?.intel_rdt().as_ref()
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn class(rdt: &LinuxIntelRdt) -> Option<&str> {
    given(rdt.clos_id())
}

/// The lines for the `schemata` file, in the order that the specification asks for.
fn schemata(rdt: &LinuxIntelRdt) -> Vec<&str> {
    let further = rdt.schemata().iter().flatten().map(String::as_str).filter(|line| !line.is_empty());
    given(rdt.l3_cache_schema()).into_iter().chain(given(rdt.mem_bw_schema())).chain(further).collect()
}

fn mount_point() -> Result<PathBuf> {
    if statfs(USUAL_PLACE).is_ok_and(|found| found.filesystem_type() == RESCTRL_MAGIC) {
        return Ok(USUAL_PLACE.into());
    }
    let table = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    find_mount_point(&table)
        .ok_or_else(|| anyhow!("no resctrl filesystem is mounted (is Intel RDT there and enabled?)"))
}

fn find_mount_point(table: &str) -> Option<PathBuf> {
    let mut mounts = table.lines().filter_map(Line::parse);
    mounts.find(|mount| mount.fstype == "resctrl").map(|mount| mount.point.into())
}

fn place_in(root: PathBuf, rdt: &LinuxIntelRdt, id: &str) -> Result<Placement> {
    let group = match class(rdt) {
        Some("/") => root.clone(),
        class => root.join(class.unwrap_or(id)),
    };
    let exists = group.is_dir();
    let lines = schemata(rdt);
    if class(rdt).is_some() {
        ensure!(
            exists || !lines.is_empty(),
            "closID: {group:?} does not exist, and there is no schema to make it with"
        );
        if exists && !lines.is_empty() {
            check_same(&group, &lines)?;
        }
    }
    let monitoring = (rdt.enable_monitoring() == &Some(true)).then(|| group.join("mon_groups").join(id));
    Ok(Placement { root, group, monitoring, own: class(rdt).is_none() && !exists })
}

/// A group that is there belongs to others too: it is used as it is or not at all.
fn check_same(group: &Path, lines: &[&str]) -> Result<()> {
    let file = group.join("schemata");
    let found = fs::read_to_string(&file).with_context(|| format!("read {file:?}"))?;
    for line in lines {
        let same = values(line).is_some_and(|wanted| {
            wanted.iter().all(|value| found.lines().filter_map(values).any(|found| found.contains(value)))
        });
        ensure!(same, "closID: {group:?} exists, and its schemata are not {line:?}");
    }
    Ok(())
}

/// A line such as `L3:0=7f0;1=1f` as (resource, cache, value); the kernel writes numbers with other leading zeros.
fn values(line: &str) -> Option<Vec<(String, String, String)>> {
    let (resource, list) = line.trim().split_once(':')?;
    let number = |text: &str| match text.trim().trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => digits.to_ascii_lowercase(),
    };
    let value = |pair: &str| pair.split_once('=').map(|(id, value)| (resource.to_owned(), number(id), number(value)));
    list.split(';').filter(|pair| !pair.trim().is_empty()).map(value).collect()
}

impl Placement {
    fn make(&self, rdt: &LinuxIntelRdt) -> Result<()> {
        self.make_directory(&self.group)?;
        let lines = schemata(rdt);
        if !lines.is_empty() {
            self.write(&self.group.join("schemata"), &(lines.join("\n") + "\n"))?;
        }
        self.monitoring.iter().try_for_each(|directory| self.make_directory(directory))
    }

    fn enter(&self, pid: i32) -> Result<()> {
        let groups = [Some(&self.group), self.monitoring.as_ref()];
        groups.into_iter().flatten().try_for_each(|group| self.write(&group.join("tasks"), &pid.to_string()))
    }

    fn remove(&self) -> Result<()> {
        let own = Some(&self.group).filter(|_| self.own);
        for directory in self.monitoring.iter().chain(own) {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                result => result.with_context(|| format!("rmdir {directory:?}"))?,
            }
        }
        Ok(())
    }

    fn make_directory(&self, directory: &Path) -> Result<()> {
        match mkdir(directory, Mode::from_bits_truncate(0o755)) {
            Err(Errno::EEXIST) => Ok(()),
            result => result.map_err(|errno| self.explain(errno)).with_context(|| format!("mkdir {directory:?}")),
        }
    }

    fn write(&self, file: &Path, text: &str) -> Result<()> {
        fs::write(file, text)
            .map_err(|error| self.explain(error))
            .with_context(|| format!("write {text:?} to {file:?}"))
    }

    /// The kernel's errno says little here; what it has to say more is in a file.
    fn explain(&self, error: impl Into<Error>) -> Error {
        let status = fs::read_to_string(self.root.join("info/last_cmd_status")).unwrap_or_default();
        match status.trim() {
            "" | "ok" => error.into(),
            status => error.into().context(status.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that stands for the filesystem, with a class that others made. It differs from the kernel's in that
    /// its files are made by writing, and a directory with files is not removed.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("tare-rdt-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(root.join("gold/mon_groups")).unwrap();
            fs::create_dir_all(root.join("mon_groups")).unwrap();
            fs::write(root.join("gold/schemata"), "    MB:0=100;1=100\n    L3:0=7f0;1=01f\n").unwrap();
            Self(root)
        }

        fn read(&self, file: &str) -> String {
            fs::read_to_string(self.0.join(file)).unwrap()
        }

        fn place(&self, rdt: &str) -> Result<Placement> {
            place_in(self.0.clone(), &parse(rdt), "id")
        }

        fn make(&self, rdt: &str) -> Placement {
            let placement = self.place(rdt).unwrap();
            fs::create_dir_all(placement.group.join("mon_groups")).unwrap();
            placement.make(&parse(rdt)).unwrap();
            placement.enter(42).unwrap();
            placement
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn parse(rdt: &str) -> LinuxIntelRdt {
        serde_json::from_str(rdt).unwrap()
    }

    #[test]
    fn without_a_class_the_container_has_a_group_of_its_own() {
        let tree = Tree::new("own");
        let rdt = r#"{"l3CacheSchema":"L3:0=f","memBwSchema":"MB:0=20","schemata":["L2:0=1","L3:0=3"]}"#;
        let placement = tree.make(rdt);
        assert_eq!(tree.read("id/schemata"), "L3:0=f\nMB:0=20\nL2:0=1\nL3:0=3\n");
        assert_eq!(tree.read("id/tasks"), "42");
        assert!(placement.own && placement.monitoring.is_none());
        fs::remove_dir_all(tree.0.join("id")).unwrap();
        fs::create_dir(tree.0.join("id")).unwrap();
        placement.remove().unwrap();
        assert!(!tree.0.join("id").exists());
        placement.remove().unwrap();
    }

    #[test]
    fn a_class_of_others_is_joined_as_it_is_and_stays() {
        let tree = Tree::new("class");
        let before = tree.read("gold/schemata");
        let placement = tree.make(r#"{"closID":"gold","enableMonitoring":true}"#);
        assert_eq!((tree.read("gold/tasks"), tree.read("gold/mon_groups/id/tasks")), ("42".into(), "42".into()));
        assert_eq!(tree.read("gold/schemata"), before);
        fs::remove_file(tree.0.join("gold/mon_groups/id/tasks")).unwrap();
        placement.remove().unwrap();
        assert!(tree.0.join("gold").exists() && !tree.0.join("gold/mon_groups/id").exists());
        let root = tree.make(r#"{"closID":"/"}"#);
        assert_eq!((tree.read("tasks"), root.own), ("42".into(), false));
    }

    #[test]
    fn a_class_that_is_there_has_to_have_the_schemata() {
        let tree = Tree::new("same");
        for same in [r#""l3CacheSchema":"L3:1=1f;0=07F0""#, r#""schemata":["MB:0=100","L3:0=7f0"]"#] {
            tree.place(&format!(r#"{{"closID":"gold",{same}}}"#)).unwrap();
        }
        for other in [r#""l3CacheSchema":"L3:0=7f0;1=ff""#, r#""memBwSchema":"MB:2=100""#, r#""schemata":["L2:0=1"]"#] {
            assert!(tree.place(&format!(r#"{{"closID":"gold",{other}}}"#)).is_err(), "{other}");
        }
        assert!(tree.place(r#"{"closID":"silver"}"#).is_err());
        let made = tree.make(r#"{"closID":"silver","memBwSchema":"MB:0=10"}"#);
        assert!(!made.own, "a class is not removed with the container");
    }

    #[test]
    fn what_is_no_class_and_no_schema_is_refused() {
        let checked = |rdt: &str| {
            let json = r#"{"ociVersion":"1.0.0","linux":{"intelRdt":RDT}}"#.replace("RDT", rdt);
            check(&serde_json::from_str(&json).unwrap())
        };
        for good in ["{}", r#"{"closID":"/"}"#, r#"{"closID":"a.b","memBwSchema":"MB:0=1"}"#] {
            checked(good).unwrap();
        }
        for bad in [
            r#"{"closID":".."}"#,
            r#"{"closID":"a/b"}"#,
            r#"{"memBwSchema":"L3:0=f"}"#,
            r#"{"l3CacheSchema":"L3:0=f\nMB:0=1"}"#,
            r#"{"schemata":["L3:0=f","L2:0=f\n"]}"#,
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_kernels_own_words_are_part_of_the_error() {
        let tree = Tree::new("words");
        fs::create_dir(tree.0.join("info")).unwrap();
        fs::write(tree.0.join("info/last_cmd_status"), "Need at least 1 bits in the mask\n").unwrap();
        let placement = tree.place("{}").unwrap();
        let line = crate::error::one_line(&placement.enter(1).unwrap_err());
        assert!(line.ends_with("Need at least 1 bits in the mask: No such file or directory"), "{line}");
    }

    #[test]
    fn the_mount_is_found_by_its_type() {
        let table = "21 1 0:19 / /sys rw - sysfs resctrl rw\n30 21 0:26 / /mnt/a\\040b rw,relatime - resctrl x rw\n";
        assert_eq!(find_mount_point(table), Some("/mnt/a b".into()));
        assert_eq!(find_mount_point("21 1 0:19 / /sys/fs/resctrl rw - tmpfs x rw\n"), None);
    }
}
