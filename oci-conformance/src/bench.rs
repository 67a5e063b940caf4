//! What the cases share: the runtime, the scratch directory with the probe, the cgroup hierarchies, and the clock.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cgroup::Hierarchies;
use crate::output::Run;
use crate::{elf, mountinfo, probe};

/// One run of the suite. Its directory and its cgroups go away with it.
pub struct Suite {
    /// The runtime under test.
    pub runtime: PathBuf,
    name: String,
    version: String,
    /// Holds the probe, and a directory for each container.
    pub dir: PathBuf,
    /// The mounted cgroup hierarchies.
    pub cgroups: Hierarchies,
    /// The first path segment of every cgroup that the cases name; also the directory's name.
    pub mark: String,
    count: AtomicUsize,
}

impl Suite {
    /// Finds the runtime, asks for its name, and puts the probe in a fresh directory.
    pub fn new(runtime: &Path) -> Result<Suite> {
        let runtime = find(runtime)?;
        let mark = format!("oci-conformance-{}", std::process::id());
        let program = fs::read("/proc/self/exe").context("read this program")?;
        if elf::is_static(&program) != Some(true) {
            bail!("this program is not linked statically: it cannot be the probe in an empty root filesystem");
        }
        let dir = std::env::temp_dir().canonicalize().context("resolve the temporary directory")?.join(&mark);
        fs::DirBuilder::new().mode(0o755).create(&dir).with_context(|| format!("create {}", dir.display()))?;
        let (name, version) = name_of(&runtime);
        let suite =
            Suite { runtime, name, version, dir, cgroups: Hierarchies::read()?, mark, count: AtomicUsize::new(0) };
        fs::write(suite.probe(), program).context("write the probe")?;
        fs::set_permissions(suite.probe(), fs::Permissions::from_mode(0o755)).context("chmod the probe")?;
        // A container's first process becomes our child when the runtime's command ends: its exit status can be seen.
        nix::sys::prctl::set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
        Ok(suite)
    }

    /// What the runtime calls itself (`runc`, `crun`), and where it is tried.
    pub fn run(&self) -> Run {
        Run { runtime: self.name.clone(), version: self.version.clone(), cgroups: self.cgroups.layout() }
    }

    /// The probe on the host; hooks are given this path.
    pub fn probe(&self) -> PathBuf {
        self.dir.join(probe::NAME)
    }

    /// A number that no other container of this run has.
    pub fn next(&self) -> usize {
        self.count.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        self.cgroups.remove(&self.mark);
        remove_dir(&self.dir);
    }
}

/// Detaches every mount below a directory of ours and removes it; nothing is ever deleted through a mount.
pub fn remove_dir(dir: &Path) {
    for point in mountinfo::points_below(dir).iter().rev() {
        let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
    }
    if mountinfo::points_below(dir).is_empty() {
        let _ = fs::remove_dir_all(dir);
    }
}

/// The absolute path of a program given as a path or as a name in `$PATH`.
fn find(program: &Path) -> Result<PathBuf> {
    if program.components().count() > 1 {
        return program.canonicalize().with_context(|| format!("the runtime {}", program.display()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
    found.with_context(|| format!("no {} in $PATH", program.display()))
}

/// The name and the version that `--version` prints (`NAME version VERSION`), or the file's name.
fn name_of(runtime: &Path) -> (String, String) {
    let printed = Command::new(runtime).arg("--version").stdin(Stdio::null()).output();
    let printed = printed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut words = printed.split_whitespace();
    let name = match words.next() {
        Some(word) => word.to_owned(),
        None => runtime.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    (name, words.nth(1).unwrap_or("unknown").to_owned())
}

/// The suite as one case sees it: with an end.
pub struct Bench<'a> {
    /// What all cases share.
    pub suite: &'a Suite,
    /// When the case has to be over.
    pub deadline: Instant,
}

impl Bench<'_> {
    /// Polls until the condition gives a value or fails, or the case's time is up.
    pub fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(value) = condition()? {
                return Ok(value);
            }
            if Instant::now() > self.deadline {
                bail!("timed out waiting: {what}");
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
}
