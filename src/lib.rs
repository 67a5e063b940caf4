//! tare, an OCI container runtime: what a runtime adds to the weight of a container, taken to near zero.
//!
//! A path in `config.json` is a path here: `linux.maskedPaths` is [`linux::masked_paths`].
//! The two stories to read first are [`parent::create`] (stage 1, on the host) and [`init::create`]
//! (stage 2, in the container).

pub mod cgroups;
pub mod commands;
pub mod config;
pub mod error;
pub mod hooks;
pub mod hostname;
pub mod init;
pub mod input;
pub mod linux;
pub mod log;
pub mod mounts;
pub mod panics;
pub mod parent;
pub mod process;
pub mod protocol;
pub mod root;
pub mod state;
pub mod sys;
pub mod timing;
