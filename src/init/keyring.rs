//! The session keyring: the container's own, so that it cannot read the caller's keys (`--no-new-keyring` keeps them).

use std::ffi::CString;

use nix::errno::Errno;

use crate::error::{Context as _, Result};
use crate::sys::process::join_session_keyring;

/// Joins a new session keyring named after the container.
pub fn join(id: &str) -> Result<()> {
    let name = CString::new(format!("_ses.{id}")).context("keyring name")?;
    match join_session_keyring(&name) {
        // A kernel or a seccomp profile without keyrings has no keys to protect.
        Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        result => result.with_context(|| format!("join session keyring {name:?} (--no-new-keyring avoids it)")),
    }
}
