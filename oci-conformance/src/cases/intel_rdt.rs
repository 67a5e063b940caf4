//! config-linux.md: intelRdt.

use anyhow::Result;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(clos_id, "config-linux.md#intelrdt", "closID without a mounted resctrl filesystem is refused").known(UNKNOWN),
    case!(l3_cache_schema, "config-linux.md#intelrdt", "l3CacheSchema without a mounted resctrl filesystem is refused"),
    case!(mem_bw_schema, "config-linux.md#intelrdt", "memBwSchema without a mounted resctrl filesystem is refused"),
    case!(schemata, "config-linux.md#intelrdt", "schemata without a mounted resctrl filesystem is refused")
        .known(UNKNOWN),
    case!(enable_monitoring, "config-linux.md#intelrdt", "enableMonitoring without a resctrl filesystem is refused")
        .known(UNKNOWN),
    case!(empty, "config-linux.md#intelrdt", "an empty intelRdt without a resctrl filesystem is refused")
        .known(UNKNOWN),
];

const UNKNOWN: &[(&str, &str)] = &[("runc", "looks at l3CacheSchema and memBwSchema alone")];

/// Where the filesystem is mounted, classes are the machine's: nothing is tried on them.
fn refused(bench: &Bench, intel_rdt: Value) -> Result<()> {
    if std::fs::read_to_string("/proc/self/mountinfo")?.contains(" - resctrl ") {
        skip!("there is a resctrl filesystem");
    }
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.3.0");
    container.config["linux"]["intelRdt"] = intel_rdt;
    container.create_refused().map(drop)
}

fn clos_id(bench: &Bench) -> Result<()> {
    refused(bench, json!({ "closID": "some-class" }))
}

fn l3_cache_schema(bench: &Bench) -> Result<()> {
    refused(bench, json!({ "l3CacheSchema": "L3:0=f" }))
}

fn mem_bw_schema(bench: &Bench) -> Result<()> {
    refused(bench, json!({ "memBwSchema": "MB:0=50" }))
}

fn schemata(bench: &Bench) -> Result<()> {
    refused(bench, json!({ "schemata": ["L3:0=f", "MB:0=50"] }))
}

fn enable_monitoring(bench: &Bench) -> Result<()> {
    refused(bench, json!({ "enableMonitoring": true }))
}

fn empty(bench: &Bench) -> Result<()> {
    refused(bench, json!({}))
}
