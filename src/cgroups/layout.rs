//! How this machine mounts its cgroups.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use nix::unistd::{AccessFlags, access};

use crate::error::{Context, Error, Result};
use crate::mounts::mountinfo::Line;

/// Where every distribution mounts its cgroups.
pub(super) const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// What is mounted at `/sys/fs/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// A hierarchy for each controller or group of them, in the kernel's order. A hybrid layout is this one with a
    /// [`unified`] mount beside.
    V1(Vec<Hierarchy>),
    /// One hierarchy for all controllers.
    V2 {
        /// Its mount point.
        root: PathBuf,
    },
    /// None that we know.
    None,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// `["cpu", "cpuacct"]` or `["name=systemd"]`; empty for the unified one.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Which cgroup of the hierarchy is mounted there: `/`, but the container's own in a container without a cgroup
    /// namespace.
    pub root: PathBuf,
    /// The runtime's own cgroup, as `/proc/self/cgroup` names it.
    pub own_path: PathBuf,
}

impl Hierarchy {
    /// The directory of the runtime's own cgroup; the mount point if that is not below what is mounted.
    pub fn own_dir(&self) -> PathBuf {
        match self.own_path.strip_prefix(&self.root) {
            Ok(below) => self.mount_point.join(below),
            Err(_) => self.mount_point.clone(),
        }
    }
}

struct Found {
    layout: Layout,
    unified: Option<Hierarchy>,
}

/// What is mounted; looked up once.
pub fn layout() -> Result<&'static Layout> {
    Ok(&found()?.layout)
}

/// The cgroup2 mount beside the v1 hierarchies of a hybrid layout.
pub fn unified() -> Result<Option<&'static Hierarchy>> {
    Ok(found()?.unified.as_ref())
}

fn found() -> Result<&'static Found> {
    static FOUND: OnceLock<Found> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found);
    }
    let found = detect()?;
    Ok(FOUND.get_or_init(|| found))
}

fn is_cgroup2(path: &Path) -> Result<bool> {
    match statfs(path) {
        Ok(fs) => Ok(fs.filesystem_type() == CGROUP2_SUPER_MAGIC),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(Error::new(errno).context(format!("statfs {}", path.display()))),
    }
}

/// Returns whether this is a cgroup file system, of either version.
pub(super) fn is_cgroup(filesystem: FsType) -> bool {
    matches!(filesystem, CGROUP_SUPER_MAGIC | CGROUP2_SUPER_MAGIC)
}

/// Returns whether there is a cgroup file system at `/sys/fs/cgroup` or right below. The mount
/// table does not tell: what is mounted may be covered.
pub(super) fn is_visible() -> bool {
    let is_cgroup = |path: &Path| statfs(path).is_ok_and(|fs| is_cgroup(fs.filesystem_type()));
    let below = |root: &Path| std::fs::read_dir(root).into_iter().flatten().flatten().any(|at| is_cgroup(&at.path()));
    is_cgroup(Path::new(MOUNT_POINT)) || below(Path::new(MOUNT_POINT))
}

fn detect() -> Result<Found> {
    let root = Path::new(MOUNT_POINT);
    if is_cgroup2(root)? {
        return Ok(Found { layout: Layout::V2 { root: root.to_owned() }, unified: None });
    }
    let own = read("/proc/self/cgroup")?;
    let named = parse_own(&own);
    let hierarchies = match at_default_places(&named) {
        Some(hierarchies) => hierarchies,
        None => parse_mountinfo(&read("/proc/self/mountinfo")?, &named),
    };
    if hierarchies.is_empty() {
        return Ok(Found { layout: Layout::None, unified: None });
    }
    let mount_point = root.join("unified");
    let unified = if is_cgroup2(&mount_point)? {
        let own_path = own_unified(&own).unwrap_or("/").into();
        Some(Hierarchy { controllers: Vec::new(), mount_point, root: "/".into(), own_path })
    } else {
        None
    };
    Ok(Found { layout: Layout::V1(hierarchies), unified })
}

pub(super) fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("read {file}"))
}

/// The lines `ID:CONTROLLERS:PATH` of `/proc/self/cgroup` that are v1's: controllers and own path.
fn parse_own(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?)).filter(|(controllers, _)| !controllers.is_empty())
        })
        .collect()
}

