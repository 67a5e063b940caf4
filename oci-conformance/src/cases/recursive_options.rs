//! config.md#linux-mount-options: the options that reach the submounts, each with its opposite, and nosymfollow.

use anyhow::Result;
use nix::mount::{MsFlags, mount};
use serde_json::json;

use super::mount_options::{PRIVATE_AT_LAST, expect_options, tmpfs};
use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(rro, "config.md#linux-mount-options", "rro and rrw"),
    case!(rnosuid, "config.md#linux-mount-options", "rnosuid and rsuid"),
    case!(rnodev, "config.md#linux-mount-options", "rnodev and rdev"),
    case!(rnoexec, "config.md#linux-mount-options", "rnoexec and rexec"),
    case!(rnoatime, "config.md#linux-mount-options", "rnoatime and ratime").known(ATIME),
    case!(rrelatime, "config.md#linux-mount-options", "rrelatime and rnorelatime").known(&[("crun", FLAGS_OF_MOUNT)]),
    case!(rstrictatime, "config.md#linux-mount-options", "rstrictatime and rnostrictatime").known(ATIME),
    case!(rnodiratime, "config.md#linux-mount-options", "rnodiratime and rdiratime").known(&[("crun", FLAGS_OF_MOUNT)]),
    case!(rnosymfollow, "config.md#linux-mount-options", "rnosymfollow and rsymfollow")
        .known(&[("crun", "does not know them")]),
    case!(nosymfollow, "config.md#linux-mount-options", "nosymfollow and symfollow")
        .known(&[("crun", "does not know them, and gives them to the filesystem")]),
    case!(rslave, "config.md#linux-mount-options", "rslave receives what is mounted below the source")
        .known(PRIVATE_AT_LAST),
    case!(tmpcopyup, "config.md#linux-mount-options", "tmpcopyup copies what the tmpfs covers into it"),
];

const ATIME: &[(&str, &str)] = &[
    ("runc 1.1", "clears one way of access times and sets no other, which the kernel refuses"),
    ("crun", FLAGS_OF_MOUNT),
];
pub const FLAGS_OF_MOUNT: &str =
    "gives mount_setattr(2) the flags of mount(2): other ones where access times are meant";

/// Binds a tree of two mounts, made with `flags`, with each list of options: at /0, /1 and so on.
fn bound<'a>(bench: &'a Bench, flags: MsFlags, options: &[&str]) -> Result<Container<'a>> {
    let mut container = Container::new(bench)?;
    let source = container.dir.join("out");
    mount(Some("tmpfs"), &source, Some("tmpfs"), MsFlags::empty(), Some("size=64k"))?;
    std::fs::create_dir(source.join("sub"))?;
    mount(Some("tmpfs"), &source.join("sub"), Some("tmpfs"), flags, Some("size=64k"))?;
    // Not with the mount: that would make the filesystem itself read-only.
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    for point in [source.clone(), source.join("sub")] {
        mount(None::<&str>, &point, None::<&str>, flags, None::<&str>)?;
    }
    for (index, option) in options.iter().enumerate() {
        let options = ["rbind", option];
        container.mount(json!({ "destination": format!("/{index}"), "source": source, "options": options }));
    }
    Ok(container)
}

/// The option gives a plain tree `shown`; its opposite takes it from a tree that has it.
fn pair(bench: &Bench, option: &str, opposite: &str, shown: &str, flag: MsFlags) -> Result<()> {
    let report = bound(bench, MsFlags::empty(), &[option])?.report(&[])?;
    ["/0", "/0/sub"].iter().try_for_each(|point| expect_options(&report, point, &[shown], &[]))?;
    let report = bound(bench, flag, &[opposite])?.report(&[])?;
    ["/0", "/0/sub"].iter().try_for_each(|point| expect_options(&report, point, &[], &[shown]))
}

fn rro(bench: &Bench) -> Result<()> {
    let report = bound(bench, MsFlags::empty(), &["rro"])?.report(&["create:/0/x", "create:/0/sub/x"])?;
    report.failed("create:/0/x", &["EROFS"])?;
    report.failed("create:/0/sub/x", &["EROFS"])?;
    let report = bound(bench, MsFlags::MS_RDONLY, &["rrw"])?.report(&["create:/0/x", "create:/0/sub/x"]);
    let report = report?;
    report.worked("create:/0/x")?;
    // The filesystem below was mounted read-only.
    report.failed("create:/0/sub/x", &["EROFS"])?;
    let options = &report.mount_at("/0/sub")?.options;
    anyhow::ensure!(!options.iter().any(|option| option == "ro"), "/0/sub is {options:?}");
    Ok(())
}

