//! config-linux.md: sysctl.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(ipc_and_network, "config-linux.md#sysctl", "kernel parameters of the container's namespaces are set"),
    case!(the_host_keeps_its_own, "config-linux.md#sysctl", "the host's parameters do not change"),
    case!(unknown, "config-linux.md#sysctl", "a parameter that is not there is refused"),
];

const FILE: &str = "/proc/sys/kernel/shmmni";

fn ipc_and_network(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.namespace(json!({ "type": "network" }));
    container.config["linux"]["sysctl"] = json!({ "kernel.shmmni": "1234", "net.ipv4.ip_forward": "1" });
    let forward = "read:/proc/sys/net/ipv4/ip_forward";
    let report = container.report(&["read:/proc/sys/kernel/shmmni", forward])?;
    let value = report.worked("read:/proc/sys/kernel/shmmni")?;
    ensure!(value == "1234\n", "kernel.shmmni is {value}");
    ensure!(report.worked(forward)? == "1\n", "net.ipv4.ip_forward is {}", report.worked(forward)?);
    Ok(())
}

fn the_host_keeps_its_own(bench: &Bench) -> Result<()> {
    let before = std::fs::read_to_string(FILE)?;
    let mut container = Container::new(bench)?;
    container.config["linux"]["sysctl"] = json!({ "kernel.shmmni": "1235" });
    container.report(&[])?;
    let after = std::fs::read_to_string(FILE)?;
    ensure!(before == after, "the host's kernel.shmmni is {after} now");
    Ok(())
}

fn unknown(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["sysctl"] = json!({ "fs.mqueue.no_such_parameter": "1" });
    container.create_refused().map(drop)
}
