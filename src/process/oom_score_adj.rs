//! `process.oomScoreAdj`.

use oci_spec::runtime::Process;

use crate::error::{Context as _, Result, ensure};

/// The kernel's range (proc_pid_oom_score_adj(5)).
pub fn check(process: &Process) -> Result<()> {
    let Some(adjustment) = process.oom_score_adj() else { return Ok(()) };
    ensure!((-1000..=1000).contains(&adjustment), "{adjustment} is not between -1000 and 1000");
    Ok(())
}

/// Sets this process's own, on the host: it is kept in the container's namespaces, and inherited by what is born there. Once
/// the process hides, an ordinary user cannot write it from outside any more.
pub fn bequeath(process: &Process) -> Result<()> {
    apply(process, std::process::id() as i32)
}

/// Sets init's, from outside: in a user namespace init could only raise it.
pub fn apply(process: &Process, pid: i32) -> Result<()> {
    let Some(adjustment) = process.oom_score_adj() else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    std::fs::write(&path, adjustment.to_string())
        .with_context(|| format!("process.oomScoreAdj: write \"{adjustment}\" to {path}"))
}
