//! The device filter attached to a v2 cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::device_filter;
use crate::cgroups::device_rules::Rule;
use crate::error::{Context, Result};
use crate::sys::bpf;

/// Replaces the cgroup's filter. There is never a moment without one, nor one in which more is denied than by the old
/// and the new together.
pub(super) fn set(dir: &Path, rules: &[Rule]) -> Result<()> {
    let cgroup = super::open_dir(dir)?;
    let program = load(rules)?;
    let attached = bpf::attached_device_programs(cgroup.as_fd())
        .with_context(|| format!("bpf(BPF_PROG_QUERY, BPF_CGROUP_DEVICE) of {}", dir.display()))?;
    let mut old = Vec::with_capacity(attached.len());
    for id in attached {
        match bpf::program_by_id(id) {
            Ok(program) => old.push(program),
            // Another's, guarded by a security module, or just gone: it can only deny more.
            Err(Errno::EPERM | Errno::EACCES | Errno::ENOENT) => log::debug!("device program {id} is not ours"),
            Err(errno) => return Err(errno).with_context(|| format!("bpf(BPF_PROG_GET_FD_BY_ID, {id})")),
        }
    }
    exchange(cgroup.as_fd(), &program, &old)
        .with_context(|| format!("bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE) to {}", dir.display()))
}

fn exchange(cgroup: BorrowedFd<'_>, program: &OwnedFd, old: &[OwnedFd]) -> nix::Result<()> {
    if let [one] = old {
        match bpf::replace_device_program(cgroup, program, one) {
            Err(Errno::EINVAL) => {} // before Linux 5.6
            result => return result,
        }
    }
    bpf::attach_device_program(cgroup, program)?;
    old.iter().try_for_each(|old| bpf::detach_device_program(cgroup, old))
}

/// Before Linux 5.11 programs count as locked memory, of which a service may have little.
fn load(rules: &[Rule]) -> Result<OwnedFd> {
    let instructions = device_filter::program(rules);
    let mut result = bpf::load_device_program(&instructions);
    if matches!(result, Err(Errno::EPERM))
        && let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK)
        && setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_ok()
    {
        result = bpf::load_device_program(&instructions);
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard); // lowering cannot fail
    }
    // E2BIG: the verifier followed a million instructions. EFAULT: more than 8192 jumps wait to be
    // followed.
    if let Err(errno @ (Errno::E2BIG | Errno::EFAULT)) = result {
        let (rules, length) = (rules.len(), instructions.len());
        return Err(errno).with_context(|| {
            format!(
                "{rules} rules (with the default ones) make a filter of {length} instructions, more than the kernel \
                 verifies: list fewer, or give all of them the access \"rwm\" (bpf(BPF_PROG_LOAD))"
            )
        });
    }
    result.with_context(|| {
        format!("bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE, {} instructions)", instructions.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::device_rules::{ALL, Node, READ};
    use crate::error::{errno, one_line};

    #[test]
    fn more_rules_than_the_kernel_verifies_are_named_with_their_number() {
        // Much to follow (E2BIG), and many jumps (EFAULT).
        for (access, count) in [(READ, 1200), (ALL, 9000)] {
            let rule = |minor| Rule { allow: true, node: Node::Char, major: Some(10), minor: Some(minor), access };
            let rules: Vec<Rule> = (0..count).map(rule).collect();
            match load(&rules) {
                Ok(_) => println!("skipped: this kernel verifies {count} rules"),
                Err(error) if matches!(errno(&error), Some(Errno::EPERM | Errno::EACCES | Errno::ENOSYS)) => {
                    println!("skipped: no bpf(2) here");
                }
                Err(error) => {
                    let line = one_line(&error);
                    assert!(line.starts_with(&format!("{count} rules ")) && line.contains("list fewer"), "{line}");
                }
            }
        }
    }
}
