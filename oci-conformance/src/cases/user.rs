//! config.md: process.user.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(uid_and_gid, "config.md#posix-platform-user", "real, effective and saved IDs are the configured ones"),
    case!(additional_gids, "config.md#posix-platform-user", "additionalGids are the process's supplementary groups"),
    case!(no_additional_gids, "config.md#posix-platform-user", "without additionalGids no group of the caller is left"),
    case!(umask, "config.md#posix-platform-user", "umask is the process's umask"),
    case!(umask_of_zero, "config.md#posix-platform-user", "a umask of zero is a value like others"),
    case!(no_privilege, "config.md#posix-platform-user", "an ordinary user has no effective capability by itself"),
];

fn uid_and_gid(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"] = json!({ "uid": 1234, "gid": 5678 });
    let report = container.report(&[])?;
    report.expect("/uids", json!([1234, 1234, 1234]))?;
    report.expect("/gids", json!([5678, 5678, 5678]))
}

fn additional_gids(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"] = json!({ "uid": 0, "gid": 0, "additionalGids": [5, 6, 70_000] });
    let report = container.report(&[])?;
    // The primary group may be among them.
    let groups = report.at("/groups").as_array().cloned().unwrap_or_default();
    let groups: Vec<_> = groups.into_iter().filter(|group| *group != 0).collect();
    ensure!(groups == [5, 6, 70_000], "the groups are {}", report.at("/groups"));
    Ok(())
}

fn no_additional_gids(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let report = container.report(&[])?;
    let groups = report.at("/groups").as_array().cloned().unwrap_or_default();
    ensure!(groups.iter().all(|group| *group == 1000), "the groups are {groups:?}");
    Ok(())
}

fn umask(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"]["umask"] = json!(0o027);
    let report = container.report(&["create:/tmp/new"])?;
    report.expect("/umask", json!(0o027))?;
    let mode = report.worked("create:/tmp/new")?;
    ensure!(*mode == 0o640, "a new file's mode is {mode}");
    Ok(())
}

fn umask_of_zero(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"]["umask"] = json!(0);
    container.report(&[])?.expect("/umask", json!(0))
}

fn no_privilege(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    container.config["process"]["capabilities"] = json!({ "bounding": ["CAP_CHOWN", "CAP_DAC_OVERRIDE"] });
    let report = container.report(&["create:/etc/new"])?;
    let effective = report.capability_set("CapEff")?;
    ensure!(effective == 0, "CapEff is {effective:#x}");
    report.failed("create:/etc/new", &["EACCES"])
}
