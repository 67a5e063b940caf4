//! The start gate: init waits behind a fifo until `start` opens it, and `start` learns whether the
//! program ran.
//!
//! Init holds the fifo open for both ends, and an flock(2) on it, from before it enters the rootfs:
//! no path is looked up later, by another user, in another root. `start` writes one byte. Init
//! reads it, runs its last hooks, writes that it is about to execute the program, and executes it,
//! which closes its end and so gives up the lock; or it writes why it could not, and dies, which
//! does the same. `start` waits for the lock and then finds what init wrote: nothing, if init was
//! killed before it came to the program.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, mkfifoat, read, unlinkat, write};

use super::{Container, Lock};
use crate::error::{Context as _, Result, anyhow};
use crate::hooks::Failed;
use crate::sys::fd::{FlockOperation, flock, read_byte_by_any_call, write_by_any_call};

pub(super) const FIFO: &str = "exec.fifo";
/// The fifo's mode while the container is being created. The bit that has no meaning for a fifo
/// tells it apart.
const UNFINISHED: Mode = Mode::S_IRWXU;
/// Its mode afterwards.
const SHUT: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// The longest reason; its text is cut to fit.
const LONGEST: usize = 4096;
/// What `start` writes.
const GO: u8 = b'0';
/// What init writes when nothing is left to do but to execute the program.
const ABOUT_TO_EXECUTE: u8 = b'X';

/// What kept init from running the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Obstacle {
    /// A startContainer hook.
    Hook = b'H',
    /// The program itself.
    Program = b'P',
}

/// How the gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// It was opened, or never made: the fifo is not there.
    Open,
    /// The container is still being created: nobody may open it.
    Unfinished,
    /// Init waits behind it for `start`.
    Shut,
}

/// A gate that was opened: init is about to run the program.
#[derive(Debug)]
pub struct Opened(OwnedFd);

/// Init's side of the gate.
#[derive(Debug)]
pub struct Gate(OwnedFd);

impl Container {
    /// Makes the fifo, of a container that is not yet created.
    pub fn make_gate(&self) -> Result<()> {
        mkfifoat(&self.dir, FIFO, UNFINISHED).with_context(|| format!("mkfifo {FIFO}"))
    }

    /// Says that the container is created: from here on `start` may open the gate.
    pub fn finish_gate(&self) -> Result<()> {
        fchmodat(&self.dir, FIFO, SHUT, FchmodatFlags::FollowSymlink).with_context(|| format!("chmod {FIFO}"))
    }

    /// How the gate stands.
    pub fn gate_position(&self) -> Result<Position> {
        position(&self.dir, Path::new(FIFO))
    }

    /// Is init still waiting?
    pub fn is_gated(&self) -> Result<bool> {
        Ok(self.gate_position()? != Position::Open)
    }

    /// Opens the gate, for the holder of the lock.
    pub fn open_gate(&self, _: &Lock) -> Result<Opened> {
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fifo = openat(&self.dir, FIFO, flags, Mode::empty()).with_context(|| format!("open {FIFO}"))?;
        write(&fifo, &[GO]).with_context(|| format!("write to {FIFO}"))?;
        // Gone first: whatever init does from here on, the container is no longer `created`.
        unlinkat(&self.dir, FIFO, UnlinkatFlags::NoRemoveDir).with_context(|| format!("unlink {FIFO}"))?;
        Ok(Opened(fifo))
    }
}

impl Opened {
    /// Waits until init has executed the program or is dead. Returns whether it had come to execute
    /// it; whether it has, the kernel knows as long as init is there
    /// ([`has_executed`](super::status::has_executed)). A hook of init's, or a frozen cgroup, can
    /// make it wait for ever: the caller has no lock any more, and the end of init ends it. An
    /// error is what kept init from running the program: [`Failed`] if that was a hook.
    pub fn wait(self) -> Result<bool> {
        loop {
            match flock(self.0.as_fd(), FlockOperation::Exclusive) {
                Err(Errno::EINTR) => continue,
                result => break result.with_context(|| format!("lock {FIFO}"))?,
            }
        }
        let mut said = [0; LONGEST + 1];
        let length = match read(&self.0, &mut said) {
            Err(Errno::EAGAIN) => 0,
            result => result.with_context(|| format!("read {FIFO}"))?,
        };
        let said = &said[..length];
        let reason = said.strip_prefix(&[ABOUT_TO_EXECUTE]).unwrap_or(said);
        let text = |reason: &[u8]| String::from_utf8_lossy(reason).into_owned();
        match reason.split_first() {
            None => Ok(!said.is_empty()),
            Some((&GO, _)) => Ok(false),
            Some((&obstacle, reason)) if obstacle == Obstacle::Hook as u8 => Err(Failed(text(reason)).into()),
            Some((_, reason)) => Err(anyhow!(text(reason))),
        }
    }
}

