//! What a cgroup has used: the fields, the order and the names that `runc events` prints. A number that is zero is left
//! out where runc leaves it out.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

/// What the container's processes have used since its cgroup was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// The v1 cpuset; zeros on v2, which tells its limits only.
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages, by their size (`2MB`).
    pub hugetlb: BTreeMap<String, Hugetlb>,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// How much there was.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: CpuUsage,
    /// How much the quota took away.
    #[serde(skip_serializing_if = "is_default")]
    pub throttling: Throttling,
    /// Waiting for a processor (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Processor time, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// All of it.
    #[serde(skip_serializing_if = "is_default")]
    pub total: u64,
    /// By processor (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by processor (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In programs, by processor (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
}

/// `linux.resources.cpu.quota` at work.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which something ran.
    #[serde(skip_serializing_if = "is_default")]
    pub periods: u64,
    /// Periods in which the quota was used up.
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_periods: u64,
    /// How long processes were kept waiting, in nanoseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_time: u64,
}

/// The flags of a v1 cpuset, and its lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // each is a file of the kernel, cpuset.NAME
pub struct Cpuset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// The page cache.
    #[serde(skip_serializing_if = "is_default")]
    pub cache: u64,
    /// All memory.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: MemoryEntry,
    /// Memory and swap together, on v2 too.
    #[serde(skip_serializing_if = "is_default")]
    pub swap: MemoryEntry,
    /// The kernel's own (v1).
    #[serde(skip_serializing_if = "is_default")]
    pub kernel: MemoryEntry,
    /// The buffers of TCP (v1).
    #[serde(rename = "kernelTCP", skip_serializing_if = "is_default")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat`, as it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Waiting for memory (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One of the counters of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MemoryEntry {
    /// The limit; the largest number if there is none (on v1 rounded down to a page).
    pub limit: u64,
    /// Now.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// The most there ever was.
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// How often the limit was hit (v1).
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "is_default")]
    pub current: u64,
    /// At most; 0 if there is no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: u64,
}

/// Block devices; v2 tells the first two.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Operations that wait.
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    /// From dispatch to completion, in nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// In the scheduler's queues, in nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Operations merged into others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// The device's time, in milliseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    /// Waiting for a device (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// A number of one device, of one kind of operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BlkioEntry {
    /// The device's major number.
    #[serde(skip_serializing_if = "is_default")]
    pub major: u64,
    /// The device's minor number.
    #[serde(skip_serializing_if = "is_default")]
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Total` ...; empty where the kernel does not tell them apart.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The number.
    #[serde(skip_serializing_if = "is_default")]
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Hugetlb {
    /// Bytes now.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// Bytes at most until now (v1).
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Pressure stall information: how much time is lost by waiting (Linux 4.20).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// While at least one process waited.
    #[serde(skip_serializing_if = "is_default")]
    pub some: Stall,
    /// While all waited.
    #[serde(skip_serializing_if = "is_default")]
    pub full: Stall,
}

/// Lost time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stall {
    /// Percent of the last ten seconds.
    #[serde(serialize_with = "as_go_does")]
    pub avg10: f64,
    /// Percent of the last minute.
    #[serde(serialize_with = "as_go_does")]
    pub avg60: f64,
    /// Percent of the last five minutes.
    #[serde(serialize_with = "as_go_does")]
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A whole number has no decimals: readers that were written for runc may compare text.
fn as_go_does<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 { serializer.serialize_i64(*value as i64) } else { serializer.serialize_f64(*value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_zero_is_left_out_where_runc_leaves_it_out() {
        let cpuset = r#""cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0}"#;
        assert_eq!(
            serde_json::to_string(&Stats::default()).unwrap(),
            format!(r#"{{"cpu":{{}},{cpuset},"memory":{{}},"pids":{{}},"blkio":{{}},"hugetlb":{{}}}}"#)
        );
        let mut stats = Stats::default();
        stats.cpu.usage.total = 7;
        stats.cpu.throttling.throttled_periods = 2;
        stats.memory.kernel_tcp.limit = 5;
        stats.blkio.io_queued_recursive.push(BlkioEntry { minor: 3, op: "Read".into(), ..Default::default() });
        stats.hugetlb.insert("2MB".into(), Hugetlb::default());
        assert_eq!(
            serde_json::to_string(&stats).unwrap(),
            [
                r#"{"cpu":{"usage":{"total":7,"kernel":0,"user":0},"throttling":{"throttledPeriods":2}},"#,
                cpuset,
                r#","memory":{"kernelTCP":{"limit":5,"failcnt":0}},"pids":{},"#,
                r#""blkio":{"ioQueueRecursive":[{"minor":3,"op":"Read"}]},"hugetlb":{"2MB":{"failcnt":0}}}"#,
            ]
            .concat()
        );
    }

    #[test]
    fn a_whole_percentage_has_no_decimals() {
        let stall = Stall { avg10: 1.5, avg60: 0.0, avg300: 3.0, total: 9 };
        let pressure = Pressure { some: stall, full: Stall::default() };
        assert_eq!(
            serde_json::to_string(&pressure).unwrap(),
            r#"{"some":{"avg10":1.5,"avg60":0,"avg300":3,"total":9}}"#
        );
    }
}
