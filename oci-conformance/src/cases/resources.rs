//! config-linux.md#control-groups: what cgroups.rs leaves, and who owns the cgroup.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::cgroups::{disk, expect, with_resources};
use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::cgroup::Version;
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(swappiness, "config-linux.md#memory", "memory.swappiness is the v1 cgroup's, and refused on v2")
        .known(IGNORED_ON_V2),
    case!(swappiness_out_of_range, "config-linux.md#memory", "a swappiness above 100 is refused").known(IGNORED_ON_V2),
    case!(
        disable_oom_killer,
        "config-linux.md#memory",
        "memory.disableOOMKiller is the v1 cgroup's, and refused on v2"
    )
    .known(IGNORED_ON_V2),
    case!(
        kernel_memory,
        "config-linux.md#memory",
        "memory.kernel, which no kernel has any more, does not matter, or is refused on v2"
    ),
    case!(kernel_tcp, "config-linux.md#memory", "memory.kernelTCP is the v1 cgroup's, and refused on v2")
        .known(&[("runc", "it is ignored")]),
    case!(use_hierarchy, "config-linux.md#memory", "memory.useHierarchy is accepted")
        .known(&[("crun", "refuses it on cgroup v2, where accounting is always hierarchical")]),
    case!(check_before_update, "config-linux.md#memory", "memory.checkBeforeUpdate does not hinder a first limit"),
    case!(cpu_burst, "config-linux.md#cpu", "cpu.burst is the cgroup's")
        .known(&[("runc 1.1", "does not know it"), ("crun 1.8", "writes it before the quota that has to cover it")]),
    case!(cpu_mems, "config-linux.md#cpu", "cpu.mems is the cgroup's"),
    case!(realtime, "config-linux.md#cpu", "realtimeRuntime and realtimePeriod are the v1 cgroup's, or refused")
        .known(IGNORED_ON_V2),
    case!(leaf_weight, "config-linux.md#block-io", "leafWeight is the v1 cgroup's, or refused where there is none")
        .known(IGNORED_ON_V2),
    case!(weight_device, "config-linux.md#block-io", "weightDevice is the cgroup's, or refused where there is none")
        .known(&[("runc", "it is ignored on cgroup v2 without io.bfq.weight")]),
    case!(throttle_write_bps, "config-linux.md#block-io", "throttleWriteBpsDevice is the cgroup's"),
    case!(throttle_read_iops, "config-linux.md#block-io", "throttleReadIOPSDevice is the cgroup's"),
    case!(throttle_write_iops, "config-linux.md#block-io", "throttleWriteIOPSDevice is the cgroup's"),
    case!(hugepages, "config-linux.md#huge-page-limits", "hugepageLimits are the cgroup's, or refused without hugetlb")
        .known(&[
            ("runc 1.1", "ignores them where hugetlb is not a v1 hierarchy"),
            ("crun 1.8", "has no hybrid hierarchy"),
        ]),
    case!(unknown_page_size, "config-linux.md#huge-page-limits", "a page size that is not there is refused")
        .known(&[("runc 1.1", "ignores it where hugetlb is not a v1 hierarchy")]),
    case!(class_id, "config-linux.md#network", "network.classID is the v1 cgroup's, or refused without net_cls")
        .known(IGNORES_NETWORK),
    case!(priorities, "config-linux.md#network", "network.priorities are the v1 cgroup's, or refused without net_prio")
        .known(IGNORES_NETWORK),
    case!(rdma, "config-linux.md#rdma", "rdma limits of a device that is not there are refused")
        .known(&[("runc", "they are ignored without the controller"), ("crun", "ignores them")]),
    case!(
        owner,
        "config-linux.md#cgroup-ownership",
        "a v2 cgroup mounted writable is given to the user, if at all, without its limits; a v1 cgroup never"
    ),
    case!(owner_read_only, "config-linux.md#cgroup-ownership", "a cgroup that is mounted read-only stays the host's"),
];

/// Where the hierarchy is v2.
const IGNORED_ON_V2: &[(&str, &str)] = &[("runc", "it is ignored on cgroup v2")];
const IGNORES_NETWORK: &[(&str, &str)] =
    &[("runc", "it is ignored without the controller"), ("crun", "it is ignored without the controller")];

