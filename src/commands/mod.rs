//! The commands: a file a command.

pub mod features;
pub mod spec;
