//! `linux.*`

mod devices;
mod namespaces;
mod seccomp;
mod sysctl;
mod time_offsets;
pub mod uid_mappings;
