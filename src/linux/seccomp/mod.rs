//! `linux.seccomp`: which system calls the container's processes may make.
//!
//! The parent compiles the rules to BPF (or finds them compiled in its cache) before init exists: the memory that
//! libseccomp takes is not charged to the container, and init needs one system call to load the filter. libseccomp's
//! own loader is not used: it knows fewer flags than the kernel and more calls than a loaded filter may let through.

mod allowed;
mod bpf;
mod cache;
mod compact;
mod compile;
mod enosys;
mod notify;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator};

pub use self::cache::Cache;
pub use self::notify::{hand_over, take};
use crate::error::{Context, Result, bail};
use crate::sys::seccomp as sys;

/// The actions that a rule may have.
pub const ACTIONS: [LinuxSeccompAction; 9] = [
    LinuxSeccompAction::ScmpActAllow,
    LinuxSeccompAction::ScmpActErrno,
    LinuxSeccompAction::ScmpActKill,
    LinuxSeccompAction::ScmpActKillProcess,
    LinuxSeccompAction::ScmpActKillThread,
    LinuxSeccompAction::ScmpActLog,
    LinuxSeccompAction::ScmpActNotify,
    LinuxSeccompAction::ScmpActTrace,
    LinuxSeccompAction::ScmpActTrap,
];

/// The operators that an argument's condition may have.
pub const OPERATORS: [LinuxSeccompOperator; 7] = [
    LinuxSeccompOperator::ScmpCmpEq,
    LinuxSeccompOperator::ScmpCmpGe,
    LinuxSeccompOperator::ScmpCmpGt,
    LinuxSeccompOperator::ScmpCmpLe,
    LinuxSeccompOperator::ScmpCmpLt,
    LinuxSeccompOperator::ScmpCmpMaskedEq,
    LinuxSeccompOperator::ScmpCmpNe,
];

/// The filter flags that the spec names.
pub const FLAGS: [LinuxSeccompFilterFlag; 4] = [
    LinuxSeccompFilterFlag::SeccompFilterFlagTsync,
    LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow,
    LinuxSeccompFilterFlag::SeccompFilterFlagLog,
    LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv,
];

const ARCHS: [Arch; 23] = [
    Arch::ScmpArchAarch64,
    Arch::ScmpArchArm,
    Arch::ScmpArchLoongarch64,
    Arch::ScmpArchM68k,
    Arch::ScmpArchMips,
    Arch::ScmpArchMips64,
    Arch::ScmpArchMips64n32,
    Arch::ScmpArchMipsel,
    Arch::ScmpArchMipsel64,
    Arch::ScmpArchMipsel64n32,
    Arch::ScmpArchParisc,
    Arch::ScmpArchParisc64,
    Arch::ScmpArchPpc,
    Arch::ScmpArchPpc64,
    Arch::ScmpArchPpc64le,
    Arch::ScmpArchRiscv64,
    Arch::ScmpArchS390,
    Arch::ScmpArchS390x,
    Arch::ScmpArchSh,
    Arch::ScmpArchSheb,
    Arch::ScmpArchX32,
    Arch::ScmpArchX86,
    Arch::ScmpArchX86_64,
];

/// The architectures that a profile may name: those of the spec that the libseccomp in this binary knows.
pub fn archs() -> Vec<Arch> {
    ARCHS.into_iter().filter(|&arch| compile::arch(arch).is_ok()).collect()
}

/// The filter flags that this kernel knows too.
pub fn supported_flags() -> Vec<LinuxSeccompFilterFlag> {
    FLAGS.into_iter().filter(|&flag| kernel_flag(flag).is_ok()).collect()
}

/// The library that compiles the rules, as major.minor.micro.
///
/// # Errors
/// libseccomp does not say.
pub fn libseccomp_version() -> Result<String> {
    Ok(libseccomp::ScmpVersion::current().context("seccomp_version")?.to_string())
}

/// Checks the property without asking the kernel.
///
/// # Errors
/// With the path of what is wrong: an errno for an action that takes none, an argument index beyond 5, an empty name,
/// an architecture unknown to libseccomp, SCMP_ACT_NOTIFY where nobody could answer it.
pub fn check(seccomp: &LinuxSeccomp) -> Result<()> {
    compile::action(seccomp.default_action(), seccomp.default_errno_ret()).context("linux.seccomp.defaultErrnoRet")?;
    if seccomp.default_action() == LinuxSeccompAction::ScmpActNotify {
        bail!("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action");
    }
    for &arch in seccomp.architectures().iter().flatten() {
        compile::arch(arch).context("linux.seccomp.architectures")?;
    }
    for (i, rule) in seccomp.syscalls().iter().flatten().enumerate() {
        let at = |field: &str| format!("linux.seccomp.syscalls[{i}].{field}");
        compile::action(rule.action(), rule.errno_ret()).with_context(|| at("errnoRet"))?;
        if rule.names().is_empty() {
            bail!("{}: must have at least one entry", at("names"));
        }
        if rule.names().iter().any(String::is_empty) {
            bail!("{}: an empty string is no system call", at("names"));
        }
        for arg in rule.args().iter().flatten() {
            compile::condition(arg).with_context(|| at("args"))?;
        }
        // Once the filter is loaded init has to write the notification fd's number to the parent: nobody could answer.
        if rule.action() == LinuxSeccompAction::ScmpActNotify && rule.names().iter().any(|name| name == "write") {
            bail!("{}: SCMP_ACT_NOTIFY cannot be used for the write syscall", at("action"));
        }
    }
    let nowhere = seccomp.listener_path().as_ref().is_none_or(|path| path.as_os_str().is_empty());
    if nowhere && notifies(seccomp) {
        bail!("linux.seccomp.listenerPath is not set, SCMP_ACT_NOTIFY needs it");
    }
    if nowhere && seccomp.listener_metadata().as_ref().is_some_and(|metadata| !metadata.is_empty()) {
        bail!("linux.seccomp.listenerMetadata: must not be set without listenerPath");
    }
    Ok(())
}

