//! config-linux.md: network devices.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(
        moved,
        "config-linux.md#network-devices",
        "a device is moved, renamed, up, with its permanent global address"
    )
    .known(UNKNOWN_TO_OTHERS),
    case!(taken_name, "config-linux.md#network-devices", "a name that a device in the container has is refused")
        .known(UNKNOWN_TO_OTHERS),
    case!(missing, "config-linux.md#network-devices", "a device that is not there is refused").known(UNKNOWN_TO_OTHERS),
];

const UNKNOWN_TO_OTHERS: &[(&str, &str)] = &[("runc", "1.1.5 does not know it"), ("crun", "1.8.1 does not know it")];

/// A pair of virtual devices on the host; moved or not, both are gone when it is.
struct Pair(String);

impl Pair {
    fn new(mark: &str) -> Option<Pair> {
        let pair = Pair(format!("oc{mark}-{}", std::process::id()));
        ip(&["link", "add", &pair.0, "type", "veth", "peer", "name", &pair.peer()]).then_some(pair)
    }

    fn peer(&self) -> String {
        format!("{}p", self.0)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        ip(&["link", "del", &self.peer()]);
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn container<'a>(bench: &'a Bench, devices: Value) -> Result<Container<'a>> {
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.3.0");
    container.namespace(json!({ "type": "network" }));
    container.config["linux"]["netDevices"] = devices;
    Ok(container)
}

fn moved(bench: &Bench) -> Result<()> {
    let Some(pair) = Pair::new("m") else { skip!("no virtual network devices, or no ip(8)") };
    if !ip(&["addr", "add", "192.0.2.77/32", "dev", &pair.0]) {
        skip!("the device takes no address");
    }
    let mut container = container(bench, json!({ pair.0.as_str(): { "name": "inside0" } }))?;
    let report = container.report(&["read:/proc/self/net/dev", "read:/proc/self/net/fib_trie"])?;
    let devices = report.worked("read:/proc/self/net/dev")?.as_str().unwrap_or_default();
    ensure!(devices.contains("inside0:"), "the device is not there: {devices}");
    // The kernel has a local route for an address of a device that is up.
    let routes = report.worked("read:/proc/self/net/fib_trie")?.as_str().unwrap_or_default();
    ensure!(routes.contains("192.0.2.77"), "the address is not there, or the device is not up: {routes}");
    Ok(())
}

fn taken_name(bench: &Bench) -> Result<()> {
    let Some(pair) = Pair::new("t") else { skip!("no virtual network devices, or no ip(8)") };
    container(bench, json!({ pair.0.as_str(): { "name": "lo" } }))?.create_refused().map(drop)
}

fn missing(bench: &Bench) -> Result<()> {
    container(bench, json!({ "no-such-device": {} }))?.create_refused().map(drop)
}
