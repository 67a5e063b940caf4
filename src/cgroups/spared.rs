//! What other containers have in a container's cgroup or below it: killing and removing leaves that
//! alone.

use std::path::{Path, PathBuf};

use super::manager::Placement;

/// A cgroup that another container's record names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    id: String,
    dir: PathBuf,
}

/// The cgroups of other containers that lie in a container's own. Each is left alone with all that
/// is below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spared(Vec<Claim>);

impl Spared {
    /// Adds what the container `id` has in `own` or below it. A directory that is the same for both
    /// belongs to the other one only while that lives: a container may get the cgroup of one that
    /// has stopped.
    pub fn add(&mut self, own: &Placement, id: &str, placement: &Placement, is_alive: impl Fn() -> bool) {
        for (controller, dir) in &placement.paths {
            let Some(base) = own.paths.get(controller) else { continue };
            if dir.starts_with(base) && (dir != base || is_alive()) {
                self.0.push(Claim { id: id.to_owned(), dir: dir.clone() });
            }
        }
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this very directory is another container's.
    pub(super) fn has(&self, dir: &Path) -> bool {
        self.0.iter().any(|claim| claim.dir == dir)
    }

    /// The same for a directory that is addressed by another path.
    pub(super) fn moved(&self, from: &Path, to: &Path) -> Self {
        let moved = |claim: &Claim| {
            let below = claim.dir.strip_prefix(from).ok()?;
            // Joined to nothing, it would end in a slash.
            let dir = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            Some(Claim { id: claim.id.clone(), dir })
        };
        Self(self.0.iter().filter_map(moved).collect())
    }

    /// Says whose cgroups keep a directory from being removed.
    pub(super) fn warn(&self, dir: &Path) {
        let ids: Vec<&str> =
            self.0.iter().filter(|claim| claim.dir.starts_with(dir)).map(|it| it.id.as_str()).collect();
        log::warn!("cgroup {} is left: it holds the cgroup of container {}", dir.display(), ids.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::Kind;

    fn placement(paths: &[(&str, &str)]) -> Placement {
        let paths = paths.iter().map(|(controller, dir)| ((*controller).to_owned(), PathBuf::from(dir))).collect();
        Placement { paths, ..Placement::none(Kind::Cgroupfs) }
    }

    #[test]
    fn what_lies_below_is_spared_and_the_same_directory_only_for_a_living_container() {
        let own = placement(&[("devices", "/d/a"), ("memory", "/m/a")]);
        let mut spared = Spared::default();
        spared.add(&own, "below", &placement(&[("devices", "/d/a/b"), ("memory", "/m/ab")]), || false);
        spared.add(&own, "stopped", &placement(&[("devices", "/d/a")]), || false);
        assert!(spared.has(Path::new("/d/a/b")) && !spared.has(Path::new("/d/a")) && !spared.has(Path::new("/m/ab")));
        spared.add(&own, "alive", &placement(&[("devices", "/d/a")]), || true);
        assert!(spared.has(Path::new("/d/a")));
    }
}
