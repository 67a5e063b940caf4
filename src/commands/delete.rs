//! `tare delete`

use super::{cli, several};
use crate::error::{Result, bail};
use crate::parent;
use crate::state::{Container, Root};

/// Deletes the containers.
pub fn run(root: &Root, args: &cli::Delete) -> Result<()> {
    if !args.regex {
        return several::each(&args.ids, |id| delete(root, id, args.force));
    }
    several::each(&args.ids, |pattern| {
        several::each(&several::matching(root, pattern)?, |id| delete(root, id, args.force))
    })
}

fn delete(root: &Root, id: &str, force: bool) -> Result<()> {
    match Container::find(root, id)? {
        Some(container) => parent::delete::delete(&container, force),
        None if force => Ok(()),
        None => bail!("container {id:?} does not exist"),
    }
}
