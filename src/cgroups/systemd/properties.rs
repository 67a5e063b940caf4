//! `linux.resources` as properties of a unit (systemd.resource-control(5)), so that systemd knows what the runtime
//! writes into the cgroup's files, and writes the same when it does. What it has no property for is in the files only.

use oci_spec::runtime::{LinuxCpu, LinuxResources};

use super::wire::Value;
use crate::cgroups::v2::{cpu::is_idle, cpu::weight, io::io_weight, memory::swap_alone};
use crate::error::{Context as _, Result};
use crate::linux::number_list;

/// systemd's "infinity".
const INFINITY: u64 = u64::MAX;

/// The kernel's period of a quota in microseconds, if none is given (sched-bwc).
const PERIOD: u64 = 100_000;

/// What systemd learned lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32);

impl Version {
    /// `CPUWeight=idle`
    const IDLE: Self = Self(252);
    /// `OOMPolicy=` of a scope
    const OOM_POLICY: Self = Self(253);

    /// From the manager's property: `262`, `v245.4-1.fc32`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let digits = text.trim_start_matches('v');
        let end = digits.find(|char: char| !char.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().map(Self).with_context(|| format!("systemd: Version: {text:?}"))
    }
}

/// Whether some of the properties depend on systemd's version: asking for it costs a round trip.
pub(super) fn needs_version(resources: &LinuxResources) -> bool {
    let unified = |key: &str| resources.unified().as_ref().is_some_and(|unified| unified.contains_key(key));
    resources.cpu().as_ref().is_some_and(|cpu| cpu.idle().is_some()) || unified("cpu.idle") || unified(OOM_GROUP)
}

/// systemd keeps a quota as whole percents of a CPU: it is rounded up to them before anybody writes it.
pub(super) fn round_quota(resources: &mut LinuxResources) {
    let Some(cpu) = resources.cpu().clone() else { return };
    let Some(quota) = cpu.quota().filter(|quota| *quota > 0) else { return };
    let period = period(&cpu).unwrap_or(PERIOD);
    let rounded = (per_second(quota.unsigned_abs(), period) as u128 * u128::from(period)).div_ceil(1_000_000);
    let mut cpu = cpu;
    cpu.set_quota(i64::try_from(rounded).ok().or(Some(quota)));
    resources.set_cpu(Some(cpu));
}

fn period(cpu: &LinuxCpu) -> Option<u64> {
    cpu.period().filter(|period| *period != 0)
}

/// The quota in microseconds a second, rounded up to whole percents.
fn per_second(quota: u64, period: u64) -> u64 {
    const PERCENT: u128 = 10_000;
    let exact = u128::from(quota) * 1_000_000 / u128::from(period);
    u64::try_from(exact.div_ceil(PERCENT) * PERCENT).unwrap_or(INFINITY)
}

struct Properties {
    all: Vec<(String, Value)>,
    /// The cgroup is to be idle, and systemd has a word for it.
    idle: bool,
}

