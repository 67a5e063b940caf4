//! `process.noNewPrivileges`.

use nix::errno::Errno;
use oci_spec::runtime::Process;

use crate::error::{Context as _, Result};

/// Is it asked for?
pub fn is_set(process: &Process) -> bool {
    process.no_new_privileges().unwrap_or(false)
}

/// Sets the bit (PR_SET_NO_NEW_PRIVS), which nothing can clear.
pub fn apply(process: &Process) -> Result<()> {
    if !is_set(process) {
        return Ok(());
    }
    prctl::set_no_new_privileges(true).map_err(Errno::from_raw).context("process.noNewPrivileges")
}