/// How the gate at this path stands.
pub(super) fn position(directory: &OwnedFd, path: &Path) -> Result<Position> {
    match fstatat(directory, path, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) if stat.st_mode & Mode::S_IXUSR.bits() != 0 => Ok(Position::Unfinished),
        Ok(_) => Ok(Position::Shut),
        Err(Errno::ENOENT) => Ok(Position::Open),
        Err(errno) => Err(errno).with_context(|| format!("stat {}", path.display())),
    }
}

impl Gate {
    /// Takes init's side, below the container's directory.
    pub fn take(container: &Container) -> Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let fifo =
            openat(&container.dir, Path::new(FIFO), flags, Mode::empty()).with_context(|| format!("open {FIFO}"))?;
        flock(fifo.as_fd(), FlockOperation::TryExclusive).with_context(|| format!("lock {FIFO}"))?;
        Ok(Self(fifo))
    }

    /// The descriptor's number, for init to keep it.
    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Waits until the gate is opened. No allocation, no other system call: a seccomp filter is in
    /// force.
    pub fn wait(&self) -> nix::Result<()> {
        loop {
            match read_byte_by_any_call(self.0.as_fd()) {
                Err(Errno::EINTR) => continue,
                result => return result,
            }
        }
    }

    /// Tells whoever opened the gate that the program is executed next.
    pub fn announce(&self) -> nix::Result<()> {
        write_by_any_call(self.number(), &[ABOUT_TO_EXECUTE])
    }

    /// Tells whoever opened the gate why the program does not run.
    pub fn report(&self, obstacle: Obstacle, reason: &str) {
        let mut message = vec![obstacle as u8];
        message.extend_from_slice(&reason.as_bytes()[..reason.len().min(LONGEST - 1)]);
        // Nobody is left to tell if this fails: the gate's opener is gone.
        let _ = write_by_any_call(self.number(), &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str) -> (Container, Lock, std::path::PathBuf) {
        let root = std::env::temp_dir().join(format!("tare-gate-{name}-{}", std::process::id()));
        let (container, lock) = Container::create(&crate::state::Root::named(root.clone()), "x").unwrap();
        container.make_gate().unwrap();
        assert_eq!(container.gate_position().unwrap(), Position::Unfinished);
        container.finish_gate().unwrap();
        assert_eq!(container.gate_position().unwrap(), Position::Shut);
        (container, lock, root)
    }

    #[test]
    fn opening_waits_for_init_and_hears_its_reason() {
        let (container, lock, root) = container("reason");
        let gate = Gate::take(&container).unwrap();
        assert!(container.is_gated().unwrap());
        let init = std::thread::spawn(move || {
            gate.wait().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            gate.announce().unwrap();
            gate.report(Obstacle::Program, "exec: no such thing");
        });
        let error = container.open_gate(&lock).unwrap().wait().unwrap_err();
        assert_eq!(error.to_string(), "exec: no such thing");
        assert!(!error.is::<Failed>());
        assert!(!container.is_gated().unwrap());
        init.join().unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_gate_that_closes_is_a_program_that_runs_if_init_had_come_to_it() {
        for (announced, reads) in [(true, true), (false, true), (false, false)] {
            let (container, lock, root) = container("silent");
            let gate = Gate::take(&container).unwrap();
            let init = std::thread::spawn(move || {
                if reads {
                    gate.wait().unwrap();
                }
                if announced {
                    gate.announce().unwrap();
                }
            });
            assert_eq!(container.open_gate(&lock).unwrap().wait().unwrap(), announced);
            init.join().unwrap();
            std::fs::remove_dir_all(root).unwrap();
        }
    }
}
