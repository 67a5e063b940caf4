//! Stage 2, in the container.

pub mod create;
pub mod keyring;
