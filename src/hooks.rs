//! `hooks`: programs of the caller's that run at six points of the lifecycle (config.md,
//! "POSIX-platform Hooks"), each with the container's state on its standard input.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{Hook, Hooks, Spec, State};

use crate::error::{Context as _, Result, bail, ensure};
use crate::root::path::check_absolute;
use crate::state::Container;
use crate::sys::fd::pidfd_open;
use crate::sys::process::{begin_afresh, signal_words};

/// How much of a failed hook's output is shown.
const SHOWN: usize = 1024;

/// The points at which hooks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// In the runtime's namespaces, after the container's exist and before its root is pivoted
    /// (deprecated).
    Prestart,
    /// Right after prestart, in the same place.
    CreateRuntime,
    /// In the container's namespaces, before its root is pivoted.
    CreateContainer,
    /// In the container, before the program.
    StartContainer,
    /// In the runtime's namespaces, after the program was started.
    Poststart,
    /// In the runtime's namespaces, after the container was deleted.
    Poststop,
}

impl Point {
    const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// The property's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The hooks that are configured for this point.
    pub fn of(self, hooks: Option<&Hooks>) -> &[Hook] {
        let Some(hooks) = hooks else { return &[] };
        #[allow(deprecated)] // prestart is deprecated for configurations, not for runtimes
        let list = match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::StartContainer => hooks.start_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        };
        list.as_deref().unwrap_or_default()
    }
}

/// Every path is absolute and every timeout positive.
pub fn check(spec: &Spec) -> Result<()> {
    for point in Point::ALL {
        for (index, hook) in point.of(spec.hooks().as_ref()).iter().enumerate() {
            check_absolute(hook.path()).with_context(|| format!("hooks.{}[{index}].path", point.name()))?;
            ensure!(
                hook.timeout().is_none_or(|seconds| seconds > 0),
                "hooks.{}[{index}].timeout: must be greater than zero",
                point.name()
            );
        }
    }
    Ok(())
}

/// Which stage runs a hook.
#[derive(Clone, Copy, Debug)]
pub enum Caller<'a> {
    /// Init, in the container: a hook without `env` gets this environment. It ends with init.
    Init(&'a [CString]),
    /// The parent: the hook is recorded in the container's directory, for `delete --force` to end
    /// it.
    Parent(&'a Container),
}

/// Runs a point's hooks in their order; the first that fails is the error.
pub fn run(point: Point, hooks: Option<&Hooks>, state: &State, caller: Caller<'_>) -> Result<()> {
    let hooks = point.of(hooks);
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state).context("state of the container")?;
    for (index, hook) in hooks.iter().enumerate() {
        // The property is ours, "error running" what callers know from runc.
        let name = point.name();
        run_one(point, hook, &state, caller).with_context(|| {
            format!("hooks.{name}[{index}]: error running {name} hook #{index}: {}", hook.path().display())
        })?;
    }
    Ok(())
}

/// A hook failed, and so the container is to be destroyed (runtime.md, "Lifecycle"): the whole
/// message.
#[derive(Debug)]
pub struct Failed(pub String);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// Runs a point's hooks where a failure is logged and the next one runs all the same (runtime.md,
/// "Lifecycle").
pub fn run_all_and_warn(point: Point, hooks: Option<&Hooks>, state: &State, caller: Caller<'_>) {
    let Ok(state) = serde_json::to_vec(state) else { return };
    for (index, hook) in point.of(hooks).iter().enumerate() {
        if let Err(error) = run_one(point, hook, &state, caller) {
            let reason = crate::error::one_line(&error);
            log::warn!("hooks.{}[{index}] ({}): {reason}", point.name(), hook.path().display());
        }
    }
}

fn run_one(point: Point, hook: &Hook, state: &[u8], caller: Caller<'_>) -> Result<()> {
    let mut output = memory_file(c"hook-output")?;
    let inherited = if let Caller::Init(environment) = caller { environment } else { &[] };
    let mut child = spawn(hook, state_file(state)?, &output, inherited)?;
    let recorded = match caller {
        Caller::Parent(container) => container.record_hook(point.name(), child.id() as i32).map(Some),
        Caller::Init(_) => Ok(None),
    };
    // Until the hook is reaped: what delete --force finds is this hook.
    let ended = recorded.and_then(|record| wait(&mut child, hook.timeout()).map(|status| (status, record)));
    let status = match ended {
        Ok((status, _)) => status,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    if !status.success() {
        bail!("{}{}", how(status), shown(&mut output));
    }
    Ok(())
}

fn memory_file(name: &CStr) -> Result<File> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from).context("memfd_create")
}

