//! `process.apparmorProfile`: the profile that the kernel switches to when the program is executed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use oci_spec::runtime::Process;

use crate::error::{Context as _, Result, ensure};
use crate::mounts::procfs::Procfs;

/// A profile that is asked for can be had.
pub fn check(process: &Process) -> Result<()> {
    let Some(profile) = configured(process) else { return Ok(()) };
    ensure!(is_enabled(), "apparmor profile {profile:?} is asked for, but AppArmor is not enabled in this kernel");
    Ok(())
}

/// Tells the kernel.
pub fn apply(process: &Process) -> Result<()> {
    set(process, open(process)?)
}

/// Opens what [`set`] writes to, by a procfs that the container cannot have touched (CVE-2019-16884): a process outside of
/// the container's pid namespace is not in the container's procfs. Only this process may write.
pub fn open(process: &Process) -> Result<Option<File>> {
    let Some(profile) = configured(process) else { return Ok(None) };
    let open = |file: &str| -> Result<File> { Ok(Procfs::new()?.write_to(&Path::new("thread-self").join(file))?) };
    // The first is AppArmor's own, Linux 5.8; the second goes to whichever security module is the default.
    let file = open("attr/apparmor/exec").or_else(|_| open("attr/exec"));
    file.map(Some).with_context(|| format!("process.apparmorProfile: apply {profile:?}"))
}

/// Tells the kernel by the opened file.
pub fn set(process: &Process, file: Option<File>) -> Result<()> {
    let (Some(profile), Some(mut file)) = (configured(process), file) else { return Ok(()) };
    file.write_all(format!("exec {profile}").as_bytes())
        .with_context(|| format!("process.apparmorProfile: apply {profile:?} (is it loaded?)"))
}

fn configured(process: &Process) -> Option<&str> {
    process.apparmor_profile().as_deref().filter(|profile| !profile.is_empty())
}

fn is_enabled() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|enabled| enabled.starts_with(b"Y"))
}
