//! `mounts[]`

mod bind;
mod cgroup;
mod destination;
mod filesystem;
mod idmap;
mod propagation;
