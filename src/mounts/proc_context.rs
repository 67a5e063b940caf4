//! A procfs shows the pid namespace of the process that makes it. A process that is born in a pid namespace when it is
//! confined does not make it itself: the process before it, which is outside, says which pid namespace is to be shown.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open as open_file};
use nix::sys::stat::Mode;

use crate::error::{Context as _, Result};
use crate::sys::mount::{FsContext, fsopen};

/// The option that names the pid namespace (Linux 6.17).
const OPTION: &std::ffi::CStr = c"pidns";

/// Returns whether the kernel can make a procfs of another pid namespace than the caller's.
pub fn is_supported() -> bool {
    let own = open_file(Path::new("/proc/self/ns/pid"), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    own.is_ok_and(|own| fsopen(c"proc").and_then(|context| context.set_fd(OPTION, own.as_fd())).is_ok())
}

/// Opens the context of a procfs that shows this pid namespace.
pub fn open(pid_namespace: BorrowedFd<'_>) -> Result<FsContext> {
    let context = fsopen(c"proc").context("open filesystem type \"proc\"")?;
    context.set_fd(OPTION, pid_namespace).context("proc option \"pidns\"")?;
    Ok(context)
}
