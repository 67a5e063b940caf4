//! The only unsafe code: system calls that the libraries do not wrap, or wrap without owning their descriptors.
#![allow(unsafe_code)]

pub mod bpf;
pub mod clone;
pub mod exe_file;
pub mod fd;
pub mod heap;
pub mod mount;
pub mod network;
pub mod peer;
pub mod proc_stat;
pub mod process;
pub mod schedule;
pub mod seccomp;
pub mod shared;
pub mod socket;
pub mod terminal;

use nix::errno::Errno;

/// Turns the result of a raw system call into a `Result`.
fn check(result: libc::c_long) -> nix::Result<libc::c_long> {
    Errno::result(result)
}