/// The property is v1's alone: there its value, elsewhere, where there is no conversion, an error.
fn expect_v1(bench: &Bench, resource: (&str, Value), v1: (&str, &str, &str)) -> Result<()> {
    if bench.suite.cgroups.version_of(v1.0) != Some(Version::V1) {
        return with_resources(bench, resource.0, resource.1)?.create_refused().map(drop);
    }
    expect(bench, resource, v1, v1)
}

fn swappiness(bench: &Bench) -> Result<()> {
    expect_v1(bench, ("memory", json!({ "swappiness": 37 })), ("memory", "memory.swappiness", "37"))
}

fn swappiness_out_of_range(bench: &Bench) -> Result<()> {
    with_resources(bench, "memory", json!({ "swappiness": 1000 }))?.create_refused().map(drop)
}

fn disable_oom_killer(bench: &Bench) -> Result<()> {
    let memory = json!({ "limit": 67_108_864, "disableOOMKiller": true });
    let container = with_resources(bench, "memory", memory)?;
    if bench.suite.cgroups.version_of("memory") != Some(Version::V1) {
        return container.create_refused().map(drop);
    }
    container.create()?;
    let (_, found) = container.cgroup_file("memory", "memory.oom_control", "")?;
    ensure!(found.contains("oom_kill_disable 1"), "memory.oom_control is {found}");
    Ok(())
}

/// Linux 5.16 took the limit away, and v2 never had one: the property is not recommended. What cannot be applied may be
/// refused; the other limits have to hold where it is not.
fn kernel_memory(bench: &Bench) -> Result<()> {
    let limit = "67108864";
    let memory = json!({ "limit": 67_108_864, "kernel": 33_554_432 });
    let refused = with_resources(bench, "memory", memory.clone())?.create_refused();
    if refused.is_ok() && bench.suite.cgroups.version_of("memory") == Some(Version::V2) {
        return Ok(());
    }
    let v1 = ("memory", "memory.limit_in_bytes", limit);
    expect(bench, ("memory", memory), v1, ("memory", "memory.max", limit))
}

fn kernel_tcp(bench: &Bench) -> Result<()> {
    let memory = ("memory", json!({ "kernelTCP": 33_554_432 }));
    expect_v1(bench, memory, ("memory", "memory.kmem.tcp.limit_in_bytes", "33554432"))
}

fn use_hierarchy(bench: &Bench) -> Result<()> {
    let container = with_resources(bench, "memory", json!({ "limit": 67_108_864, "useHierarchy": true }))?;
    container.create()
}

fn check_before_update(bench: &Bench) -> Result<()> {
    let limit = "67108864";
    let memory = ("memory", json!({ "limit": 67_108_864, "checkBeforeUpdate": true }));
    expect(bench, memory, ("memory", "memory.limit_in_bytes", limit), ("memory", "memory.max", limit))
}

fn cpu_burst(bench: &Bench) -> Result<()> {
    let cpu = json!({ "quota": 40_000, "period": 50_000, "burst": 20_000 });
    expect(bench, ("cpu", cpu), ("cpu", "cpu.cfs_burst_us", "20000"), ("cpu", "cpu.max.burst", "20000"))
}

fn cpu_mems(bench: &Bench) -> Result<()> {
    let file = ("cpuset", "cpuset.mems", "0");
    expect(bench, ("cpu", json!({ "mems": "0" })), file, file)
}

fn realtime(bench: &Bench) -> Result<()> {
    let cpu = json!({ "realtimeRuntime": 5000, "realtimePeriod": 1_000_000 });
    if !bench.suite.cgroups.allow_real_time(&bench.suite.mark) {
        return with_resources(bench, "cpu", cpu)?.create_refused().map(drop);
    }
    let v1 = |file| ("cpu", file, if file == "cpu.rt_runtime_us" { "5000" } else { "1000000" });
    expect_v1(bench, ("cpu", cpu.clone()), v1("cpu.rt_runtime_us"))?;
    expect_v1(bench, ("cpu", cpu), v1("cpu.rt_period_us"))
}