/// The properties of a running unit.
pub(super) fn of(resources: &LinuxResources, version: Option<Version>) -> Result<Vec<(String, Value)>> {
    let idle = version >= Some(Version::IDLE) && is_idle(resources);
    let mut properties = Properties { all: Vec::new(), idle };
    if idle {
        properties.number("CPUWeight", 0);
    }
    properties.memory(resources)?;
    properties.cpu(resources)?;
    if let Some(pids) = resources.pids() {
        properties.number("TasksMax", tasks(pids.limit()));
    }
    let block_io = resources.block_io().as_ref();
    if let Some(weight) = block_io.and_then(|block_io| block_io.weight()).filter(|weight| *weight != 0) {
        properties.number("IOWeight", io_weight(weight).context("linux.resources.blockIO.weight")?);
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort_unstable();
    for (key, value) in unified {
        properties.unified(key, value.trim()).with_context(|| format!("linux.resources.unified[{key:?}]"))?;
    }
    Ok(properties.all)
}

const OOM_GROUP: &str = "memory.oom.group";

/// The property that systemd takes only when a unit starts.
pub(super) fn oom_policy(resources: &LinuxResources, version: Option<Version>) -> Option<(String, Value)> {
    let group = resources.unified().as_ref()?.get(OOM_GROUP)?.trim();
    if version < Some(Version::OOM_POLICY) {
        return None;
    }
    let policy = if group == "1" { "kill" } else { "continue" };
    Some(("OOMPolicy".to_owned(), Value::Text(policy.to_owned())))
}

/// systemd does not accept 0, and the container's first process is there anyway.
fn tasks(limit: i64) -> u64 {
    match limit {
        0 => 1,
        limit => u64::try_from(limit).unwrap_or(INFINITY),
    }
}

fn bytes(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(INFINITY)
}

impl Properties {
    fn number(&mut self, name: &str, value: u64) {
        self.all.push((name.to_owned(), Value::U64(value)));
    }

    fn memory(&mut self, resources: &LinuxResources) -> Result<()> {
        let Some(memory) = resources.memory() else { return Ok(()) };
        let set = |value: Option<i64>| value.filter(|value| *value != 0);
        if let Some(limit) = set(memory.limit()) {
            self.number("MemoryMax", bytes(limit));
        }
        if let Some(reservation) = set(memory.reservation()) {
            self.number("MemoryLow", bytes(reservation));
        }
        let swap = swap_alone(memory.swap().unwrap_or(0), memory.limit().unwrap_or(0));
        if let Some(swap) = swap.context("linux.resources.memory.swap")? {
            self.number("MemorySwapMax", bytes(swap));
        }
        Ok(())
    }

    /// Idle is a weight of 0 for systemd, and so excludes all others.
    fn weight(&mut self, weight: u64) {
        if self.idle {
            log::warn!("linux.resources: unable to apply both a CPU weight and cpu.idle with systemd: it is idle");
        } else {
            self.number("CPUWeight", weight);
        }
    }

    fn cpu(&mut self, resources: &LinuxResources) -> Result<()> {
        let Some(cpu) = resources.cpu() else { return Ok(()) };
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            self.weight(weight(shares));
        }
        self.quota(cpu.quota().filter(|quota| *quota != 0), period(cpu));
        for (name, property, list) in [("AllowedCPUs", "cpus", cpu.cpus()), ("AllowedMemoryNodes", "mems", cpu.mems())]
        {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                let mask = mask(list).with_context(|| format!("linux.resources.cpu.{property}"))?;
                self.all.push((name.to_owned(), Value::bytes(&mask)));
            }
        }
        Ok(())
    }

    fn quota(&mut self, quota: Option<i64>, period: Option<u64>) {
        if let Some(period) = period {
            self.number("CPUQuotaPeriodUSec", period);
        }
        if quota.is_some() || period.is_some() {
            let limited = quota.and_then(|quota| u64::try_from(quota).ok());
            let value = limited.map_or(INFINITY, |quota| per_second(quota, period.unwrap_or(PERIOD)));
            self.number("CPUQuotaPerSecUSec", value);
        }
    }

    fn unified(&mut self, key: &str, value: &str) -> Result<()> {
        let number = |value: &str| -> Result<u64> {
            if value == "max" { Ok(INFINITY) } else { value.parse().with_context(|| format!("{value:?} is no number")) }
        };
        match key {
            // Whoever writes the files warns.
            "cpu.idle" | "cpu.weight" if self.idle => {}
            "cpu.weight" => self.weight(number(value)?),
            "cpu.max" => {
                let mut words = value.split_whitespace();
                let quota = words.next().context("it is empty")?;
                let quota = if quota == "max" { -1 } else { quota.parse().with_context(|| format!("{quota:?}"))? };
                let period = words.next().map(number).transpose()?;
                self.quota(Some(quota), period.filter(|period| *period != 0));
            }
            "cpuset.cpus" => self.all.push(("AllowedCPUs".to_owned(), Value::bytes(&mask(value)?))),
            "cpuset.mems" => self.all.push(("AllowedMemoryNodes".to_owned(), Value::bytes(&mask(value)?))),
            "memory.high" => self.number("MemoryHigh", number(value)?),
            "memory.low" => self.number("MemoryLow", number(value)?),
            "memory.min" => self.number("MemoryMin", number(value)?),
            "memory.max" => self.number("MemoryMax", number(value)?),
            "memory.swap.max" => self.number("MemorySwapMax", number(value)?),
            "pids.max" => self.number("TasksMax", number(value)?.max(1)),
            _ => log::debug!("linux.resources.unified: systemd has no property for {key}"),
        }
        Ok(())
    }
}

