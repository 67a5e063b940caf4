//! What is shown of a container, with the unit in each name.

use std::time::Instant;

use serde::Serialize;

use crate::cgroups::Stats;
use crate::cgroups::stats::{BlkioEntry, MemoryEntry, Pressure};

/// A container. What is not known, not limited or not counted here is `None`.
#[derive(Debug, PartialEq, Serialize)]
pub struct Row<'a> {
    /// The container's id.
    pub id: &'a str,
    /// 100 is one processor all the time. `None` in its first reading.
    pub cpu_percent: Option<f64>,
    /// Since its cgroup was made.
    pub cpu_time_nanoseconds: u64,
    /// Periods in which the quota was used up, of those since the last reading.
    pub throttled_percent: Option<f64>,
    /// Without the part of the page cache that the kernel takes back first.
    pub memory_bytes: u64,
    /// At most.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// At most.
    pub pids_limit: Option<u64>,
    /// From block devices, since its cgroup was made.
    pub block_read_bytes: u64,
    /// To block devices, since its cgroup was made.
    pub block_write_bytes: u64,
    /// Of the last ten seconds: some process waited for a processor (v2).
    pub cpu_pressure_percent: Option<f64>,
    /// Of the last ten seconds: some process waited for memory (v2).
    pub memory_pressure_percent: Option<f64>,
    /// Of the last ten seconds: some process waited for a device (v2).
    pub io_pressure_percent: Option<f64>,
}

impl<'a> Row<'a> {
    /// A row of two readings.
    pub fn new(id: &'a str, before: Option<(Instant, &Stats)>, (at, now): (Instant, &Stats)) -> Self {
        let rate = |(since, before): (Instant, &Stats)| {
            let time = at.saturating_duration_since(since).as_nanos() as f64;
            share(now.cpu.usage.total.checked_sub(before.cpu.usage.total)? as f64, time)
        };
        let throttled = |(_, before): (Instant, &Stats)| {
            let (before, now) = (&before.cpu.throttling, &now.cpu.throttling);
            let periods = now.periods.checked_sub(before.periods)? as f64;
            share(now.throttled_periods.checked_sub(before.throttled_periods)? as f64, periods)
        };
        Row {
            id,
            cpu_percent: before.and_then(rate),
            cpu_time_nanoseconds: now.cpu.usage.total,
            throttled_percent: before.and_then(throttled),
            memory_bytes: memory(now),
            memory_limit_bytes: limit(now.memory.usage),
            pids: now.pids.current,
            pids_limit: Some(now.pids.limit).filter(|&limit| limit > 0),
            block_read_bytes: bytes(now, "Read"),
            block_write_bytes: bytes(now, "Write"),
            cpu_pressure_percent: pressure(&now.cpu.psi),
            memory_pressure_percent: pressure(&now.memory.psi),
            io_pressure_percent: pressure(&now.blkio.psi),
        }
    }
}

/// In percent, to two decimals.
fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (part / whole * 10_000.0).round() / 100.0)
}

/// What a person means by used: a container that has read files does not hold on to the cache of them.
fn memory(stats: &Stats) -> u64 {
    // v1 has both, and the first of them for this cgroup without those below it.
    let cache = ["total_inactive_file", "inactive_file"].iter().find_map(|key| stats.memory.raw.get(*key));
    stats.memory.usage.usage.saturating_sub(cache.copied().unwrap_or_default())
}

/// v1's "none" is the largest number of pages that an i64 of bytes holds.
fn limit(entry: MemoryEntry) -> Option<u64> {
    const LARGEST_PAGE: u64 = 64 * 1024;
    (1..i64::MAX as u64 - LARGEST_PAGE).contains(&entry.limit).then_some(entry.limit)
}

fn bytes(stats: &Stats, op: &str) -> u64 {
    let of_op = |entry: &&BlkioEntry| entry.op == op;
    stats.blkio.io_service_bytes_recursive.iter().filter(of_op).map(|entry| entry.value).sum()
}

fn pressure(psi: &Option<Pressure>) -> Option<f64> {
    psi.as_ref().map(|psi| psi.some.avg10)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cgroups::stats::Stall;

    #[test]
    fn shares_are_of_the_time_between_two_readings() {
        let start = Instant::now();
        let (mut before, mut now) = (Stats::default(), Stats::default());
        before.cpu.usage.total = 1_000_000_000;
        now.cpu.usage.total = 4_000_000_000;
        (before.cpu.throttling.periods, now.cpu.throttling.periods) = (10, 18);
        (before.cpu.throttling.throttled_periods, now.cpu.throttling.throttled_periods) = (5, 6);
        let row = Row::new("x", Some((start, &before)), (start + Duration::from_secs(2), &now));
        assert_eq!((row.cpu_percent, row.throttled_percent), (Some(150.0), Some(12.5)));
        // A new container, and one that was deleted and made again in between.
        let row = Row::new("x", None, (start, &now));
        assert_eq!((row.cpu_percent, row.throttled_percent), (None, None));
        let row = Row::new("x", Some((start, &now)), (start + Duration::from_secs(2), &before));
        assert_eq!((row.cpu_percent, row.throttled_percent), (None, None));
    }

    #[test]
    fn what_is_not_limited_is_none_and_cache_is_not_used() {
        let mut stats = Stats::default();
        stats.memory.usage = MemoryEntry { limit: u64::MAX, usage: 100, ..Default::default() };
        stats.memory.raw.insert("inactive_file".into(), 30);
        let at = Instant::now();
        let row = Row::new("x", None, (at, &stats));
        assert_eq!((row.memory_bytes, row.memory_limit_bytes, row.pids_limit), (70, None, None));
        stats.memory.raw.insert("total_inactive_file".into(), 40);
        stats.memory.usage.limit = 9_223_372_036_854_771_712;
        stats.pids.limit = 5;
        let row = Row::new("x", None, (at, &stats));
        assert_eq!((row.memory_bytes, row.memory_limit_bytes, row.pids_limit), (60, None, Some(5)));
        stats.memory.usage.limit = 4096;
        assert_eq!(Row::new("x", None, (at, &stats)).memory_limit_bytes, Some(4096));
    }

    #[test]
    fn devices_are_added_up_and_pressure_is_that_of_ten_seconds() {
        let mut stats = Stats::default();
        for (minor, op, value) in [(0, "Read", 1), (0, "Write", 10), (0, "Sync", 11), (0, "Total", 11), (16, "Read", 2)]
        {
            let entry = BlkioEntry { major: 8, minor, op: op.into(), value };
            stats.blkio.io_service_bytes_recursive.push(entry);
        }
        let some = Stall { avg10: 1.5, ..Default::default() };
        stats.memory.psi = Some(Pressure { some, ..Default::default() });
        let row = Row::new("x", None, (Instant::now(), &stats));
        assert_eq!((row.block_read_bytes, row.block_write_bytes), (3, 10));
        assert_eq!((row.memory_pressure_percent, row.io_pressure_percent), (Some(1.5), None));
    }
}
