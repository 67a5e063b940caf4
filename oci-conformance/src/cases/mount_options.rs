//! config.md#linux-mount-options: the options of mounts.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;
use crate::report::Report;

pub const CASES: &[Case] = &[
    case!(required_options, "config.md#linux-mount-options", "every option that has to be known is accepted").known(&[
        ("runc", "gives `defaults` to the filesystem"),
        ("crun", "does not know `iversion`, and gives it to the filesystem"),
    ]),
    case!(
        flags,
        "config.md#linux-mount-options",
        "flags are set and cleared: ro, nosuid, nodev, noexec, sync and more"
    )
    .known(&[("runc", "gives `defaults` to the filesystem")]),
    case!(later_wins, "config.md#linux-mount-options", "of two contrary options the later one counts")
        .known(&[("crun", "does not clear a flag that an earlier option has set")]),
    case!(noexec, "config.md#linux-mount-options", "nothing can be executed on a noexec mount"),
    case!(nodev, "config.md#linux-mount-options", "no device can be opened on a nodev mount"),
    case!(filesystem_data, "config.md#linux-mount-options", "unknown options are the filesystem's: mode, size, uid"),
    case!(
        bad_filesystem_data,
        "config.md#linux-mount-options",
        "an option that the filesystem refuses too is an error"
    ),
    case!(remount, "config.md#linux-mount-options", "remount changes the options of what is mounted"),
    case!(propagation, "config.md#linux-mount-options", "shared, slave, private and unbindable set the propagation")
        .known(PRIVATE_AT_LAST),
    case!(
        recursive_propagation,
        "config.md#linux-mount-options",
        "rshared, rprivate and runbindable reach the submounts"
    )
    .known(PRIVATE_AT_LAST),
    case!(rro, "config.md#linux-mount-options", "rro makes the submounts read-only too"),
];

pub const PRIVATE_AT_LAST: &[(&str, &str)] =
    &[("crun", "makes every mount private in the end, unless rootfsPropagation names something else")];

/// The options of the specification's table that runtimes have to know, but for binding, remounting and propagation.
const REQUIRED: &[&str] = &[
    "async",
    "atime",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "iversion",
    "lazytime",
    "loud",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "relatime",
    "ro",
    "rw",
    "silent",
    "strictatime",
    "suid",
    "sync",
];

pub fn tmpfs(point: &str, options: &[&str]) -> Value {
    json!({ "destination": point, "type": "tmpfs", "source": "m", "options": options })
}

pub fn expect_options(report: &Report, point: &str, with: &[&str], without: &[&str]) -> Result<()> {
    let mount = report.mount_at(point)?;
    for option in with {
        ensure!(mount.has(option), "{point} has no {option}: {:?} {:?}", mount.options, mount.super_options);
    }
    for option in without {
        ensure!(!mount.has(option), "{point} has {option}: {:?} {:?}", mount.options, mount.super_options);
    }
    Ok(())
}

fn required_options(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    for option in REQUIRED {
        container.mount(tmpfs(&format!("/m/{option}"), &[option]));
    }
    let report = container.report(&[])?;
    REQUIRED.iter().try_for_each(|option| report.mount_at(&format!("/m/{option}")).map(drop))
}

fn flags(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(tmpfs("/a", &["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"]));
    container.mount(tmpfs("/b", &["sync", "dirsync", "strictatime"]));
    container.mount(tmpfs("/c", &["relatime", "defaults"]));
    let report = container.report(&[])?;
    expect_options(&report, "/a", &["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"], &[])?;
    expect_options(&report, "/b", &["sync", "dirsync"], &["noatime", "relatime", "nosuid"])?;
    expect_options(&report, "/c", &["rw", "relatime"], &["nosuid", "nodev", "noexec", "sync"])
}

fn later_wins(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(tmpfs("/a", &["ro", "nosuid", "noexec", "rw", "suid", "exec"]));
    container.mount(tmpfs("/b", &["rw", "dev", "ro", "nodev"]));
    let report = container.report(&[])?;
    expect_options(&report, "/a", &["rw"], &["nosuid", "noexec"])?;
    expect_options(&report, "/b", &["ro", "nodev"], &[])
}

fn noexec(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let source = container.rootfs().join("bin");
    container.mount(json!({ "destination": "/yes", "source": source, "options": ["bind"] }));
    container.mount(json!({ "destination": "/no", "source": source, "options": ["bind", "noexec"] }));
    let report = container.report(&["exec:/yes/probe", "exec:/no/probe"])?;
    report.worked("exec:/yes/probe")?;
    report.failed("exec:/no/probe", &["EACCES"])
}

