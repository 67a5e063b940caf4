//! config-linux.md: devices, and the links of runtime-linux.md.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;
use crate::report::Report;

pub const CASES: &[Case] = &[
    case!(default_devices, "config-linux.md#default-devices", "null, zero, full, random, urandom and tty are supplied"),
    case!(default_devices_work, "config-linux.md#default-devices", "the default devices can be used, by any user"),
    case!(ptmx, "config-linux.md#default-devices", "/dev/ptmx is the container's /dev/pts/ptmx"),
    case!(links, "runtime-linux.md#dev-symbolic-links", "/dev/fd, stdin, stdout and stderr lead to /proc/self/fd"),
    case!(character_device, "config-linux.md#devices", "a configured device has its numbers, mode and owner"),
    case!(elsewhere, "config-linux.md#devices", "a device's path may be outside of /dev"),
    case!(fifo, "config-linux.md#devices", "a device of type p is a FIFO"),
    case!(block_device, "config-linux.md#devices", "a device of type b is a block device"),
    case!(unbuffered, "config-linux.md#devices", "a device of type u is a character device"),
    case!(in_user_namespace, "config-linux.md#devices", "a device is there in a user namespace too"),
    case!(without_numbers, "config-linux.md#devices", "a device without major and minor is refused, but for a FIFO")
        .known(&[("runc", "they are taken for 0"), ("crun", "they are taken for 0")]),
    case!(another_file_is_there, "config-linux.md#devices", "another file at a device's path is an error")
        .known(&[("runc", "takes whatever is there"), ("crun", "takes whatever is there")]),
    case!(unknown_type, "config-linux.md#devices", "a device of an unknown type is refused")
        .known(&[("crun", "takes it for a character device")]),
    case!(
        not_for_the_container,
        "config-linux.md#devices",
        "a configured device is there though its rule denies the container mknod"
    )
    .known(&[("crun", "the rules are in force before the nodes are made")]),
    case!(nothing_else, "config-linux.md#devices", "no other device node is in /dev"),
];

fn expect_device(report: &Report, path: &str, kind: &str, numbers: (u64, u64)) -> Result<()> {
    let found = report.worked(&format!("stat:{path}"))?;
    ensure!(found["kind"] == kind, "{path} is a {}", found["kind"]);
    let seen = (&found["major"], &found["minor"]);
    ensure!(seen == (&json!(numbers.0), &json!(numbers.1)), "{path} has the numbers {seen:?}");
    Ok(())
}

