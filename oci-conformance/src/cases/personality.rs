//! config-linux.md: personality and memoryPolicy.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(personality, "config-linux.md#personality", "LINUX32 shows the machine of 32 bits")
        .known(&[("runc", "1.1.5 does not know it")]),
    case!(unknown_personality, "config-linux.md#personality", "an unknown domain is refused")
        .known(&[("runc", "1.1.5 does not know it")]),
    case!(memory_policy, "config-linux.md#memory-policy", "mode, nodes and flags are in force")
        .known(UNKNOWN_TO_OTHERS),
    case!(unknown_memory_policy, "config-linux.md#memory-policy", "an unknown mode is refused")
        .known(UNKNOWN_TO_OTHERS),
];

const UNKNOWN_TO_OTHERS: &[(&str, &str)] = &[("runc", "1.1.5 does not know it"), ("crun", "1.8.1 does not know it")];

fn with<'a>(bench: &'a Bench, property: &str, value: Value) -> Result<Container<'a>> {
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.3.0");
    container.config["linux"][property] = value;
    Ok(container)
}

fn personality(bench: &Bench) -> Result<()> {
    for (domain, expected) in [("LINUX", 0), ("LINUX32", 8)] {
        let mut container = with(bench, "personality", json!({ "domain": domain }))?;
        let report = container.report(&["read:/proc/self/personality"])?;
        let found = report.worked("read:/proc/self/personality")?.as_str().unwrap_or_default();
        let number = u32::from_str_radix(found.trim(), 16)?;
        ensure!(number & 0xff == expected, "the personality with {domain} is {number:#x}");
    }
    Ok(())
}

fn unknown_personality(bench: &Bench) -> Result<()> {
    with(bench, "personality", json!({ "domain": "NO_SUCH" }))?.create_or_start_refused()
}

fn memory_policy(bench: &Bench) -> Result<()> {
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        skip!("this kernel has no NUMA");
    }
    let policy = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
    let mut container = with(bench, "memoryPolicy", policy)?;
    let report = container.report(&["read:/proc/self/numa_maps"])?;
    let maps = report.worked("read:/proc/self/numa_maps")?.as_str().unwrap_or_default();
    ensure!(maps.contains(" bind=static:0 "), "the policy is {}", maps.lines().next().unwrap_or_default());
    Ok(())
}

fn unknown_memory_policy(bench: &Bench) -> Result<()> {
    with(bench, "memoryPolicy", json!({ "mode": "MPOL_NO_SUCH" }))?.create_or_start_refused()
}
