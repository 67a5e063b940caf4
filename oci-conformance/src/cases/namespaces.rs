//! config-linux.md: namespaces, the mappings of a user namespace, the offsets of a time namespace.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;
use crate::report::Report;

pub const CASES: &[Case] = &[
    case!(new_pid, "config-linux.md#namespaces", "pid: the program is the first process of a new namespace"),
    case!(new_network, "config-linux.md#namespaces", "network: a new namespace, with a loopback device"),
    case!(new_mount, "config-linux.md#namespaces", "mount: a new namespace"),
    case!(new_ipc, "config-linux.md#namespaces", "ipc: a new namespace"),
    case!(new_uts, "config-linux.md#namespaces", "uts: a new namespace"),
    case!(new_cgroup, "config-linux.md#namespaces", "cgroup: a new namespace whose root is the container's cgroup"),
    case!(new_user, "config-linux.md#user-namespace-mappings", "user: a new namespace with the configured mappings"),
    case!(inherited, "config-linux.md#namespaces", "a type that is not listed is inherited from the runtime"),
    case!(joined, "config-linux.md#namespaces", "network, ipc and uts namespaces are joined by their paths"),
    case!(joined_cgroup, "config-linux.md#namespaces", "a cgroup namespace is joined by its path"),
    case!(joined_pid, "config-linux.md#namespaces", "a pid namespace is joined by its path"),
    case!(
        joined_user,
        "config-linux.md#namespaces",
        "a user namespace is joined by its path, and new ones belong to it"
    )
    .known(&[("runc 1.1", "asks for mappings beside the path")]),
    case!(wrong_type, "config-linux.md#namespaces", "a path to a namespace of another type is refused"),
    case!(not_a_namespace, "config-linux.md#namespaces", "a path to a file that is no namespace is refused"),
    case!(missing_path, "config-linux.md#namespaces", "a path that is not there is refused"),
    case!(relative_path, "config-linux.md#namespaces", "a path that is not absolute is refused"),
    case!(duplicate, "config-linux.md#namespaces", "a type that is listed twice is refused")
        .known(&[("crun 1.8", "does not compare the entries")]),
    case!(unknown, "config-linux.md#namespaces", "an unknown type is refused"),
];

/// The namespace's link as the suite sees it.
fn own(kind: &str) -> Result<String> {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).with_context(|| format!("our {kind} namespace"))?;
    Ok(link.to_string_lossy().into_owned())
}

pub fn expect_new(report: &Report, kind: &str) -> Result<()> {
    let found = report.at("/namespaces")[kind].as_str().with_context(|| format!("no {kind} namespace"))?;
    ensure!(found != own(kind)?, "the program is in the runtime's {kind} namespace, {found}");
    Ok(())
}

fn new(bench: &Bench, kind: &str, file: &str) -> Result<Report> {
    if !std::path::Path::new("/proc/self/ns").join(file).exists() {
        skip!("this kernel has no {kind} namespaces");
    }
    let mut container = Container::new(bench)?;
    container.namespace(json!({ "type": kind }));
    let report = container.report(&["read:/proc/self/net/dev", "list:/proc"])?;
    expect_new(&report, file)?;
    Ok(report)
}

fn new_pid(bench: &Bench) -> Result<()> {
    let report = new(bench, "pid", "pid")?;
    report.expect("/pid", json!(1))?;
    let names = report.worked("list:/proc")?.as_array().cloned().unwrap_or_default();
    let pids: Vec<_> = names.iter().filter_map(|name| name.as_str()?.parse::<u32>().ok()).collect();
    ensure!(pids == [1], "/proc shows the processes {pids:?}");
    Ok(())
}

fn new_network(bench: &Bench) -> Result<()> {
    let report = new(bench, "network", "net")?;
    let devices = report.worked("read:/proc/self/net/dev")?.as_str().unwrap_or_default();
    ensure!(devices.contains("lo:"), "no loopback device: {devices}");
    ensure!(!devices.contains("eth0:"), "the host's devices are seen: {devices}");
    Ok(())
}

fn new_mount(bench: &Bench) -> Result<()> {
    new(bench, "mount", "mnt").map(drop)
}

fn new_ipc(bench: &Bench) -> Result<()> {
    new(bench, "ipc", "ipc").map(drop)
}

fn new_uts(bench: &Bench) -> Result<()> {
    new(bench, "uts", "uts").map(drop)
}

fn new_cgroup(bench: &Bench) -> Result<()> {
    let report = new(bench, "cgroup", "cgroup")?;
    let table = report.at("/cgroup").as_str().unwrap_or_default();
    ensure!(!table.contains(&bench.suite.mark), "the cgroup's path on the host is seen: {table}");
    Ok(())
}

