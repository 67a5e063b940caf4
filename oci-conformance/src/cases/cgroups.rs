//! config-linux.md: cgroupsPath and resources, read from the files of the container's cgroup.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::cgroup::Version;
use crate::container::{Container, Exit};

pub const CASES: &[Case] = &[
    case!(absolute_path, "config-linux.md#cgroups-path", "an absolute cgroupsPath is taken from the cgroup mount"),
    case!(relative_path, "config-linux.md#cgroups-path", "a relative cgroupsPath leads to the same place every time"),
    case!(no_path, "config-linux.md#cgroups-path", "cgroupsPath may be left out"),
    case!(memory_limit, "config-linux.md#memory", "memory.limit is the cgroup's limit"),
    case!(memory_limit_holds, "config-linux.md#memory", "a program that takes more than memory.limit is killed"),
    case!(memory_unlimited, "config-linux.md#memory", "a memory.limit of -1 is no limit"),
    case!(memory_reservation, "config-linux.md#memory", "memory.reservation is the cgroup's soft limit"),
    case!(memory_swap, "config-linux.md#memory", "memory.swap limits memory and swap together"),
    case!(cpu_shares, "config-linux.md#cpu", "cpu.shares is the cgroup's share, converted to a weight in v2"),
    case!(cpu_quota, "config-linux.md#cpu", "cpu.quota and cpu.period are the cgroup's bandwidth"),
    case!(cpu_idle, "config-linux.md#cpu", "cpu.idle is the cgroup's").known(&[("runc 1.1", "does not know it")]),
    case!(cpuset, "config-linux.md#cpu", "cpu.cpus and cpu.mems are the cgroup's, and the program's"),
    case!(pids_limit, "config-linux.md#pids", "pids.limit is the cgroup's limit, and it holds"),
    case!(pids_unlimited, "config-linux.md#pids", "a pids.limit of -1 is no limit")
        .known(&[("crun 1.8", "writes -1 into a file that asks for max")]),
    case!(block_io_weight, "config-linux.md#block-io", "blockIO.weight is the cgroup's weight")
        .known(&[("crun 1.8", "knows blkio.weight alone, not blkio.bfq.weight")]),
    case!(block_io_throttle, "config-linux.md#block-io", "throttle rates are the cgroup's"),
    case!(devices_denied, "config-linux.md#allowed-device-list", "a denied device cannot be opened or made"),
    case!(devices_order, "config-linux.md#allowed-device-list", "device rules apply in the listed order")
        .known(MKNOD_ALLOWED),
    case!(devices_access, "config-linux.md#allowed-device-list", "r, w and m are allowed by themselves")
        .known(MKNOD_ALLOWED),
    case!(unified, "config-linux.md#unified", "unified values are written to the files of the v2 cgroup"),
    case!(unified_unknown, "config-linux.md#unified", "a unified value for a controller that is not there is refused"),
    case!(invalid_value, "config-linux.md#cpu", "a value that the kernel refuses is an error"),
];

const MKNOD_ALLOWED: &[(&str, &str)] =
    &[("crun 1.28", "on cgroup v2 its own rules come before those of the configuration, and one allows every mknod")];

pub fn with_resources<'a>(bench: &'a Bench, name: &str, value: Value) -> Result<Container<'a>> {
    let mut container = Container::holding(bench)?;
    container.config["linux"]["resources"][name] = value;
    Ok(container)
}

/// Creates the container with that resource and compares a file of its cgroup, v1's or v2's.
pub fn expect(bench: &Bench, resource: (&str, Value), v1: (&str, &str, &str), v2: (&str, &str, &str)) -> Result<()> {
    let controller = if bench.suite.cgroups.version_of(v1.0).is_some() { v1.0 } else { v2.0 };
    if bench.suite.cgroups.version_of(controller).is_none() {
        skip!("no cgroup controller {controller} on this machine");
    }
    let container = with_resources(bench, resource.0, resource.1)?;
    container.create()?;
    let (version, found) = container.cgroup_file(controller, v1.1, v2.1)?;
    let (file, expected) = if version == Version::V1 { (v1.1, v1.2) } else { (v2.1, v2.2) };
    ensure!(expected.split('|').any(|expected| expected == found), "{file} is {found}, not {expected}");
    Ok(())
}

