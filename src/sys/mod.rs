//! The only unsafe code: system calls that the libraries do not wrap.
#![allow(unsafe_code)]

pub mod seccomp;
