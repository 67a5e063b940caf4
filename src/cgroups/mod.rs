//! `linux.cgroupsPath` and `linux.resources`: where the container's processes are counted and limited.
//!
//! [`place`] is the one place that chooses how: cgroup v1 (a hierarchy a controller), hybrid (v1 and a unified mount
//! beside it) or v2. What differs lives in [`v1`] and [`v2`], a file a controller; what they share is here.

mod check;
mod device_rules;
mod file;
mod layout;
mod manager;
mod path;
mod tree;
mod v1;
mod v2;

pub use check::check;
pub use device_rules::deny_by_default;
pub use layout::{Hierarchy, Layout, layout, unescape, unified};
pub use manager::{Entry, Kind, Manager, Placement, place, reopen};
