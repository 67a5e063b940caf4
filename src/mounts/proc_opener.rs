//! Opens contexts of procfs that show a pid namespace which the runtime is not in, before Linux
//! 6.17.
//!
//! fsopen(2) takes the pid namespace of its caller. So a process has to be in the namespace for
//! that call, where all others see it (`/proc/<pid>/root`, `cwd`, `fd`, `mem`, `exe`) and may trace
//! it. Two processes do it, neither of them in the container's cgroup or namespaces:
//!
//! - The maker stays outside. It enters a mount namespace that holds an empty tmpfs and nothing
//!   else, closes all descriptors but one end of a socket pair, and loads a seccomp filter that
//!   allows the few calls that are left.
//! - The opener is born inside, with new user, mount, network, IPC and UTS namespaces. It has no
//!   privilege outside of them. It calls fsopen(2), sends the contexts and ends. The one form of
//!   clone(2) that the filter allows is EFAULT for it ([`OnlyFork`]): it would have children that
//!   no limit of the container counts.
//!
//! A tracer of the opener may send something else in its place. What arrives has to be a context of
//! procfs: the superblock is made by init, and at worst the procfs is one of the tracer's own pid
//! namespaces.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, chdir, fchdir, pivot_root, setresgid, setresuid};

use super::filesystem;
use crate::error::{Context as _, Result, bail, ensure, one_line};
use crate::hooks::ends_before;
use crate::linux::namespaces::hide;
use crate::linux::seccomp::{self, Filter};
use crate::sys::clone::{OnlyFork, Side, fork};
use crate::sys::fd::{close_from, end_child, pidfd_send_signal};
use crate::sys::mount::{Attributes, FsContext, attach, fsopen, set_attributes};
use crate::sys::process::{exit, forget_environment};
use crate::sys::socket;

/// How long the opener may take: a tracer may hold it for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long both may take. Longer: only the maker can end the opener.
const PATIENCE_WITH_BOTH: Duration = Duration::from_secs(20);

/// What the opener is born with.
const NEW: CloneFlags = CloneFlags::CLONE_NEWUSER
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS);

/// Returns whether the kernel makes user namespaces for the caller. Only the host decides: of a
/// failure that the container can bring about, nothing must follow but an error.
pub fn is_possible() -> bool {
    let limit = std::fs::read_to_string("/proc/sys/user/max_user_namespaces");
    limit.is_ok_and(|limit| limit.trim() != "0")
}

/// Opens contexts that show `pids`. `user` is the user namespace that is joined, for a caller who
/// may join the other one only from there.
///
/// The caller must have one thread, and hold no writable way to its own file.
///
/// # Errors
/// The namespace's first process has ended; a namespace cannot be made; what the opener sends is
/// not a context of procfs, or does not come in time.
pub fn open_contexts(count: usize, pids: BorrowedFd<'_>, user: Option<BorrowedFd<'_>>) -> Result<Vec<FsContext>> {
    let describe = "open a procfs in the joined pid namespace";
    let birth = OnlyFork::new(NEW).context(describe)?;
    let filter = filter(&birth)?;
    let (near, far) = socket::seqpacket_pair().context("socketpair")?;
    let maker = match fork(CloneFlags::empty(), None, false).context(describe)? {
        Side::Parent(_, pidfd) => pidfd,
        Side::Child => {
            drop(near);
            let Err(error) = make_opener(count, (pids, user), (&birth, &filter), far.as_fd());
            let _ = socket::send(far.as_fd(), one_line(&error).as_bytes(), None);
            exit(1)
        }
    };
    drop(far);
    let end = Instant::now() + PATIENCE_WITH_BOTH;
    let contexts = (0..count).map(|_| receive(&near, end)).collect::<Result<Vec<_>>>().context(describe);
    // The maker ends after the opener.
    let _ = ends_before(&maker, end);
    end_child(maker.as_fd());
    contexts
}

fn receive(from: &OwnedFd, end: Instant) -> Result<FsContext> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => bail!("no answer in {} seconds", PATIENCE_WITH_BOTH.as_secs()),
            Ok(0) | Err(Errno::EINTR) => continue,
            result => result.context("poll")?,
        };
        break;
    }
    let mut text = [0; 1024];
    let (length, fd) = socket::receive(from.as_fd(), &mut text).context("receive")?;
    let Some(fd) = fd else {
        ensure!(
            length > 0,
            "the process that opens it was killed, or did not go on for {} seconds",
            PATIENCE.as_secs()
        );
        bail!("{}", String::from_utf8_lossy(&text[..length]).replace(char::is_control, " "))
    };
    check_is_context(&fd)?;
    let context = FsContext::from(fd);
    ensure!(context.is_of_type("proc"), "what was opened is not a procfs");
    Ok(context)
}

/// Reading from anything else could wait for ever.
fn check_is_context(fd: &OwnedFd) -> Result<()> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).context("readlink")?;
    ensure!(link == Path::new("anon_inode:[fscontext]"), "what was opened is not a filesystem context: {link:?}");
    Ok(())
}

