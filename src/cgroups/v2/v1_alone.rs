//! What cgroup v2 cannot do: an error, as config-linux.md asks for where there is no conversion ("Unified").

use oci_spec::runtime::LinuxResources;

use crate::error::{Result, bail};

/// Refuses what only v1 has. What is 0, or off, is unset, as callers write it; `memory.kernel` no kernel has any more.
pub(super) fn refuse(resources: &LinuxResources) -> Result<()> {
    let memory = resources.memory().as_ref();
    #[allow(deprecated, reason = "to refuse it")]
    let kernel_tcp = memory.and_then(|memory| memory.kernel_tcp()).unwrap_or(0);
    let swappiness = memory.and_then(|memory| memory.swappiness()).unwrap_or(u64::MAX);
    let oom_killer_disabled = memory.and_then(|memory| memory.disable_oom_killer()).unwrap_or(false);
    let cpu = resources.cpu().as_ref();
    let block_io = resources.block_io().as_ref();
    let leaf = |weight: Option<u16>| weight.is_some_and(|weight| weight != 0);
    let leaf_of_device = block_io
        .and_then(|block_io| block_io.weight_device().as_ref())
        .is_some_and(|devices| devices.iter().any(|device| leaf(device.leaf_weight())));
    let network = resources.network().as_ref();
    for (is_set, property) in [
        (kernel_tcp != 0, "memory.kernelTCP"),
        (swappiness != u64::MAX, "memory.swappiness"),
        (oom_killer_disabled, "memory.disableOOMKiller"),
        (cpu.and_then(|cpu| cpu.realtime_runtime()).unwrap_or(0) != 0, "cpu.realtimeRuntime"),
        (cpu.and_then(|cpu| cpu.realtime_period()).unwrap_or(0) != 0, "cpu.realtimePeriod"),
        (block_io.is_some_and(|block_io| leaf(block_io.leaf_weight())), "blockIO.leafWeight"),
        (leaf_of_device, "blockIO.weightDevice: leafWeight"),
        (network.and_then(|network| network.class_id()).unwrap_or(0) != 0, "network.classID"),
        (
            network.and_then(|network| network.priorities().as_ref()).is_some_and(|list| !list.is_empty()),
            "network.priorities",
        ),
    ] {
        if is_set {
            bail!("linux.resources.{property}: cgroup v2 has no such limit");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_refused_by_its_name() {
        for (resources, property) in [
            (r#"{"memory":{"kernelTCP":1}}"#, "memory.kernelTCP"),
            (r#"{"memory":{"swappiness":0}}"#, "memory.swappiness"),
            (r#"{"memory":{"disableOOMKiller":true}}"#, "memory.disableOOMKiller"),
            (r#"{"cpu":{"realtimeRuntime":1}}"#, "cpu.realtimeRuntime"),
            (r#"{"cpu":{"realtimePeriod":1}}"#, "cpu.realtimePeriod"),
            (r#"{"blockIO":{"leafWeight":10}}"#, "blockIO.leafWeight"),
            (r#"{"blockIO":{"weightDevice":[{"major":1,"minor":1,"leafWeight":10}]}}"#, "blockIO.weightDevice"),
            (r#"{"network":{"classID":1}}"#, "network.classID"),
            (r#"{"network":{"priorities":[{"name":"lo","priority":1}]}}"#, "network.priorities"),
        ] {
            let error = refuse(&serde_json::from_str(resources).unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("linux.resources.{property}: ")), "{resources}: {error}");
        }
    }

    #[test]
    fn what_callers_write_for_unset_passes() {
        for resources in [
            r#"{}"#,
            r#"{"memory":{"kernel":5,"kernelTCP":0,"swappiness":18446744073709551615,"disableOOMKiller":false}}"#,
            r#"{"cpu":{"realtimeRuntime":0,"realtimePeriod":0},"blockIO":{"leafWeight":0,"weightDevice":[]}}"#,
            r#"{"network":{"classID":0,"priorities":[]}}"#,
        ] {
            refuse(&serde_json::from_str(resources).unwrap()).unwrap();
        }
    }
}
