//! `process.terminal` and `process.consoleSize`: a pseudoterminal of the container's own devpts.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fchmod, fstat, makedev};
use nix::sys::statfs::FsType;
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};
use oci_spec::runtime::Process;

use crate::error::{Context as _, Result, anyhow, bail, ensure};
use crate::root::Rootfs;
use crate::sys::mount::{attach, clone_tree, filesystem_type};
use crate::sys::terminal as tty;

const DEVPTS_SUPER_MAGIC: FsType = FsType(0x1cd1);

/// Is a terminal asked for?
pub fn is_wanted(process: &Process) -> bool {
    process.terminal().unwrap_or(false)
}

/// A console socket is for a terminal, and without one somebody has to be there to hold the other end.
pub fn check_socket(process: &Process, console_socket: Option<&Path>, detached: bool) -> Result<()> {
    match console_socket {
        Some(path) if !is_wanted(process) => bail!("--console-socket {path:?}: process.terminal is not set"),
        Some(path) if !detached => {
            bail!("--console-socket {path:?}: the terminal is the caller's own without --detach")
        }
        None if is_wanted(process) && detached => {
            bail!(
                "process.terminal: cannot allocate a terminal without a console socket (--console-socket) when nobody stays to hold it"
            )
        }
        _ => Ok(()),
    }
}

/// Is there to be a terminal whose output goes to the caller's standard output, which is none? Then lines are to end there as the program
/// wrote them; a terminal in raw mode needs them to end with a carriage return.
pub fn is_piped(process: &Process, console_socket: Option<&Path>) -> bool {
    is_wanted(process) && console_socket.is_none() && !io::stdout().is_terminal()
}

/// Both ends of a pseudoterminal.
#[derive(Debug)]
pub struct Terminal {
    /// What the caller reads and writes.
    pub master: OwnedFd,
    /// What the program reads and writes.
    pub slave: OwnedFd,
    /// Its name in the container.
    pub name: String,
}

/// Opens a pseudoterminal in the container's /dev/pts. That it is a devpts is checked on the descriptor: a multiplexer
/// of the attacker's making would be handed to the host (CVE-2025-52565). `piped`: see [`is_piped`].
pub fn open(process: &Process, rootfs: &Rootfs, piped: bool) -> Result<Terminal> {
    let explain = "process.terminal: /dev/pts (is there a devpts among the mounts?)";
    let pts = rootfs.find_unlinked(Path::new("/dev/pts"))?.ok_or_else(|| anyhow!("{explain}: does not exist"))?;
    ensure!(filesystem_type(pts.as_fd()).context(explain)? == DEVPTS_SUPER_MAGIC, "{explain}: is not a devpts");
    let master = open_multiplexer(&pts).context("process.terminal: open /dev/pts/ptmx")?;
    tty::unlock(master.as_fd()).context("process.terminal: unlock")?;
    let number = tty::number(master.as_fd()).context("process.terminal: number")?;
    let slave = tty::peer(master.as_fd()).context("process.terminal: open the terminal")?;
    if piped {
        let mut settings = tcgetattr(&slave).context("process.terminal: tcgetattr")?;
        settings.output_flags.remove(OutputFlags::ONLCR);
        tcsetattr(&slave, SetArg::TCSANOW, &settings).context("process.terminal: tcsetattr")?;
    }
    if let Some(size) = process.console_size().filter(|size| size.height() | size.width() != 0) {
        let characters = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
        tty::set_size(slave.as_fd(), characters(size.height()), characters(size.width()))
            .context("process.consoleSize")?;
    }
    fchown(&slave, Some(Uid::from_raw(process.user().uid())), None::<Gid>).context("process.terminal: chown")?;
    fchmod(&slave, Mode::from_bits_truncate(0o620)).context("process.terminal: chmod")?;
    Ok(Terminal { master, slave, name: format!("/dev/pts/{number}") })
}

/// Opens the multiplexer of a devpts. A file that a running container has mounted over it would answer as it likes when it
/// is asked for the terminal.
fn open_multiplexer(pts: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let master = match openat2(pts, c"ptmx", how) {
        // Before Linux 5.6, or behind a seccomp profile older than that.
        Err(Errno::ENOSYS | Errno::EPERM) => openat(pts, c"ptmx", flags, Mode::empty()),
        result => result,
    }?;
    let found = fstat(&master)?;
    let is_multiplexer = found.st_mode & libc::S_IFMT == libc::S_IFCHR && found.st_rdev == makedev(5, 2);
    ensure!(is_multiplexer, "is not the multiplexer of terminals");
    Ok(master)
}

/// Mounts the terminal on /dev/console, as runtime.md's default devices ask for.
pub fn mount_console(terminal: &Terminal, rootfs: &Rootfs) -> Result<()> {
    let explain = "process.terminal: mount it on /dev/console";
    let console = rootfs.file_unlinked(Path::new("/dev/console")).context(explain)?;
    let mount = clone_tree(terminal.slave.as_fd(), c"", false).context(explain)?;
    attach(mount.as_fd(), console.as_fd()).context(explain)
}

/// Makes the terminal on standard input the controlling one of the session that this process leads.
pub fn take_control() -> Result<()> {
    tty::set_controlling(io::stdin().as_fd()).context("process.terminal: make it the controlling terminal")
}

/// Makes it the program's standard streams.
pub fn use_as_stdio(slave: OwnedFd) -> Result<()> {
    dup2_stdin(&slave).and_then(|()| dup2_stdout(&slave)).and_then(|()| dup2_stderr(&slave)).context("process.terminal")
}