fn rnosuid(bench: &Bench) -> Result<()> {
    pair(bench, "rnosuid", "rsuid", "nosuid", MsFlags::MS_NOSUID)
}

fn rnodev(bench: &Bench) -> Result<()> {
    pair(bench, "rnodev", "rdev", "nodev", MsFlags::MS_NODEV)
}

fn rnoexec(bench: &Bench) -> Result<()> {
    pair(bench, "rnoexec", "rexec", "noexec", MsFlags::MS_NOEXEC)
}

fn rnoatime(bench: &Bench) -> Result<()> {
    pair(bench, "rnoatime", "ratime", "noatime", MsFlags::MS_NOATIME)
}

fn rnodiratime(bench: &Bench) -> Result<()> {
    pair(bench, "rnodiratime", "rdiratime", "nodiratime", MsFlags::MS_NODIRATIME)
}

fn rrelatime(bench: &Bench) -> Result<()> {
    let report = bound(bench, MsFlags::MS_NOATIME, &["rrelatime"])?.report(&[])?;
    ["/0", "/0/sub"].iter().try_for_each(|point| expect_options(&report, point, &["relatime"], &["noatime"]))?;
    let report = bound(bench, MsFlags::MS_RELATIME, &["rnorelatime"])?.report(&[])?;
    ["/0", "/0/sub"].iter().try_for_each(|point| expect_options(&report, point, &[], &["noatime"]))
}

fn rstrictatime(bench: &Bench) -> Result<()> {
    let report = bound(bench, MsFlags::MS_NOATIME, &["rstrictatime"])?.report(&[])?;
    ["/0", "/0/sub"].iter().try_for_each(|point| expect_options(&report, point, &[], &["noatime", "relatime"]))?;
    let report = bound(bench, MsFlags::MS_STRICTATIME, &["rnostrictatime"])?.report(&[])?;
    ["/0", "/0/sub"].iter().try_for_each(|point| expect_options(&report, point, &["relatime"], &[]))
}

/// MS_NOSYMFOLLOW, which nix does not name.
const NO_SYMFOLLOW: MsFlags = MsFlags::from_bits_retain(256);

fn rnosymfollow(bench: &Bench) -> Result<()> {
    pair(bench, "rnosymfollow", "rsymfollow", "nosymfollow", NO_SYMFOLLOW)
}

fn nosymfollow(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(tmpfs("/a", &["nosymfollow"]));
    container.mount(tmpfs("/b", &["nosymfollow", "symfollow"]));
    let report = container.report(&[])?;
    expect_options(&report, "/a", &["nosymfollow"], &[])?;
    expect_options(&report, "/b", &[], &["nosymfollow"])
}

fn rslave(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    let source = container.dir.join("out");
    std::fs::create_dir(source.join("later"))?;
    super::mount_options::make_shared(&source)?;
    container.mount(json!({ "destination": "/m", "source": source, "options": ["rbind", "rslave"] }));
    container.launch()?;
    mount(Some("tmpfs"), &source.join("later"), Some("tmpfs"), MsFlags::empty(), Some("size=64k"))?;
    let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", container.pid()?))?;
    anyhow::ensure!(table.contains(" /m/later "), "what was mounted on the host is not there: {table}");
    Ok(())
}

fn tmpcopyup(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(tmpfs("/etc", &["tmpcopyup", "mode=0755"]));
    let report = container.report(&["read:/etc/file", "read:/etc/dir/inside", "create:/etc/new"])?;
    for file in ["read:/etc/file", "read:/etc/dir/inside"] {
        anyhow::ensure!(report.worked(file)? == "from the image\n", "{file} gives {}", report.worked(file)?);
    }
    report.worked("create:/etc/new")?;
    anyhow::ensure!(!container.rootfs().join("etc/new").exists(), "the file was made in the root filesystem");
    Ok(())
}
