//! ENOSYS for system calls that are newer than the profile.
//!
//! A C library tries a new system call and falls back to an old one on ENOSYS, and on nothing else. A profile that
//! denies what it does not list answers EPERM to a call that did not exist when it was written, and programs fail that
//! would work. So a stub in front of the filter answers ENOSYS to every number above the highest one that the profile
//! names (on each architecture), as runc does.

use libseccomp::{ScmpAction, ScmpArch, ScmpSyscall};
use oci_spec::runtime::LinuxSeccomp;

use super::bpf::{ANY_BIT, ARCH, EQUAL, GREATER, Instruction, JUMP, LOAD, NUMBER, RETURN, X32_BIT, plain, test};
use super::compile;
use crate::error::Result;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_S390: u32 = 0x16;
const AUDIT_ARCH_S390X: u32 = 0x8000_0016;

const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// The highest numbers that a profile names, for one architecture as the kernel sees it.
#[derive(Debug, PartialEq)]
struct Bounds {
    audit_arch: u32,
    highest: u32,
    /// x86_64 only: the highest x32 number.
    highest_x32: u32,
}

/// The stub, which falls through into the filter behind it; empty if the profile needs none: a default action
/// that lets calls through (a tracer has to see new calls too), or that says ENOSYS itself.
///
/// # Errors
/// An architecture that this libseccomp does not know.
pub(super) fn stub(seccomp: &LinuxSeccomp, default: ScmpAction) -> Result<Vec<Instruction>> {
    match default {
        ScmpAction::Allow | ScmpAction::Log | ScmpAction::Trace(_) => Ok(Vec::new()),
        ScmpAction::Errno(libc::ENOSYS) => Ok(Vec::new()),
        _ => Ok(program(&bounds(seccomp)?)),
    }
}

fn bounds(seccomp: &LinuxSeccomp) -> Result<Vec<Bounds>> {
    // The native architecture is always part of the filter; Docker's profile for ppc64le does not name it.
    let mut archs = vec![ScmpArch::native()];
    for &named in seccomp.architectures().iter().flatten() {
        let arch = compile::arch(named)?;
        if !archs.contains(&arch) {
            archs.push(arch);
        }
    }
    let mut all: Vec<Bounds> = Vec::new();
    for arch in archs {
        let Some(highest) = highest(seccomp, arch) else {
            log::debug!("no system call of the seccomp profile exists on {arch:?}");
            continue;
        };
        let audit_arch = audit_arch(arch);
        let at = all.iter().position(|known| known.audit_arch == audit_arch).unwrap_or_else(|| {
            all.push(Bounds { audit_arch, highest: u32::MAX, highest_x32: u32::MAX });
            all.len() - 1
        });
        match arch {
            ScmpArch::X32 => all[at].highest_x32 = highest,
            _ => all[at].highest = highest,
        }
    }
    Ok(all)
}

/// The highest number the profile names; calls that the architecture lacks have negative pseudo numbers.
fn highest(seccomp: &LinuxSeccomp, arch: ScmpArch) -> Option<u32> {
    let names = seccomp.syscalls().iter().flatten().flat_map(|rule| rule.names());
    names
        .filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch).ok())
        .filter_map(|number| u32::try_from(number.as_raw_syscall()).ok())
        .max()
        .filter(|&number| number > 0)
}

fn program(all: &[Bounds]) -> Vec<Instruction> {
    let mut program = Vec::with_capacity(1 + all.len() * 8);
    if all.is_empty() {
        return program;
    }
    program.push(plain(LOAD, ARCH));
    for (i, bounds) in all.iter().enumerate() {
        let section = section(bounds);
        // Sections are one or two tests each: what they skip always fits the 8 bits of a conditional jump.
        program.push(test(EQUAL, bounds.audit_arch, 0, section.len() as u8 + 1));
        let behind: usize = all[i + 1..].iter().map(|later| self::section(later).len() + 2).sum();
        program.extend(section);
        program.push(plain(JUMP, behind as u32));
    }
    program
}

/// The tests of one architecture: return ENOSYS or fall through.
fn section(bounds: &Bounds) -> Vec<Instruction> {
    let load = plain(LOAD, NUMBER);
    let enosys = plain(RETURN, ENOSYS);
    match bounds.audit_arch {
        AUDIT_ARCH_X86_64 => vec![
            load,
            test(ANY_BIT, X32_BIT, 1, 0),
            test(GREATER, bounds.highest, 1, 2),
            test(GREATER, bounds.highest_x32, 0, 1),
            enosys,
        ],
        // A number that an s390 kernel does not know arrives as 0, the number of setup(2), which nobody calls.
        AUDIT_ARCH_S390 | AUDIT_ARCH_S390X => {
            vec![load, test(EQUAL, 0, 1, 0), test(GREATER, bounds.highest, 0, 1), enosys]
        }
        _ => vec![load, test(GREATER, bounds.highest, 0, 1), enosys],
    }
}

/// The kernel's AUDIT_ARCH_*, which libseccomp's tokens are, but for x32.
pub(super) fn audit_arch(arch: ScmpArch) -> u32 {
    match arch {
        ScmpArch::X86 => 0x4000_0003,
        ScmpArch::X8664 | ScmpArch::X32 => AUDIT_ARCH_X86_64,
        ScmpArch::Arm => 0x4000_0028,
        ScmpArch::Aarch64 => 0xc000_00b7,
        ScmpArch::Mips => 0x08,
        ScmpArch::Mips64 => 0x8000_0008,
        ScmpArch::Mips64N32 => 0xa000_0008,
        ScmpArch::Mipsel => 0x4000_0008,
        ScmpArch::Mipsel64 => 0xc000_0008,
        ScmpArch::Mipsel64N32 => 0xe000_0008,
        ScmpArch::Ppc => 0x14,
        ScmpArch::Ppc64 => 0x8000_0015,
        ScmpArch::Ppc64Le => 0xc000_0015,
        ScmpArch::S390 => AUDIT_ARCH_S390,
        ScmpArch::S390X => AUDIT_ARCH_S390X,
        ScmpArch::Parisc => 0x0f,
        ScmpArch::Parisc64 => 0x8000_000f,
        ScmpArch::Riscv64 => 0xc000_00f3,
        ScmpArch::Loongarch64 => 0xc000_0102,
        ScmpArch::M68k => 0x04,
        ScmpArch::Sh => 0x4000_002a,
        _ => 0x2a, // ScmpArch::Sheb, the last one that compile::arch gives
    }
}
