//! What a v1 cgroup has used (the kernel's cgroup-v1 documents), hierarchy by hierarchy.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cgroups::stats::{
    Blkio, BlkioEntry, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Pids, Stats, Throttling,
};
use crate::cgroups::{file, reading, v2};
use crate::error::{Context as _, Result};

/// `cpuacct.stat` counts in USER_HZ, which is 100 on all architectures that Linux has today.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// Reads the files of all controllers; one that is not mounted has counted nothing.
pub(super) fn read<'a>(dir: impl Fn(&str) -> Option<&'a Path>) -> Result<Stats> {
    let mut stats = Stats::default();
    if let Some(dir) = dir("cpuacct") {
        stats.cpu.usage = cpu_usage(dir)?;
    }
    if let Some(dir) = dir("cpu") {
        stats.cpu.throttling = throttling(dir)?;
    }
    if let Some(dir) = dir("cpuset") {
        stats.cpuset = cpuset(dir)?;
    }
    if let Some(dir) = dir("memory") {
        stats.memory = memory(dir)?;
    }
    if let Some(dir) = dir("pids") {
        let limit = reading::number(dir, "pids.max")?.filter(|&limit| limit != u64::MAX);
        let current = reading::number(dir, "pids.current")?;
        stats.pids = Pids { current: current.unwrap_or_default(), limit: limit.unwrap_or_default() };
    }
    if let Some(dir) = dir("blkio") {
        stats.blkio = blkio(dir)?;
    }
    let sizes = reading::huge_page_sizes();
    stats.hugetlb = match (dir("hugetlb"), dir("")) {
        (Some(dir), _) => hugetlb(dir, &sizes)?,
        // The controller may live in the unified hierarchy of a hybrid layout.
        (None, Some(unified)) => v2::stats::hugetlb(unified, &sizes)?,
        (None, None) => BTreeMap::new(),
    };
    Ok(stats)
}

fn cpu_usage(dir: &Path) -> Result<CpuUsage> {
    let stat = reading::keyed(dir, "cpuacct.stat")?;
    let ticks = |key: &str| stat.get(key).copied().unwrap_or_default().saturating_mul(NANOSECONDS_PER_TICK);
    let (percpu_user, percpu_kernel) = by_mode(dir)?;
    Ok(CpuUsage {
        total: reading::number(dir, "cpuacct.usage")?.unwrap_or_default(),
        percpu: reading::row(dir, "cpuacct.usage_percpu")?,
        percpu_kernel,
        percpu_user,
        kernel: ticks("system"),
        user: ticks("user"),
    })
}

/// `cpuacct.usage_all` (Linux 4.8): a head line, then `processor user system`.
fn by_mode(dir: &Path) -> Result<(Vec<u64>, Vec<u64>)> {
    const FILE: &str = "cpuacct.usage_all";
    let text = file::read_if_there(dir, FILE)?.unwrap_or_default();
    let (mut user, mut kernel) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let mut fields = line.split(' ').skip(1);
        let (Some(in_user), Some(in_kernel)) = (fields.next(), fields.next()) else { continue };
        user.push(reading::parse(dir, FILE, in_user)?);
        kernel.push(reading::parse(dir, FILE, in_kernel)?);
    }
    Ok((user, kernel))
}

fn throttling(dir: &Path) -> Result<Throttling> {
    let stat = reading::keyed(dir, "cpu.stat")?;
    let count = |key: &str| stat.get(key).copied().unwrap_or_default();
    Ok(Throttling {
        periods: count("nr_periods"),
        throttled_periods: count("nr_throttled"),
        throttled_time: count("throttled_time"),
    })
}

fn cpuset(dir: &Path) -> Result<Cpuset> {
    let number = |name: &str| reading::number(dir, &format!("cpuset.{name}")).map(Option::unwrap_or_default);
    const LEVEL: &str = "cpuset.sched_relax_domain_level";
    Ok(Cpuset {
        cpus: reading::list(dir, "cpuset.cpus")?,
        cpu_exclusive: number("cpu_exclusive")?,
        mems: reading::list(dir, "cpuset.mems")?,
        mem_hardwall: number("mem_hardwall")?,
        mem_exclusive: number("mem_exclusive")?,
        memory_migrate: number("memory_migrate")?,
        memory_spread_page: number("memory_spread_page")?,
        memory_spread_slab: number("memory_spread_slab")?,
        memory_pressure: number("memory_pressure")?,
        sched_load_balance: number("sched_load_balance")?,
        // -1 is the usual value: the system's.
        sched_relax_domain_level: match file::read_if_there(dir, LEVEL)? {
            Some(text) => reading::exact(dir, LEVEL, &text)?,
            None => 0,
        },
    })
}

