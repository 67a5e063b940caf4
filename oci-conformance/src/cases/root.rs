//! config.md: root.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(relative_path, "config.md#root", "a relative root.path is taken from the bundle"),
    case!(absolute_path, "config.md#root", "an absolute root.path may be anywhere"),
    case!(readonly, "config.md#root", "root.readonly makes the root filesystem read-only"),
    case!(writable, "config.md#root", "without root.readonly the root filesystem is writable"),
    case!(missing_directory, "config.md#root", "a root.path where no directory is is refused"),
    case!(not_a_directory, "config.md#root", "a root.path that is a file is refused"),
    case!(missing, "config.md#root", "a configuration without root is refused"),
    case!(nothing_of_the_host, "config.md#root", "the host's root is neither seen nor left mounted"),
];

fn relative_path(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    std::fs::create_dir(container.bundle().join("below"))?;
    std::fs::rename(container.rootfs(), container.bundle().join("below/root"))?;
    container.config["root"]["path"] = json!("below/root");
    let report = container.report(&["read:/etc/file"])?;
    ensure!(
        report.worked("read:/etc/file")? == "from the image\n",
        "another root: {:?}",
        report.worked("read:/etc/file")
    );
    Ok(())
}

fn absolute_path(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let elsewhere = container.dir.join("elsewhere");
    std::fs::rename(container.rootfs(), &elsewhere)?;
    container.config["root"]["path"] = json!(elsewhere);
    container.report(&["read:/etc/file"])?.worked("read:/etc/file").map(drop)
}

fn readonly(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["root"]["readonly"] = json!(true);
    let report = container.report(&["create:/new", "write:/etc/file"])?;
    report.failed("create:/new", &["EROFS"])?;
    report.failed("write:/etc/file", &["EROFS"])?;
    ensure!(report.mount_at("/")?.has("ro"), "the mount of / is not ro");
    Ok(())
}

fn writable(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let report = container.report(&["create:/new", "write:/etc/file"])?;
    report.worked("create:/new")?;
    report.worked("write:/etc/file")?;
    ensure!(container.rootfs().join("new").exists(), "the file is not in the bundle's root filesystem");
    Ok(())
}

fn missing_directory(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["root"]["path"] = json!("no-such-directory");
    container.create_refused()?;
    ensure!(!container.bundle().join("no-such-directory").exists(), "the runtime made the directory");
    Ok(())
}

fn not_a_directory(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["root"]["path"] = json!("config.json");
    container.create_refused().map(drop)
}

fn missing(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    if let Some(config) = container.config.as_object_mut() {
        config.remove("root");
    }
    container.create_refused().map(drop)
}

fn nothing_of_the_host(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let host = format!("stat:{}", bench.suite.dir.display());
    let report = container.report(&[&host])?;
    report.failed(&host, &["ENOENT"])?;
    let expected = ["/", "/proc", "/dev", "/dev/pts", "/dev/shm"];
    for mount in report.mounts() {
        // A bind mount of a device node is a way to supply one.
        let known = expected.contains(&mount.point.as_str()) || mount.point.starts_with("/dev/");
        ensure!(known, "{} ({}) is mounted at {}", mount.kind, mount.root, mount.point);
    }
    Ok(())
}
