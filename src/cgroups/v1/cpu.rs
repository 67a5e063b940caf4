//! `linux.resources.cpu` but for the lists: shares, CFS bandwidth, realtime bandwidth.

use std::path::Path;

use cgroups_rs::fs::cpu::CpuController;
use nix::errno::Errno;
use oci_spec::runtime::{LinuxCpu, LinuxResources};

use super::needed;
use crate::cgroups::file::{self, converted};
use crate::error::{Context, Result, bail, errno};

const PATH: &str = "linux.resources.cpu";

fn asked(cpu: &LinuxCpu) -> bool {
    let set = |value: Option<u64>| value.is_some_and(|value| value != 0);
    set(cpu.shares())
        || set(cpu.period())
        || cpu.quota().is_some_and(|quota| quota != 0)
        || cpu.burst().is_some()
        || cpu.idle().is_some()
        || set(cpu.realtime_period())
        || cpu.realtime_runtime().is_some_and(|runtime| runtime != 0)
}

pub(super) fn set(dir: Option<&Path>, resources: &LinuxResources) -> Result<()> {
    let Some(cpu) = resources.cpu().as_ref().filter(|cpu| asked(cpu)) else { return Ok(()) };
    let dir = needed(dir, "cpu").context(PATH)?;
    let controller = CpuController::new(dir.into(), dir.into(), false);
    if let Some(idle) = cpu.idle() {
        file::write(dir, "cpu.idle", &idle.to_string()).context("linux.resources.cpu.idle")?;
    }
    // An idle group has no shares: the kernel refuses them.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        set_shares(dir, &controller, shares).context("linux.resources.cpu.shares")?;
    }
    set_bandwidth(dir, &controller, cpu)?;
    set_realtime(dir, resources)
}

/// The kernel clamps silently; the container must not run with other shares than it was given.
fn set_shares(dir: &Path, controller: &CpuController, shares: u64) -> Result<()> {
    const MINIMUM: u64 = 2;
    const MAXIMUM: u64 = 1 << 18;
    if shares < MINIMUM {
        bail!("{shares}: the minimum allowed cpu-shares is {MINIMUM}");
    }
    if shares > MAXIMUM {
        bail!("{shares}: the maximum allowed cpu-shares is {MAXIMUM}");
    }
    converted(dir, controller.set_shares(shares))
}

/// Period and burst before the quota, but again after it where the kernel refuses them with the old quota: old quota by
/// new period may exceed what the parent has, a burst may exceed the old quota.
fn set_bandwidth(dir: &Path, controller: &CpuController, cpu: &LinuxCpu) -> Result<()> {
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let again = |result: &Result<()>| {
        quota.is_some() && result.as_ref().is_err_and(|error| errno(error) == Some(Errno::EINVAL))
    };
    let set_period = || match cpu.period().filter(|period| *period != 0) {
        Some(period) => converted(dir, controller.set_cfs_period(period)).context("linux.resources.cpu.period"),
        None => Ok(()),
    };
    let set_burst = || match cpu.burst() {
        Some(burst) => match file::write(dir, "cpu.cfs_burst_us", &burst.to_string()) {
            Err(error) if file::is_gone(&error) => Ok(()), // before Linux 5.14; runc ignores it too
            result => result.context("linux.resources.cpu.burst"),
        },
        None => Ok(()),
    };
    let period = set_period();
    let period_again = again(&period);
    if !period_again {
        period?;
    }
    let burst = set_burst();
    let burst_again = again(&burst);
    if !burst_again {
        burst?;
    }
    if let Some(quota) = quota {
        converted(dir, controller.set_cfs_quota(quota)).context("linux.resources.cpu.quota")?;
    }
    if period_again {
        set_period()?;
    }
    if burst_again {
        set_burst()?;
    }
    Ok(())
}

/// Realtime bandwidth, the period again after the runtime as above.
pub(super) fn set_realtime(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    let period = cpu.realtime_period().filter(|period| *period != 0);
    let runtime = cpu.realtime_runtime().filter(|runtime| *runtime != 0);
    if period.is_none() && runtime.is_none() {
        return Ok(());
    }
    let controller = CpuController::new(dir.into(), dir.into(), false);
    let set_period =
        |period| converted(dir, controller.set_rt_period_us(period)).context("linux.resources.cpu.realtimePeriod");
    let mut later = None;
    if let Some(period) = period {
        match set_period(period) {
            Err(error) if runtime.is_some() && errno(&error) == Some(Errno::EINVAL) => later = Some(period),
            result => result?,
        }
    }
    if let Some(runtime) = runtime {
        converted(dir, controller.set_rt_runtime(runtime)).context("linux.resources.cpu.realtimeRuntime")?;
    }
    later.map_or(Ok(()), set_period)
}
