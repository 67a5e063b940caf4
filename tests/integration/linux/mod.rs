//! `linux.*`

mod devices;
mod namespaces;
mod seccomp;
mod sysctl;
