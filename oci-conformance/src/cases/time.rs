//! config-linux.md: the time namespace and its offsets.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::namespaces::expect_new;
use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(both_clocks, "config-linux.md#offset-for-time-namespace", "secs and nanosecs of both clocks").known(UNKNOWN),
    case!(no_offsets, "config-linux.md#namespaces", "time: a new namespace, without offsets as the runtime's")
        .known(UNKNOWN),
    case!(empty_offsets, "config-linux.md#offset-for-time-namespace", "an empty timeOffsets is as none").known(&[
        ("runc 1.1", "does not know it"),
        ("runc 1.3", "writes nothing to timens_offsets then, which the kernel refuses"),
        ("crun 1.8", "fails without a user namespace"),
    ]),
    case!(negative, "config-linux.md#offset-for-time-namespace", "secs may be negative").known(UNKNOWN),
    case!(unknown_clock, "config-linux.md#offset-for-time-namespace", "a clock that has no offset is refused").known(
        &[("runc 1.1", "does not know it"), ("crun 1.28", "reads the two clocks that have one, and no other name")],
    ),
    case!(
        without_namespace,
        "config-linux.md#offset-for-time-namespace",
        "offsets without a new time namespace are refused"
    )
    .known(UNKNOWN),
    case!(joined, "config-linux.md#namespaces", "a time namespace is joined by its path").known(&[
        ("runc 1.1", "does not know it"),
        ("crun 1.8", "fails without a user namespace"),
        (
            "crun 1.28",
            "the process that joins is the first of the new pid namespace, and ends, which kills the container",
        ),
    ]),
];

const UNKNOWN: &[(&str, &str)] = &[("runc 1.1", "does not know it"), ("crun 1.8", "fails without a user namespace")];

const OFFSETS: &str = "read:/proc/self/timens_offsets";

fn with<'a>(bench: &'a Bench, offsets: Value) -> Result<Container<'a>> {
    if !std::path::Path::new("/proc/self/ns/time").exists() {
        skip!("this kernel has no time namespaces");
    }
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.1.0");
    container.namespace(json!({ "type": "time" }));
    container.config["linux"]["timeOffsets"] = offsets;
    Ok(container)
}

fn expect(bench: &Bench, offsets: Value, expected: &str) -> Result<()> {
    expect_in(with(bench, offsets)?, expected)
}

fn expect_in(mut container: Container, expected: &str) -> Result<()> {
    let report = container.report(&[OFFSETS])?;
    expect_new(&report, "time")?;
    let found = report.worked(OFFSETS)?.as_str().unwrap_or_default();
    let words = found.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(words == expected, "the offsets are {words}");
    Ok(())
}

fn both_clocks(bench: &Bench) -> Result<()> {
    let offsets = json!({ "monotonic": { "secs": 1000, "nanosecs": 5 }, "boottime": { "secs": 2000 } });
    expect(bench, offsets, "monotonic 1000 5 boottime 2000 0")?;
    expect(bench, json!({ "boottime": { "nanosecs": 7 } }), "monotonic 0 0 boottime 0 7")
}

fn no_offsets(bench: &Bench) -> Result<()> {
    let mut container = with(bench, json!({}))?;
    if let Some(linux) = container.config["linux"].as_object_mut() {
        linux.remove("timeOffsets");
    }
    expect_in(container, "monotonic 0 0 boottime 0 0")
}

fn empty_offsets(bench: &Bench) -> Result<()> {
    expect(bench, json!({}), "monotonic 0 0 boottime 0 0")
}

fn negative(bench: &Bench) -> Result<()> {
    expect(bench, json!({ "monotonic": { "secs": -1 } }), "monotonic -1 0 boottime 0 0")
}

fn unknown_clock(bench: &Bench) -> Result<()> {
    with(bench, json!({ "realtime": { "secs": 1 } }))?.create_refused().map(drop)
}

fn without_namespace(bench: &Bench) -> Result<()> {
    let mut container = with(bench, json!({ "monotonic": { "secs": 1 } }))?;
    container.no_namespace("time");
    container.create_refused().map(drop)
}

fn joined(bench: &Bench) -> Result<()> {
    let mut first = with(bench, json!({ "monotonic": { "secs": 77 } }))?;
    first.args(&["hold"]);
    first.launch()?;
    first.wait_for_output("holding")?;
    let path = format!("/proc/{}/ns/time", first.pid()?);
    let mut second = Container::new(bench)?;
    second.namespace(json!({ "type": "time", "path": path }));
    let report = second.report(&[OFFSETS])?;
    report.expect("/namespaces/time", json!(std::fs::read_link(&path)?))
}
