//! `linux.*` of config.json: a file a property.

pub mod devices;
pub mod ids;
pub mod intel_rdt;
pub mod loopback;
pub mod masked_paths;
pub mod memory_policy;
pub mod mount_label;
pub mod namespaces;
pub mod net_devices;
pub mod number_list;
pub mod personality;
pub mod readonly_paths;
pub mod rootfs_propagation;
pub mod seccomp;
pub mod sysctl;
pub mod time_offsets;
pub mod uid_mappings;
