//! `process.apparmorProfile`: the profile that the kernel switches to when the program is executed.

use std::fs;
use std::io::Write as _;

use oci_spec::runtime::Process;
use pathrs::flags::OpenFlags;
use pathrs::procfs::{ProcfsBase, ProcfsHandle};

use crate::error::{Context as _, Result, ensure, from_pathrs};

/// A profile that is asked for can be had.
pub fn check(process: &Process) -> Result<()> {
    let Some(profile) = configured(process) else { return Ok(()) };
    ensure!(is_enabled(), "apparmor profile {profile:?} is asked for, but AppArmor is not enabled in this kernel");
    Ok(())
}

/// Tells the kernel, by a procfs that the container cannot have touched (CVE-2019-16884).
pub fn apply(process: &Process) -> Result<()> {
    let Some(profile) = configured(process) else { return Ok(()) };
    let set = |file: &str| -> Result<()> {
        let proc = ProcfsHandle::new().map_err(from_pathrs)?;
        let mut file = proc.open(ProcfsBase::ProcThreadSelf, file, OpenFlags::O_WRONLY).map_err(from_pathrs)?;
        Ok(file.write_all(format!("exec {profile}").as_bytes())?)
    };
    // The first is AppArmor's own, Linux 5.8; the second goes to whichever security module is the default.
    set("attr/apparmor/exec")
        .or_else(|_| set("attr/exec"))
        .with_context(|| format!("process.apparmorProfile: apply {profile:?} (is it loaded?)"))
}

fn configured(process: &Process) -> Option<&str> {
    process.apparmor_profile().as_deref().filter(|profile| !profile.is_empty())
}

fn is_enabled() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|enabled| enabled.starts_with(b"Y"))
}
