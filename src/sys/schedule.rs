//! How the kernel schedules a process and places its memory: sched_setattr(2), sched_setaffinity(2), ioprio_set(2),
//! set_mempolicy(2), personality(2). All of it is kept by execve(2).

use super::check;

/// struct sched_attr of sched_setattr(2), in the size that Linux 5.3 gave it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attributes {
    /// Of this struct; [`set_scheduler`] fills it in.
    pub size: u32,
    /// SCHED_*
    pub policy: u32,
    /// SCHED_FLAG_*
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH, -20 to 19.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR, 1 to 99.
    pub priority: u32,
    /// For SCHED_DEADLINE, in nanoseconds, as the next two.
    pub runtime: u64,
    /// From the beginning of a period.
    pub deadline: u64,
    /// From one period's beginning to the next.
    pub period: u64,
    /// 0 to 1024, with SCHED_FLAG_UTIL_CLAMP_MIN.
    pub utilization_min: u32,
    /// 0 to 1024, with SCHED_FLAG_UTIL_CLAMP_MAX.
    pub utilization_max: u32,
}

/// Sets the scheduling policy and attributes of a process of one thread; 0 is the caller.
pub fn set_scheduler(pid: libc::pid_t, attributes: &Attributes) -> nix::Result<()> {
    let attributes = Attributes { size: size_of::<Attributes>() as u32, ..*attributes };
    // SAFETY: the struct is valid for the call and says its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attributes, 0) }).map(drop)
}

/// Sets the CPUs that this process may run on: bit N of the mask is CPU N.
pub fn set_affinity(mask: &[u64]) -> nix::Result<()> {
    // SAFETY: the pointer and the length in bytes describe one slice.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) }).map(drop)
}

/// Sets the I/O priority of this process's group: a class (1 real-time, 2 best-effort, 3 idle) and a level from 0 to 7.
pub fn set_io_priority(class: u16, level: u16) -> nix::Result<()> {
    const IOPRIO_WHO_PGRP: libc::c_int = 2;
    const IOPRIO_CLASS_SHIFT: u16 = 13;
    let priority = libc::c_int::from(class << IOPRIO_CLASS_SHIFT | level);
    // SAFETY: no pointers are passed.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PGRP, 0, priority) }).map(drop)
}

/// Sets the NUMA policy of this thread: an MPOL_* mode with its flags, for the nodes of the mask.
pub fn set_memory_policy(mode: libc::c_int, nodes: &[u64]) -> nix::Result<()> {
    // The kernel takes one bit less than it is told, and without nodes only a null pointer.
    let bits = nodes.len() * u64::BITS as usize + 1;
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the mask has all the bits that the kernel reads; of a null one it reads none.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// Sets the execution domain of this process.
pub fn set_personality(domain: libc::c_ulong) -> nix::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::personality(domain) }.into()).map(drop)
}
