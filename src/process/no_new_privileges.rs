//! `process.noNewPrivileges`.

use oci_spec::runtime::Process;

use crate::error::{Result, anyhow, words};

/// Is it asked for?
pub fn is_set(process: &Process) -> bool {
    process.no_new_privileges().unwrap_or(false)
}

/// Sets the bit (PR_SET_NO_NEW_PRIVS), which nothing can clear.
pub fn apply(process: &Process) -> Result<()> {
    if !is_set(process) {
        return Ok(());
    }
    prctl::set_no_new_privileges(true)
        .map_err(|errno| anyhow!("process.noNewPrivileges: {}", words(nix::errno::Errno::from_raw(errno))))
}
