//! `tare --version`

use std::io::Write as _;

use crate::error::{Context as _, Result};
use crate::state::record::OCI_VERSION;

/// Prints the lines that callers look for.
pub fn run() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let commit = env!("TARE_COMMIT");
    let text = format!("tare version {version}\ncommit: {commit}\nspec: {OCI_VERSION}\n");
    std::io::stdout().write_all(text.as_bytes()).context("write to standard output")
}