/// Creates the container with a block I/O property: a file of these has to hold the text, or, where the kernel has
/// none of them, the property has to be refused.
fn weighed(bench: &Bench, block_io: Value, files: &[&str], text: &str) -> Result<()> {
    let cgroups = &bench.suite.cgroups;
    let Some(controller) = ["blkio", "io"].into_iter().find(|name| cgroups.version_of(name).is_some()) else {
        skip!("no block I/O controller on this machine");
    };
    let plain = Container::holding(bench)?;
    plain.create()?;
    let (_, dir) = cgroups.dir_of(plain.pid()?, controller)?;
    let there: Vec<_> = files.iter().filter(|file| dir.join(file).exists()).collect();
    let container = with_resources(bench, "blockIO", block_io)?;
    if there.is_empty() {
        return container.create_refused().map(drop);
    }
    container.create()?;
    let (_, dir) = cgroups.dir_of(container.pid()?, controller)?;
    let mut found = String::new();
    for file in there {
        found += &std::fs::read_to_string(dir.join(file))?;
    }
    ensure!(found.contains(text), "{files:?}: {found:?}, not {text}");
    Ok(())
}

fn leaf_weight(bench: &Bench) -> Result<()> {
    weighed(bench, json!({ "leafWeight": 300 }), &["blkio.leaf_weight"], "300")
}

fn weight_device(bench: &Bench) -> Result<()> {
    let Some((major, minor)) = disk() else { skip!("no disk on this machine") };
    let device = json!([{ "major": major, "minor": minor, "weight": 300 }]);
    let container = with_resources(bench, "blockIO", json!({ "weightDevice": device }))?;
    let bfq = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/queue/scheduler"))
        .is_ok_and(|schedulers| schedulers.contains("[bfq]"));
    // The files may be there, and the disk's scheduler not know weights: a weight that is taken has to be seen, though.
    if container.try_create()?.code != Some(0) {
        ensure!(!bfq, "`create` failed");
        return Ok(());
    }
    let controller = if bench.suite.cgroups.version_of("blkio").is_some() { "blkio" } else { "io" };
    let (_, dir) = bench.suite.cgroups.dir_of(container.pid()?, controller)?;
    let names = ["blkio.bfq.weight_device", "blkio.weight_device", "io.bfq.weight", "io.weight"];
    let found: Vec<_> = names.iter().filter_map(|name| std::fs::read_to_string(dir.join(name)).ok()).collect();
    ensure!(found.concat().contains(&format!("{major}:{minor} ")), "{names:?}: {found:?}");
    Ok(())
}

fn throttled(bench: &Bench, property: &str, v1: &str, v2: &str) -> Result<()> {
    let Some((major, minor)) = disk() else { skip!("no disk on this machine") };
    let rule = json!([{ "major": major, "minor": minor, "rate": 2048 }]);
    let (v1_text, v2_text) = (format!("{major}:{minor} 2048"), format!("{major}:{minor} {v2}"));
    expect(bench, ("blockIO", json!({ property: rule })), ("blkio", v1, &v1_text), ("io", "io.max", &v2_text))
}

fn throttle_write_bps(bench: &Bench) -> Result<()> {
    let v1 = "blkio.throttle.write_bps_device";
    throttled(bench, "throttleWriteBpsDevice", v1, "rbps=max wbps=2048 riops=max wiops=max")
}

fn throttle_read_iops(bench: &Bench) -> Result<()> {
    let v1 = "blkio.throttle.read_iops_device";
    throttled(bench, "throttleReadIOPSDevice", v1, "rbps=max wbps=max riops=2048 wiops=max")
}

fn throttle_write_iops(bench: &Bench) -> Result<()> {
    let v1 = "blkio.throttle.write_iops_device";
    throttled(bench, "throttleWriteIOPSDevice", v1, "rbps=max wbps=max riops=max wiops=2048")
}

/// A page size of this machine as the specification writes it: 2MB.
fn page_size() -> Option<String> {
    let entry = std::fs::read_dir("/sys/kernel/mm/hugepages").ok()?.flatten().next()?;
    let name = entry.file_name().to_string_lossy().into_owned();
    let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        size if size >= 1 << 20 => format!("{}GB", size >> 20),
        size if size >= 1 << 10 => format!("{}MB", size >> 10),
        size => format!("{size}KB"),
    })
}

