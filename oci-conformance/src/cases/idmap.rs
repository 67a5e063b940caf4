//! idmapped mounts: the options idmap and ridmap, and uidMappings and gidMappings of a mount.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::mount_options::with_submount;
use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;
use crate::report::Report;

pub const CASES: &[Case] = &[
    case!(mappings, "config.md#posix-platform-mounts", "uidMappings and gidMappings of a mount show other owners")
        .known(UNKNOWN_TO_RUNC),
    case!(each_its_own, "config.md#posix-platform-mounts", "uidMappings and gidMappings of a mount may differ")
        .known(UNKNOWN_TO_RUNC),
    case!(several_ranges, "config.md#posix-platform-mounts", "a mount's mappings may have several ranges")
        .known(UNKNOWN_TO_RUNC),
    case!(without_option, "config.md#posix-platform-mounts", "mappings are used though idmap is not among the options")
        .known(UNKNOWN_TO_RUNC),
    case!(uid_alone, "config.md#posix-platform-mounts", "uidMappings without gidMappings is refused")
        .known(UNKNOWN_TO_RUNC),
    case!(gid_alone, "config.md#posix-platform-mounts", "gidMappings without uidMappings is refused")
        .known(UNKNOWN_TO_RUNC),
    case!(of_the_container, "config.md#linux-mount-options", "idmap without mappings takes those of the container")
        .known(UNKNOWN_TO_RUNC),
    case!(empty, "config.md#linux-mount-options", "empty mappings are as none, or refused").known(UNKNOWN_TO_RUNC),
    case!(in_user_namespace, "config.md#linux-mount-options", "mappings of the mount win over the container's")
        .known(UNKNOWN_TO_RUNC),
    case!(nothing_to_take, "config.md#linux-mount-options", "idmap without mappings and user namespace is refused")
        .known(UNKNOWN_TO_RUNC),
    case!(
        ridmap_nothing_to_take,
        "config.md#linux-mount-options",
        "ridmap without mappings and user namespace is refused"
    )
    .known(&[("runc 1.1", "does not know idmap"), ("crun 1.8", "takes no mappings for a plain bind mount then")]),
    case!(ridmap, "config.md#linux-mount-options", "ridmap reaches the submounts, idmap does not")
        .known(&[("runc 1.1", "does not know idmap"), ("crun 1.8", "maps the submounts with idmap too")]),
    case!(source_keeps_its_owner, "config.md#linux-mount-options", "the owner of the source's files does not change")
        .known(UNKNOWN_TO_RUNC),
];

const UNKNOWN_TO_RUNC: &[(&str, &str)] = &[("runc 1.1", "does not know mappings of a mount")];

fn from_root(host: u32) -> Value {
    json!([{ "containerID": 0, "hostID": host, "size": 65_536 }])
}

/// A container with a file of root's at /m/file, in a mount with these properties.
fn with<'a>(bench: &'a Bench, options: &[&str], more: Value) -> Result<Container<'a>> {
    let mut container = Container::new(bench)?;
    let source = container.dir.join("out");
    std::fs::write(source.join("file"), "x")?;
    let mut mount = json!({ "destination": "/m", "source": source, "options": options });
    for (key, value) in more.as_object().into_iter().flatten() {
        mount[key] = value.clone();
    }
    container.mount(mount);
    Ok(container)
}

fn in_a_user_namespace(container: &mut Container, host: u32) -> Result<()> {
    container.namespace(json!({ "type": "user" }));
    container.config["linux"]["uidMappings"] = from_root(host);
    container.config["linux"]["gidMappings"] = from_root(host);
    std::fs::create_dir(container.rootfs().join("m")).context("create the mount point")
}

fn expect_owner(report: &Report, path: &str, owner: (u32, u32)) -> Result<()> {
    let found = report.worked(&format!("stat:{path}"))?;
    let seen = (&found["uid"], &found["gid"]);
    ensure!(seen == (&json!(owner.0), &json!(owner.1)), "the owner of {path} is {seen:?}, not {owner:?}");
    Ok(())
}

fn expect(mut container: Container, owner: (u32, u32)) -> Result<()> {
    expect_owner(&container.report(&["stat:/m/file"])?, "/m/file", owner)
}

