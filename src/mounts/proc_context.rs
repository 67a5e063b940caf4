//! A procfs shows the pid namespace of the process that opens it. A process that is born in a pid
//! namespace when it is confined does not make it itself: the process before it, which is outside,
//! has to have it of that namespace.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open as open_file};
use nix::sys::stat::Mode;
use oci_spec::runtime::Spec;

use super::proc_opener;
use crate::error::{Context as _, Result};
use crate::sys::mount::{FsContext, fsopen};

/// The option that names the pid namespace (Linux 6.17).
const OPTION: &std::ffi::CStr = c"pidns";

/// How a procfs of another pid namespace than the caller's is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the option `pidns=`.
    Option,
    /// From a context that a process in the pid namespace opens.
    Opener,
}

/// Returns how it is made here; `None`: it cannot be. With `--no-pivot` there may be no root that
/// an opener could leave.
pub fn way(no_pivot: bool) -> Option<Way> {
    match is_supported() {
        true => Some(Way::Option),
        false => Some(Way::Opener).filter(|_| !no_pivot && proc_opener::is_possible()),
    }
}

/// Returns whether the kernel knows the option.
fn is_supported() -> bool {
    let own = open_file(Path::new("/proc/self/ns/pid"), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    own.is_ok_and(|own| fsopen(c"proc").and_then(|context| context.set_fd(OPTION, own.as_fd())).is_ok())
}

/// What each procfs of a container that joins a pid namespace is made from.
#[derive(Debug)]
pub enum Contexts<'a> {
    /// The pid namespace, by the option.
    Option(BorrowedFd<'a>),
    /// One for each procfs among the mounts.
    Opened(RefCell<Vec<FsContext>>),
}

impl<'a> Contexts<'a> {
    /// Prepares as many as the mounts need, which show `pids`; `user` is the user namespace that is
    /// joined.
    ///
    /// # Errors
    /// See [`proc_opener::open_contexts`].
    pub fn prepare(way: Way, spec: &Spec, pids: BorrowedFd<'a>, user: Option<BorrowedFd<'_>>) -> Result<Self> {
        if way == Way::Option {
            return Ok(Self::Option(pids));
        }
        let mounts = spec.mounts().iter().flatten();
        let contexts = match mounts.filter(|mount| mount.typ().as_deref() == Some("proc")).count() {
            0 => Vec::new(),
            count => proc_opener::open_contexts(count, pids, user)?,
        };
        Ok(Self::Opened(RefCell::new(contexts)))
    }

    /// Returns the context of the next procfs.
    pub fn next(&self) -> Result<FsContext> {
        match self {
            Self::Option(pids) => {
                let context = fsopen(c"proc").context("open filesystem type \"proc\"")?;
                context.set_fd(OPTION, *pids).context("proc option \"pidns\"")?;
                Ok(context)
            }
            Self::Opened(contexts) => contexts.borrow_mut().pop().context("no procfs was opened for it"),
        }
    }
}
