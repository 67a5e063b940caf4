//! config.md: mounts.

use std::fs;

use anyhow::{Result, ensure};
use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(listed_order, "config.md#mounts", "mounts are made in the listed order: a later one covers an earlier one"),
    case!(nested_order, "config.md#mounts", "a mount below an earlier mount is on that one"),
    case!(relative_destination, "config.md#mounts", "a relative destination is taken from the root"),
    case!(missing_destination, "config.md#mounts", "a destination that is not there is made"),
    case!(
        destination_through_a_link,
        "config.md#mounts",
        "a symbolic link in a destination does not lead out of the root"
    ),
    case!(bind_directory, "config.md#mounts", "a bind mount shows the source's files, writable"),
    case!(bind_file, "config.md#mounts", "a file can be bound on a file"),
    case!(bind_relative_source, "config.md#mounts", "a relative source of a bind mount is taken from the bundle"),
    case!(bind_read_only, "config.md#linux-mount-options", "bind with ro is read-only"),
    case!(bind_is_not_recursive, "config.md#linux-mount-options", "bind leaves the source's submounts away"),
    case!(rbind_is_recursive, "config.md#linux-mount-options", "rbind brings the source's submounts along"),
    case!(missing_source, "config.md#mounts", "a bind mount whose source is not there is refused"),
    case!(
        unknown_type,
        "config.md#posix-platform-mounts",
        "a filesystem type that the kernel does not know is refused"
    ),
    case!(without_destination, "config.md#mounts", "a mount without a destination is refused"),
    case!(default_filesystems, "config-linux.md#default-filesystems", "proc, sysfs, devpts and the shm tmpfs work"),
];

fn listed_order(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "first", "options": ["size=64k"] }));
    container.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "second", "options": ["size=128k"] }));
    let report = container.report(&[])?;
    let sizes: Vec<_> = report.mounts().into_iter().filter(|mount| mount.point == "/m").collect();
    ensure!(sizes.len() == 2, "{} mounts at /m", sizes.len());
    ensure!(sizes[0].has("size=64k") && sizes[1].has("size=128k"), "in another order: {sizes:?}");
    Ok(())
}

fn nested_order(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "outer" }));
    container.mount(json!({ "destination": "/m/a/b", "type": "tmpfs", "source": "inner" }));
    let report = container.report(&["create:/m/a/b/x", "list:/m"])?;
    report.worked("create:/m/a/b/x")?;
    ensure!(*report.worked("list:/m")? == json!(["a"]), "/m holds {}", report.worked("list:/m")?);
    ensure!(report.mount_at("/m/a/b")?.kind == "tmpfs", "no mount at /m/a/b");
    Ok(())
}

fn relative_destination(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["cwd"] = json!("/etc");
    container.mount(json!({ "destination": "tmp/m", "type": "tmpfs", "source": "m" }));
    container.report(&[])?.mount_at("/tmp/m").map(drop)
}

fn missing_destination(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(json!({ "destination": "/not/there/yet", "type": "tmpfs", "source": "m" }));
    container.report(&[])?.mount_at("/not/there/yet").map(drop)
}

fn destination_through_a_link(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let outside = container.dir.join("outside");
    fs::create_dir(&outside)?;
    std::os::unix::fs::symlink(&outside, container.rootfs().join("link"))?;
    container.mount(json!({ "destination": "/link/m", "type": "tmpfs", "source": "m" }));
    // Either is right: refusing, or following the link inside the container.
    if container.try_create()?.code == Some(0) {
        container.start()?;
        container.wait()?;
    }
    ensure!(fs::read_dir(&outside)?.next().is_none(), "something was made outside of the root filesystem");
    Ok(())
}

fn bind_directory(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    fs::write(container.out("given"), "from the host\n")?;
    container.mount_out();
    let report = container.report(&["read:/out/given", "create:/out/made"])?;
    ensure!(report.worked("read:/out/given")? == "from the host\n", "another file");
    report.worked("create:/out/made")?;
    ensure!(container.out("made").exists(), "the new file is not in the source");
    Ok(())
}

