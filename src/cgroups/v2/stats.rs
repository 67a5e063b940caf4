//! What a v2 cgroup has used (the kernel's cgroup-v2.rst), in the terms of v1 where the two differ, as runc does it.

use std::collections::BTreeMap;
use std::path::Path;

use nix::errno::Errno;

use crate::cgroups::stats::{Blkio, BlkioEntry, Cpu, CpuUsage, Hugetlb, Memory, MemoryEntry, Pids, Pressure, Stall};
use crate::cgroups::stats::{Stats, Throttling};
use crate::cgroups::{file, reading, tree};
use crate::error::{Context as _, Result, bail, errno};

/// Reads all files; a controller that is not enabled has counted nothing.
pub(super) fn read(dir: &Path) -> Result<Stats> {
    Ok(Stats {
        cpu: cpu(dir)?,
        cpuset: Default::default(),
        memory: memory(dir)?,
        pids: pids(dir)?,
        blkio: io(dir)?,
        hugetlb: hugetlb(dir, &reading::huge_page_sizes())?,
    })
}

/// `cpu.stat`, in microseconds; the first three lines are there without the controller.
fn cpu(dir: &Path) -> Result<Cpu> {
    let stat = reading::keyed(dir, "cpu.stat")?;
    let count = |key: &str| stat.get(key).copied().unwrap_or_default();
    let nanoseconds = |key: &str| count(key).saturating_mul(1000);
    Ok(Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            user: nanoseconds("user_usec"),
            kernel: nanoseconds("system_usec"),
            ..Default::default()
        },
        throttling: Throttling {
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        },
        psi: pressure(dir, "cpu.pressure")?,
    })
}

fn memory(dir: &Path) -> Result<Memory> {
    let raw = reading::keyed(dir, "memory.stat")?;
    let usage = memory_entry(dir, "memory")?.unwrap_or_default();
    // Swap is counted apart; v1 counts memory and swap together, and the most of both is not known here.
    let swap = memory_entry(dir, "memory.swap")?.unwrap_or_default();
    let swap = MemoryEntry {
        limit: swap.limit.saturating_add(usage.limit),
        usage: swap.usage.saturating_add(usage.usage),
        ..Default::default()
    };
    let psi = pressure(dir, "memory.pressure")?;
    Ok(Memory { cache: raw.get("file").copied().unwrap_or_default(), usage, swap, raw, psi, ..Default::default() })
}

/// `memory.peak` is of Linux 5.19, `memory.swap.peak` of 6.5; without swap in the kernel there is no `memory.swap`.
fn memory_entry(dir: &Path, prefix: &str) -> Result<Option<MemoryEntry>> {
    let number = |file: &str| reading::number(dir, &format!("{prefix}.{file}"));
    let Some(usage) = number("current")? else { return Ok(None) };
    let (limit, max) = (number("max")?.unwrap_or_default(), number("peak")?.unwrap_or_default());
    Ok(Some(MemoryEntry { limit, usage, max, failcnt: 0 }))
}

fn pids(dir: &Path) -> Result<Pids> {
    let Some(current) = reading::number(dir, "pids.current")? else {
        return Ok(Pids { current: tree::pids(dir)?.len() as u64, limit: 0 });
    };
    let limit = reading::number(dir, "pids.max")?.filter(|&limit| limit != u64::MAX).unwrap_or_default();
    Ok(Pids { current, limit })
}

/// `io.stat`: `8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021`.
fn io(dir: &Path) -> Result<Blkio> {
    const FILE: &str = "io.stat";
    let text = file::read_if_there(dir, FILE)?.unwrap_or_default();
    let mut blkio = Blkio { psi: pressure(dir, "io.pressure")?, ..Default::default() };
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        // A device whose statistics are off has no line, or its number alone.
        let Some((major, minor)) = fields.next().and_then(|device| device.split_once(':')) else { continue };
        let (major, minor) = (reading::exact(dir, FILE, major)?, reading::exact(dir, FILE, minor)?);
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value: reading::parse(dir, FILE, value)? });
        }
    }
    Ok(blkio)
}

