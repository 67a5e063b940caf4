//! `linux.*` of config.json: a file a property.

pub mod seccomp;
