//! The machine's cgroup hierarchies as the tests look at them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One mounted hierarchy.
pub struct Hierarchy {
    pub mount: PathBuf,
    /// Controllers of a v1 hierarchy, `name=systemd` included; none for cgroup2.
    pub controllers: Vec<String>,
    pub v2: bool,
}

/// Every hierarchy mounted below /sys/fs/cgroup.
pub fn hierarchies() -> &'static [Hierarchy] {
    static LIST: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    LIST.get_or_init(|| {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
        table.lines().filter_map(parse_line).collect()
    })
}

fn parse_line(line: &str) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let mount = PathBuf::from(left.split(' ').nth(4)?);
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.nth(1)?);
    let known = options.split(',').filter(|option| *option != "rw" && *option != "ro");
    match kind {
        "cgroup" => Some(Hierarchy { mount, controllers: known.map(str::to_owned).collect(), v2: false }),
        "cgroup2" => Some(Hierarchy { mount, controllers: Vec::new(), v2: true }),
        _ => None,
    }
}

/// True where a controller has its own v1 hierarchy.
pub fn has_v1(controller: &str) -> bool {
    hierarchies().iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
}

/// The directory of a process's v1 cgroup for that controller.
#[track_caller]
pub fn v1_dir(pid: i32, controller: &str) -> PathBuf {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read the process's cgroups");
    let path = table
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .find(|(names, _)| names.split(',').any(|name| name == controller))
        .unwrap_or_else(|| panic!("{controller} not in {table}"))
        .1;
    let hierarchy = hierarchies()
        .iter()
        .find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
        .unwrap_or_else(|| panic!("{controller} is not mounted"));
    hierarchy.mount.join(path.trim_start_matches('/'))
}

/// The directory of a process's cgroup where cgroup v2 is the only hierarchy.
#[track_caller]
pub fn v2_dir(pid: i32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read the process's cgroup");
    Path::new("/sys/fs/cgroup").join(text.trim().trim_start_matches("0::/"))
}

/// The cgroups with `mark` in their path, children before parents.
pub fn named(mark: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        collect(&hierarchy.mount, mark, &mut found);
    }
    found
}

fn collect(dir: &Path, mark: &str, found: &mut Vec<PathBuf>) {
    // A directory may vanish while it is read: other tests run beside this one.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), mark, found);
            if entry.path().to_string_lossy().contains(mark) {
                found.push(entry.path());
            }
        }
    }
}

/// Kills the processes of a cgroup of the tests' own.
pub fn empty(dir: &Path) {
    let pids = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let freezer = dir.join("freezer.state");
    if freezer.exists() {
        let _ = fs::write(freezer, "THAWED");
    }
}
