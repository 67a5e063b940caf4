//! `linux.resources.pids`.

use std::path::Path;

use cgroups_rs::fs::{MaxValue, pid::PidController};
use oci_spec::runtime::LinuxResources;

use super::needed;
use crate::cgroups::file::converted;
use crate::error::{Context, Result};

/// What the limit is for the kernel. 0 is a limit since runtime-spec 1.3; it is 1 with runc, whose systemd driver cannot
/// say 0: the container's first process is inside anyway, neither lets it fork.
pub(in crate::cgroups) fn limit(limit: i64) -> MaxValue {
    match limit {
        0 => MaxValue::Value(1),
        limit if limit > 0 => MaxValue::Value(limit),
        _ => MaxValue::Max,
    }
}

pub(super) fn set(dir: Option<&Path>, resources: &LinuxResources) -> Result<()> {
    let Some(pids) = resources.pids() else { return Ok(()) };
    let dir = needed(dir, "pids").context("linux.resources.pids")?;
    let controller = PidController::new(dir.into(), dir.into(), false);
    converted(dir, controller.set_pid_max(limit(pids.limit()))).context("linux.resources.pids.limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_one_and_negative_is_unlimited() {
        let text = |value| limit(value).to_string();
        assert_eq!([text(0), text(5), text(-1), text(-7)], ["1", "5", "max", "max"]);
    }
}
