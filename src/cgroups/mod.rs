//! `linux.cgroupsPath` and `linux.resources`: where the container's processes are counted and limited.
//!
//! [`place`] is the one place that chooses how: cgroup v1 (a hierarchy a controller), hybrid (v1 and a unified mount
//! beside it) or v2, and on v2 with or without systemd. What differs lives in [`v1`], [`v2`] and [`systemd`], a file a
//! controller; what they share is here.

mod below;
mod check;
mod device_rules;
mod file;
mod layout;
mod manager;
mod of_owner;
mod of_process;
mod oom;
mod path;
mod pids_room;
mod reading;
mod removal;
mod snapshot;
mod spared;
pub mod stats;
mod systemd;
mod tree;
mod v1;
mod v2;
mod wanted;

pub use below::{Below, below};
pub use check::check;
pub use device_rules::deny_by_default;
pub use layout::{Hierarchy, Layout, layout, unified};
pub use manager::{Entry, Kind, Manager, Placement, is_frozen, place, reopen, reopen_sparing};
pub use of_owner::of_owner;
pub use of_process::of_process;
pub use oom::OomWatch;
pub use pids_room::PidsRoom;
pub use spared::Spared;
pub use stats::Stats;
pub use wanted::Wanted;