fn mappings(bench: &Bench) -> Result<()> {
    let more = json!({ "uidMappings": from_root(100_000), "gidMappings": from_root(100_000) });
    expect(with(bench, &["bind", "idmap"], more)?, (100_000, 100_000))
}

fn each_its_own(bench: &Bench) -> Result<()> {
    let more = json!({ "uidMappings": from_root(100_000), "gidMappings": from_root(200_000) });
    expect(with(bench, &["bind", "idmap"], more)?, (100_000, 200_000))
}

fn several_ranges(bench: &Bench) -> Result<()> {
    let ranges = json!([
        { "containerID": 1000, "hostID": 300_000, "size": 10 }, { "containerID": 0, "hostID": 100_000, "size": 1000 },
    ]);
    let container = with(bench, &["bind", "idmap"], json!({ "uidMappings": ranges, "gidMappings": ranges }))?;
    std::os::unix::fs::chown(container.out("file"), Some(1001), Some(5))?;
    expect(container, (300_001, 100_005))
}

fn without_option(bench: &Bench) -> Result<()> {
    let more = json!({ "uidMappings": from_root(100_000), "gidMappings": from_root(100_000) });
    expect(with(bench, &["bind"], more)?, (100_000, 100_000))
}

fn uid_alone(bench: &Bench) -> Result<()> {
    with(bench, &["bind", "idmap"], json!({ "uidMappings": from_root(100_000) }))?.create_refused().map(drop)
}

fn gid_alone(bench: &Bench) -> Result<()> {
    with(bench, &["bind", "idmap"], json!({ "gidMappings": from_root(100_000) }))?.create_refused().map(drop)
}

fn of_the_container(bench: &Bench) -> Result<()> {
    let mut container = with(bench, &["bind", "idmap"], json!({}))?;
    in_a_user_namespace(&mut container, 100_000)?;
    expect(container, (0, 0))
}

fn empty(bench: &Bench) -> Result<()> {
    let container = || {
        let mut container = with(bench, &["bind", "idmap"], json!({ "uidMappings": [], "gidMappings": [] }))?;
        in_a_user_namespace(&mut container, 100_000)?;
        anyhow::Ok(container)
    };
    if container()?.create_refused().is_ok() {
        return Ok(());
    }
    expect(container()?, (0, 0))
}

fn in_user_namespace(bench: &Bench) -> Result<()> {
    let more = json!({ "uidMappings": from_root(100_007), "gidMappings": from_root(100_007) });
    let mut container = with(bench, &["bind", "idmap"], more)?;
    in_a_user_namespace(&mut container, 100_000)?;
    expect(container, (7, 7))
}

fn nothing_to_take(bench: &Bench) -> Result<()> {
    with(bench, &["bind", "idmap"], json!({}))?.create_refused().map(drop)
}

fn ridmap_nothing_to_take(bench: &Bench) -> Result<()> {
    with(bench, &["rbind", "ridmap"], json!({}))?.create_refused().map(drop)
}

fn ridmap(bench: &Bench) -> Result<()> {
    let mut container = with_submount(bench, &[&["rbind", "idmap"], &["rbind", "ridmap"]])?;
    for mount in container.config["mounts"].as_array_mut().into_iter().flatten().rev().take(2) {
        mount["uidMappings"] = from_root(100_000);
        mount["gidMappings"] = from_root(100_000);
    }
    let report = container.report(&["stat:/0", "stat:/0/sub", "stat:/1", "stat:/1/sub"])?;
    [("/0", 100_000), ("/0/sub", 0), ("/1", 100_000), ("/1/sub", 100_000)]
        .iter()
        .try_for_each(|(path, owner)| expect_owner(&report, path, (*owner, *owner)))
}

fn source_keeps_its_owner(bench: &Bench) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let mut container = with(bench, &["bind", "idmap"], json!({}))?;
    in_a_user_namespace(&mut container, 100_000)?;
    container.report(&["create:/m/new"])?.worked("create:/m/new")?;
    for name in ["file", "new"] {
        let owner = std::fs::metadata(container.out(name))?.uid();
        ensure!(owner == 0, "{name} belongs to {owner} on the host");
    }
    Ok(())
}