/// What the maker and the opener may do once one of them is seen. The one form of clone(2) fails in
/// the opener.
fn filter(birth: &OnlyFork) -> Result<Filter> {
    let argument = |index: u32, value: u64| format!(r#"{{"index":{index},"value":{value},"op":"SCMP_CMP_EQ"}}"#);
    let (flags, address) = (argument(0, birth.flags()), argument(2, birth.address()));
    let profile = format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"action":"SCMP_ACT_ALLOW","names":["fsopen","sendmsg","poll",
        "ppoll","restart_syscall","pidfd_send_signal","exit_group"]}},
        {{"action":"SCMP_ACT_ALLOW","names":["clone"],"args":[{flags},{address}]}}]}}"#
    );
    let profile = serde_json::from_str(&profile).context("the filter of the process that opens a procfs")?;
    seccomp::prepare(&profile, None)
}

/// The maker. Returns only an error.
fn make_opener(
    count: usize,
    (pids, user): (BorrowedFd<'_>, Option<BorrowedFd<'_>>),
    (birth, filter): (&OnlyFork, &Filter),
    socket: BorrowedFd<'_>,
) -> Result<Infallible> {
    prctl::set_death_signal(Signal::SIGKILL as isize).map_err(Errno::from_raw).context("PR_SET_PDEATHSIG")?;
    hide()?;
    forget_environment();
    join(pids, user)?;
    leave_the_tree()?;
    log::set_max_level(log::LevelFilter::Off);
    close_from(0, &[socket.as_raw_fd()]).context("close_range")?;
    birth.seal().context("madvise")?;
    filter.load()?;
    match birth.fork() {
        Ok(Side::Child) => open_and_send(count, socket),
        Ok(Side::Parent(_, pidfd)) => {
            let end = Instant::now() + PATIENCE;
            if !matches!(ends_before(&pidfd, end), Ok(true)) {
                let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
            }
            exit(0)
        }
        Err(errno @ Errno::ENOMEM) => Err(errno).context("clone: has the namespace's first process ended?"),
        Err(errno @ Errno::ENOSPC) => Err(errno).context("clone: is a limit in /proc/sys/user reached?"),
        Err(errno) => Err(errno).with_context(|| format!("clone with {NEW:?}")),
    }
}

/// The host's root may join the pid namespace without the container's user namespace, and stays out
/// of that one: nobody in there may trace or map what belongs to the host's.
fn join(pids: BorrowedFd<'_>, user: Option<BorrowedFd<'_>>) -> Result<()> {
    match (setns(pids, CloneFlags::CLONE_NEWPID), user) {
        (Err(Errno::EPERM), Some(user)) => {
            setns(user, CloneFlags::CLONE_NEWUSER).context("join the user namespace")?;
            let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
            setresgid(gid, gid, gid).context("become group 0 of the user namespace")?;
            setresuid(uid, uid, uid).context("become user 0 of the user namespace")?;
            setns(pids, CloneFlags::CLONE_NEWPID)
        }
        (result, _) => result,
    }
    .context("join the pid namespace")
}

/// Goes to a mount namespace with an empty tmpfs and nothing else.
fn leave_the_tree() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare the mount namespace")?;
    let directory = |path| open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let root = directory("/").context("open /")?;
    let private = Attributes { propagation: MsFlags::MS_PRIVATE.bits(), ..Attributes::default() };
    set_attributes(root.as_fd(), &private, true).context("make the mounts private")?;
    let empty = filesystem::open("tmpfs", "tmpfs", &["mode=0555"], 0)?;
    // Any directory that is there.
    attach(empty.as_fd(), directory("/proc").context("open /proc")?.as_fd()).context("attach a tmpfs")?;
    fchdir(&empty).context("chdir to the tmpfs")?;
    pivot_root(".", ".").context("pivot_root to the tmpfs")?;
    umount2(".", MntFlags::MNT_DETACH).context("unmount the host's root")?;
    chdir("/").context("chdir to /")
}

/// The opener: seen by the container from its first instruction on.
fn open_and_send(count: usize, socket: BorrowedFd<'_>) -> ! {
    for _ in 0..count {
        let sent = match fsopen(c"proc") {
            Ok(context) => {
                let sent = socket::send(socket, b"P", Some(context.as_fd()));
                std::mem::forget(context); // it closes with the process: the filter does not allow close(2)
                sent
            }
            Err(errno) => socket::send(socket, format!("fsopen: {}", errno.desc()).as_bytes(), None),
        };
        if sent.is_err() {
            break;
        }
    }
    exit(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_told_from_other_files_and_of_other_filesystems() {
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(check_is_context(&file).is_err());
        let (Ok(procfs), Ok(tmpfs)) = (fsopen(c"proc"), fsopen(c"tmpfs")) else { return };
        // What others have done to it before makes no difference.
        let _ = procfs.set_flag(c"nonsense");
        assert!(procfs.is_of_type("proc"));
        assert!(!tmpfs.is_of_type("proc"));
        assert!(check_is_context(&procfs.as_fd().try_clone_to_owned().unwrap()).is_ok());
    }

    #[test]
    fn the_filter_allows_no_other_fork() {
        let birth = OnlyFork::new(NEW).unwrap();
        let filter = filter(&birth).unwrap();
        let clone =
            |flags, address| filter.allows(libc::SYS_clone, [Some(flags), None, Some(address), None, None, None]);
        assert!(clone(birth.flags(), birth.address()));
        assert!(!clone(birth.flags(), birth.address() + 4096) && !clone(libc::SIGCHLD as u64, birth.address()));
        for call in [libc::SYS_clone3, libc::SYS_setns, libc::SYS_openat, libc::SYS_recvmsg, libc::SYS_mount] {
            assert!(!filter.allows(call, [None; 6]), "{call}");
        }
    }
}
