//! config-linux.md: maskedPaths and readonlyPaths.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(masked_file, "config-linux.md#masked-paths", "nothing can be read from a masked file"),
    case!(
        masked_directory,
        "config-linux.md#masked-paths",
        "a masked directory is empty, and nothing can be made in it"
    ),
    case!(
        masked_missing,
        "config-linux.md#masked-paths",
        "a masked path that is not there is no error, and is not made"
    ),
    case!(masked_relative, "config-linux.md#masked-paths", "a masked path that is not absolute is refused")
        .known(&[("runc", "the path is taken from the root"), ("crun", "the path is taken from the root")]),
    case!(readonly_file, "config-linux.md#readonly-paths", "a read-only file can be read and not be written"),
    case!(readonly_directory, "config-linux.md#readonly-paths", "nothing can be written below a read-only directory"),
    case!(
        readonly_proc,
        "config-linux.md#readonly-paths",
        "kernel parameters cannot be written below a read-only /proc/sys"
    ),
    case!(readonly_missing, "config-linux.md#readonly-paths", "a read-only path that is not there is no error"),
    case!(readonly_relative, "config-linux.md#readonly-paths", "a read-only path that is not absolute is refused")
        .known(&[("runc", "the path is taken from the root"), ("crun", "the path is taken from the root")]),
];

fn masked_file(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["maskedPaths"] = json!(["/etc/file", "/proc/version"]);
    let report = container.report(&["read:/etc/file", "read:/proc/version"])?;
    for question in ["read:/etc/file", "read:/proc/version"] {
        if report.error(question)?.is_none() {
            let content = report.worked(question)?;
            ensure!(content == "", "{question} gives {content}");
        }
    }
    Ok(())
}

fn masked_directory(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["maskedPaths"] = json!(["/etc/dir"]);
    let report = container.report(&["list:/etc/dir", "create:/etc/dir/new"])?;
    if report.error("list:/etc/dir")?.is_none() {
        ensure!(*report.worked("list:/etc/dir")? == json!([]), "it holds {}", report.worked("list:/etc/dir")?);
    }
    report.failed("create:/etc/dir/new", &["EROFS", "EACCES", "EPERM"])
}

fn masked_missing(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["maskedPaths"] = json!(["/etc/not-there", "/not/there/either"]);
    let report = container.report(&["stat:/etc/not-there"])?;
    report.failed("stat:/etc/not-there", &["ENOENT"])
}

fn masked_relative(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["maskedPaths"] = json!(["etc/file"]);
    container.create_refused().map(drop)
}

fn readonly_file(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["readonlyPaths"] = json!(["/etc/file"]);
    let report = container.report(&["read:/etc/file", "write:/etc/file", "create:/etc/new"])?;
    report.worked("read:/etc/file")?;
    report.worked("create:/etc/new")?;
    report.failed("write:/etc/file", &["EROFS"])
}

fn readonly_directory(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["readonlyPaths"] = json!(["/etc/dir"]);
    let report = container.report(&["read:/etc/dir/inside", "write:/etc/dir/inside", "create:/etc/dir/new"])?;
    report.worked("read:/etc/dir/inside")?;
    report.failed("write:/etc/dir/inside", &["EROFS"])?;
    report.failed("create:/etc/dir/new", &["EROFS"])
}

fn readonly_proc(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    let report = container.report(&["write:/proc/sys/kernel/shmmni", "read:/proc/sys/kernel/shmmni"])?;
    report.worked("read:/proc/sys/kernel/shmmni")?;
    report.failed("write:/proc/sys/kernel/shmmni", &["EROFS"])
}

fn readonly_missing(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["readonlyPaths"] = json!(["/etc/not-there"]);
    container.report(&["stat:/etc/not-there"])?.failed("stat:/etc/not-there", &["ENOENT"])
}

fn readonly_relative(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["readonlyPaths"] = json!(["etc/file"]);
    container.create_refused().map(drop)
}