const DEFAULT: &[(&str, u64, u64)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

fn default_devices(bench: &Bench) -> Result<()> {
    let questions: Vec<_> = DEFAULT.iter().map(|(name, _, _)| format!("stat:/dev/{name}")).collect();
    let questions: Vec<_> = questions.iter().map(String::as_str).collect();
    let report = Container::new(bench)?.report(&questions)?;
    DEFAULT
        .iter()
        .try_for_each(|(name, major, minor)| expect_device(&report, &format!("/dev/{name}"), "char", (*major, *minor)))
}

fn default_devices_work(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    container.capabilities(&[]);
    let works = ["write:/dev/null", "read:/dev/zero", "write:/dev/zero", "read:/dev/urandom", "read:/dev/random"];
    let mut questions = works.to_vec();
    questions.push("write:/dev/full");
    let report = container.report(&questions)?;
    works.iter().try_for_each(|question| report.worked(question).map(drop))?;
    report.failed("write:/dev/full", &["ENOSPC"])
}

fn ptmx(bench: &Bench) -> Result<()> {
    let report = Container::new(bench)?.report(&["stat:/dev/ptmx", "open:/dev/ptmx"])?;
    let found = report.worked("stat:/dev/ptmx")?;
    let link = found["link"].as_str().unwrap_or_default();
    let linked = found["kind"] == "link" && ["pts/ptmx", "/dev/pts/ptmx"].contains(&link);
    let bound = report.mount_at("/dev/ptmx").is_ok_and(|mount| mount.kind == "devpts");
    ensure!(linked || bound, "/dev/ptmx is {found}");
    report.worked("open:/dev/ptmx").map(drop)
}

fn links(bench: &Bench) -> Result<()> {
    let report =
        Container::new(bench)?.report(&["stat:/dev/fd", "stat:/dev/stdin", "stat:/dev/stdout", "stat:/dev/stderr"])?;
    let targets = [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")];
    for (name, rest) in targets {
        let link = &report.worked(&format!("stat:/dev/{name}"))?["link"];
        ensure!(*link == format!("/proc/self/fd{rest}"), "/dev/{name} leads to {link}");
    }
    Ok(())
}

fn with_device(bench: &Bench, device: Value) -> Result<Report> {
    let question = format!("stat:{}", device["path"].as_str().unwrap_or_default());
    let mut container = Container::new(bench)?;
    container.config["linux"]["devices"] = json!([device]);
    container.report(&[&question])
}

fn character_device(bench: &Bench) -> Result<()> {
    let device = json!({
        "path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 11, "gid": 12
    });
    let report = with_device(bench, device)?;
    expect_device(&report, "/dev/mine", "char", (10, 229))?;
    let found = report.worked("stat:/dev/mine")?;
    let seen = (&found["mode"], &found["uid"], &found["gid"]);
    ensure!(seen == (&json!(0o640), &json!(11), &json!(12)), "mode, uid and gid are {seen:?}");
    Ok(())
}

fn elsewhere(bench: &Bench) -> Result<()> {
    let report = with_device(bench, json!({ "path": "/etc/new/mine", "type": "c", "major": 1, "minor": 3 }))?;
    expect_device(&report, "/etc/new/mine", "char", (1, 3))
}

fn fifo(bench: &Bench) -> Result<()> {
    let report = with_device(bench, json!({ "path": "/dev/pipe", "type": "p", "fileMode": 0o600 }))?;
    let found = report.worked("stat:/dev/pipe")?;
    ensure!(found["kind"] == "fifo", "/dev/pipe is a {}", found["kind"]);
    Ok(())
}

fn block_device(bench: &Bench) -> Result<()> {
    let report = with_device(bench, json!({ "path": "/dev/disk", "type": "b", "major": 7, "minor": 250 }))?;
    expect_device(&report, "/dev/disk", "block", (7, 250))
}

fn unbuffered(bench: &Bench) -> Result<()> {
    let report = with_device(bench, json!({ "path": "/dev/u", "type": "u", "major": 1, "minor": 5 }))?;
    expect_device(&report, "/dev/u", "char", (1, 5))
}

/// A runtime without the right to make a node there binds the host's, whose owner is nobody's of the container: only
/// that the device is there can be asked.
fn in_user_namespace(bench: &Bench) -> Result<()> {
    if !std::path::Path::new("/dev/kmsg").exists() {
        skip!("there is no /dev/kmsg on this machine");
    }
    let mut container = Container::new(bench)?;
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    container.namespace(json!({ "type": "user" }));
    container.config["linux"]["uidMappings"] = mapping.clone();
    container.config["linux"]["gidMappings"] = mapping;
    container.config["linux"]["devices"] = json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11 }]);
    expect_device(&container.report(&["stat:/dev/kmsg"])?, "/dev/kmsg", "char", (1, 11))
}

fn without_numbers(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "c" }]);
    container.create_refused().map(drop)
}

fn another_file_is_there(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["devices"] = json!([{ "path": "/etc/file", "type": "c", "major": 1, "minor": 3 }]);
    container.create_refused()?;
    ensure!(container.rootfs().join("etc/file").is_file(), "the file was replaced");
    Ok(())
}

fn unknown_type(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }]);
    container.create_refused().map(drop)
}

fn not_for_the_container(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["devices"] = json!([{ "path": "/dev/mine", "type": "c", "major": 10, "minor": 229 }]);
    container.config["linux"]["resources"]["devices"] = json!([
        { "allow": true, "access": "rwm" },
        { "allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm" },
    ]);
    let report = container.report(&["stat:/dev/mine", "open:/dev/mine"])?;
    expect_device(&report, "/dev/mine", "char", (10, 229))?;
    report.failed("open:/dev/mine", &["EPERM"])
}

fn nothing_else(bench: &Bench) -> Result<()> {
    let report = Container::new(bench)?.report(&["list:/dev"])?;
    let known = [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin", "stdout", "stderr",
        // A link to /proc/kcore and the terminal's place are customary.
        "core", "console", "mqueue",
    ];
    let names = report.worked("list:/dev")?.as_array().cloned().unwrap_or_default();
    let others: Vec<_> = names.iter().filter(|name| !known.iter().any(|known| **name == *known)).collect();
    ensure!(others.is_empty(), "/dev holds {others:?} too");
    Ok(())
}
