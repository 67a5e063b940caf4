//! The runtime under test, and how it is called: bounded in time, with everything it said at hand.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long any single command may take before it counts as hung.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The runtime under test: `TARE_TEST_RUNTIME`, or the binary of this package.
pub fn runtime() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("TARE_TEST_RUNTIME") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_tare").into(),
    })
}

/// Copies a program that is to be executed, by a process of its own: what another test spawns meanwhile would hold a file of
/// ours open for writing (ETXTBSY).
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().expect("start cp");
    assert!(copied.success(), "copy {} to {}", from.display(), to.display());
}

/// True when the runtime under test is this package's, false for a reference such as runc.
pub fn is_tare() -> bool {
    runtime().file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("tare"))
}

/// True when systemd is to make the containers' cgroups (`TARE_TEST_CGROUPS=systemd`).
pub fn by_systemd() -> bool {
    std::env::var_os("TARE_TEST_CGROUPS").is_some_and(|manager| manager == "systemd")
}

/// Skips the calling test for an ordinary user, with the reason why it needs root.
macro_rules! need_root {
    ($($reason:tt)*) => {
        if crate::bundle::is_rootless() {
            crate::runtime::skip!("needs root: {}", format!($($reason)*));
        }
    };
}
pub(crate) use need_root;

/// Skips the calling test where `linux.cgroupsPath` is no path.
macro_rules! need_cgroupfs {
    () => {
        if crate::runtime::by_systemd() {
            crate::runtime::skip!("with systemd linux.cgroupsPath is slice:prefix:name");
        }
    };
}
pub(crate) use need_cgroupfs;

/// Ends the calling test early, saying why; the reason is collected in the file `TARE_TEST_SKIPS` when it is set.
macro_rules! skip {
    ($($reason:tt)*) => {{
        crate::runtime::record_skip(&format!($($reason)*));
        return;
    }};
}
pub(crate) use skip;

/// Skips the calling test for a reference runtime, with the reason why it cannot pass there.
macro_rules! only_tare {
    ($($reason:tt)*) => {
        if !crate::runtime::is_tare() {
            crate::runtime::skip!("the reference differs: {}", format!($($reason)*));
        }
    };
}
pub(crate) use only_tare;

/// Prints and collects the reason of a skipped test.
pub fn record_skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {reason}\n", thread.name().unwrap_or("?"));
    print!("{line}");
    if let Some(path) = std::env::var_os("TARE_TEST_SKIPS") {
        let mut file = File::options().append(true).create(true).open(path).expect("open TARE_TEST_SKIPS");
        file.write_all(line.as_bytes()).expect("write TARE_TEST_SKIPS");
    }
}

/// Polls until the condition gives a value; a test fails with `what` after [`LIMIT`].
#[track_caller]
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "still not so after {LIMIT:?}: {what}");
        sleep(Duration::from_millis(2));
    }
}

/// What a finished command left: its status and everything it wrote.
pub struct Outcome {
    pub command: String,
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
    /// Printed with a failure: the config.json the command worked on.
    pub context: String,
    /// Where stdout still goes when a container inherited it.
    pub stdout_file: PathBuf,
}

impl Outcome {
    /// The exit code as a shell shows it: 128 + the signal for a killed process, -1 after a timeout.
    pub fn exit_code(&self) -> i32 {
        match self.status {
            Some(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            None => -1,
        }
    }

    /// Fails the test with the whole story of this command.
    #[track_caller]
    pub fn fail(&self, expected: &str) -> ! {
        panic!(
            "{expected}\ncommand: {}\nexit: {}\nstdout: {}\nstderr: {}\nconfig: {}",
            self.command,
            match self.status {
                Some(_) => self.exit_code().to_string(),
                None => format!("killed after {LIMIT:?}"),
            },
            self.stdout,
            self.stderr,
            self.context
        )
    }

    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        if self.exit_code() != code {
            self.fail(&format!("expected exit code {code}"));
        }
        self
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// The runtime's own failure: exit code 1, and a message on stderr with each of `words`.
    #[track_caller]
    pub fn fails(self, words: &[&str]) -> Self {
        let this = self.code(1);
        for word in words {
            // Callers that match on words fold the case: the C library's and Go's differ.
            if !this.stderr.to_lowercase().contains(&word.to_lowercase()) {
                this.fail(&format!("expected stderr to contain {word:?}"));
            }
        }
        this
    }

    #[track_caller]
    pub fn prints(self, expected: &str) -> Self {
        if self.stdout != expected {
            self.fail(&format!("expected stdout to be {expected:?}"));
        }
        self
    }

    #[track_caller]
    pub fn silent(self) -> Self {
        if !self.stderr.is_empty() {
            self.fail("expected nothing on stderr");
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| self.fail(&format!("stdout is not JSON: {error}")))
    }

    /// The value of a `Key:\tvalue` line, as /proc/<pid>/status has them.
    #[track_caller]
    pub fn field(&self, key: &str) -> &str {
        let line = self.stdout.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| self.fail(&format!("no line {key}: in stdout"))).trim()
    }
}

/// A started command whose output goes to files: a container that outlives it may keep them open.
pub struct Running {
    pub child: Child,
    command: String,
    context: String,
    stdout_file: PathBuf,
    stderr_file: PathBuf,
}

impl Running {
    /// What it wrote to stdout until now.
    pub fn stdout(&self) -> String {
        read_text(&self.stdout_file)
    }

    /// Waits for the end, at most [`LIMIT`]; then the process is killed and the outcome has no status.
    pub fn wait(mut self) -> Outcome {
        let end = Instant::now() + LIMIT;
        let mut pause = Duration::from_micros(200);
        let status = loop {
            match self.child.try_wait().expect("wait for the command") {
                Some(status) => break Some(status),
                None if Instant::now() > end => {
                    self.child.kill().expect("kill the command");
                    self.child.wait().expect("reap the command");
                    break None;
                }
                None => sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(5));
        };
        Outcome {
            command: self.command,
            status,
            stdout: read_text(&self.stdout_file),
            stderr: read_text(&self.stderr_file),
            context: self.context,
            stdout_file: self.stdout_file,
        }
    }
}

/// Starts a command with stdout and stderr in fresh files of `dir`; stdin is what the caller set, else /dev/null.
pub fn spawn(command: &mut Command, dir: &Path, context: String) -> Running {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let (stdout_file, stderr_file) = (dir.join(format!("stdout.{count}")), dir.join(format!("stderr.{count}")));
    command.stdout(File::create(&stdout_file).expect("create the stdout file"));
    command.stderr(File::create(&stderr_file).expect("create the stderr file"));
    let shown = format!("{command:?}");
    let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    Running { child, command: shown, context, stdout_file, stderr_file }
}

/// Runs a command that needs no container to its end.
pub fn finish(command: &mut Command, dir: &Path) -> Outcome {
    spawn(command.stdin(Stdio::null()), dir, String::new()).wait()
}

/// A file's text; what is not UTF-8 is replaced.
pub fn read_text(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}