fn bind_file(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let source = container.out("given");
    fs::write(&source, "from the host\n")?;
    for destination in ["/etc/file", "/etc/new"] {
        container.mount(json!({ "destination": destination, "source": source, "options": ["bind"] }));
    }
    let report = container.report(&["read:/etc/file", "read:/etc/new"])?;
    ensure!(report.worked("read:/etc/file")? == "from the host\n", "the image's file is still seen");
    ensure!(report.worked("read:/etc/new")? == "from the host\n", "another file at /etc/new");
    Ok(())
}

fn bind_relative_source(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    fs::create_dir(container.bundle().join("data"))?;
    fs::write(container.bundle().join("data/given"), "from the bundle\n")?;
    container.mount(json!({ "destination": "/m", "type": "none", "source": "data", "options": ["bind"] }));
    let report = container.report(&["read:/m/given"])?;
    ensure!(report.worked("read:/m/given")? == "from the bundle\n", "another file");
    Ok(())
}

fn bind_read_only(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let source = container.dir.join("out");
    container.mount(json!({ "destination": "/m", "source": source, "options": ["bind", "ro", "nosuid", "nodev"] }));
    let report = container.report(&["create:/m/new"])?;
    report.failed("create:/m/new", &["EROFS"])?;
    let mount = report.mount_at("/m")?;
    ensure!(["ro", "nosuid", "nodev"].iter().all(|option| mount.has(option)), "its options are {:?}", mount.options);
    Ok(())
}

/// A directory with a tmpfs and a file on it mounted at `sub`.
fn with_submount<'a>(bench: &'a Bench, option: &str) -> Result<Container<'a>> {
    let mut container = Container::new(bench)?;
    let source = container.dir.join("out");
    fs::create_dir(source.join("sub"))?;
    mount(Some("tmpfs"), &source.join("sub"), Some("tmpfs"), MsFlags::empty(), Some("size=64k"))?;
    fs::write(source.join("sub/file"), "on the submount\n")?;
    container.mount(json!({ "destination": "/m", "type": "none", "source": source, "options": [option] }));
    Ok(container)
}

fn bind_is_not_recursive(bench: &Bench) -> Result<()> {
    let report = with_submount(bench, "bind")?.report(&["list:/m/sub"])?;
    let list = report.worked("list:/m/sub")?;
    ensure!(*list == json!([]), "/m/sub holds {list}");
    Ok(())
}

fn rbind_is_recursive(bench: &Bench) -> Result<()> {
    let report = with_submount(bench, "rbind")?.report(&["list:/m/sub"])?;
    let list = report.worked("list:/m/sub")?;
    ensure!(*list == json!(["file"]), "/m/sub holds {list}");
    Ok(())
}

fn missing_source(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(json!({ "destination": "/m", "source": "/no/such/source", "options": ["bind"] }));
    container.create_refused().map(drop)
}

fn unknown_type(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(json!({ "destination": "/m", "type": "no-such-filesystem", "source": "x" }));
    container.create_refused().map(drop)
}

fn without_destination(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount(json!({ "type": "tmpfs", "source": "x" }));
    container.create_refused().map(drop)
}

fn default_filesystems(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.namespace(json!({ "type": "network" }));
    let options = ["nosuid", "noexec", "nodev", "ro"];
    container.mount(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": options }));
    let report = container.report(&[
        "read:/proc/self/comm",
        "list:/sys/class/net",
        "stat:/dev/pts/ptmx",
        "create:/dev/shm/x",
    ])?;
    for (point, kind) in [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")] {
        let mount = report.mount_at(point)?;
        ensure!(mount.kind == kind, "{point} is a {}", mount.kind);
    }
    ensure!(report.worked("read:/proc/self/comm")? == "probe\n", "/proc is another pid namespace's");
    let devices = report.worked("list:/sys/class/net")?;
    ensure!(devices.as_array().is_some_and(|list| list.contains(&json!("lo"))), "/sys/class/net holds {devices}");
    report.worked("stat:/dev/pts/ptmx")?;
    report.worked("create:/dev/shm/x").map(drop)
}