/// The path of the container's first process in the hierarchy of some controller.
fn place(container: &Container) -> Result<String> {
    let controller =
        ["pids", "memory", "cpu"].into_iter().find(|name| container.bench.suite.cgroups.version_of(name).is_some());
    let Some(controller) = controller else { skip!("no cgroup controller on this machine") };
    let (_, dir) = container.bench.suite.cgroups.dir_of(container.pid()?, controller)?;
    Ok(dir.to_string_lossy().into_owned())
}

fn absolute_path(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.create()?;
    let expected = format!("/{}/{}", bench.suite.mark, container.id);
    let place = place(&container)?;
    let found = bench.suite.cgroups.roots().any(|root| place == format!("{}{expected}", root.display()));
    ensure!(found, "the container is in {place}, not in {expected} of a hierarchy");
    Ok(())
}

fn relative_path(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    let path = format!("{}/relative", bench.suite.mark);
    container.config["linux"]["cgroupsPath"] = json!(path);
    let mut places = Vec::new();
    for _ in 0..2 {
        container.create()?;
        places.push(place(&container)?);
        container.ok(&["kill", &container.id, "KILL"])?;
        container.wait()?;
        container.wait_for_status("stopped")?;
        container.ok(&["delete", &container.id])?;
    }
    ensure!(places[0].contains(&path), "{path} is not in {}", places[0]);
    ensure!(places[0] == places[1], "once {}, once {}", places[0], places[1]);
    Ok(())
}

fn no_path(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    if let Some(linux) = container.config["linux"].as_object_mut() {
        linux.remove("cgroupsPath");
    }
    container.run()?;
    container.wait_for_status("stopped")?;
    container.ok(&["delete", &container.id])?;
    let left = bench.suite.cgroups.existing(&container.id);
    ensure!(left.is_empty(), "cgroups were left: {left:?}");
    Ok(())
}

fn memory_limit(bench: &Bench) -> Result<()> {
    let limit = "67108864";
    let memory = ("memory", json!({ "limit": 67_108_864 }));
    expect(bench, memory, ("memory", "memory.limit_in_bytes", limit), ("memory", "memory.max", limit))
}

fn memory_limit_holds(bench: &Bench) -> Result<()> {
    if bench.suite.cgroups.version_of("memory").is_none() {
        skip!("no memory controller on this machine");
    }
    let limit = 32 << 20;
    let mut container = with_resources(bench, "memory", json!({ "limit": limit, "swap": limit }))?;
    container.args(&["report", "eat:134217728"]);
    let exit = container.run()?;
    ensure!(exit == Exit::Signal(Signal::SIGKILL), "the program ended with {exit:?}");
    Ok(())
}

fn memory_unlimited(bench: &Bench) -> Result<()> {
    let memory = ("memory", json!({ "limit": -1 }));
    // v1 shows the largest number of whole pages.
    let v1 = "9223372036854771712";
    expect(bench, memory, ("memory", "memory.limit_in_bytes", v1), ("memory", "memory.max", "max"))
}

fn memory_reservation(bench: &Bench) -> Result<()> {
    let limit = "33554432";
    let memory = ("memory", json!({ "reservation": 33_554_432 }));
    expect(bench, memory, ("memory", "memory.soft_limit_in_bytes", limit), ("memory", "memory.low", limit))
}

fn memory_swap(bench: &Bench) -> Result<()> {
    let memory = ("memory", json!({ "limit": 67_108_864, "swap": 100_663_296 }));
    let v1 = ("memory", "memory.memsw.limit_in_bytes", "100663296");
    expect(bench, memory, v1, ("memory", "memory.swap.max", "33554432"))
}

fn cpu_shares(bench: &Bench) -> Result<()> {
    // Runtimes convert linearly or, since 2025, so that the defaults of both scales meet.
    let v2 = ("cpu", "cpu.weight", "20|58|59");
    expect(bench, ("cpu", json!({ "shares": 512 })), ("cpu", "cpu.shares", "512"), v2)
}