fn hugepages(bench: &Bench) -> Result<()> {
    let Some(size) = page_size() else { skip!("this kernel has no huge pages") };
    let limits = json!([{ "pageSize": size, "limit": 4_194_304 }]);
    if bench.suite.cgroups.version_of("hugetlb").is_none() {
        return with_resources(bench, "hugepageLimits", limits)?.create_refused().map(drop);
    }
    let (v1, v2) = (format!("hugetlb.{size}.limit_in_bytes"), format!("hugetlb.{size}.max"));
    let limit = "4194304|2097152|0";
    expect(bench, ("hugepageLimits", limits), ("hugetlb", &v1, limit), ("hugetlb", &v2, limit))
}

fn unknown_page_size(bench: &Bench) -> Result<()> {
    let limits = json!([{ "pageSize": "3MB", "limit": 3_145_728 }]);
    with_resources(bench, "hugepageLimits", limits)?.create_refused().map(drop)
}

fn class_id(bench: &Bench) -> Result<()> {
    let network = json!({ "classID": 1_048_577 });
    match bench.suite.cgroups.version_of("net_cls") {
        Some(_) => expect_v1(bench, ("network", network), ("net_cls", "net_cls.classid", "1048577")),
        None => with_resources(bench, "network", network)?.create_refused().map(drop),
    }
}

fn priorities(bench: &Bench) -> Result<()> {
    let network = json!({ "priorities": [{ "name": "lo", "priority": 5 }] });
    if bench.suite.cgroups.version_of("net_prio").is_none() {
        return with_resources(bench, "network", network)?.create_refused().map(drop);
    }
    let container = with_resources(bench, "network", network)?;
    container.create()?;
    let (_, found) = container.cgroup_file("net_prio", "net_prio.ifpriomap", "")?;
    ensure!(found.lines().any(|line| line == "lo 5"), "net_prio.ifpriomap is {found}");
    Ok(())
}

fn rdma(bench: &Bench) -> Result<()> {
    let rdma = json!({ "no_such_device": { "hcaHandles": 3, "hcaObjects": 10 } });
    with_resources(bench, "rdma", rdma)?.create_refused().map(drop)
}

/// The owner of the cgroup and of two files in it: one that is given away with it, one that never is.
fn owners(bench: &Bench, options: &[&str]) -> Result<(Version, [u32; 3])> {
    use std::os::unix::fs::MetadataExt;
    let controller = "pids";
    let mut container = Container::holding(bench)?;
    container.namespace(json!({ "type": "cgroup" }));
    container.config["process"]["user"] = json!({ "uid": 1234, "gid": 1234 });
    container.mount(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs" }));
    container
        .mount(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options }));
    container.config["linux"]["namespaces"].as_array_mut().context("namespaces")?.push(json!({ "type": "network" }));
    container.create()?;
    let (version, dir) = bench.suite.cgroups.dir_of(container.pid()?, controller)?;
    let owner = |name: &str| std::fs::metadata(dir.join(name)).map(|found| found.uid());
    Ok((version, [owner(".")?, owner("cgroup.procs")?, owner("pids.max")?]))
}

/// A runtime may give the cgroup away: one that does not says nothing about the rules.
fn owner(bench: &Bench) -> Result<()> {
    let (version, found) = owners(bench, &["rw", "nosuid", "noexec", "nodev"])?;
    if version == Version::V2 && found == [0, 0, 0] {
        skip!("the runtime leaves the cgroup as it is, which it may");
    }
    let expected = if version == Version::V2 { [1234, 1234, 0] } else { [0, 0, 0] };
    ensure!(found == expected, "the owners of the cgroup, cgroup.procs and pids.max are {found:?}, not {expected:?}");
    Ok(())
}

fn owner_read_only(bench: &Bench) -> Result<()> {
    let (_, found) = owners(bench, &["ro", "nosuid", "noexec", "nodev"])?;
    ensure!(found == [0, 0, 0], "the owners of the cgroup, cgroup.procs and pids.max are {found:?}");
    Ok(())
}
