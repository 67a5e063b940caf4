//! config-linux.md#seccomp: the default action, further actions, architectures, each flag, and the notifications.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, ensure};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

use super::seccomp::{ends_with_sigsys, on_mkdir, refused, with_rules};
use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(default_errno_ret, "config-linux.md#seccomp", "defaultAction and defaultErrnoRet are for what no rule names"),
    case!(unknown_default_action, "config-linux.md#seccomp", "an unknown default action is refused"),
    case!(default_errno_of_allow, "config-linux.md#seccomp", "defaultErrnoRet with an action without errno is refused")
        .known(&[("runc", "it is ignored")]),
    case!(no_default_action, "config-linux.md#seccomp", "a profile without defaultAction is refused"),
    case!(kill, "config-linux.md#seccomp", "SCMP_ACT_KILL and SCMP_ACT_KILL_THREAD kill with SIGSYS"),
    case!(trace, "config-linux.md#seccomp", "SCMP_ACT_TRACE without a tracer makes the call fail with ENOSYS"),
    case!(architectures, "config-linux.md#seccomp", "the rules hold for the architectures named"),
    case!(tsync, "config-linux.md#seccomp", "SECCOMP_FILTER_FLAG_TSYNC is accepted").known(NO_FLAGS),
    case!(log, "config-linux.md#seccomp", "SECCOMP_FILTER_FLAG_LOG is accepted").known(NO_FLAGS),
    case!(spec_allow, "config-linux.md#seccomp", "SECCOMP_FILTER_FLAG_SPEC_ALLOW leaves speculation as it is")
        .known(NO_FLAGS),
    case!(
        wait_killable,
        "config-linux.md#seccomp",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is accepted with a listener"
    )
    .known(&[("runc 1.1", "knows no flags"), ("runc 1.3", "does not know the flag")]),
    case!(listener, "config-linux.md#the-container-process-state", "the listener gets one state and one descriptor"),
    case!(listener_metadata, "config-linux.md#seccomp", "listenerMetadata is the state's metadata"),
    case!(no_listener, "config-linux.md#seccomp", "a listenerPath where nobody listens is an error"),
    case!(needless_listener, "config-linux.md#seccomp", "listenerPath is ignored without SCMP_ACT_NOTIFY")
        .known(&[("crun", "connects to it always")]),
    case!(metadata_alone, "config-linux.md#seccomp", "listenerMetadata without listenerPath is refused")
        .known(&[("runc", "it is not looked at"), ("crun", "it is not looked at")]),
];

const NO_FLAGS: &[(&str, &str)] = &[("runc 1.1", "knows no flags")];

/// What a runtime and the probe may call: everything that they call but for making directories.
const CALLS: &str = "accept accept4 access arch_prctl bind brk capget capset chdir chmod chown clock_getres \
    clock_gettime clock_nanosleep clone clone3 close close_range connect copy_file_range dup dup2 dup3 epoll_create1 \
    epoll_ctl epoll_pwait epoll_wait eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fchdir \
    fchmod fchmodat fchown fchownat fcntl fcntl64 fdatasync fgetxattr flock fork fstat fstat64 fstatfs fstatfs64 fsync \
    futex getcwd getdents getdents64 getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getpriority \
    getrandom getresgid getresuid getrlimit get_robust_list getrusage getsid getsockname getsockopt gettid \
    gettimeofday getuid getxattr ioctl keyctl kill lgetxattr link lseek lstat madvise membarrier memfd_create mincore \
    mmap mprotect mremap munmap nanosleep newfstatat open openat openat2 pause personality pidfd_open pidfd_send_signal \
    pipe pipe2 poll ppoll prctl pread64 prlimit64 pselect6 pwrite64 read readlink readlinkat readv recvfrom recvmsg \
    restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_setaffinity sched_yield seccomp select \
    sendmsg sendto set_robust_list set_tid_address setgid setgroups setpgid setpriority setresgid setresuid setrlimit \
    setsid setsockopt setuid shutdown sigaltstack signalfd4 socket socketpair stat stat64 statfs statfs64 statx symlink \
    tgkill timer_create timer_delete timer_settime times tkill umask uname unlink unlinkat vfork wait4 waitid write writev";

fn default_errno_ret(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let names: Vec<&str> = CALLS.split_whitespace().collect();
    container.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 122,
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
    });
    container.report(&["mkdir:/tmp/new"])?.failed("mkdir:/tmp/new", &["EDQUOT"])
}

fn unknown_default_action(bench: &Bench) -> Result<()> {
    refused(bench, json!({ "defaultAction": "SCMP_ACT_NO_SUCH" }))
}

fn default_errno_of_allow(bench: &Bench) -> Result<()> {
    refused(bench, json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1 }))
}

fn no_default_action(bench: &Bench) -> Result<()> {
    refused(bench, json!({ "syscalls": on_mkdir("SCMP_ACT_ERRNO") }))
}

fn kill(bench: &Bench) -> Result<()> {
    ends_with_sigsys(bench, "SCMP_ACT_KILL")?;
    ends_with_sigsys(bench, "SCMP_ACT_KILL_THREAD")
}

fn trace(bench: &Bench) -> Result<()> {
    let mut container = with_rules(bench, on_mkdir("SCMP_ACT_TRACE"))?;
    container.report(&["mkdir:/tmp/new"])?.failed("mkdir:/tmp/new", &["ENOSYS"])
}

