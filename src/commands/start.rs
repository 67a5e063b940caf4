//! `tare start`

use crate::error::Result;
use crate::parent;
use crate::parent::notify_socket::Proxy;
use crate::state::{Container, Root, status};

/// Runs the program of a created container.
pub fn run(root: &Root, id: &str) -> Result<()> {
    let container = Container::open(root, id)?;
    let lock = container.lock()?;
    let record = container.record()?;
    record.ensure_own()?;
    let notify = Proxy::open(&container, record.init_process_pid as u32)?;
    parent::start::start_or_destroy(&container, &record, lock)?;
    let Some(notify) = notify else { return Ok(()) };
    // An init that is gone has nothing to say any more.
    status::open_init(&record)?.map_or(Ok(()), |init| notify.stay_until_ready(&init))
}
