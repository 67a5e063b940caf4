//! `linux.resources.cpu` but for the lists.

use std::path::Path;

use cgroups_rs::fs::cpu::CpuController;
use nix::errno::Errno;
use oci_spec::runtime::{LinuxCpu, LinuxResources};

use super::{explained, set as write};
use crate::cgroups::file::converted;
use crate::error::{Context, Result, errno};

/// v1's shares [2..262144, default 1024] as v2's weight [1..10000, default 100]: a quadratic function of the logarithm
/// that meets minimum, default and maximum, runc's since 1.3.2.
pub(in crate::cgroups) fn weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 1 << 18 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

/// The cgroup is to be idle: then it has no weight, and the kernel refuses one.
pub(in crate::cgroups) fn is_idle(resources: &LinuxResources) -> bool {
    let unified = || resources.unified().as_ref().and_then(|unified| unified.get("cpu.idle"));
    resources.cpu().as_ref().and_then(LinuxCpu::idle) == Some(1) || unified().is_some_and(|value| value.trim() == "1")
}

pub(super) fn set(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    let controller = CpuController::new(dir.into(), dir.into(), true);
    if let Some(idle) = cpu.idle() {
        write(dir, "cpu.idle", &idle.to_string()).context("linux.resources.cpu.idle")?;
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && !is_idle(resources)) {
        let result = converted(dir, controller.set_shares(weight(shares)));
        explained(dir, "cpu.weight", result).context("linux.resources.cpu.shares")?;
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    let set_burst = || match cpu.burst() {
        Some(burst) => write(dir, "cpu.max.burst", &burst.to_string()).context("linux.resources.cpu.burst"),
        None => Ok(()),
    };
    // A burst may exceed the old quota, as on v1: once more after it.
    let burst = set_burst();
    let again = quota.is_some() && burst.as_ref().is_err_and(|error| errno(error) == Some(Errno::EINVAL));
    if !again {
        burst?;
    }
    if quota.is_some() || period.is_some() {
        // Keeps the one of the two that is not given.
        let result = converted(dir, controller.set_cfs_quota_and_period(quota, period));
        let property = if quota.is_some() { "linux.resources.cpu.quota" } else { "linux.resources.cpu.period" };
        explained(dir, "cpu.max", result).context(property)?;
    }
    if again { set_burst() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn shares_meet_weights_at_minimum_default_and_maximum() {
        for (shares, expected) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        let weights: Vec<_> = (1..=18).map(|log| weight(1 << log)).collect();
        assert!(weights.is_sorted(), "{weights:?}");
    }
}
