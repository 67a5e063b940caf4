//! `linux.memoryPolicy` (set_mempolicy(2)): from which NUMA nodes the container's memory comes.

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode, Spec};

use super::number_list;
use crate::error::{Context as _, Result, ensure};
use crate::sys::schedule::set_memory_policy;

/// The modes that are known, for `features`.
pub const MODES: &[&str] = &[
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// The flags that are known, for `features`.
pub const FLAGS: &[&str] = &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// The list of nodes is one, and there where the mode needs it and only there.
pub fn check(spec: &Spec) -> Result<()> {
    let Some(policy) = configured(spec) else { return Ok(()) };
    let nodes = nodes(policy)?;
    let mode = policy.mode();
    match mode {
        Mode::MpolDefault | Mode::MpolLocal => {
            ensure!(nodes.is_empty(), "linux.memoryPolicy.nodes: {mode} takes no nodes");
        }
        Mode::MpolPreferred => {}
        _ => ensure!(!nodes.is_empty(), "linux.memoryPolicy.nodes: {mode} needs at least one node"),
    }
    Ok(())
}

/// Takes the policy on; the program keeps it.
pub fn apply(spec: &Spec) -> Result<()> {
    let Some(policy) = configured(spec) else { return Ok(()) };
    let flags = policy.flags().iter().flatten().map(|flag| flag_number(*flag)).fold(0, |all, flag| all | flag);
    set_memory_policy(mode_number(policy.mode()) | flags, &nodes(policy)?).with_context(|| {
        let nodes = policy.nodes().as_deref().unwrap_or_default();
        format!("linux.memoryPolicy: set_mempolicy {} for nodes {nodes:?}", policy.mode())
    })
}

fn configured(spec: &Spec) -> Option<&LinuxMemoryPolicy> {
    spec.linux().as_ref()?.memory_policy().as_ref()
}

fn nodes(policy: &LinuxMemoryPolicy) -> Result<Vec<u64>> {
    number_list::mask(policy.nodes().as_deref().unwrap_or_default()).context("linux.memoryPolicy.nodes")
}

fn mode_number(mode: Mode) -> libc::c_int {
    match mode {
        Mode::MpolDefault => libc::MPOL_DEFAULT,
        Mode::MpolPreferred => libc::MPOL_PREFERRED,
        Mode::MpolBind => libc::MPOL_BIND,
        Mode::MpolInterleave => libc::MPOL_INTERLEAVE,
        Mode::MpolLocal => libc::MPOL_LOCAL,
        Mode::MpolPreferredMany => 5,      // Linux 5.15
        Mode::MpolWeightedInterleave => 6, // Linux 6.9
    }
}

fn flag_number(flag: Flag) -> libc::c_int {
    match flag {
        Flag::MpolFNumaBalancing => libc::MPOL_F_NUMA_BALANCING,
        Flag::MpolFRelativeNodes => libc::MPOL_F_RELATIVE_NODES,
        Flag::MpolFStaticNodes => libc::MPOL_F_STATIC_NODES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(policy: &str) -> Result<()> {
        let json = r#"{"ociVersion":"1.0.0","linux":{"memoryPolicy":POLICY}}"#.replace("POLICY", policy);
        check(&serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn a_mode_has_the_nodes_that_it_needs() {
        for good in [
            r#"{"mode":"MPOL_DEFAULT"}"#,
            r#"{"mode":"MPOL_LOCAL","nodes":""}"#,
            r#"{"mode":"MPOL_BIND","nodes":"0-1","flags":["MPOL_F_STATIC_NODES"]}"#,
            r#"{"mode":"MPOL_PREFERRED"}"#,
        ] {
            checked(good).unwrap();
        }
        for bad in [
            r#"{"mode":"MPOL_DEFAULT","nodes":"0"}"#,
            r#"{"mode":"MPOL_BIND"}"#,
            r#"{"mode":"MPOL_WEIGHTED_INTERLEAVE","nodes":""}"#,
            r#"{"mode":"MPOL_BIND","nodes":"all"}"#,
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_features_names_is_what_is_read() {
        for mode in MODES {
            let mode: Mode = serde_json::from_value((*mode).into()).unwrap();
            assert!((0..=6).contains(&mode_number(mode)));
        }
        for flag in FLAGS {
            let flag: Flag = serde_json::from_value((*flag).into()).unwrap();
            assert!(flag_number(flag) >= 1 << 13);
        }
    }
}
