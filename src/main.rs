//! The `tare` program: see the library's front page for where everything is.
#![cfg_attr(not(test), no_main)]

use std::ffi::{c_char, c_int};
use std::io::Write as _;

// Tests have more threads than one.
#[cfg(not(test))]
#[global_allocator]
static HEAP: tare::sys::heap::Heap = tare::sys::heap::Heap;

/// C's main: what Rust's does before it (a handler for overflowing stacks, for which it parses /proc/self/maps) costs 18
/// system calls at each start, twice.
#[cfg_attr(not(test), allow(unsafe_code), unsafe(no_mangle))]
pub extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    tare::panics::report_as_errors();
    let status = tare::sys::process::begin().and_then(|()| tare::commands::main(std::env::args_os()));
    let status = status.unwrap_or_else(|error| {
        tare::log::fatal(&error);
        1
    });
    let _ = std::io::stdout().flush(); // who wants to know has flushed it before
    status
}
