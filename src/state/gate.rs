//! The start gate: init waits behind a fifo until `start` opens it, and `start` learns whether the program ran.
//!
//! Init holds the fifo open for both ends, and an flock(2) on it, from before it enters the rootfs: no path is looked up
//! later, by another user, in another root. `start` writes one byte. Init reads it, runs its last hooks and executes the
//! program, which closes its end and so gives up the lock; or it writes why it could not, and dies, which does the same.
//! `start` waits for the lock and then finds the fifo empty, or the reason in it.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, mkfifoat, read, unlinkat, write};

use super::Container;
use crate::error::{Context as _, Result, anyhow};
use crate::hooks::Failed;

pub(super) const FIFO: &str = "exec.fifo";
/// The longest reason; its text is cut to fit.
const LONGEST: usize = 4096;

/// What kept init from running the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Obstacle {
    /// A startContainer hook.
    Hook = b'H',
    /// The program itself.
    Program = b'P',
}

/// Init's side of the gate.
#[derive(Debug)]
pub struct Gate(Flock<OwnedFd>);

impl Container {
    /// Makes the fifo. From here on the container is `created`, once init is alive.
    pub fn make_gate(&self) -> Result<()> {
        mkfifoat(&self.dir, FIFO, Mode::from_bits_truncate(0o600)).with_context(|| format!("mkfifo {FIFO}"))
    }

    /// Is init still waiting?
    pub fn is_gated(&self) -> Result<bool> {
        is_shut(&self.dir, Path::new(FIFO))
    }

    /// Opens the gate and waits until the program runs. An error is what kept init from running it: [`Failed`] if that was
    /// a hook.
    pub fn open_gate(&self) -> Result<()> {
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fifo = openat(&self.dir, FIFO, flags, Mode::empty()).with_context(|| format!("open {FIFO}"))?;
        write(&fifo, b"0").with_context(|| format!("write to {FIFO}"))?;
        // Gone first: whatever init does from here on, the container is no longer `created`.
        unlinkat(&self.dir, FIFO, UnlinkatFlags::NoRemoveDir).with_context(|| format!("unlink {FIFO}"))?;
        let fifo = loop {
            match Flock::lock(fifo.try_clone().with_context(|| format!("dup {FIFO}"))?, FlockArg::LockExclusive) {
                Ok(fifo) => break fifo,
                Err((_, Errno::EINTR)) => continue,
                Err((_, errno)) => return Err(errno).with_context(|| format!("lock {FIFO}")),
            }
        };
        let mut reason = [0; LONGEST];
        match read(&*fifo, &mut reason) {
            Ok(0) | Err(Errno::EAGAIN) => Ok(()),
            // Init died before it took the byte; how is for `state` and the caller's wait to tell.
            Ok(1) if reason[0] == b'0' => Ok(()),
            Ok(length) => {
                let text = String::from_utf8_lossy(&reason[1..length]).into_owned();
                if reason[0] == Obstacle::Hook as u8 { Err(Failed(text).into()) } else { Err(anyhow!(text)) }
            }
            Err(errno) => Err(errno).with_context(|| format!("read {FIFO}")),
        }
    }
}

/// Is there a gate at this path?
pub(super) fn is_shut(directory: &OwnedFd, path: &Path) -> Result<bool> {
    match fstatat(directory, path, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno).with_context(|| format!("stat {}", path.display())),
    }
}

impl Gate {
    /// Takes init's side, below the container's directory.
    pub fn take(container: &Container) -> Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let fifo =
            openat(&container.dir, Path::new(FIFO), flags, Mode::empty()).with_context(|| format!("open {FIFO}"))?;
        let fifo = Flock::lock(fifo, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("lock {FIFO}"))?;
        Ok(Self(fifo))
    }

    /// The descriptor's number, for init to keep it.
    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Waits until the gate is opened. No allocation, no other system call: a seccomp filter is in force.
    pub fn wait(&self) -> nix::Result<()> {
        let mut byte = [0];
        loop {
            match read(&*self.0, &mut byte) {
                Err(Errno::EINTR) => continue,
                result => return result.map(drop),
            }
        }
    }

    /// Tells whoever opened the gate why the program does not run.
    pub fn report(&self, obstacle: Obstacle, reason: &str) {
        let mut message = vec![obstacle as u8];
        message.extend_from_slice(&reason.as_bytes()[..reason.len().min(LONGEST - 1)]);
        // Nobody is left to tell if this fails: the gate's opener is gone.
        let _ = write(&*self.0, &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str) -> (Container, std::path::PathBuf) {
        let root = std::env::temp_dir().join(format!("tare-gate-{name}-{}", std::process::id()));
        let (container, _lock) = Container::create(&crate::state::Root::named(root.clone()), "x").unwrap();
        container.make_gate().unwrap();
        (container, root)
    }

    #[test]
    fn opening_waits_for_init_and_hears_its_reason() {
        let (container, root) = container("reason");
        let gate = Gate::take(&container).unwrap();
        assert!(container.is_gated().unwrap());
        let init = std::thread::spawn(move || {
            gate.wait().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            gate.report(Obstacle::Program, "exec: no such thing");
        });
        let error = container.open_gate().unwrap_err();
        assert_eq!(error.to_string(), "exec: no such thing");
        assert!(!error.is::<Failed>());
        assert!(!container.is_gated().unwrap());
        init.join().unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_gate_that_closes_silently_is_a_program_that_runs() {
        let (container, root) = container("silent");
        let gate = Gate::take(&container).unwrap();
        let init = std::thread::spawn(move || gate.wait().unwrap());
        container.open_gate().unwrap();
        init.join().unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }
}
