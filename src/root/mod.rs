//! `root.*`: the container's root filesystem, which belongs to an attacker from the first look on.

pub mod obstacle;
pub mod on_host;
pub mod path;
pub mod pivot;
pub mod readonly;
pub mod unlinked;

pub use path::Rootfs;

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::error::{Context as _, Result, anyhow, ensure};

/// `root.path` is there and is a directory. Returns its absolute path, links resolved.
pub fn check(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let root = spec.root().as_ref().ok_or_else(|| anyhow!("root: missing (root.path names the root filesystem)"))?;
    ensure!(!root.path().as_os_str().is_empty(), "root.path: must not be empty");
    let path = bundle.join(root.path());
    let path = path.canonicalize().with_context(|| format!("root.path: {path:?}"))?;
    ensure!(path.is_dir(), "root.path: {path:?} is not a directory");
    Ok(path)
}