fn memory(dir: &Path) -> Result<Memory> {
    let raw = reading::keyed(dir, "memory.stat")?;
    let entry = |name: &str| memory_entry(dir, name).map(Option::unwrap_or_default);
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or_default(),
        usage: entry("memory")?,
        swap: entry("memory.memsw")?,
        kernel: entry("memory.kmem")?,
        kernel_tcp: entry("memory.kmem.tcp")?,
        raw,
        psi: None,
    })
}

/// `memsw` and `kmem` are options of the kernel; `kmem.limit_in_bytes` is gone in newer ones.
fn memory_entry(dir: &Path, prefix: &str) -> Result<Option<MemoryEntry>> {
    let number = |file: &str| reading::number(dir, &format!("{prefix}.{file}"));
    let Some(usage) = number("usage_in_bytes")? else { return Ok(None) };
    Ok(Some(MemoryEntry {
        limit: number("limit_in_bytes")?.unwrap_or_default(),
        usage,
        max: number("max_usage_in_bytes")?.unwrap_or_default(),
        failcnt: number("failcnt")?.unwrap_or_default(),
    }))
}

/// Which scheduler counts what depends on the kernel and the devices: the first whose first file has entries is taken
/// whole, runc's order. BFQ comes first, the old CFQ second; the throttling layer counts always.
fn blkio(dir: &Path) -> Result<Blkio> {
    const DETAILS: &[&str] = &[
        "sectors_recursive",
        "io_service_time_recursive",
        "io_wait_time_recursive",
        "io_merged_recursive",
        "io_queued_recursive",
        "time_recursive",
        "io_serviced_recursive",
        "io_service_bytes_recursive",
    ];
    const RECURSIVE: &[&str] = &["io_serviced_recursive", "io_service_bytes_recursive"];
    const SOURCES: &[(&str, &[&str])] = &[
        ("blkio.bfq", DETAILS),
        ("blkio.bfq", RECURSIVE),
        ("blkio", DETAILS),
        ("blkio.throttle", RECURSIVE),
        ("blkio.throttle", &["io_serviced", "io_service_bytes"]),
    ];
    let mut blkio = Blkio::default();
    for (prefix, files) in SOURCES {
        for file in *files {
            let entries = blkio_entries(dir, &format!("{prefix}.{file}"))?;
            if entries.is_empty() && *file == files[0] {
                break;
            }
            *match *file {
                "sectors_recursive" => &mut blkio.sectors_recursive,
                "io_service_time_recursive" => &mut blkio.io_service_time_recursive,
                "io_wait_time_recursive" => &mut blkio.io_wait_time_recursive,
                "io_merged_recursive" => &mut blkio.io_merged_recursive,
                "io_queued_recursive" => &mut blkio.io_queued_recursive,
                "time_recursive" => &mut blkio.io_time_recursive,
                "io_serviced_recursive" | "io_serviced" => &mut blkio.io_serviced_recursive,
                _ => &mut blkio.io_service_bytes_recursive,
            } = entries;
        }
        if blkio != Blkio::default() {
            break;
        }
    }
    Ok(blkio)
}

/// Lines `8:0 Read 4096`, or `8:0 4096`; a last one, `Total 4096`, is of all devices.
fn blkio_entries(dir: &Path, name: &str) -> Result<Vec<BlkioEntry>> {
    let text = file::read_if_there(dir, name)?.unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with("Total "));
    lines
        .map(|line| {
            let wrong = || format!("{name} of {}: {line:?} is not a device and a number", dir.display());
            let (device, rest) = line.split_once(' ').with_context(wrong)?;
            let (major, minor) = device.split_once(':').with_context(wrong)?;
            let (op, value) = rest.trim().rsplit_once(' ').unwrap_or(("", rest));
            Ok(BlkioEntry {
                major: reading::exact(dir, name, major)?,
                minor: reading::exact(dir, name, minor)?,
                op: op.to_owned(),
                value: reading::parse(dir, name, value)?,
            })
        })
        .collect()
}