fn nodev(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(tmpfs("/no", &["nodev"]));
    container.mount(tmpfs("/yes", &["dev"]));
    let allow = json!([{ "allow": true, "access": "rwm" }]);
    container.config["linux"]["resources"]["devices"] = allow;
    let questions = ["mknod:/no/null 1 3", "mknod:/yes/null 1 3", "open:/no/null", "open:/yes/null"];
    let report = container.report(&questions)?;
    report.worked("open:/yes/null")?;
    report.failed("open:/no/null", &["EACCES"])
}

fn filesystem_data(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(tmpfs("/m", &["mode=0751", "size=128k", "uid=11", "gid=12"]));
    let report = container.report(&["stat:/m"])?;
    let found = report.worked("stat:/m")?;
    let seen = (&found["mode"], &found["uid"], &found["gid"]);
    ensure!(seen == (&json!(0o751), &json!(11), &json!(12)), "mode, uid and gid are {seen:?}");
    expect_options(&report, "/m", &["size=128k"], &[])
}

fn bad_filesystem_data(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(tmpfs("/m", &["no-such-option"]));
    container.create_refused().map(drop)
}

fn remount(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(tmpfs("/m", &[]));
    container.mount(tmpfs("/m", &["remount", "ro"]));
    let report = container.report(&["create:/m/x"])?;
    report.failed("create:/m/x", &["EROFS"])
}

fn propagation(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    // A slave needs a master: the mount that it is made of has to be shared.
    let source = container.dir.join("out");
    make_shared(&source)?;
    for option in ["shared", "slave", "private", "unbindable"] {
        container.mount(json!({ "destination": format!("/{option}"), "source": source, "options": ["bind", option] }));
    }
    let report = container.report(&[])?;
    ensure!(report.mount_at("/shared")?.tagged("shared"), "/shared is not: {:?}", report.mount_at("/shared")?.tags);
    ensure!(report.mount_at("/slave")?.tagged("master"), "/slave is not: {:?}", report.mount_at("/slave")?.tags);
    let tags = report.mount_at("/slave")?.tags;
    ensure!(!tags.iter().any(|tag| tag.starts_with("shared")), "/slave is shared: {tags:?}");
    let tags = report.mount_at("/private")?.tags;
    ensure!(tags.is_empty(), "/private is not: {tags:?}");
    let tags = report.mount_at("/unbindable")?.tags;
    ensure!(tags == ["unbindable"], "/unbindable is not: {tags:?}");
    Ok(())
}

/// Makes a directory a mount whose changes propagate.
pub fn make_shared(dir: &std::path::Path) -> Result<()> {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    mount(Some(dir), dir, none, MsFlags::MS_BIND, none).context("bind a directory on itself")?;
    mount(none, dir, none, MsFlags::MS_SHARED, none).context("make a mount shared")
}

pub fn with_submount<'a>(bench: &'a Bench, options: &[&[&str]]) -> Result<Container<'a>> {
    use nix::mount::{MsFlags, mount};
    let mut container = Container::new(bench)?;
    let source = container.dir.join("out");
    std::fs::create_dir(source.join("sub"))?;
    mount(Some("tmpfs"), &source.join("sub"), Some("tmpfs"), MsFlags::empty(), Some("size=64k"))?;
    for (index, options) in options.iter().enumerate() {
        container.mount(json!({ "destination": format!("/{index}"), "source": source, "options": options }));
    }
    Ok(container)
}

fn recursive_propagation(bench: &Bench) -> Result<()> {
    let options: &[&[&str]] = &[&["rbind", "rshared"], &["rbind", "rprivate"], &["rbind", "runbindable"]];
    let report = with_submount(bench, options)?.report(&[])?;
    for point in ["/0", "/0/sub"] {
        ensure!(report.mount_at(point)?.tagged("shared"), "{point} is not shared: {:?}", report.mount_at(point)?.tags);
    }
    for point in ["/1", "/1/sub"] {
        ensure!(report.mount_at(point)?.tags.is_empty(), "{point} is not private: {:?}", report.mount_at(point)?.tags);
    }
    for point in ["/2", "/2/sub"] {
        let tags = report.mount_at(point)?.tags;
        ensure!(tags == ["unbindable"], "{point} is not unbindable: {tags:?}");
    }
    Ok(())
}

fn rro(bench: &Bench) -> Result<()> {
    let mut container = with_submount(bench, &[&["rbind", "rro"], &["rbind", "ro"]])?;
    let report = container.report(&["create:/0/sub/x", "create:/1/x"])?;
    report.failed("create:/0/sub/x", &["EROFS"])?;
    report.failed("create:/1/x", &["EROFS"])
}
