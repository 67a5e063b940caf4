//! Stage 2, in the container.

pub mod birth;
pub mod create;
pub mod exec;
pub mod keyring;
pub mod program;
