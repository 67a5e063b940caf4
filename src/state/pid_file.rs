//! `--pid-file`: decimal digits, no newline (callers read it untrimmed), there whole or not at all.

use std::fs;
use std::path::Path;

use crate::error::{Context as _, Result};

/// Writes the pid file by a rename.
pub fn write(path: &Path, pid: i32) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let write = || {
        fs::write(&temporary, pid.to_string())?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary))).with_context(|| format!("--pid-file: write {path:?}"))
}