fn cpu_quota(bench: &Bench) -> Result<()> {
    let cpu = || ("cpu", json!({ "quota": 40_000, "period": 50_000 }));
    let v2 = ("cpu", "cpu.max", "40000 50000");
    expect(bench, cpu(), ("cpu", "cpu.cfs_quota_us", "40000"), v2)?;
    expect(bench, cpu(), ("cpu", "cpu.cfs_period_us", "50000"), v2)
}

fn cpu_idle(bench: &Bench) -> Result<()> {
    expect(bench, ("cpu", json!({ "idle": 1 })), ("cpu", "cpu.idle", "1"), ("cpu", "cpu.idle", "1"))
}

fn cpuset(bench: &Bench) -> Result<()> {
    let file = ("cpuset", "cpuset.cpus", "0");
    expect(bench, ("cpu", json!({ "cpus": "0", "mems": "0" })), file, file)?;
    let mut container = with_resources(bench, "cpu", json!({ "cpus": "0" }))?;
    container.report(&[])?.expect("/status/Cpus_allowed_list", json!("0"))
}

fn pids_limit(bench: &Bench) -> Result<()> {
    let file = |name| (name, "pids.max", "20");
    expect(bench, ("pids", json!({ "limit": 20 })), file("pids"), file("pids"))?;
    let mut container = with_resources(bench, "pids", json!({ "limit": 20 }))?;
    let report = container.report(&["threads:40"])?;
    let started = report.worked("threads:40")?.as_u64().context("a number of threads")?;
    ensure!((10..20).contains(&started), "{started} threads could be started");
    Ok(())
}

fn pids_unlimited(bench: &Bench) -> Result<()> {
    let file = ("pids", "pids.max", "max");
    expect(bench, ("pids", json!({ "limit": -1 })), file, file)
}

fn block_io_weight(bench: &Bench) -> Result<()> {
    let cgroups = &bench.suite.cgroups;
    let (v1, v2) = match cgroups.version_of("blkio").or_else(|| cgroups.version_of("io")) {
        Some(_) => (["blkio.bfq.weight", "blkio.weight"], ["io.bfq.weight", "io.weight"]),
        None => skip!("no block I/O controller on this machine"),
    };
    let container = with_resources(bench, "blockIO", json!({ "weight": 200 }))?;
    let outcome = container.try_create()?;
    let controller = if cgroups.version_of("blkio").is_some() { "blkio" } else { "io" };
    // The files exist only with the I/O scheduler that knows weights.
    if outcome.code != Some(0) {
        let plain = Container::holding(bench)?;
        plain.create()?;
        let (version, dir) = cgroups.dir_of(plain.pid()?, controller)?;
        let names = if version == Version::V1 { v1 } else { v2 };
        if !names.iter().any(|name| dir.join(name).exists()) {
            skip!("this kernel has neither {} nor {}", names[0], names[1]);
        }
        anyhow::bail!("`create` failed: {}", outcome.stderr.trim());
    }
    let (version, dir) = cgroups.dir_of(container.pid()?, controller)?;
    let names = if version == Version::V1 { v1 } else { v2 };
    let mut found = Vec::new();
    for name in names.iter().filter(|name| dir.join(name).exists()) {
        found.push(std::fs::read_to_string(dir.join(name))?.trim().to_owned());
    }
    if found.is_empty() {
        skip!("this kernel has neither {} nor {}", names[0], names[1]);
    }
    // io.weight has another scale: 1 + (200 - 10) * 9999 / 990.
    let expected = ["200", "default 200", "default 1919", "default 1920"];
    ensure!(found.iter().any(|value| expected.contains(&value.as_str())), "the weight is {found:?}");
    Ok(())
}

