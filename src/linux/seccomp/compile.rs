//! From config.json's rules to classic BPF, by libseccomp.

use std::io::{Read, Seek};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, ScmpVersion};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use super::bpf::{self, Instruction};
use super::{compact, enosys};
use crate::error::{Context, Result, bail};

/// What the kernel takes in one filter (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;

/// From this many rules on a binary tree of system call numbers beats a list. libseccomp up to 2.5.4 mishandles the
/// tree of a filter without rules, so it must not be the default.
pub(super) const TREE_FROM: usize = 33;

/// Compiles the rules to BPF.
///
/// # Errors
/// libseccomp's refusal with the rule it refuses; a filter that is larger than the kernel takes.
pub(super) fn compile(seccomp: &LinuxSeccomp) -> Result<Vec<u8>> {
    let mut program = generate(seccomp)?;
    if let Some(compact) = compact::compact(&program) {
        program = compact;
    }
    if program.len() > MAX_INSTRUCTIONS {
        bail!("the filter has {} instructions, the kernel takes {MAX_INSTRUCTIONS}", program.len());
    }
    Ok(bpf::bytes(&program))
}

/// The rules as libseccomp writes them, with the ENOSYS stub in front where the default action asks for one.
pub(super) fn generate(seccomp: &LinuxSeccomp) -> Result<Vec<Instruction>> {
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    let mut filter = ScmpFilterContext::new(default).context("seccomp_init")?;
    for &wanted in seccomp.architectures().iter().flatten() {
        filter.add_arch(arch(wanted)?).with_context(|| format!("seccomp_arch_add {wanted}"))?;
    }
    let mut rules = 0;
    for syscall in seccomp.syscalls().iter().flatten() {
        rules += add_rules(&mut filter, syscall, default)?;
    }
    if rules >= TREE_FROM {
        filter.set_ctl_optimize(2).context("seccomp_attr_set SCMP_FLTATR_CTL_OPTIMIZE 2")?;
    }
    let mut program = enosys::stub(seccomp, default)?;
    program.extend(export(&filter)?);
    Ok(program)
}

/// Adds a rule for each name that the native architecture knows; returns how many rules that were.
fn add_rules(filter: &mut ScmpFilterContext, syscall: &LinuxSyscall, default: ScmpAction) -> Result<usize> {
    let action = action(syscall.action(), syscall.errno_ret())?;
    if action == default {
        return Ok(0); // libseccomp refuses a rule that says what happens anyway
    }
    let args = syscall.args().as_deref().unwrap_or_default();
    let conditions = args.iter().map(condition).collect::<Result<Vec<_>>>()?;
    let mut added = 0;
    for name in syscall.names() {
        let Ok(number) = ScmpSyscall::from_name(name) else {
            log::debug!("unknown seccomp syscall {name:?} ignored");
            continue;
        };
        let mut add = |conditions: &[ScmpArgCompare]| {
            added += 1;
            filter
                .add_rule_conditional(action, number, conditions)
                .map(drop)
                .with_context(|| format!("seccomp_rule_add {name} {}", syscall.action()))
        };
        if has_repeated_index(args) {
            // One rule can look at an argument once. Several conditions on one argument were always alternatives.
            conditions.iter().try_for_each(|one| add(std::slice::from_ref(one)))?;
        } else {
            add(&conditions)?;
        }
    }
    Ok(added)
}

fn has_repeated_index(args: &[LinuxSeccompArg]) -> bool {
    args.iter().enumerate().any(|(i, arg)| args[..i].iter().any(|earlier| earlier.index() == arg.index()))
}

/// libseccomp 2.5 exports to an fd only: a memfd is one that never blocks.
fn export(filter: &ScmpFilterContext) -> Result<Vec<Instruction>> {
    let memfd = memfd_create(c"seccomp", MFdFlags::MFD_CLOEXEC).context("memfd_create \"seccomp\"")?;
    let mut file = std::fs::File::from(memfd);
    filter.export_bpf(&file).context("seccomp_export_bpf")?;
    file.rewind().context("lseek memfd:seccomp")?;
    let mut program = Vec::new();
    file.read_to_end(&mut program).context("read memfd:seccomp")?;
    Ok(bpf::parse(&program))
}

/// The action with its value: EPERM where none is given.
///
/// # Errors
/// A value for an action that takes none (the spec wants an error), or one beyond the 16 bits that BPF has for it.
pub(super) fn action(action: LinuxSeccompAction, errno_ret: Option<u32>) -> Result<ScmpAction> {
    use LinuxSeccompAction as Oci;
    let takes_value = matches!(action, Oci::ScmpActErrno | Oci::ScmpActTrace);
    if errno_ret.is_some() && !takes_value {
        bail!("errno value specified for action {action}");
    }
    let value = errno_ret.unwrap_or(libc::EPERM as u32);
    let Ok(value) = u16::try_from(value) else {
        bail!("errno value {value} of action {action} does not fit 16 bits");
    };
    Ok(match action {
        // KILL is the name from before 4.14, when there was nothing but the thread to kill.
        Oci::ScmpActKill | Oci::ScmpActKillThread => ScmpAction::KillThread,
        Oci::ScmpActKillProcess => ScmpAction::KillProcess,
        Oci::ScmpActTrap => ScmpAction::Trap,
        Oci::ScmpActErrno => ScmpAction::Errno(value.into()),
        Oci::ScmpActNotify => ScmpAction::Notify,
        Oci::ScmpActTrace => ScmpAction::Trace(value),
        Oci::ScmpActLog => ScmpAction::Log,
        Oci::ScmpActAllow => ScmpAction::Allow,
    })
}

/// # Errors
/// An argument index that no system call has.
pub(super) fn condition(arg: &LinuxSeccompArg) -> Result<ScmpArgCompare> {
    use LinuxSeccompOperator as Oci;
    if arg.index() > 5 {
        bail!("index {}: system calls have the arguments 0 to 5", arg.index());
    }
    let (operator, datum) = match arg.op() {
        Oci::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        Oci::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        Oci::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        Oci::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        Oci::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        Oci::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        Oci::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or(0)),
    };
    Ok(ScmpArgCompare::new(arg.index() as u32, operator, datum))
}

/// The architecture as libseccomp's token.
///
/// # Errors
/// An architecture that this libseccomp is too old for.
pub(super) fn arch(arch: Arch) -> Result<ScmpArch> {
    let token = token(arch);
    // The rest is in every 2.5, and to ask for it would page in libseccomp's tables at each start.
    let newer_than_2_5 = matches!(token, ScmpArch::Loongarch64 | ScmpArch::M68k | ScmpArch::Sh | ScmpArch::Sheb);
    // Any name will do: a pseudo number for a call that the architecture lacks is no error.
    if newer_than_2_5 && ScmpSyscall::from_name_by_arch("accept", token).is_err() {
        bail!("{arch} is not known to libseccomp {}", ScmpVersion::current().context("seccomp_version")?);
    }
    Ok(token)
}

fn token(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchNative => ScmpArch::native(),
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}