fn architectures(bench: &Bench) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        skip!("the names of architectures are x86's here");
    }
    let mut container = with_rules(bench, on_mkdir("SCMP_ACT_ERRNO"))?;
    container.config["linux"]["seccomp"]["architectures"] =
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    container.report(&["mkdir:/tmp/new"])?.failed("mkdir:/tmp/new", &["EPERM"])
}

fn flagged(bench: &Bench, flag: &str) -> Result<Value> {
    let mut container = with_rules(bench, on_mkdir("SCMP_ACT_ERRNO"))?;
    container.config["linux"]["seccomp"]["flags"] = json!([flag]);
    let report = container.report(&["mkdir:/tmp/new"])?;
    report.failed("mkdir:/tmp/new", &["EPERM"])?;
    Ok(report.at("/status").clone())
}

fn tsync(bench: &Bench) -> Result<()> {
    flagged(bench, "SECCOMP_FILTER_FLAG_TSYNC").map(drop)
}

fn log(bench: &Bench) -> Result<()> {
    flagged(bench, "SECCOMP_FILTER_FLAG_LOG").map(drop)
}

fn spec_allow(bench: &Bench) -> Result<()> {
    let status = flagged(bench, "SECCOMP_FILTER_FLAG_SPEC_ALLOW")?;
    let found = status["Speculation_Store_Bypass"].as_str().unwrap_or_default();
    ensure!(!found.contains("force mitigated"), "Speculation_Store_Bypass: {found}");
    Ok(())
}

/// A profile that asks the listener about making directories, and the listener.
fn notifying<'a>(bench: &'a Bench, more: Value) -> Result<(Container<'a>, UnixListener)> {
    let mut container = with_rules(bench, on_mkdir("SCMP_ACT_NOTIFY"))?;
    container.config["annotations"] = json!({ "org.example.key": "value" });
    let path = container.dir.join("listener");
    let listener = UnixListener::bind(&path).context("the listener's socket")?;
    let profile = &mut container.config["linux"]["seccomp"];
    profile["listenerPath"] = json!(path);
    for (key, value) in more.as_object().into_iter().flatten() {
        profile[key] = value.clone();
    }
    Ok((container, listener))
}

/// The state and the descriptors that one connection brings until its end.
fn received(bench: &Bench, listener: &UnixListener) -> Result<(Value, Vec<OwnedFd>)> {
    listener.set_nonblocking(true)?;
    let (stream, _) = bench.until("the runtime to connect", || match listener.accept() {
        Ok(accepted) => Ok(Some(accepted)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    })?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    let (mut text, mut fds) = (Vec::new(), Vec::new());
    loop {
        let mut bytes = [0; 8192];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let count = recvmsg(&stream, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).context("recvmsg")?.bytes;
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(found) = part {
                fds.extend(found);
            }
        }
        if count == 0 {
            break;
        }
        text.extend_from_slice(&bytes[..count]);
    }
    Ok((serde_json::from_slice(&text).context("the state is not one JSON value")?, fds))
}

/// Starts the container, whose program then waits for an answer that it never gets.
fn asked(bench: &Bench, more: Value) -> Result<(Value, Vec<OwnedFd>, i32, String)> {
    let (mut container, listener) = notifying(bench, more)?;
    container.args(&["report", "mkdir:/tmp/new"]);
    container.launch()?;
    let (state, fds) = received(bench, &listener)?;
    Ok((state, fds, container.pid()?, container.id.clone()))
}

fn wait_killable(bench: &Bench) -> Result<()> {
    let flags = json!({ "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] });
    let (_, fds, ..) = asked(bench, flags)?;
    ensure!(fds.len() == 1, "{} descriptors came", fds.len());
    Ok(())
}

fn listener(bench: &Bench) -> Result<()> {
    let (state, fds, pid, id) = asked(bench, json!({}))?;
    ensure!(state["ociVersion"].is_string(), "no ociVersion: {state}");
    ensure!(state["fds"] == json!(["seccompFd"]), "fds: {state}");
    ensure!(fds.len() == 1, "{} descriptors came", fds.len());
    ensure!(state["pid"] == pid, "pid is not {pid}: {state}");
    let of = &state["state"];
    ensure!(of["id"] == id && of["pid"] == pid && of["bundle"].is_string(), "the container's state: {of}");
    ensure!(of["annotations"]["org.example.key"] == "value", "the container's annotations: {of}");
    Ok(())
}

fn listener_metadata(bench: &Bench) -> Result<()> {
    let (state, ..) = asked(bench, json!({ "listenerMetadata": "one=two;three" }))?;
    ensure!(state["metadata"] == "one=two;three", "metadata: {state}");
    Ok(())
}

fn no_listener(bench: &Bench) -> Result<()> {
    let (container, listener) = notifying(bench, json!({}))?;
    drop(listener);
    container.create_or_start_refused()
}

fn needless_listener(bench: &Bench) -> Result<()> {
    let mut container = with_rules(bench, on_mkdir("SCMP_ACT_ERRNO"))?;
    container.config["linux"]["seccomp"]["listenerPath"] = json!("/no/such/socket");
    container.report(&["mkdir:/tmp/new"])?.failed("mkdir:/tmp/new", &["EPERM"])
}

fn metadata_alone(bench: &Bench) -> Result<()> {
    let mut container = with_rules(bench, on_mkdir("SCMP_ACT_ERRNO"))?;
    container.config["linux"]["seccomp"]["listenerMetadata"] = json!("x");
    container.create_or_start_refused()
}
