//! `linux.*`

mod devices;
mod intel_rdt;
mod masked_paths;
mod memory_policy;
mod namespaces;
mod net_devices;
mod personality;
mod seccomp;
mod sysctl;
mod time_offsets;
pub mod uid_mappings;
