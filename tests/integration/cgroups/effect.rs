//! What a limit does to the processes, whatever the hierarchy: the container looks at itself.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::stat::{major, minor};
use serde_json::{Value, json};

use crate::bundle::is_rootless;
use crate::cgroup_tree::hierarchies;
use crate::container::Container;
use crate::runtime::{need_root, skip};

#[test]
fn a_processor_quota_holds_within_a_tenth() {
    // So little that it is used up beside whatever else runs here.
    let (quota, period) = (5_000, 50_000);
    let wanted = f64::from(quota) / f64::from(period);
    let mut c = Container::sh("while :; do :; done");
    c.config["linux"]["resources"]["cpu"] = json!({ "quota": quota, "period": period });
    c.launch();
    // A machine that stands still for some periods, as an emulated one does, is given their quota once; the kernel counts
    // them all. So too much is too much in any two seconds, and two that were given enough are enough.
    let mut last = QuotaUse::of(&c);
    let mut tries = Vec::new();
    for _ in 0..6 {
        std::thread::sleep(Duration::from_secs(2));
        let now = QuotaUse::of(&c);
        let (shares, stopped) = now.since(&last);
        assert!(shares.start < wanted * 1.1, "{shares:?} of a processor instead of {wanted}, after {tries:?}");
        if shares.start > wanted * 0.9 {
            return;
        }
        tries.push((shares, stopped));
        last = now;
    }
    if tries.iter().all(|(_, stopped)| *stopped < 0.95) {
        skip!("the machine is too busy to give a program the {wanted} of a processor that it may have");
    }
    panic!("never {wanted} of a processor in two seconds: shares and part of the periods it was stopped in: {tries:?}");
}

/// What a container has used of its quota until a moment, which lies somewhere in a span of time.
struct QuotaUse {
    when: Range<Instant>,
    nanoseconds: f64,
    periods: f64,
    stopped_in: f64,
}

impl QuotaUse {
    fn of(c: &Container) -> Self {
        let begin = Instant::now();
        let event = c.call(&["events", "--stats", &c.id]).ok().json();
        let when = begin..Instant::now();
        let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_f64).unwrap_or_default();
        Self {
            when,
            nanoseconds: number("/data/cpu/usage/total"),
            periods: number("/data/cpu/throttling/periods"),
            stopped_in: number("/data/cpu/throttling/throttledPeriods"),
        }
    }

    /// The part of a processor that was used since then, at least and at most, and the part of the periods in which the
    /// quota was used up.
    fn since(&self, then: &Self) -> (Range<f64>, f64) {
        let used = self.nanoseconds - then.nanoseconds;
        let share = |from: Instant, to: Instant| used / to.duration_since(from).as_nanos() as f64;
        (
            share(then.when.start, self.when.end)..share(then.when.end, self.when.start),
            (self.stopped_in - then.stopped_in) / (self.periods - then.periods),
        )
    }
}

#[test]
fn shares_divide_a_processor_that_both_want() {
    need_root!("an ordinary user's systemd does not delegate the processors");
    let computing = |shares: u64| {
        let mut c = Container::sh("while :; do :; done");
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
fn limits_with_names_in_other_letters_hold_too() {
    if !has_cpuset() {
        skip!("an ordinary user's systemd does not delegate cpuset");
    }
    let allowed =
        |c: &Container| c.call(&["exec", &c.id, "grep", "Cpus_allowed_list", "/proc/self/status"]).ok().stdout;
    let mut c = Container::sleeping();
    c.config["linux"].as_object_mut().expect("linux").remove("resources");
    c.config["linux"]["Resources"] = json!({ "CPU": { "Cpus": "0" } });
    c.launch();
    assert_eq!(allowed(&c), "Cpus_allowed_list:\t0\n");
    if !Path::new("/sys/devices/system/cpu/cpu1").exists() {
        skip!("there is one processor only");
    }
    let resources = c.beside("resources.json");
    fs::write(&resources, json!({ "Cpu": { "CPUS": "1" } }).to_string()).expect("write the resources");
    c.call(&["update", "--resources", resources.to_str().expect("UTF-8"), &c.id]).ok();
    assert_eq!(allowed(&c), "Cpus_allowed_list:\t1\n");
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
