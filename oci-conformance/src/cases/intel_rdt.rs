//! config-linux.md: intelRdt.

use anyhow::Result;
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;

pub const CASES: &[Case] =
    &[case!(not_mounted, "config-linux.md#intelrdt", "without a mounted resctrl filesystem intelRdt is refused")];

fn not_mounted(bench: &Bench) -> Result<()> {
    if std::fs::read_to_string("/proc/self/mountinfo")?.contains(" - resctrl ") {
        skip!("there is a resctrl filesystem");
    }
    let mut container = Container::new(bench)?;
    container.config["linux"]["intelRdt"] = json!({ "l3CacheSchema": "L3:0=f" });
    container.create_refused().map(drop)
}
