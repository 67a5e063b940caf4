//! `process.execCPUAffinity`: on which CPUs a program of `exec` is started, and on which it runs. Without it, and for a
//! container's own init, these are all of the cpuset's.

use oci_spec::runtime::Process;

use crate::error::{Context as _, Result, words};
use crate::linux::number_list;
use crate::sys::schedule::set_affinity;

/// Both lists are lists of CPUs.
pub fn check(process: &Process) -> Result<()> {
    let Some(affinity) = process.exec_cpu_affinity() else { return Ok(()) };
    for (name, list) in [("initial", affinity.initial()), ("final", affinity.cpu_affinity_final())] {
        number_list::mask(list.as_deref().unwrap_or_default()).context(name)?;
    }
    Ok(())
}

/// For the parent, whose child is born with it: the CPUs until the process is in the container's cgroup.
pub fn apply_initial(process: &Process) -> Result<()> {
    let list = process.exec_cpu_affinity().as_ref().and_then(|affinity| affinity.initial().as_deref());
    apply(list).context("process.execCPUAffinity.initial")?;
    if let Some(list) = list {
        log::debug!("nsexec: affinity: {}", number_list::hexadecimal(&number_list::mask(list)?));
    }
    Ok(())
}

/// For the process, in its cgroup: who called the runtime may have been bound to some CPUs, the container is not. The
/// kernel takes out what is not in the cpuset, and remembers it for when that changes.
pub fn reset() {
    const ALL: [u64; 128] = [u64::MAX; 128]; // the kernel clamps it to the CPUs that it has been built for
    if let Err(errno) = set_affinity(&ALL) {
        log::warn!("sched_setaffinity: {}: the container has the CPUs of the caller", words(errno));
    }
}

/// For the process, in its cgroup. Without a second list it keeps what the kernel made of the first one there.
pub fn apply_final(process: &Process) -> Result<()> {
    if process.exec_cpu_affinity().is_none() {
        reset();
        return Ok(());
    }
    let list = process.exec_cpu_affinity().as_ref().and_then(|affinity| affinity.cpu_affinity_final().as_deref());
    apply(list).context("process.execCPUAffinity.final")
}

fn apply(list: Option<&str>) -> Result<()> {
    let list = list.unwrap_or_default();
    let mask = number_list::mask(list)?;
    if mask.is_empty() {
        return Ok(());
    }
    set_affinity(&mask)
        .with_context(|| format!("sched_setaffinity {list:?} (are these CPUs there, and in the cpuset?)"))
}