/// The numbers of a whole disk of this machine.
pub fn disk() -> Option<(u64, u64)> {
    let names = std::fs::read_dir("/sys/block").ok()?.flatten();
    let numbers = names
        .filter(|entry| {
            !["loop", "ram", "zram"].iter().any(|kind| entry.file_name().to_string_lossy().starts_with(kind))
        })
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("dev")).ok());
    let text = numbers.into_iter().next()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn block_io_throttle(bench: &Bench) -> Result<()> {
    let Some((major, minor)) = disk() else { skip!("no disk on this machine") };
    let rule = json!([{ "major": major, "minor": minor, "rate": 1_048_576 }]);
    let (v1, v2) =
        (format!("{major}:{minor} 1048576"), format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=max"));
    let v1 = ("blkio", "blkio.throttle.read_bps_device", v1.as_str());
    expect(bench, ("blockIO", json!({ "throttleReadBpsDevice": rule })), v1, ("io", "io.max", &v2))
}

/// /dev/fuse's numbers: no default device, harmless to open, and without a driver the error is another one than EPERM.
const MAKE: &str = "mknod:/dev/made 10 229";
const OPEN: &str = "open:/dev/made";

/// Whether making and opening the device is denied to the program.
fn denied(bench: &Bench, rules: &Value) -> Result<(bool, bool)> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["resources"]["devices"] = rules.clone();
    let report = container.report(&[MAKE, OPEN])?;
    let (make, open) = (report.error(MAKE)?, report.error(OPEN)?);
    Ok((make == Some("EPERM"), make == Some("EPERM") || open == Some("EPERM")))
}

fn rule(allow: bool, access: &str) -> Value {
    json!({ "allow": allow, "type": "c", "major": 10, "minor": 229, "access": access })
}

fn everything(allow: bool) -> Value {
    json!({ "allow": allow, "access": "rwm" })
}

fn devices_denied(bench: &Bench) -> Result<()> {
    // Runtimes may allow mknod for what cannot be opened.
    let (_, open) = denied(bench, &json!([everything(false)]))?;
    ensure!(open, "the device could be opened");
    Ok(())
}

fn devices_order(bench: &Bench) -> Result<()> {
    let found = denied(bench, &json!([everything(false), rule(true, "rwm")]))?;
    ensure!(found == (false, false), "denied though allowed last: (mknod, open) {found:?}");
    let found = denied(bench, &json!([everything(true), rule(false, "rwm")]))?;
    ensure!(found == (true, true), "allowed though denied last: (mknod, open) {found:?}");
    Ok(())
}

fn devices_access(bench: &Bench) -> Result<()> {
    let found = denied(bench, &json!([everything(true), rule(false, "r")]))?;
    ensure!(found == (false, true), "with r denied: (mknod, open) {found:?}");
    let found = denied(bench, &json!([everything(true), rule(false, "w")]))?;
    ensure!(found == (false, false), "with w denied, open for reading: (mknod, open) {found:?}");
    let found = denied(bench, &json!([everything(true), rule(false, "m")]))?;
    ensure!(found.0, "with m denied: (mknod, open) {found:?}");
    Ok(())
}

fn unified(bench: &Bench) -> Result<()> {
    if bench.suite.cgroups.version_of("pids") != Some(Version::V2) {
        skip!("the pids controller is not in a v2 hierarchy");
    }
    let container = with_resources(bench, "unified", json!({ "pids.max": "77", "memory.high": "50331648" }))?;
    container.create()?;
    for (controller, file, expected) in [("pids", "pids.max", "77"), ("memory", "memory.high", "50331648")] {
        let (_, found) = container.cgroup_file(controller, file, file)?;
        ensure!(found == expected, "{file} is {found}");
    }
    Ok(())
}

fn unified_unknown(bench: &Bench) -> Result<()> {
    let container = with_resources(bench, "unified", json!({ "nosuchcontroller.max": "1" }))?;
    container.create_refused().map(drop)
}

fn invalid_value(bench: &Bench) -> Result<()> {
    if bench.suite.cgroups.version_of("cpuset").is_none() {
        skip!("no cpuset controller on this machine");
    }
    with_resources(bench, "cpu", json!({ "cpus": "100000" }))?.create_refused().map(drop)
}
