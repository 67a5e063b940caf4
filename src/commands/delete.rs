//! `tare delete`

use std::path::Path;

use super::{cli, several};
use crate::error::Result;
use crate::parent;
use crate::state::{self, Container};

/// Deletes the containers.
pub fn run(root: &Path, args: &cli::Delete) -> Result<()> {
    if !args.regex {
        return several::each(&args.ids, |id| delete(root, id, args.force));
    }
    several::each(&args.ids, |pattern| {
        several::each(&several::matching(root, pattern)?, |id| delete(root, id, args.force))
    })
}

fn delete(root: &Path, id: &str, force: bool) -> Result<()> {
    state::id::check(id)?;
    if force && !root.join(id).exists() {
        return Ok(());
    }
    parent::delete::delete(&Container::open(root, id)?, force)
}