fn new_user(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.namespace(json!({ "type": "user" }));
    container.config["linux"]["uidMappings"] = json!([
        { "containerID": 0, "hostID": 100_000, "size": 1000 },
        { "containerID": 2000, "hostID": 200_000, "size": 10 },
    ]);
    container.config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    let maps = ["read:/proc/self/uid_map", "read:/proc/self/gid_map"];
    let report = container.report(&maps)?;
    expect_new(&report, "user")?;
    report.expect("/uids", json!([0, 0, 0]))?;
    let expected = ["0 100000 1000 2000 200000 10", "0 100000 65536"];
    for (question, expected) in maps.iter().zip(expected) {
        let map = report.worked(question)?.as_str().unwrap_or_default();
        let words = map.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(words == expected, "{question} gives {words}, not {expected}");
    }
    Ok(())
}

fn inherited(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    ["pid", "ipc", "uts"].iter().for_each(|kind| container.no_namespace(kind));
    let report = container.report(&[])?;
    for kind in ["pid", "ipc", "uts", "net", "cgroup", "user"] {
        let found = &report.at("/namespaces")[kind];
        ensure!(*found == json!(own(kind)?), "the {kind} namespace is {found}, not the runtime's {}", own(kind)?);
    }
    Ok(())
}

/// Runs a second container that joins namespaces of a first one by path, and compares.
fn joins(bench: &Bench, kinds: &[(&str, &str)]) -> Result<()> {
    let mut first = Container::holding(bench)?;
    for kind in ["network", "cgroup"] {
        first.namespace(json!({ "type": kind }));
    }
    first.launch()?;
    first.wait_for_output("holding")?;
    let pid = first.pid()?;
    let mut second = Container::new(bench)?;
    for (kind, file) in kinds {
        second.namespace(json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") }));
    }
    let report = second.report(&[])?;
    for (kind, file) in kinds {
        let (found, expected) = (&report.at("/namespaces")[file], fs::read_link(format!("/proc/{pid}/ns/{file}"))?);
        ensure!(*found == json!(expected), "the {kind} namespace is {found}, not {}", expected.display());
    }
    Ok(())
}

fn joined(bench: &Bench) -> Result<()> {
    joins(bench, &[("network", "net"), ("ipc", "ipc"), ("uts", "uts")])
}

fn joined_cgroup(bench: &Bench) -> Result<()> {
    joins(bench, &[("cgroup", "cgroup")])
}

fn joined_pid(bench: &Bench) -> Result<()> {
    joins(bench, &[("pid", "pid")])
}

fn joined_user(bench: &Bench) -> Result<()> {
    let mut first = Container::holding(bench)?;
    first.namespace(json!({ "type": "user" }));
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    first.config["linux"]["uidMappings"] = mapping.clone();
    first.config["linux"]["gidMappings"] = mapping;
    first.launch()?;
    first.wait_for_output("holding")?;
    let path = format!("/proc/{}/ns/user", first.pid()?);
    let mut second = Container::new(bench)?;
    second.namespace(json!({ "type": "user", "path": path }));
    second.config["process"]["capabilities"] = json!({});
    let report = second.report(&["read:/proc/self/uid_map"])?;
    let expected = fs::read_link(&path)?;
    report.expect("/namespaces/user", json!(expected))?;
    ["pid", "ipc", "uts", "mnt"].iter().try_for_each(|kind| expect_new(&report, kind))?;
    report.expect("/uids", json!([0, 0, 0]))?;
    let map = report.worked("read:/proc/self/uid_map")?.as_str().unwrap_or_default();
    let words = map.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(words == "0 100000 65536", "the mapping is {words}");
    Ok(())
}

fn refused_path(bench: &Bench, path: &str) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.namespace(json!({ "type": "network", "path": path }));
    container.create_refused().map(drop)
}

fn wrong_type(bench: &Bench) -> Result<()> {
    refused_path(bench, &format!("/proc/{}/ns/ipc", std::process::id()))
}

fn not_a_namespace(bench: &Bench) -> Result<()> {
    refused_path(bench, &bench.suite.probe().to_string_lossy())
}

fn missing_path(bench: &Bench) -> Result<()> {
    refused_path(bench, "/no/such/namespace")
}

fn relative_path(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    // From the runtime's directory the path leads to a network namespace.
    std::os::unix::fs::symlink(format!("/proc/{}/ns/net", std::process::id()), container.dir.join("net"))?;
    container.namespace(json!({ "type": "network", "path": "net" }));
    container.create_refused().map(drop)
}

fn duplicate(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    if let Some(list) = container.config["linux"]["namespaces"].as_array_mut() {
        list.push(json!({ "type": "uts" }));
    }
    container.create_refused().map(drop)
}

fn unknown(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.namespace(json!({ "type": "no-such-type" }));
    container.create_refused().map(drop)
}
