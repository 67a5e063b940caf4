//! A panic is a fault of this program, and an error like any other to its caller: one line, and exit status 1. A process
//! that is on its way into a container tells its parent, as it does any other error.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

use crate::error::anyhow;
use crate::sys::process::exit;
use crate::{log, protocol};

/// The descriptor by which this process talks to its parent; -1: it has none.
static CHANNEL: AtomicI32 = AtomicI32::new(-1);

/// A second panic is one of the report's.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// Makes every panic of this process an error that is reported and ends it.
pub fn report_as_errors() {
    std::panic::set_hook(Box::new(report));
}

/// Sends panics to the parent from here on, in a process that was made for a container.
pub fn tell_parent(channel: &protocol::Init) {
    CHANNEL.store(channel.number(), Relaxed);
}

fn report(panic: &PanicHookInfo<'_>) {
    if REPORTED.swap(true, Relaxed) {
        exit(1);
    }
    let payload = panic.payload();
    let words =
        payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
    let line = format!("internal error{place}: {} (please report it)", words.unwrap_or("panic"));
    match CHANNEL.load(Relaxed) {
        -1 => log::fatal(&anyhow!(line)),
        number => protocol::tell_failure(number, &line),
    }
    exit(1)
}
