//! `process.cwd`.

use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{chdir, getcwd};
use oci_spec::runtime::Process;

use crate::error::{Context as _, Result, bail};
use crate::root::path::{check_absolute, clean};
use crate::root::{Rootfs, obstacle};

/// The path is absolute (config.md, "Process").
pub fn check(process: &Process) -> Result<()> {
    check_absolute(process.cwd())
}

/// Makes the directory if it is missing, as runc does, while the rootfs may still be written to.
pub fn make(process: &Process, rootfs: &Rootfs) -> Result<()> {
    let cwd = clean(process.cwd());
    if cwd == Path::new("/") {
        return Ok(());
    }
    rootfs.directory(&cwd).map(drop).context("process.cwd")
}

/// Enters the directory. `false`: permission is denied so far, try again as the container's user.
pub fn enter(process: &Process) -> Result<bool> {
    match chdir(process.cwd()) {
        Err(Errno::EACCES) => return Ok(false),
        Err(errno) => {
            let cwd = process.cwd();
            bail!("process.cwd: chdir to {cwd:?}: {}{}", crate::error::words(errno), obstacle::hint(cwd))
        }
        Ok(()) => {}
    }
    check_inside()?;
    Ok(true)
}

/// Enters the directory as the container's user.
pub fn enter_as_user(process: &Process) -> Result<()> {
    if !enter(process)? {
        let cwd = process.cwd();
        bail!("process.cwd: chdir to {cwd:?}: permission denied{}", obstacle::hint(cwd));
    }
    Ok(())
}

/// A working directory outside of the container's root would be a way to the host (CVE-2024-21626).
fn check_inside() -> Result<()> {
    match getcwd() {
        Ok(cwd) if cwd.is_absolute() => Ok(()),
        Ok(_) | Err(Errno::ENOENT) => bail!("process.cwd: the directory is outside of the container's root"),
        Err(errno) => Err(errno).context("process.cwd: getcwd"),
    }
}
