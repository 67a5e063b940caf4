//! `process.*`

mod args;
mod capabilities;
mod cwd;
mod env;
mod no_new_privileges;
mod oom_score_adj;
mod rlimits;
pub mod terminal;
mod user;
