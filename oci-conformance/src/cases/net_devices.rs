//! config-linux.md: network devices.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;
use crate::report::Report;

pub const CASES: &[Case] = &[
    case!(
        moved,
        "config-linux.md#network-devices",
        "a device is moved, renamed, up, with its permanent global address"
    )
    .known(UNKNOWN_TO_OTHERS),
    case!(taken_name, "config-linux.md#network-devices", "a name that a device in the container has is refused")
        .known(UNKNOWN_TO_OTHERS),
    case!(template, "config-linux.md#network-devices", "a name with %d lets the kernel choose a unique one").known(&[
        ("runc 1.1", "does not know it"),
        ("runc 1.3", "does not know it"),
        ("crun 1.8", "does not know it"),
        ("crun 1.28", "looks for a device of that name then, not of the one that the kernel chose"),
    ]),
    case!(keeps_its_name, "config-linux.md#network-devices", "without a name the device keeps the host's")
        .known(UNKNOWN_TO_OTHERS),
    case!(
        attributes,
        "config-linux.md#network-devices",
        "a moved device keeps its MTU and its addresses of both families"
    )
    .known(UNKNOWN_TO_OTHERS),
    case!(stays_in_the_namespace, "config-linux.md#network-devices", "the runtime does not move the device out again")
        .known(UNKNOWN_TO_OTHERS),
    case!(missing, "config-linux.md#network-devices", "a device that is not there is refused").known(UNKNOWN_TO_OTHERS),
];

const UNKNOWN_TO_OTHERS: &[(&str, &str)] =
    &[("runc 1.1", "does not know it"), ("runc 1.3", "does not know it"), ("crun 1.8", "does not know it")];

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

/// The names in /proc/net/dev.
fn names(report: &Report) -> Result<Vec<String>> {
    let devices = report.worked("read:/proc/self/net/dev")?.as_str().unwrap_or_default();
    Ok(devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect())
}

fn template(bench: &Bench) -> Result<()> {
    let Some(pair) = Pair::new("n") else { skip!("no virtual network devices, or no ip(8)") };
    let mut container = container(bench, json!({ pair.0.as_str(): { "name": "made%d" } }))?;
    let names = names(&container.report(&["read:/proc/self/net/dev"])?)?;
    ensure!(names.iter().any(|name| name == "made0"), "the devices are {names:?}");
    Ok(())
}

fn keeps_its_name(bench: &Bench) -> Result<()> {
    let Some(pair) = Pair::new("k") else { skip!("no virtual network devices, or no ip(8)") };
    let mut container = container(bench, json!({ pair.0.as_str(): {} }))?;
    let names = names(&container.report(&["read:/proc/self/net/dev"])?)?;
    ensure!(names.contains(&pair.0), "the devices are {names:?}");
    Ok(())
}

fn attributes(bench: &Bench) -> Result<()> {
    let Some(pair) = Pair::new("a") else { skip!("no virtual network devices, or no ip(8)") };
    let device = ["dev", &pair.0];
    let set = [
        vec!["link", "set", &pair.0, "mtu", "1400"],
        [["addr", "add", "192.0.2.78/24"].as_slice(), &device].concat(),
        [["addr", "add", "2001:db8::78/64", "nodad"].as_slice(), &device].concat(),
    ];
    if !set.iter().all(|args| ip(args)) {
        skip!("the device takes no MTU or no address");
    }
    let mut container = container(bench, json!({ pair.0.as_str(): { "name": "inside0" } }))?;
    container.mount(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] }));
    let [mtu, four, six] =
        ["read:/sys/class/net/inside0/mtu", "read:/proc/self/net/fib_trie", "read:/proc/self/net/if_inet6"];
    let report = container.report(&[mtu, four, six])?;
    ensure!(report.worked(mtu)? == "1400\n", "the MTU is {}", report.worked(mtu)?);
    let routes = report.worked(four)?.as_str().unwrap_or_default();
    ensure!(routes.contains("192.0.2.78"), "IPv4 addresses: {routes}");
    let addresses = report.worked(six)?.as_str().unwrap_or_default();
    ensure!(addresses.contains("20010db8000000000000000000000078"), "IPv6 addresses: {addresses}");
    Ok(())
}

fn stays_in_the_namespace(bench: &Bench) -> Result<()> {
    let Some(pair) = Pair::new("s") else { skip!("no virtual network devices, or no ip(8)") };
    let container = container(bench, json!({ pair.0.as_str(): {} }))?;
    container.run()?;
    container.wait_for_status("stopped")?;
    container.ok(&["delete", &container.id])?;
    let host = std::path::Path::new("/sys/class/net").join(&pair.0);
    ensure!(!host.exists(), "{} is on the host again", pair.0);
    Ok(())
}

fn taken_name(bench: &Bench) -> Result<()> {
    let Some(pair) = Pair::new("t") else { skip!("no virtual network devices, or no ip(8)") };
    container(bench, json!({ pair.0.as_str(): { "name": "lo" } }))?.create_refused().map(drop)
}

fn missing(bench: &Bench) -> Result<()> {
    container(bench, json!({ "no-such-device": {} }))?.create_refused().map(drop)
}
