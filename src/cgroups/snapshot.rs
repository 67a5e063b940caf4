//! The values that an update may change, as they were before it: a refused one takes back what was written until then,
//! whether the configuration had ever named it or not.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::file;

/// What each file held.
pub(super) struct Snapshot(Vec<(PathBuf, String, String)>);

impl Snapshot {
    /// Reads the files that are there; others cannot be changed either.
    pub(super) fn of<'a>(files: impl Iterator<Item = (&'a Path, String)>) -> Self {
        Self(files.filter_map(|(dir, name)| Some((dir.to_owned(), settable(dir, &name)?, name))).collect())
    }

    /// Writes back what has changed. One value may stand in the way of another (a limit that another one must not
    /// exceed), so that it goes round until nothing is left, bounded.
    pub(super) fn restore(&self) {
        const ROUNDS: usize = 4;
        for round in 1..=ROUNDS {
            let mut changed = 0;
            for (dir, before, name) in &self.0 {
                let Some(now) = settable(dir, name).filter(|now| now != before) else { continue };
                changed += 1;
                for line in lines(name, before, &now) {
                    let Err(error) = file::write(dir, name, &line) else { continue };
                    if round == ROUNDS {
                        log::warn!("take the update back: {}", crate::error::one_line(&error));
                    }
                }
            }
            if changed == 0 {
                return;
            }
        }
    }
}

/// The files of v1's limits, by controller.
const V1: [(&str, &[&str]); 8] = [
    (
        "memory",
        &[
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "memory.swappiness",
            OOM_CONTROL,
        ],
    ),
    (
        "cpu",
        &[
            "cpu.idle",
            "cpu.shares",
            "cpu.cfs_period_us",
            "cpu.cfs_quota_us",
            "cpu.cfs_burst_us",
            "cpu.rt_period_us",
            "cpu.rt_runtime_us",
        ],
    ),
    ("cpuset", &["cpuset.cpus", "cpuset.mems"]),
    ("pids", &["pids.max"]),
    (
        "blkio",
        &[
            "blkio.weight",
            "blkio.leaf_weight",
            "blkio.bfq.weight",
            "blkio.weight_device",
            "blkio.leaf_weight_device",
            "blkio.bfq.weight_device",
            "blkio.throttle.read_bps_device",
            "blkio.throttle.write_bps_device",
            "blkio.throttle.read_iops_device",
            "blkio.throttle.write_iops_device",
        ],
    ),
    ("net_cls", &["net_cls.classid"]),
    ("net_prio", &["net_prio.ifpriomap"]),
    ("rdma", &["rdma.max"]),
];

/// The files of v2's limits but for the huge pages' and those that `unified` names.
const V2: [&str; 14] = [
    "memory.max",
    "memory.low",
    "memory.swap.max",
    "cpu.idle",
    "cpu.weight",
    "cpu.max",
    "cpu.max.burst",
    "cpuset.cpus",
    "cpuset.mems",
    "pids.max",
    "io.weight",
    "io.bfq.weight",
    "io.max",
    "rdma.max",
];

/// With what an update of a v1 cgroup can change, where `dir_of` gives a controller's directory.
pub(super) fn v1<'a>(dir_of: impl Fn(&str) -> Option<&'a Path>, resources: &LinuxResources) -> Snapshot {
    let named = V1.iter().filter_map(|(controller, files)| Some((dir_of(controller)?, files)));
    let limits = named.flat_map(|(dir, files)| files.iter().map(move |file| (dir, (*file).to_owned())));
    let huge_pages = match (dir_of("hugetlb"), dir_of("")) {
        (Some(dir), _) => of_huge_pages(dir, resources, "limit_in_bytes"),
        (None, Some(unified)) => of_huge_pages(unified, resources, "max"),
        (None, None) => Vec::new(),
    };
    Snapshot::of(limits.chain(huge_pages))
}

