//! `process.*`: a file a property.

pub mod apparmor_profile;
pub mod args;
pub mod capabilities;
pub mod cwd;
pub mod env;
pub mod exec_cpu_affinity;
pub mod interpreter;
pub mod io_priority;
pub mod listen_fds;
pub mod no_new_privileges;
pub mod oom_score_adj;
pub mod rlimits;
pub mod scheduler;
pub mod selinux_label;
pub mod terminal;
pub mod user;

use oci_spec::runtime::{Process, Spec};

use crate::error::{Context as _, Result, anyhow};

/// The process that `create` and `run` need the configuration to have.
pub fn of(spec: &Spec) -> Result<&Process> {
    spec.process().as_ref().ok_or_else(|| anyhow!("process: missing (it names the program to run)"))
}

/// Checks all properties before anything is made.
pub fn check(process: &Process) -> Result<()> {
    args::check(process).context("process.args")?;
    apparmor_profile::check(process).context("process.apparmorProfile")?;
    selinux_label::check(process).context("process.selinuxLabel")?;
    cwd::check(process).context("process.cwd")?;
    user::check(process)?;
    env::check(process).context("process.env")?;
    oom_score_adj::check(process).context("process.oomScoreAdj")?;
    scheduler::check(process).context("process.scheduler")?;
    io_priority::check(process).context("process.ioPriority")?;
    exec_cpu_affinity::check(process).context("process.execCPUAffinity")?;
    rlimits::check(process)?;
    capabilities::check(process);
    Ok(())
}
