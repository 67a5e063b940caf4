//! `linux.resources.memory`.

use std::path::Path;

use cgroups_rs::fs::memory::MemController;
use nix::errno::Errno;
use oci_spec::runtime::{LinuxMemory, LinuxResources};

use super::needed;
use crate::cgroups::file::{self, converted};
use crate::error::{Context, Result, errno};

const SWAP_LIMIT: &str = "memory.memsw.limit_in_bytes";

fn asked(memory: &LinuxMemory) -> bool {
    let set = |value: Option<i64>| value.is_some_and(|value| value != 0);
    set(memory.limit())
        || set(memory.swap())
        || set(memory.reservation())
        || set(memory.kernel_tcp())
        || memory.disable_oom_killer() == Some(true)
        || memory.swappiness().is_some_and(|swappiness| swappiness != u64::MAX)
}

/// A kernel limit is ignored (Linux 5.16 took it away), useHierarchy is what every kernel since 5.11
/// does, checkBeforeUpdate is what the v1 kernel does by itself: all as runc.
pub(super) fn set(dir: Option<&Path>, resources: &LinuxResources) -> Result<()> {
    let Some(memory) = resources.memory().as_ref() else { return Ok(()) };
    #[allow(deprecated, reason = "to say that it is ignored")]
    if memory.kernel().is_some() {
        log::debug!("linux.resources.memory.kernel: is ignored");
    }
    if !asked(memory) {
        return Ok(());
    }
    let dir = needed(dir, "memory").context("linux.resources.memory")?;
    let controller = MemController::new(dir.into(), dir.into(), false);
    set_limits(dir, &controller, memory)?;
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        converted(dir, controller.set_soft_limit(reservation)).context("linux.resources.memory.reservation")?;
    }
    if let Some(limit) = memory.kernel_tcp().filter(|limit| *limit != 0) {
        converted(dir, controller.set_tcp_limit(limit)).context("linux.resources.memory.kernelTCP")?;
    }
    if memory.disable_oom_killer() == Some(true) {
        converted(dir, controller.disable_oom_killer()).context("linux.resources.memory.disableOOMKiller")?;
    }
    if let Some(swappiness) = memory.swappiness().filter(|swappiness| *swappiness != u64::MAX) {
        converted(dir, controller.set_swappiness(swappiness)).context("linux.resources.memory.swappiness")?;
    }
    Ok(())
}

/// memory+swap may never be below memory: whichever moves away from the other goes first.
fn set_limits(dir: &Path, controller: &MemController, memory: &LinuxMemory) -> Result<()> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    let mut swap = memory.swap().filter(|swap| *swap != 0);
    // Unlimited memory with a limit left on memory+swap is limited: runc lifts that one, too.
    if limit == Some(-1) && swap.is_none() && dir.join(SWAP_LIMIT).exists() {
        swap = Some(-1);
    }
    let set_limit = || match limit {
        Some(limit) => set_limit(dir, controller, limit).context("linux.resources.memory.limit"),
        None => Ok(()),
    };
    let set_swap = || match swap {
        Some(swap) => converted(dir, controller.set_memswap_limit(swap)).context("linux.resources.memory.swap"),
        None => Ok(()),
    };
    let raise = match (limit, swap) {
        (Some(_), Some(-1)) => true,
        (Some(_), Some(swap)) => file::read_u64(dir, "memory.limit_in_bytes")? < swap.unsigned_abs(),
        _ => false,
    };
    if raise {
        set_swap()?;
        return set_limit();
    }
    set_limit()?;
    set_swap()
}

fn set_limit(dir: &Path, controller: &MemController, limit: i64) -> Result<()> {
    let result = converted(dir, controller.set_limit(limit));
    if result.as_ref().is_err_and(|error| errno(error) == Some(Errno::EBUSY)) {
        // EBUSY is all the kernel says of a limit below the usage.
        if let (Ok(usage), Ok(peak)) =
            (file::read_u64(dir, "memory.usage_in_bytes"), file::read_u64(dir, "memory.max_usage_in_bytes"))
        {
            return result.with_context(|| {
                format!("unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")
            });
        }
    }
    result
}
