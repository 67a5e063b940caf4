//! config-linux.md#memory-policy.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(default, "config-linux.md#memory-policy", "MPOL_DEFAULT and MPOL_LOCAL take no nodes").known(UNKNOWN),
    case!(bind, "config-linux.md#memory-policy", "MPOL_BIND with nodes").known(UNKNOWN),
    case!(interleave, "config-linux.md#memory-policy", "MPOL_INTERLEAVE and MPOL_WEIGHTED_INTERLEAVE with nodes")
        .known(UNKNOWN),
    case!(preferred, "config-linux.md#memory-policy", "MPOL_PREFERRED and MPOL_PREFERRED_MANY with nodes")
        .known(UNKNOWN),
    case!(static_nodes, "config-linux.md#memory-policy", "MPOL_F_STATIC_NODES is in force").known(UNKNOWN),
    case!(relative_nodes, "config-linux.md#memory-policy", "MPOL_F_RELATIVE_NODES is in force").known(UNKNOWN),
    case!(numa_balancing, "config-linux.md#memory-policy", "MPOL_F_NUMA_BALANCING is accepted with MPOL_BIND")
        .known(UNKNOWN),
    case!(unknown_mode, "config-linux.md#memory-policy", "an unknown mode is refused").known(UNKNOWN),
    case!(unknown_flag, "config-linux.md#memory-policy", "an unknown flag is refused").known(UNKNOWN),
    case!(bad_nodes, "config-linux.md#memory-policy", "nodes that are no list, not there or missing are refused")
        .known(UNKNOWN),
];

const UNKNOWN: &[(&str, &str)] =
    &[("runc 1.1", "does not know it"), ("runc 1.3", "does not know it"), ("crun 1.8", "does not know it")];

fn with<'a>(bench: &'a Bench, policy: Value) -> Result<Container<'a>> {
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        skip!("this kernel has no NUMA");
    }
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.3.0");
    container.config["linux"]["memoryPolicy"] = policy;
    Ok(container)
}

/// Runs with the policy; numa_maps has to tell one of these words.
fn expect(bench: &Bench, policy: Value, words: &[&str]) -> Result<()> {
    let report = with(bench, policy.clone())?.report(&["read:/proc/self/numa_maps"])?;
    let maps = report.worked("read:/proc/self/numa_maps")?.as_str().unwrap_or_default();
    let first = maps.lines().next().unwrap_or_default();
    ensure!(words.iter().any(|word| first.contains(word)), "{policy} gives {first}");
    Ok(())
}

fn default(bench: &Bench) -> Result<()> {
    expect(bench, json!({ "mode": "MPOL_DEFAULT" }), &[" default "])?;
    expect(bench, json!({ "mode": "MPOL_LOCAL" }), &[" local "])
}

fn bind(bench: &Bench) -> Result<()> {
    expect(bench, json!({ "mode": "MPOL_BIND", "nodes": "0" }), &[" bind:0 "])
}

fn interleave(bench: &Bench) -> Result<()> {
    expect(bench, json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0" }), &[" interleave:0 "])?;
    if !std::path::Path::new("/sys/kernel/mm/mempolicy/weighted_interleave").exists() {
        // Linux 6.9.
        return with(bench, json!({ "mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0" }))?.create_or_start_refused();
    }
    expect(bench, json!({ "mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0" }), &[" weighted interleave:0 "])
}

fn preferred(bench: &Bench) -> Result<()> {
    expect(bench, json!({ "mode": "MPOL_PREFERRED", "nodes": "0" }), &[" prefer:0 "])?;
    expect(bench, json!({ "mode": "MPOL_PREFERRED_MANY", "nodes": "0" }), &[" prefer (many):0 "])
}

fn static_nodes(bench: &Bench) -> Result<()> {
    let policy = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
    expect(bench, policy, &[" bind=static:0 "])
}

fn relative_nodes(bench: &Bench) -> Result<()> {
    let policy = json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"] });
    expect(bench, policy, &[" interleave=relative:0 "])
}

fn numa_balancing(bench: &Bench) -> Result<()> {
    let policy = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"] });
    // A kernel before 6.16 does not tell of the flag.
    expect(bench, policy, &[" bind=balancing:0 ", " bind:0 ", " bind=:0 "])
}

fn unknown_mode(bench: &Bench) -> Result<()> {
    with(bench, json!({ "mode": "MPOL_NO_SUCH" }))?.create_or_start_refused()
}

fn unknown_flag(bench: &Bench) -> Result<()> {
    with(bench, json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NO_SUCH"] }))?.create_or_start_refused()
}

fn bad_nodes(bench: &Bench) -> Result<()> {
    for policy in [
        json!({ "mode": "MPOL_BIND", "nodes": "x" }),
        json!({ "mode": "MPOL_BIND", "nodes": "1000" }),
        json!({ "mode": "MPOL_INTERLEAVE" }),
        json!({ "mode": "MPOL_DEFAULT", "nodes": "0" }),
    ] {
        with(bench, policy.clone())?.create_or_start_refused().with_context(|| policy.to_string())?;
    }
    Ok(())
}