fn notifies(seccomp: &LinuxSeccomp) -> bool {
    seccomp.syscalls().iter().flatten().any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify)
}

/// Classic BPF somewhere in a buffer: in a cache entry the key precedes it.
struct Program {
    bytes: Vec<u8>,
    start: usize,
}

impl Program {
    fn bpf(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// A compiled filter, ready to be loaded.
pub struct Filter {
    program: Program,
    flags: u32,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} bytes, flags {:#x})", self.bpf().len(), self.flags)
    }
}

/// Compiles the rules, or takes them from the cache. For the parent, before init is spawned: what libseccomp allocates
/// must not be charged to the container. A cache that cannot be used is no error.
///
/// # Errors
/// Rules that libseccomp or the kernel refuses, a flag that this kernel does not know.
pub fn prepare(seccomp: &LinuxSeccomp, cache: Option<&Cache>) -> Result<Filter> {
    let flags = flags(seccomp).context("linux.seccomp.flags")?;
    log::debug!("seccomp filter flags: {flags}");
    let program = match cache {
        Some(cache) => cached(seccomp, cache),
        None => compiled(seccomp),
    };
    Ok(Filter { program: program.context("linux.seccomp")?, flags })
}

fn compiled(seccomp: &LinuxSeccomp) -> Result<Program> {
    Ok(Program { bytes: compile::compile(seccomp)?, start: 0 })
}

fn cached(seccomp: &LinuxSeccomp, cache: &Cache) -> Result<Program> {
    let key = cache::key(seccomp);
    match cache::load(cache, &key) {
        Ok(program) => return Ok(program),
        Err(why) => log::debug!("no cached seccomp filter: {why:#}"),
    }
    let program = compiled(seccomp)?;
    if let Err(why) = cache::store(cache, &key, &program.bytes) {
        log::debug!("seccomp filter not cached: {why:#}");
    }
    Ok(program)
}

fn flags(seccomp: &LinuxSeccomp) -> Result<u32> {
    let mut flags = 0;
    match seccomp.flags() {
        Some(wanted) => {
            for &flag in wanted {
                flags |= kernel_flag(flag)?;
            }
        }
        // What engines that know no flags have always got: mitigations are the host's decision.
        None => flags |= kernel_flag(LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow).unwrap_or(0),
    }
    if notifies(seccomp) {
        return Ok(flags | sys::FILTER_FLAG_NEW_LISTENER);
    }
    Ok(flags & !sys::FILTER_FLAG_WAIT_KILLABLE_RECV) // EINVAL without a listener, and without a meaning
}

fn kernel_flag(flag: LinuxSeccompFilterFlag) -> Result<u32> {
    let (bit, tried_with) = match flag {
        // Applies the filter to the other threads of the process: init has one thread. And it excludes a listener.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => return Ok(0),
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => (sys::FILTER_FLAG_LOG, 0),
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => (sys::FILTER_FLAG_SPEC_ALLOW, 0),
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
            (sys::FILTER_FLAG_WAIT_KILLABLE_RECV, sys::FILTER_FLAG_NEW_LISTENER)
        }
    };
    if !sys::flags_supported(bit | tried_with) {
        bail!("{flag} is not supported by this kernel");
    }
    Ok(bit)
}

impl Filter {
    /// Takes a filter that was compiled earlier, by the flags and the program that it had then.
    ///
    /// # Errors
    /// The program is empty, too long for the kernel, or not a whole number of instructions.
    pub fn from_bpf(flags: u32, bpf: Vec<u8>) -> Result<Self> {
        let count = bpf.len() / sys::INSTRUCTION;
        if !bpf.len().is_multiple_of(sys::INSTRUCTION) || !(1..=usize::from(u16::MAX)).contains(&count) {
            bail!("{} bytes are not a filter", bpf.len());
        }
        Ok(Self { program: Program { bytes: bpf, start: 0 }, flags })
    }

    /// The flags of seccomp(2) that it is loaded with.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Whether a rule asks an agent, so that `load` returns a notification fd.
    pub fn wants_listener(&self) -> bool {
        self.flags & sys::FILTER_FLAG_NEW_LISTENER != 0
    }

    /// Loads the filter into the calling process, which must have one thread, by one system call and without
    /// allocating: what is loaded may refuse any other call. Returns the notification fd if a rule asks an agent.
    ///
    /// # Errors
    /// seccomp(2) with its errno; EACCES without no_new_privs and CAP_SYS_ADMIN.
    pub fn load(&self) -> Result<Option<OwnedFd>> {
        sys::set_mode_filter(self.flags, self.bpf()).context("linux.seccomp: seccomp SECCOMP_SET_MODE_FILTER")
    }

    /// Returns whether a call of this machine's architecture surely passes, with arguments of which `None` is not known.
    pub fn allows(&self, number: libc::c_long, args: [Option<u64>; 6]) -> bool {
        let arch = enosys::audit_arch(libseccomp::ScmpArch::native());
        allowed::allows(&bpf::parse(self.bpf()), arch, number as u32, &args)
    }

    /// The program: an array of `struct sock_filter` in the machine's byte order.
    pub fn bpf(&self) -> &[u8] {
        self.program.bpf()
    }
}