/// The pages that are reserved, of which the ones in use are a part (Linux 5.7), or those in use.
fn hugetlb(dir: &Path, sizes: &[String]) -> Result<BTreeMap<String, Hugetlb>> {
    let mut all = BTreeMap::new();
    for size in sizes {
        let reserved = memory_entry(dir, &format!("hugetlb.{size}.rsvd"))?;
        let found = match reserved {
            None => memory_entry(dir, &format!("hugetlb.{size}"))?,
            found => found,
        };
        if let Some(MemoryEntry { usage, max, failcnt, .. }) = found {
            all.insert(size.clone(), Hugetlb { usage, max, failcnt });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::reading::fixture::Fixture;

    #[test]
    fn every_file_gives_its_numbers() {
        let cgroup = Fixture::new(&[
            ("cpuacct.usage", "5000000123\n"),
            ("cpuacct.usage_percpu", "5000000000 123 \n"),
            ("cpuacct.usage_all", "cpu user system\n0 3000000000 2000000000\n1 100 23\n"),
            ("cpuacct.stat", "user 300\nsystem 200\n"),
            ("cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 999\nnr_bursts 0\nburst_time 0\n"),
            ("cpuset.cpus", "0-1\n"),
            ("cpuset.mems", "0\n"),
            ("cpuset.cpu_exclusive", "0\n"),
            ("cpuset.sched_load_balance", "1\n"),
            ("cpuset.sched_relax_domain_level", "-1\n"),
            ("memory.stat", "cache 4096\nrss 100\ntotal_inactive_file 7\n"),
            ("memory.usage_in_bytes", "8192\n"),
            ("memory.limit_in_bytes", "65536\n"),
            ("memory.max_usage_in_bytes", "9000\n"),
            ("memory.failcnt", "2\n"),
            ("memory.kmem.usage_in_bytes", "12\n"),
            ("memory.kmem.max_usage_in_bytes", "13\n"),
            ("memory.kmem.failcnt", "0\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("blkio.throttle.io_serviced_recursive", "8:0 Read 5\n8:0 Total 5\nTotal 5\n"),
            ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n"),
        ]);
        let stats = read(|controller| (!controller.is_empty()).then_some(cgroup.dir())).unwrap();
        let usage = &stats.cpu.usage;
        assert_eq!((usage.total, usage.user, usage.kernel), (5_000_000_123, 3_000_000_000, 2_000_000_000));
        assert_eq!(usage.percpu, [5_000_000_000, 123]);
        assert_eq!(
            (&usage.percpu_user[..], &usage.percpu_kernel[..]),
            (&[3_000_000_000, 100][..], &[2_000_000_000, 23][..])
        );
        assert_eq!(stats.cpu.throttling, Throttling { periods: 10, throttled_periods: 4, throttled_time: 999 });
        assert_eq!((&stats.cpuset.cpus[..], &stats.cpuset.mems[..]), (&[0, 1][..], &[0][..]));
        assert_eq!((stats.cpuset.sched_load_balance, stats.cpuset.sched_relax_domain_level), (1, -1));
        assert_eq!(stats.memory.usage, MemoryEntry { limit: 65536, usage: 8192, max: 9000, failcnt: 2 });
        assert_eq!(stats.memory.kernel, MemoryEntry { limit: 0, usage: 12, max: 13, failcnt: 0 });
        assert_eq!((stats.memory.swap, stats.memory.cache), (MemoryEntry::default(), 4096));
        assert_eq!(stats.pids, Pids { current: 3, limit: 0 });
        let read = BlkioEntry { major: 8, minor: 0, op: "Read".into(), value: 4096 };
        assert_eq!(stats.blkio.io_service_bytes_recursive[0], read);
        assert_eq!((stats.blkio.io_serviced_recursive.len(), stats.blkio.sectors_recursive.len()), (2, 0));
        assert_eq!(super::read(|_| None).unwrap(), Stats::default());
    }

    #[test]
    fn a_scheduler_that_counts_goes_before_the_throttling_layer() {
        let cgroup = Fixture::new(&[
            ("blkio.bfq.io_serviced_recursive", "Total 0\n"),
            ("blkio.sectors_recursive", "8:0 77\n"),
            ("blkio.io_serviced_recursive", "8:0 Read 1\nTotal 1\n"),
            ("blkio.throttle.io_serviced_recursive", "8:0 Read 2\nTotal 2\n"),
        ]);
        let found = blkio(cgroup.dir()).unwrap();
        assert_eq!(found.sectors_recursive, [BlkioEntry { major: 8, minor: 0, op: String::new(), value: 77 }]);
        assert_eq!(found.io_serviced_recursive[0].value, 1);
        let wrong = Fixture::new(&[("blkio.throttle.io_serviced", "nothing\n")]);
        assert!(blkio(wrong.dir()).is_err());
    }

    #[test]
    fn reserved_huge_pages_go_before_those_in_use() {
        let cgroup = Fixture::new(&[
            ("hugetlb.2MB.rsvd.usage_in_bytes", "4194304\n"),
            ("hugetlb.2MB.rsvd.failcnt", "1\n"),
            ("hugetlb.2MB.usage_in_bytes", "2097152\n"),
            ("hugetlb.1GB.usage_in_bytes", "5\n"),
            ("hugetlb.1GB.max_usage_in_bytes", "6\n"),
        ]);
        let found = hugetlb(cgroup.dir(), &["2MB".into(), "1GB".into(), "64KB".into()]).unwrap();
        assert_eq!(found["2MB"], Hugetlb { usage: 4_194_304, max: 0, failcnt: 1 });
        assert_eq!(found["1GB"], Hugetlb { usage: 5, max: 6, failcnt: 0 });
        assert_eq!(found.len(), 2);
    }
}
