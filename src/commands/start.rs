//! `tare start`

use std::path::Path;

use crate::error::Result;
use crate::parent;
use crate::state::Container;

/// Runs the program of a created container.
pub fn run(root: &Path, id: &str) -> Result<()> {
    let container = Container::open(root, id)?;
    let _lock = container.lock()?;
    let record = container.record()?;
    parent::start::start(&container, &record)
}