/// The pages that are reserved, of which the ones in use are a part (Linux 5.7), or those in use.
pub(in crate::cgroups) fn hugetlb(dir: &Path, sizes: &[String]) -> Result<BTreeMap<String, Hugetlb>> {
    let mut all = BTreeMap::new();
    for size in sizes {
        let usage = match reading::number(dir, &format!("hugetlb.{size}.rsvd.current"))? {
            None => reading::number(dir, &format!("hugetlb.{size}.current"))?,
            usage => usage,
        };
        let Some(usage) = usage else { continue };
        let events = reading::keyed(dir, &format!("hugetlb.{size}.events"))?;
        let failcnt = events.get("max").copied().unwrap_or_default();
        all.insert(size.clone(), Hugetlb { usage, max: 0, failcnt });
    }
    Ok(all)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and `full ...` (the kernel's accounting/psi.rst). Nothing where it
/// is not compiled in, is off for this cgroup (`cgroup.pressure`, Linux 6.1), or waits for `psi=1` at boot (EOPNOTSUPP).
fn pressure(dir: &Path, file: &str) -> Result<Option<Pressure>> {
    let text = match file::read_if_there(dir, file) {
        Err(error) if errno(&error) == Some(Errno::EOPNOTSUPP) => return Ok(None),
        text => text?,
    };
    let Some(text) = text else { return Ok(None) };
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let stall = || stall(line).with_context(|| format!("{file} of {}", dir.display()));
        match line.split_once(' ') {
            Some(("some", _)) => pressure.some = stall()?,
            Some(("full", _)) => pressure.full = stall()?,
            _ => {}
        }
    }
    Ok(Some(pressure))
}

fn stall(line: &str) -> Result<Stall> {
    let mut stall = Stall::default();
    for field in line.split_whitespace().skip(1) {
        let Some((key, value)) = field.split_once('=') else { bail!("{line:?} is not pressure") };
        let average = || value.parse().with_context(|| format!("{field:?} is no number"));
        match key {
            "avg10" => stall.avg10 = average()?,
            "avg60" => stall.avg60 = average()?,
            "avg300" => stall.avg300 = average()?,
            "total" => stall.total = value.parse().with_context(|| format!("{field:?} is no number"))?,
            _ => {}
        }
    }
    Ok(stall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::reading::fixture::Fixture;
    use crate::error::one_line;

    const FILES: &[(&str, &str)] = &[
        (
            "cpu.stat",
            "usage_usec 2500\nuser_usec 1500\nsystem_usec 1000\nnice_usec 0\ncore_sched.force_idle_usec 0\n\
             nr_periods 8\nnr_throttled 3\nthrottled_usec 70\nnr_bursts 0\nburst_usec 0\n",
        ),
        (
            "cpu.pressure",
            "some avg10=12.50 avg60=3.00 avg300=0.10 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        ),
        ("memory.stat", "anon 4096\nfile 8192\nkernel 100\ninactive_file 1024\n"),
        ("memory.current", "16384\n"),
        ("memory.max", "1048576\n"),
        ("memory.peak", "20480\n"),
        ("memory.swap.current", "512\n"),
        ("memory.swap.max", "max\n"),
        ("memory.swap.peak", "600\n"),
        ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
        ("pids.current", "4\n"),
        ("pids.max", "21\n"),
        (
            "io.stat",
            "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n7:0 \n\
             8:0 rbytes=5 wbytes=6 rios=7 wios=8 dbytes=0 dios=0 cost.usage=3\n",
        ),
        ("hugetlb.2MB.current", "2097152\n"),
        ("hugetlb.2MB.rsvd.current", "4194304\n"),
        ("hugetlb.2MB.events", "max 5\n"),
        ("hugetlb.1GB.current", "0\n"),
        ("hugetlb.1GB.events", "max 0\n"),
    ];

    #[test]
    fn every_file_gives_its_numbers_in_runcs_terms() {
        let cgroup = Fixture::new(FILES);
        let stats = read(cgroup.dir()).unwrap();
        let usage = CpuUsage { total: 2_500_000, user: 1_500_000, kernel: 1_000_000, ..Default::default() };
        assert_eq!(stats.cpu.usage, usage);
        assert_eq!(stats.cpu.throttling, Throttling { periods: 8, throttled_periods: 3, throttled_time: 70_000 });
        let some = Stall { avg10: 12.5, avg60: 3.0, avg300: 0.1, total: 4711 };
        assert_eq!(stats.cpu.psi, Some(Pressure { some, full: Stall::default() }));

        assert_eq!(stats.memory.usage, MemoryEntry { limit: 1_048_576, usage: 16384, max: 20480, failcnt: 0 });
        assert_eq!(stats.memory.swap, MemoryEntry { limit: u64::MAX, usage: 16896, max: 0, failcnt: 0 });
        assert_eq!((stats.memory.cache, stats.memory.raw["inactive_file"]), (8192, 1024));
        assert_eq!(stats.memory.psi, Some(Pressure::default()));

        assert_eq!(stats.pids, Pids { current: 4, limit: 21 });
        let entry = |minor, op: &str, value| BlkioEntry { major: 8, minor, op: op.into(), value };
        assert_eq!(
            stats.blkio.io_service_bytes_recursive,
            [entry(16, "Read", 1_459_200), entry(16, "Write", 314_773_504), entry(0, "Read", 5), entry(0, "Write", 6)]
        );
        assert_eq!(stats.blkio.io_serviced_recursive.len(), 4);
        assert_eq!(stats.blkio.psi, None);

        let huge = hugetlb(cgroup.dir(), &["2MB".into(), "1GB".into(), "64KB".into()]).unwrap();
        assert_eq!(huge["2MB"], Hugetlb { usage: 4_194_304, max: 0, failcnt: 5 });
        assert_eq!((huge.len(), huge["1GB"].usage), (2, 0));
    }

    #[test]
    fn without_controllers_there_are_the_processes_and_their_time() {
        let cgroup = Fixture::new(&[
            ("cpu.stat", "usage_usec 9\nuser_usec 5\nsystem_usec 4\n"),
            ("cgroup.procs", "11\n12\n13\n"),
        ]);
        let stats = read(cgroup.dir()).unwrap();
        assert_eq!(stats.cpu.usage.total, 9000);
        assert_eq!(stats.pids, Pids { current: 3, limit: 0 });
        assert_eq!((stats.memory, stats.blkio), (Memory::default(), Blkio::default()));
    }

    #[test]
    fn no_limit_of_processes_is_zero_and_of_memory_the_largest_number() {
        let cgroup =
            Fixture::new(&[("pids.current", "1"), ("pids.max", "max"), ("memory.current", "7"), ("memory.max", "max")]);
        let stats = read(cgroup.dir()).unwrap();
        assert_eq!(stats.pids.limit, 0);
        assert_eq!((stats.memory.usage.limit, stats.memory.swap.limit), (u64::MAX, u64::MAX));
        assert_eq!(stats.memory.swap.usage, 7, "the memory counts without swap, too");
    }

    #[test]
    fn what_is_no_number_is_named_with_its_file() {
        for (file, text) in [
            ("cpu.pressure", "some avg10=high\n"),
            ("memory.pressure", "full nothing\n"),
            ("io.stat", "8:x rbytes=1\n"),
            ("memory.stat", "anon lots\n"),
        ] {
            let cgroup = Fixture::new(&[(file, text)]);
            let line = one_line(&read(cgroup.dir()).unwrap_err());
            assert!(line.starts_with(&format!("{file} of ")), "{line}");
        }
    }
}
