//! bpf(2): loading a cgroup's device filter and attaching it.

use std::ffi::CStr;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 1 << 1;
const F_REPLACE: u32 = 1 << 2;

/// The kernel takes no more than this many programs of a type at one cgroup.
const MAX_PROGRAMS: usize = 64;

/// One instruction, as the kernel's `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low half, source register in the high half.
    pub registers: u8,
    /// Jump distance in instructions, or offset in bytes.
    pub offset: i16,
    /// Immediate value.
    pub immediate: i32,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ByIdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// # Safety
/// `T` must be what the command reads (and writes) of `union bpf_attr`, with every pointer in it valid for the call.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> nix::Result<libc::c_long> {
    // SAFETY: the caller's promise; the kernel touches no more than the size given.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) })
}

fn fd_number(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().unsigned_abs() // a file descriptor that is open is never negative
}

/// Takes over a descriptor that bpf(2) returned (with O_CLOEXEC set, as it always is).
fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just made the descriptor for us, nobody else has it; it fits an int.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}

/// Loads a cgroup device program (Linux 4.15).
pub fn load_device_program(instructions: &[Instruction]) -> nix::Result<OwnedFd> {
    const LICENSE: &CStr = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(instructions.len()).map_err(|_| Errno::E2BIG)?,
        insns: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        ..LoadAttr::default()
    };
    // SAFETY: the instructions and the license outlive the call, which only reads them.
    unsafe { bpf(PROG_LOAD, &mut attr) }.map(owned)
}

/// Attaches a device program beside those that are attached already: an access needs the consent of all.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: &OwnedFd) -> nix::Result<()> {
    attach(cgroup, program, None)
}

/// Attaches a device program in the place of another, in one step (Linux 5.6; EINVAL before).
pub fn replace_device_program(cgroup: BorrowedFd<'_>, program: &OwnedFd, old: &OwnedFd) -> nix::Result<()> {
    attach(cgroup, program, Some(old))
}

fn attach(cgroup: BorrowedFd<'_>, program: &OwnedFd, old: Option<&OwnedFd>) -> nix::Result<()> {
    let mut attr = AttachAttr {
        target_fd: fd_number(&cgroup),
        attach_bpf_fd: fd_number(program),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI | if old.is_some() { F_REPLACE } else { 0 },
        replace_bpf_fd: old.map_or(0, fd_number),
    };
    // SAFETY: the attribute holds no pointers.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// Detaches a device program.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: &OwnedFd) -> nix::Result<()> {
    let mut attr = AttachAttr {
        target_fd: fd_number(&cgroup),
        attach_bpf_fd: fd_number(program),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    // SAFETY: the attribute holds no pointers.
    unsafe { bpf(PROG_DETACH, &mut attr) }.map(drop)
}

/// The ids of the device programs attached to a cgroup itself, not to its ancestors.
pub fn attached_device_programs(cgroup: BorrowedFd<'_>) -> nix::Result<Vec<u32>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut attr = QueryAttr {
        target_fd: fd_number(&cgroup),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MAX_PROGRAMS as u32,
        ..QueryAttr::default()
    };
    // SAFETY: the kernel writes at most prog_cnt ids to the array, which outlives the call.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    Ok(ids.iter().copied().take(attr.prog_cnt as usize).collect())
}

/// Opens a program by its id.
pub fn program_by_id(id: u32) -> nix::Result<OwnedFd> {
    let mut attr = ByIdAttr { prog_id: id, ..ByIdAttr::default() };
    // SAFETY: the attribute holds no pointers.
    unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) }.map(owned)
}
