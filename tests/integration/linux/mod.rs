//! `linux.*`

mod devices;
mod namespaces;
mod seccomp;
mod sysctl;
mod time_offsets;
mod uid_mappings;
