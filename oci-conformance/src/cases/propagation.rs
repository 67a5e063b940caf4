//! config-linux.md#rootfs-mount-propagation.

use anyhow::{Result, ensure};
use nix::mount::{MsFlags, mount};
use serde_json::json;

use super::mount_options::make_shared;
use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(shared, "config-linux.md#rootfs-mount-propagation", "shared: the root mount is in a peer group")
        .known(&[("runc 1.1", "leaves the root mount private")]),
    case!(slave, "config-linux.md#rootfs-mount-propagation", "slave: a mount made on the host appears inside").known(
        &[
            ("runc", "only the mount of the host's / is made a slave, not that of the root filesystem"),
            ("crun", "only the mount of the host's / is made a slave, not that of the root filesystem"),
        ],
    ),
    case!(
        private,
        "config-linux.md#rootfs-mount-propagation",
        "private: a mount made on the host does not appear inside"
    ),
    case!(unbindable, "config-linux.md#rootfs-mount-propagation", "unbindable: the root mount is unbindable")
        .known(&[("runc 1.1", "makes the mount unbindable before it binds it")]),
    case!(unknown, "config-linux.md#rootfs-mount-propagation", "another value is refused")
        .known(&[("crun", "ignores an unknown value")]),
    case!(host_is_left_alone, "config-linux.md#namespaces", "a mount made inside never appears on the host"),
];

fn root_tags(bench: &Bench, value: &str) -> Result<Vec<String>> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["rootfsPropagation"] = json!(value);
    Ok(container.report(&[])?.mount_at("/")?.tags)
}

fn shared(bench: &Bench) -> Result<()> {
    let tags = root_tags(bench, "shared")?;
    ensure!(tags.iter().any(|tag| tag.starts_with("shared:")), "the root mount's tags are {tags:?}");
    Ok(())
}

fn unbindable(bench: &Bench) -> Result<()> {
    let tags = root_tags(bench, "unbindable")?;
    ensure!(tags == ["unbindable"], "the root mount's tags are {tags:?}");
    Ok(())
}

/// Whether a mount that the host makes below the root filesystem after `create` is seen by the program.
fn appears(bench: &Bench, value: &str) -> Result<bool> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["rootfsPropagation"] = json!(value);
    make_shared(&container.rootfs())?;
    container.args(&["report"]);
    container.create()?;
    mount(Some("tmpfs"), &container.rootfs().join("tmp"), Some("tmpfs"), MsFlags::empty(), Some("size=64k"))?;
    container.start()?;
    container.wait()?;
    let report = crate::report::Report::parse(&container.output()?)?;
    Ok(report.mounts().iter().any(|mount| mount.point == "/tmp"))
}

fn slave(bench: &Bench) -> Result<()> {
    ensure!(appears(bench, "slave")?, "the mount does not appear");
    Ok(())
}

fn private(bench: &Bench) -> Result<()> {
    ensure!(!appears(bench, "private")?, "the mount appears");
    Ok(())
}

fn unknown(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["rootfsPropagation"] = json!("sideways");
    container.create_refused().map(drop)
}

fn host_is_left_alone(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    make_shared(&container.dir.clone())?;
    container.mount(json!({ "destination": "/made", "type": "tmpfs", "source": "made" }));
    container.launch()?;
    let seen = crate::mountinfo::points_below(&container.bundle());
    ensure!(seen.is_empty(), "the host sees {seen:?}");
    Ok(())
}