/// The state for the hook's standard input. A file: a pipe would make the caller wait for a hook
/// that does not read, and a hook that has ended would send init SIGPIPE.
fn state_file(state: &[u8]) -> Result<File> {
    let mut file = memory_file(c"hook-state")?;
    file.write_all(state).and_then(|()| file.rewind()).context("write the state")?;
    Ok(file)
}

/// How a hook ended, in runc's words.
fn how(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("signal: {}", signal_words(signal).to_lowercase()),
        None => format!("exit status {}", status.code().unwrap_or_default()),
    }
}

fn spawn(hook: &Hook, state: File, output: &File, inherited: &[CString]) -> Result<Child> {
    let mut command = Command::new(hook.path());
    let args = hook.args().as_deref().unwrap_or_default();
    if let Some(name) = args.first() {
        command.arg0(name);
    }
    command.args(args.iter().skip(1)).env_clear();
    let own = hook.env().iter().flatten().map(|variable| variable.as_bytes());
    let inherited = inherited.iter().filter(|_| hook.env().is_none()).map(|variable| variable.as_bytes());
    for variable in own.chain(inherited) {
        if let Some(end) = variable.iter().position(|&byte| byte == b'=') {
            command.env(OsStr::from_bytes(&variable[..end]), OsStr::from_bytes(&variable[end + 1..]));
        }
    }
    command.stdin(state).stdout(output.try_clone()?).stderr(output.try_clone()?);
    begin_afresh(&mut command);
    command.spawn().context("execute it")
}

/// Waits for a hook, as long as it may take.
fn wait(child: &mut Child, seconds: Option<i64>) -> Result<ExitStatus> {
    let limit =
        seconds.map(|seconds| (seconds, Instant::now().checked_add(Duration::from_secs(seconds.unsigned_abs()))));
    if let Some((seconds, Some(deadline))) = limit {
        let pidfd = pidfd_open(child.id() as i32).context("pidfd_open")?;
        ensure!(ends_before(&pidfd, deadline)?, "timed out after {seconds} s and was killed");
    }
    child.wait().context("wait")
}

/// Waits for a process to end; false: the deadline came first.
pub fn ends_before(pidfd: &OwnedFd, deadline: Instant) -> Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno).context("poll"),
        }
    }
}

fn shown(output: &mut File) -> String {
    let mut text = vec![0; SHOWN];
    let read = output.rewind().and_then(|()| output.read(&mut text)).unwrap_or(0);
    match String::from_utf8_lossy(&text[..read]).trim() {
        "" => String::new(),
        said => format!(": {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{HookBuilder, HooksBuilder, StateBuilder};

    fn hooks(script: &str, timeout: i64) -> Hooks {
        let args = ["name", "-c", script].map(String::from);
        let hook = HookBuilder::default().path("/bin/sh").args(args).env(["A=b".to_string()]).timeout(timeout);
        HooksBuilder::default().create_runtime(vec![hook.build().unwrap()]).build().unwrap()
    }

    fn run_script(script: &str, timeout: i64) -> Result<()> {
        let state = StateBuilder::default().id("x").build().unwrap();
        run(Point::CreateRuntime, Some(&hooks(script, timeout)), &state, Caller::Init(&[c"INHERITED=1".to_owned()]))
    }

    #[test]
    fn a_hook_gets_the_state_and_only_its_own_environment() {
        run_script("grep -q '\"id\":\"x\"' && [ \"$A\" = b ] && [ \"$0\" = name ] && [ -z \"$HOME$INHERITED\" ]", 5)
            .unwrap();
    }

    #[test]
    fn a_hook_without_an_environment_inherits_the_one_that_is_given() {
        let hook = HookBuilder::default().path("/bin/sh").args(["sh", "-c", "[ \"$A\" = b=c ]"].map(String::from));
        let hooks = HooksBuilder::default().start_container(vec![hook.build().unwrap()]).build().unwrap();
        let state = StateBuilder::default().id("x").build().unwrap();
        run(Point::StartContainer, Some(&hooks), &state, Caller::Init(&[c"A=b=c".to_owned()])).unwrap();
    }

    #[test]
    fn a_failing_hook_is_named_with_what_it_said() {
        let error = run_script("echo no >&2; exit 3", 5).unwrap_err();
        let line = crate::error::one_line(&error);
        assert_eq!(line, "hooks.createRuntime[0]: error running createRuntime hook #0: /bin/sh: exit status 3: no");
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed() {
        let begin = Instant::now();
        let error = run_script("exec sleep 60", 1).unwrap_err();
        assert!(crate::error::one_line(&error).contains("timed out after 1 s"), "{error:#}");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