/// A list of numbers and ranges as systemd takes it: the lowest number is the lowest bit of the first byte, and the last
/// byte is not empty.
fn mask(list: &str) -> Result<Vec<u8>> {
    let mut bytes: Vec<u8> = number_list::mask(list)?.into_iter().flat_map(u64::to_le_bytes).collect();
    let length = bytes.iter().rposition(|byte| *byte != 0).with_context(|| format!("{list:?} is empty"))? + 1;
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(json: &str) -> Vec<(String, Value)> {
        let mut resources: LinuxResources = serde_json::from_str(json).unwrap();
        round_quota(&mut resources);
        of(&resources, Some(Version(262))).unwrap()
    }

    fn numbers(json: &str) -> Vec<(String, u64)> {
        let number = |(name, value)| match value {
            Value::U64(number) => (name, number),
            other => panic!("{name}: {other:?}"),
        };
        properties(json).into_iter().map(number).collect()
    }

    #[test]
    fn limits_become_properties() {
        for (json, expected) in [
            (
                r#"{"memory":{"limit":1000,"swap":1500,"reservation":-1}}"#,
                &[("MemoryMax", 1000), ("MemoryLow", INFINITY), ("MemorySwapMax", 500)][..],
            ),
            (r#"{"pids":{"limit":0}}"#, &[("TasksMax", 1)]),
            (r#"{"pids":{"limit":-1}}"#, &[("TasksMax", INFINITY)]),
            (r#"{"cpu":{"shares":1024}}"#, &[("CPUWeight", 100)]),
            (r#"{"cpu":{"shares":1024,"idle":1}}"#, &[("CPUWeight", 0)]),
            (r#"{"unified":{"cpu.idle":"1","cpu.weight":"8"}}"#, &[("CPUWeight", 0)]),
            (r#"{"unified":{"cpu.idle":"0","cpu.weight":"8"}}"#, &[("CPUWeight", 8)]),
            (r#"{"cpu":{"shares":1024},"unified":{"cpu.idle":"1"}}"#, &[("CPUWeight", 0)]),
            (r#"{"cpu":{"quota":-1}}"#, &[("CPUQuotaPerSecUSec", INFINITY)]),
            (
                r#"{"cpu":{"quota":5000,"period":20000}}"#,
                &[("CPUQuotaPeriodUSec", 20_000), ("CPUQuotaPerSecUSec", 250_000)],
            ),
            (r#"{"blockIO":{"weight":10}}"#, &[("IOWeight", 1)]),
            (
                r#"{"unified":{"cpu.max":"max 5000"}}"#,
                &[("CPUQuotaPeriodUSec", 5000), ("CPUQuotaPerSecUSec", INFINITY)],
            ),
            (r#"{"unified":{"pids.max":"0"}}"#, &[("TasksMax", 1)]),
            (r#"{"unified":{"memory.high":" max\n"}}"#, &[("MemoryHigh", INFINITY)]),
            (r#"{"unified":{"hugetlb.2MB.max":"1"}}"#, &[]),
        ] {
            let seen = numbers(json);
            let seen: Vec<_> = seen.iter().map(|(name, number)| (name.as_str(), *number)).collect();
            assert_eq!(seen, expected, "{json}");
        }
    }

    #[test]
    fn a_quota_is_rounded_up_to_percents_in_the_resources_too() {
        let mut resources: LinuxResources = serde_json::from_str(r#"{"cpu":{"quota":10001,"period":100000}}"#).unwrap();
        round_quota(&mut resources);
        assert_eq!(resources.cpu().as_ref().unwrap().quota(), Some(11_000));
        assert_eq!(numbers(r#"{"cpu":{"quota":10001}}"#), [("CPUQuotaPerSecUSec".to_owned(), 110_000)]);
    }

    #[test]
    fn lists_become_masks() {
        assert_eq!(mask("0").unwrap(), [1]);
        assert_eq!(mask("1,3-5").unwrap(), [0b11_1010]);
        assert_eq!(mask(" 0-1, 9,").unwrap(), [0b11, 0b10]);
        for list in ["", ",", "5-2", "x", "0-99999999"] {
            assert!(mask(list).is_err(), "{list}");
        }
    }

    #[test]
    fn what_depends_on_the_version() {
        assert_eq!(Version::parse("262").unwrap(), Version(262));
        assert_eq!(Version::parse("v245.4-1.fc32").unwrap(), Version(245));
        assert!(Version::parse("x").is_err());
        let resources: LinuxResources =
            serde_json::from_str(r#"{"cpu":{"idle":1},"unified":{"memory.oom.group":"1"}}"#).unwrap();
        assert!(needs_version(&resources));
        assert_eq!(of(&resources, Some(Version(249))).unwrap(), []);
        assert_eq!(oom_policy(&resources, Some(Version(249))), None);
        assert_eq!(oom_policy(&resources, Some(Version(262))).unwrap().1, Value::Text("kill".to_owned()));
    }
}