/// The own path in the unified hierarchy: the line `0::PATH`.
pub(super) fn own_unified(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The hierarchies when each is mounted whole where it usually is: `release_agent` exists in a v1 hierarchy's root
/// only, so that one access(2) each tells it and /proc/self/mountinfo, long on a busy node, need not be read.
fn at_default_places(named: &[(&str, &str)]) -> Option<Vec<Hierarchy>> {
    named
        .iter()
        .map(|(controllers, own_path)| {
            let name = controllers.strip_prefix("name=").unwrap_or(controllers);
            let mount_point = Path::new(MOUNT_POINT).join(name);
            access(&mount_point.join("release_agent"), AccessFlags::F_OK).ok()?;
            Some(Hierarchy {
                controllers: controllers.split(',').map(str::to_owned).collect(),
                mount_point,
                root: "/".into(),
                own_path: own_path.into(),
            })
        })
        .collect()
}

/// The hierarchies as mountinfo names them; of several mounts of one the first counts, one below `/sys/fs/cgroup`
/// before others.
fn parse_mountinfo(text: &str, named: &[(&str, &str)]) -> Vec<Hierarchy> {
    let mounts: Vec<_> = text.lines().filter_map(Line::parse).filter(|line| line.fstype == "cgroup").collect();
    named
        .iter()
        .filter_map(|(controllers, own_path)| {
            let first = controllers.split(',').next().unwrap_or(controllers);
            let holds = |mount: &&Line<'_>| mount.options.split(',').any(|option| option == first);
            let mount = mounts
                .iter()
                .find(|mount| mount.point.starts_with(MOUNT_POINT) && holds(mount))
                .or_else(|| mounts.iter().find(holds))?;
            Some(Hierarchy {
                controllers: controllers.split(',').map(str::to_owned).collect(),
                mount_point: (&mount.point).into(),
                root: (&mount.root).into(),
                own_path: own_path.into(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "9:name=systemd:/\n4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc/sub\n0::/user.slice\n";

    #[test]
    fn own_cgroups_are_read_by_hierarchy() {
        let named = parse_own(OWN);
        assert_eq!(named, [("name=systemd", "/"), ("cpu,cpuacct", "/docker/abc"), ("memory", "/docker/abc/sub")]);
        assert_eq!(own_unified(OWN), Some("/user.slice"));
    }

    #[test]
    fn mountinfo_gives_mount_points_and_roots_and_prefers_the_usual_place() {
        let text = "\
40 31 0:37 / /other/mem rw - cgroup cgroup rw,memory
41 31 0:37 /docker/abc /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
42 31 0:38 /docker/abc /sys/fs/cgroup/cpu\\040x rw - cgroup cgroup rw,cpu,cpuacct
43 31 0:39 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let found = parse_mountinfo(text, &parse_own(OWN));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].mount_point, Path::new("/sys/fs/cgroup/cpu x"));
        assert_eq!(found[0].own_dir(), Path::new("/sys/fs/cgroup/cpu x"));
        assert_eq!(found[1].mount_point, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(found[1].own_dir(), Path::new("/sys/fs/cgroup/memory/sub"));
    }

    #[test]
    fn an_own_cgroup_outside_of_the_mount_never_leads_out_of_it() {
        let hierarchy = Hierarchy {
            controllers: vec!["memory".into()],
            mount_point: "/sys/fs/cgroup/memory".into(),
            root: "/docker/abc".into(),
            own_path: "/elsewhere".into(),
        };
        assert_eq!(hierarchy.own_dir(), Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    #[ignore = "a measurement"]
    fn how_long_it_takes() {
        const ROUNDS: u32 = 300;
        let start = std::time::Instant::now();
        (0..ROUNDS).for_each(|_| drop(detect().unwrap()));
        println!("detect: {:?}", start.elapsed() / ROUNDS);
        let start = std::time::Instant::now();
        (0..ROUNDS).for_each(|_| drop(read("/proc/self/mountinfo").unwrap()));
        println!("read mountinfo: {:?}", start.elapsed() / ROUNDS);
    }

    #[test]
    fn this_machine_has_a_layout() {
        match layout().unwrap() {
            Layout::V1(hierarchies) => {
                let by_mountinfo = parse_mountinfo(
                    &read("/proc/self/mountinfo").unwrap(),
                    &parse_own(&read("/proc/self/cgroup").unwrap()),
                );
                assert_eq!(hierarchies, &by_mountinfo);
            }
            Layout::V2 { root } => assert_eq!(root, Path::new(MOUNT_POINT)),
            Layout::None => println!("skipped: no cgroups are mounted here"),
        }
    }
}
