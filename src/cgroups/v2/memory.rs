//! `linux.resources.memory`.

use std::path::Path;

use cgroups_rs::fs::memory::MemController;
use oci_spec::runtime::{LinuxMemory, LinuxResources};

use super::{explained, set as write};
use crate::cgroups::file::{self, converted};
use crate::error::{Context, Result, bail};

pub(super) fn set(dir: &Path, resources: &LinuxResources) -> Result<()> {
    let Some(memory) = resources.memory().as_ref() else { return Ok(()) };
    #[allow(deprecated, reason = "to say that it is ignored")]
    if memory.kernel().is_some() {
        log::debug!("linux.resources.memory.kernel: is ignored");
    }
    let limit = memory.limit().filter(|limit| *limit != 0);
    let reservation = memory.reservation().filter(|reservation| *reservation != 0);
    if limit.is_none() && reservation.is_none() && memory.swap().unwrap_or(0) == 0 {
        return Ok(());
    }
    check_usage(dir, memory)?;
    if let Some(swap) =
        swap_alone(memory.swap().unwrap_or(0), limit.unwrap_or(0)).context("linux.resources.memory.swap")?
    {
        match write(dir, "memory.swap.max", &text(swap)) {
            // Without swap accounting there is no file, and nothing to switch off or to leave unlimited.
            Err(error) if file::is_gone(&error) && swap <= 0 => {}
            result => result.context("linux.resources.memory.swap")?,
        }
    }
    if let Some(limit) = limit {
        let controller = MemController::new(dir.into(), dir.into(), true);
        explained(dir, "memory.max", converted(dir, controller.set_limit(limit)))
            .context("linux.resources.memory.limit")?;
    }
    if let Some(reservation) = reservation {
        write(dir, "memory.low", &text(reservation)).context("linux.resources.memory.reservation")?;
    }
    Ok(())
}

fn text(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

/// The spec's memory+swap as v2's swap alone; `None` is unset.
pub(in crate::cgroups) fn swap_alone(swap: i64, limit: i64) -> Result<Option<i64>> {
    Ok(match (swap, limit) {
        (0, -1) => Some(-1), // on v1 unlimited memory lifts memory+swap, too
        (0, _) => None,
        (-1, _) => Some(-1),
        (swap, -1) => Some(swap),
        (_, 0) => bail!("unable to set swap limit without memory limit"),
        (swap, limit) if swap < limit => bail!("memory+swap limit should be >= memory limit"),
        (swap, limit) => Some(swap - limit),
    })
}

/// `checkBeforeUpdate`: v2 would rather kill than refuse a limit below the usage. An unknown usage is no reason to fail.
fn check_usage(dir: &Path, memory: &LinuxMemory) -> Result<()> {
    if memory.check_before_update() != Some(true) {
        return Ok(());
    }
    let Ok(usage) = file::read_u64(dir, "memory.current") else { return Ok(()) };
    let below = |limit: Option<i64>| limit.filter(|limit| *limit > 0 && limit.unsigned_abs() <= usage);
    if let Some(swap) = below(memory.swap()) {
        bail!("linux.resources.memory.swap: rejecting memory+swap limit {swap} <= usage {usage}");
    }
    if let Some(limit) = below(memory.limit()) {
        bail!("linux.resources.memory.limit: rejecting memory limit {limit} <= usage {usage}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_swap_becomes_swap_alone() {
        for (swap, limit, expected) in [
            (0, 100, None),
            (0, -1, Some(-1)),
            (-1, 100, Some(-1)),
            (300, -1, Some(300)),
            (300, 100, Some(200)),
            (100, 100, Some(0)),
        ] {
            assert_eq!(swap_alone(swap, limit).unwrap(), expected, "{swap} {limit}");
        }
        assert!(swap_alone(100, 0).is_err());
        assert!(swap_alone(50, 100).is_err());
        assert_eq!([text(-1), text(0), text(7)], ["max", "0", "7"]);
    }
}
