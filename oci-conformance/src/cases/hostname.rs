//! config.md: hostname and domainname.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(hostname, "config.md#hostname", "the program sees the configured hostname"),
    case!(domainname, "config.md#domainname", "the program sees the configured domainname")
        .known(&[("runc 1.1", "does not know it")]),
    case!(the_host_keeps_its_own, "config.md#hostname", "with a uts namespace the host's hostname does not change"),
];

fn hostname(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["hostname"] = json!("mrs-d");
    container.report(&[])?.expect("/hostname", json!("mrs-d"))
}

fn domainname(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("1.1.0");
    container.config["domainname"] = json!("example.test");
    container.report(&[])?.expect("/domainname", json!("example.test"))
}

fn the_host_keeps_its_own(bench: &Bench) -> Result<()> {
    let before = nix::unistd::gethostname()?;
    let mut container = Container::new(bench)?;
    container.config["hostname"] = json!("mrs-d");
    container.report(&[])?;
    let after = nix::unistd::gethostname()?;
    ensure!(before == after, "the host's name is {} now", after.display());
    Ok(())
}
