//! Values of `linux.resources` that the spec forbids, refused before anything is made or written.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources};

use super::device_rules;
use crate::error::{Context, Result, bail};

/// Refuses what no kernel and no hierarchy accepts; the error starts with the property's path.
pub fn check(resources: &LinuxResources) -> Result<()> {
    device_rules::parse(resources.devices().as_deref().unwrap_or_default())?;
    if let Some(memory) = resources.memory() {
        memory_values(memory).context("linux.resources.memory")?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_values(cpu).context("linux.resources.cpu")?;
    }
    if let Some(block_io) = resources.block_io() {
        block_io_values(block_io).context("linux.resources.blockIO")?;
    }
    for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        hugepage_limit(index, limit)?;
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        if limit.hca_handles().is_none() && limit.hca_objects().is_none() {
            bail!("linux.resources.rdma[{device:?}]: neither hcaHandles nor hcaObjects is set");
        }
    }
    for key in resources.unified().iter().flat_map(|unified| unified.keys()) {
        if key.is_empty() || key.contains('/') {
            bail!("linux.resources.unified: {key:?} must be a file name (no slashes)");
        }
        if matches!(key.as_str(), "cgroup.procs" | "cgroup.threads") {
            bail!("linux.resources.unified: {key:?} moves processes, it is no resource");
        }
    }
    Ok(())
}

fn memory_values(memory: &LinuxMemory) -> Result<()> {
    for (name, value) in [("limit", memory.limit()), ("reservation", memory.reservation()), ("swap", memory.swap())] {
        if let Some(bytes) = value.filter(|bytes| *bytes < -1) {
            bail!("{name}: {bytes} is neither a number of bytes nor -1");
        }
    }
    if let (Some(limit), Some(swap)) = (memory.limit(), memory.swap())
        && limit > 0
        && swap > 0
        && swap < limit
    {
        bail!("swap: memory+swap limit should be >= memory limit ({swap} < {limit})");
    }
    match memory.swappiness() {
        // runc takes -1, in a field that the spec has unsigned, for "unset".
        Some(swappiness) if swappiness > 100 && swappiness != u64::MAX => {
            bail!("swappiness: invalid memory swappiness value: {swappiness} (valid range is 0-100)")
        }
        _ => Ok(()),
    }
}

fn cpu_values(cpu: &LinuxCpu) -> Result<()> {
    if let Some(idle) = cpu.idle().filter(|idle| !(0..=1).contains(idle)) {
        bail!("idle: {idle} is neither 0 nor 1");
    }
    if let (Some(quota), Some(burst)) = (cpu.quota(), cpu.burst())
        && quota > 0
        && burst > quota.unsigned_abs()
    {
        bail!("burst: {burst} is larger than the quota, {quota}");
    }
    for (name, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        if let Some(list) = list
            && !list.bytes().all(|byte| byte.is_ascii_digit() || b",- \n".contains(&byte))
        {
            bail!("{name}: {list:?} is no list of numbers and ranges");
        }
    }
    Ok(())
}

fn block_io_values(block_io: &LinuxBlockIo) -> Result<()> {
    // 0 is "unset" for the callers.
    let valid = |weight: Option<u16>| weight.is_none_or(|weight| weight == 0 || (1..=1000).contains(&weight));
    if !valid(block_io.weight()) || !valid(block_io.leaf_weight()) {
        bail!("weight, leafWeight: the valid range is 10-1000");
    }
    for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
        if device.weight().is_none() && device.leaf_weight().is_none() {
            bail!("weightDevice[{index}]: neither weight nor leafWeight is set");
        }
        if !valid(device.weight()) || !valid(device.leaf_weight()) {
            bail!("weightDevice[{index}]: the valid range of a weight is 10-1000");
        }
        if device.major() < 0 || device.minor() < 0 {
            bail!("weightDevice[{index}]: {}:{} is no device", device.major(), device.minor());
        }
    }
    let throttles = [
        ("throttleReadBpsDevice", block_io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", block_io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", block_io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", block_io.throttle_write_iops_device()),
    ];
    for (name, devices) in throttles {
        for (index, device) in devices.iter().flatten().enumerate() {
            if device.major() < 0 || device.minor() < 0 {
                bail!("{name}[{index}]: {}:{} is no device", device.major(), device.minor());
            }
        }
    }
    Ok(())
}

