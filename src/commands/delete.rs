//! `tare delete`

use std::path::Path;

use crate::error::Result;
use crate::parent;
use crate::state::{self, Container};

/// Deletes the containers; one that fails does not keep the others from being deleted.
pub fn run(root: &Path, ids: &[String], force: bool) -> Result<i32> {
    let mut failed = Ok(0);
    for id in ids {
        if let Err(error) = delete(root, id, force)
            && let Err(earlier) = std::mem::replace(&mut failed, Err(error))
        {
            crate::log::fatal(&earlier);
        }
    }
    failed
}

fn delete(root: &Path, id: &str, force: bool) -> Result<()> {
    state::id::check(id)?;
    if force && !root.join(id).exists() {
        return Ok(());
    }
    parent::delete::delete(&Container::open(root, id)?, force)
}
