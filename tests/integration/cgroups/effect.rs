//! What a limit does to the processes, whatever the hierarchy: the container looks at itself.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::{major, minor};
use serde_json::json;

use crate::bundle::is_rootless;
use crate::cgroup_tree::hierarchies;
use crate::container::Container;
use crate::runtime::{Outcome, need_root, skip};

/// A shell's function that prints what the container has used of the processors since it began, in microseconds, the
/// periods of its quota, and how many of them it was stopped in.
const USED: &str = r#"
used() {
    cd /sys/fs/cgroup
    if [ -e cpu.stat ]; then
        awk '$1 == "usage_usec" || $1 == "nr_periods" || $1 == "nr_throttled" { print $2 }' cpu.stat
    else
        awk '{ printf "%d\n", $1 / 1000 }' cpuacct/cpuacct.usage
        awk '$1 == "nr_periods" || $1 == "nr_throttled" { print $2 }' cpu/cpu.stat
    fi
}
"#;

fn numbers(outcome: &Outcome) -> Vec<f64> {
    outcome
        .stdout
        .split_whitespace()
        .map(|word| word.parse().unwrap_or_else(|_| outcome.fail("expected numbers")))
        .collect()
}

#[test]
fn a_processor_quota_holds_within_a_tenth() {
    // The clock before and after, and the use; the loop that uses it is beside.
    let script = format!(
        "{USED}
        (while :; do :; done) & usleep 200000
        cut -d' ' -f1 /proc/uptime; used; sleep 2; cut -d' ' -f1 /proc/uptime; used; kill $!"
    );
    let mut c = Container::sh(&script);
    // So little that it is used up beside whatever else runs here.
    let (quota, period) = (5_000, 50_000);
    c.config["linux"]["resources"]["cpu"] = json!({ "quota": quota, "period": period });
    let outcome = c.run();
    let [begin, use_before, periods_before, stops_before, end, use_after, periods, stops] = numbers(&outcome)[..]
    else {
        outcome.fail("expected eight numbers");
    };
    let share = (use_after - use_before) / ((end - begin) * 1e6);
    let wanted = f64::from(quota) / f64::from(period);
    assert!(share < wanted * 1.1, "{share} of a processor instead of {wanted}");
    let stopped = (stops - stops_before) / (periods - periods_before);
    println!("{share} of a processor, stopped in {stopped} of the periods");
    if stopped < 0.95 {
        skip!("the machine is too busy to give a program the {wanted} of a processor that it may have");
    }
    assert!(share > wanted * 0.9, "{share} of a processor instead of {wanted}");
}

#[test]
fn shares_divide_a_processor_that_both_want() {
    need_root!("an ordinary user's systemd does not delegate the processors");
    let computing = |shares: u64| {
        let mut c = Container::sh(&format!("{USED} while [ ! -e /dev/shm/end ]; do :; done; used"));
        c.config["linux"]["resources"]["cpu"] = json!({ "shares": shares, "cpus": "0" });
        c
    };
    let (large, small) = (computing(8192), computing(512));
    let outputs = [large.create().ok(), small.create().ok()];
    let containers = [&large, &small];
    containers.iter().for_each(|c| drop(c.start().ok()));
    let begin = containers.map(usage);
    std::thread::sleep(Duration::from_millis(1500));
    let end = containers.map(usage);
    drop(outputs);
    let [more, less] = [0, 1].map(|index| end[index] - begin[index]);
    assert!(more > 4.0 * less, "{more} and {less} us of the same processor");
}

/// What a container has used of the processors, in nanoseconds.
fn usage(c: &Container) -> f64 {
    let event = c.call(&["events", "--stats", &c.id]).ok().json();
    event["data"]["cpu"]["usage"]["total"].as_f64().unwrap_or_else(|| panic!("no usage in {event}"))
}

/// Whether the containers' cgroups may choose processors.
fn has_cpuset() -> bool {
    let v1 = hierarchies().iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| name == "cpuset"));
    v1 || !is_rootless()
}

#[test]
fn programs_are_pinned_to_the_processors_they_are_given() {
    if !has_cpuset() {
        skip!("an ordinary user's systemd does not delegate cpuset");
    }
    let mut c = Container::sleeping();
    c.config["linux"]["resources"]["cpu"] = json!({ "cpus": "0" });
    c.launch();
    let allowed =
        || c.call(&["exec", &c.id, "grep", "Cpus_allowed_list", "/proc/1/status", "/proc/self/status"]).ok().stdout;
    let both =
        |list: &str| ["1", "self"].map(|pid| format!("/proc/{pid}/status:Cpus_allowed_list:\t{list}\n")).concat();
    assert_eq!(allowed(), both("0"));
    if !Path::new("/sys/devices/system/cpu/cpu1").exists() {
        skip!("there is one processor only");
    }
    c.call(&["update", "--cpuset-cpus", "1", &c.id]).ok();
    assert_eq!(allowed(), both("1"));
}

#[test]
fn a_throttle_slows_what_reads_from_the_device() {
    need_root!("an ordinary user's systemd does not delegate I/O");
    const SIZE: u64 = 1 << 20;
    // Read past the page cache; a clock of hundredths of a second is enough.
    let mut c = Container::sh(
        "cut -d' ' -f1 /proc/uptime; dd if=/data of=/dev/null bs=64k iflag=direct 2>&1; cut -d' ' -f1 /proc/uptime",
    );
    let data = c.rootfs().join("data");
    fs::write(&data, vec![7; SIZE as usize]).expect("write");
    fs::File::open(&data).and_then(|file| file.sync_all()).expect("fsync");
    let Some((major, minor)) = disk_of(&data) else {
        skip!("{} is not on a disk", data.display());
    };
    let seconds = |c: &Container| {
        let outcome = c.run().ok();
        let first = outcome.stdout.lines().next().and_then(|line| line.parse::<f64>().ok());
        let last = outcome.stdout.lines().last().and_then(|line| line.parse::<f64>().ok());
        let (Some(first), Some(last)) = (first, last) else { outcome.fail("expected two times") };
        last - first
    };
    let free = seconds(&c);
    c.config["linux"]["resources"]["blockIO"] =
        json!({ "throttleReadBpsDevice": [{ "major": major, "minor": minor, "rate": SIZE / 2 }] });
    let throttled = seconds(&c);
    if free > 1.0 {
        skip!("the disk is as slow as the throttle: {free} s");
    }
    assert!((1.5..10.0).contains(&throttled), "{throttled} s for twice the rate, {free} s without a throttle");
}

/// The numbers of the whole disk that a file is on.
fn disk_of(file: &Path) -> Option<(u64, u64)> {
    let device = fs::metadata(file).expect("stat").dev();
    let dir = Path::new("/sys/dev/block").join(format!("{}:{}", major(device), minor(device)));
    let dir = fs::canonicalize(dir).ok()?;
    let dir = if dir.join("partition").exists() { dir.parent()?.to_owned() } else { dir };
    let numbers = fs::read_to_string(dir.join("dev")).ok()?;
    let (major, minor) = numbers.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
