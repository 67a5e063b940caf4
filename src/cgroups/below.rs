//! Where a further program goes: the container's cgroup, one below it (`exec --cgroup`), or the one that its init is in.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::layout::{self, own_unified};
use super::manager::Placement;
use super::{file, path};
use crate::error::{Context as _, Result, bail};

/// The cgroups that `exec --cgroup` names: controller to path, `""` for all of them or for the one hierarchy of v2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Below(BTreeMap<String, PathBuf>);

impl Below {
    /// From the arguments: `path` alone, or `controller[,controller...]:path`, several times.
    pub fn parse(args: &[String]) -> Result<Self> {
        let mut paths = BTreeMap::new();
        for arg in args {
            let Some((controllers, path)) = arg.split_once(':') else {
                if args.len() > 1 {
                    bail!("invalid --cgroup argument: {arg} (missing <controller>: prefix)");
                }
                paths.insert(String::new(), PathBuf::from(arg));
                continue;
            };
            for controller in controllers.split(',') {
                if controller.is_empty() {
                    bail!("invalid --cgroup argument: {arg} (empty <controller> prefix)");
                }
                if paths.insert(controller.to_owned(), PathBuf::from(path)).is_some() {
                    bail!("invalid --cgroup argument(s): controller {controller} specified multiple times");
                }
            }
        }
        Ok(Self(paths))
    }
}

/// The placement whose [`super::Manager::entry`] and `attach` lead where a further program of the container goes. `init`
/// is the container's first process.
pub fn below(placement: &Placement, below: &Below, init: i32) -> Result<Placement> {
    let mut placement = placement.clone();
    if below.0.is_empty() {
        if placement.paths.len() == 1
            && let Some(dir) = placement.paths.get_mut("")
            && !takes_processes(dir)
        {
            *dir = of_init(init)?;
        }
        return Ok(placement);
    }
    if placement.paths.is_empty() {
        bail!("--cgroup: the container has no cgroup");
    }
    let bases = placement.paths.clone();
    for (controller, sub) in &below.0 {
        if controller.is_empty() {
            for dir in placement.paths.values_mut() {
                *dir = join(dir, sub)?;
            }
            continue;
        }
        let base = bases.get(controller).with_context(|| format!("--cgroup: unknown controller {controller}"))?;
        let dir = join(base, sub)?;
        // One mount may have several controllers: where one of them goes, all do.
        for (other, place) in &mut placement.paths {
            if bases.get(other) == Some(base) && !below.0.contains_key(other) || other == controller {
                place.clone_from(&dir);
            }
        }
    }
    Ok(placement)
}

/// Nobody may be led out of the container's cgroup.
fn join(base: &Path, sub: &Path) -> Result<PathBuf> {
    let mut depth = 0;
    for component in sub.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        if depth < 0 {
            bail!("--cgroup: bad sub cgroup path: {}", sub.display());
        }
    }
    let normal = |component: &Component<'_>| matches!(component, Component::Normal(_));
    Ok(base.iter().chain(path::clean(sub).components().filter(normal).map(Component::as_os_str)).collect())
}

/// Whether a v2 cgroup can get a process. Not one that has enabled controllers for its children, which its init moved to
/// (an engine in the container does that, or systemd), and not one that has been removed since.
fn takes_processes(dir: &Path) -> bool {
    file::read(dir, "cgroup.subtree_control").is_ok_and(|text| text.trim().is_empty())
}

/// The v2 cgroup that a process is in.
fn of_init(pid: i32) -> Result<PathBuf> {
    let name = format!("/proc/{pid}/cgroup");
    let text = layout::read(&name)?;
    let own = own_unified(&text).with_context(|| format!("{name}: no line 0::"))?;
    let own = path::clean(Path::new(own));
    Ok(Path::new(layout::MOUNT_POINT).join(own.strip_prefix("/").unwrap_or(&own)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::Kind;
    use crate::error::one_line;

    fn parsed(args: &[&str]) -> Result<Below> {
        Below::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    fn v1() -> Placement {
        let path = |controller: &str, dir: &str| (controller.to_owned(), PathBuf::from(dir));
        let paths = [path("cpu", "/c/x"), path("cpuacct", "/c/x"), path("memory", "/m/x")];
        Placement { paths: paths.into(), ..Placement::none(Kind::Cgroupfs) }
    }

    fn places(args: &[&str]) -> Result<Vec<String>> {
        let placement = below(&v1(), &parsed(args)?, 1)?;
        Ok(placement.paths.values().map(|dir| dir.display().to_string()).collect())
    }

    #[test]
    fn each_controller_goes_where_it_is_sent() {
        assert_eq!(places(&[]).unwrap(), ["/c/x", "/c/x", "/m/x"]);
        assert_eq!(places(&["/"]).unwrap(), ["/c/x", "/c/x", "/m/x"]);
        assert_eq!(places(&["a/../b"]).unwrap(), ["/c/x/b", "/c/x/b", "/m/x/b"]);
        assert_eq!(places(&["memory:/a"]).unwrap(), ["/c/x", "/c/x", "/m/x/a"]);
        assert_eq!(places(&["memory:a", "cpu,cpuacct:b"]).unwrap(), ["/c/x/b", "/c/x/b", "/m/x/a"]);
        assert_eq!(places(&["cpuacct:b"]).unwrap(), ["/c/x/b", "/c/x/b", "/m/x"], "of one mount");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (args, said) in [
            (&["a", "b"][..], "missing <controller>: prefix"),
            (&[":a"], "empty <controller> prefix"),
            (&["cpu,:a"], "empty <controller> prefix"),
            (&["cpu:a", "cpu:b"], "controller cpu specified multiple times"),
            (&["pids:a"], "unknown controller pids"),
            (&[".."], "bad sub cgroup path: .."),
            (&["cpu:a/../../x"], "bad sub cgroup path: a/../../x"),
        ] {
            let line = one_line(&places(args).unwrap_err());
            assert!(line.ends_with(said) || line.contains(said), "{args:?}: {line}");
        }
    }

    #[test]
    fn below_no_cgroup_there_is_none() {
        let none = Placement::none(Kind::Disabled);
        assert_eq!(below(&none, &Below::default(), 1).unwrap(), none);
        assert!(below(&none, &parsed(&["x"]).unwrap(), 1).is_err());
    }

    #[test]
    fn without_a_place_of_its_own_it_is_where_init_is() {
        let gone = PathBuf::from("/sys/fs/cgroup/no such cgroup");
        let placement = Placement { paths: [(String::new(), gone)].into(), ..Placement::none(Kind::Cgroupfs) };
        let own = i32::try_from(std::process::id()).unwrap();
        match below(&placement, &Below::default(), own) {
            Ok(found) => assert!(found.paths[""].starts_with("/sys/fs/cgroup") && found != placement, "{found:?}"),
            Err(error) => assert!(one_line(&error).contains("no line 0::"), "{}", one_line(&error)),
        }
    }
}