/// The spec's `^[1-9][0-9]*[KMG]B$`; it becomes a part of a file's name.
fn hugepage_limit(index: usize, limit: &LinuxHugepageLimit) -> Result<()> {
    let size = limit.page_size();
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    let well_formed = number.is_some_and(|number| {
        !number.starts_with('0') && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !well_formed {
        bail!("linux.resources.hugepageLimits[{index}].pageSize: {size:?} is no size such as \"2MB\"");
    }
    if limit.limit() < 0 {
        bail!("linux.resources.hugepageLimits[{index}].limit: {} is no number of bytes", limit.limit());
    }
    Ok(())
}

/// The first property that asks for a limit; device rules are none. What is 0 is unset, as callers write it.
pub(super) fn limited(resources: &LinuxResources) -> Option<&'static str> {
    let set = |value: Option<u64>| value.is_some_and(|value| value != 0);
    let signed = |value: Option<i64>| value.is_some_and(|value| value != 0);
    let named = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
    if resources.memory().is_some_and(|memory| {
        signed(memory.limit())
            || signed(memory.reservation())
            || signed(memory.swap())
            || memory.swappiness().is_some_and(|swappiness| swappiness != u64::MAX)
            || memory.disable_oom_killer() == Some(true)
    }) {
        return Some("linux.resources.memory");
    }
    if resources.cpu().as_ref().is_some_and(|cpu| {
        set(cpu.shares())
            || signed(cpu.quota())
            || set(cpu.period())
            || cpu.burst().is_some()
            || cpu.idle().is_some()
            || signed(cpu.realtime_runtime())
            || set(cpu.realtime_period())
            || named(cpu.cpus())
            || named(cpu.mems())
    }) {
        return Some("linux.resources.cpu");
    }
    if resources.pids().is_some() {
        return Some("linux.resources.pids");
    }
    if resources.block_io().as_ref().is_some_and(|block_io| *block_io != LinuxBlockIo::default()) {
        return Some("linux.resources.blockIO");
    }
    if resources.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty()) {
        return Some("linux.resources.hugepageLimits");
    }
    if resources.network().as_ref().is_some_and(|network| {
        network.class_id().is_some_and(|class| class != 0)
            || network.priorities().as_ref().is_some_and(|priorities| !priorities.is_empty())
    }) {
        return Some("linux.resources.network");
    }
    if resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
        return Some("linux.resources.rdma");
    }
    resources.unified().as_ref().filter(|unified| !unified.is_empty()).map(|_| "linux.resources.unified")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::one_line;

    fn refusal(json: &str) -> String {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        check(&resources).map_or_else(|error| one_line(&error), |()| String::new())
    }

    #[test]
    fn a_forbidden_value_is_refused_by_its_path() {
        for (json, expected) in [
            (r#"{"memory":{"limit":-5}}"#, "linux.resources.memory: limit: -5 "),
            (r#"{"memory":{"limit":100,"swap":50}}"#, "linux.resources.memory: swap: memory+swap limit should be"),
            (r#"{"memory":{"swappiness":101}}"#, "linux.resources.memory: swappiness: "),
            (r#"{"cpu":{"idle":2}}"#, "linux.resources.cpu: idle: 2 "),
            (r#"{"cpu":{"quota":10,"burst":11}}"#, "linux.resources.cpu: burst: 11 "),
            (r#"{"cpu":{"cpus":"all"}}"#, "linux.resources.cpu: cpus: \"all\" "),
            (r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0}]}}"#, "linux.resources.blockIO: weightDevice[0]: "),
            (r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#, "linux.resources.hugepageLimits[0].pageSize: "),
            (r#"{"rdma":{"mlx":{}}}"#, "linux.resources.rdma[\"mlx\"]: "),
            (r#"{"unified":{"../memory.max":"1"}}"#, "linux.resources.unified: "),
            (r#"{"unified":{"cgroup.procs":"1"}}"#, "linux.resources.unified: "),
            (r#"{"devices":[{"allow":true,"access":"rx"}]}"#, "linux.resources.devices[0]: "),
        ] {
            let line = refusal(json);
            assert!(line.starts_with(expected), "{json}: {line:?}");
        }
    }

    #[test]
    fn what_callers_send_is_accepted() {
        assert_eq!(refusal(r#"{"memory":{"limit":-1,"swap":-1},"cpu":{"cpus":"0-3,7"},"blockIO":{"weight":0}}"#), "");
        assert_eq!(
            refusal(r#"{"devices":[{"allow":false,"access":"rwm"}],"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#),
            ""
        );
    }

    #[test]
    fn zeroes_and_device_rules_are_no_limits() {
        let resources = |json| serde_json::from_str::<LinuxResources>(json).unwrap();
        assert_eq!(limited(&resources(r#"{"devices":[],"memory":{"limit":0},"cpu":{"cpus":""},"blockIO":{}}"#)), None);
        assert_eq!(limited(&resources(r#"{"cpu":{"idle":0}}"#)), Some("linux.resources.cpu"));
        assert_eq!(limited(&resources(r#"{"unified":{"memory.high":"1"}}"#)), Some("linux.resources.unified"));
    }
}