/// With what an update of a v2 cgroup can change.
pub(super) fn v2(dir: &Path, resources: &LinuxResources) -> Snapshot {
    let unified = resources.unified().iter().flat_map(|unified| unified.keys().cloned());
    let limits = V2.iter().map(|file| (*file).to_owned()).chain(unified).map(|file| (dir, file));
    Snapshot::of(limits.chain(of_huge_pages(dir, resources, "max")))
}

fn of_huge_pages<'a>(dir: &'a Path, resources: &LinuxResources, suffix: &str) -> Vec<(&'a Path, String)> {
    let sizes = resources.hugepage_limits().iter().flatten().map(|limit| limit.page_size());
    sizes.flat_map(|size| ["", "rsvd."].map(|kind| (dir, format!("hugetlb.{size}.{kind}{suffix}")))).collect()
}

const OOM_CONTROL: &str = "memory.oom_control";

/// What of a file's text can be written, if it can be read.
fn settable(dir: &Path, name: &str) -> Option<String> {
    let text = file::read_if_there(dir, name).ok()??;
    if name != OOM_CONTROL {
        return Some(text);
    }
    // Beside the switch it has the state and a count.
    text.lines().find_map(|line| line.strip_prefix("oom_kill_disable ")).map(str::to_owned)
}

/// What has to be written, a line at a time, so that the file says again what it said before.
fn lines(name: &str, before: &str, now: &str) -> Vec<String> {
    let Some(unset) = unset(name) else { return vec![before.to_owned()] };
    fn key(line: &str) -> &str {
        line.split(' ').next().unwrap_or(line)
    }
    let new = now.lines().filter(|line| !before.lines().any(|old| key(old) == key(line)));
    let removed = new.map(|line| format!("{} {unset}", key(line)));
    let changed = before.lines().filter(|line| !now.lines().any(|new| new == *line)).map(str::to_owned);
    removed.chain(changed).collect()
}

/// For files of a line for each device or the like: the value that takes such a line away.
fn unset(name: &str) -> Option<&'static str> {
    match name {
        "io.max" => Some("rbps=max wbps=max riops=max wiops=max"),
        "io.latency" => Some("target=0"),
        "io.weight" | "io.bfq.weight" | "blkio.bfq.weight_device" => Some("default"),
        "rdma.max" => Some("hca_handle=max hca_object=max"),
        "misc.max" => Some("max"),
        "net_prio.ifpriomap" => Some("0"),
        name if name.starts_with("blkio.") && name.ends_with("_device") => Some("0"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::reading::fixture::Fixture;

    #[test]
    fn lines_come_back_and_go_by_their_device() {
        let before = "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=5 wbps=max riops=max wiops=max\n";
        let now = "8:16 rbps=7 wbps=max riops=max wiops=max\n8:32 rbps=9 wbps=max riops=max wiops=max\n";
        assert_eq!(
            lines("io.max", before, now),
            [
                "8:32 rbps=max wbps=max riops=max wiops=max",
                "8:0 rbps=1 wbps=max riops=max wiops=max",
                "8:16 rbps=5 wbps=max riops=max wiops=max"
            ]
        );
        assert_eq!(lines("blkio.throttle.read_bps_device", "", "8:0 7\n"), ["8:0 0"]);
        assert_eq!(lines("pids.max", "max\n", "5\n"), ["max\n"]);
    }

    #[test]
    fn what_has_changed_is_written_back_and_what_counts_is_left() {
        let cgroup = Fixture::new(&[
            ("pids.max", "max\n"),
            ("cpuset.cpus", "\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        ]);
        let dir = cgroup.dir();
        let files = ["pids.max", "cpuset.cpus", "memory.oom_control", "missing"];
        let snapshot = Snapshot::of(files.iter().map(|file| (dir, (*file).to_owned())));
        let write = |file: &str, text: &str| std::fs::write(dir.join(file), text).unwrap();
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
        // The kernel replaces the text, a plain file keeps what is behind the shorter one.
        write("pids.max", "50\n ");
        write("cpuset.cpus", "1");
        snapshot.restore();
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!([read("pids.max"), read("cpuset.cpus")], ["max\n", "\n"]);
        assert!(read("memory.oom_control").ends_with("oom_kill 4\n"));
    }
}
