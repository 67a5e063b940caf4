//! `process.*`

mod args;
mod capabilities;
mod cwd;
mod env;
mod exec_cpu_affinity;
mod io_priority;
mod no_new_privileges;
mod oom_score_adj;
mod rlimits;
mod scheduler;
mod selinux_label;
pub mod terminal;
mod user;
