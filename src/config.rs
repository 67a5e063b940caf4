//! config.json: read once, checked whole, before anything is made.

mod property;
mod schema;
mod spelling;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;

use crate::error::{Context as _, Error, Result, anyhow, bail, ensure};
use crate::linux::{
    devices, intel_rdt, masked_paths, memory_policy, mount_label, namespaces, net_devices, personality, readonly_paths,
    rootfs_propagation, seccomp, sysctl, time_offsets, uid_mappings,
};
use crate::{cgroups, hooks, hostname, input, mounts, process, root};

/// A bundle whose configuration was found good.
#[derive(Debug)]
pub struct Bundle {
    /// The bundle's absolute path.
    pub path: PathBuf,
    /// The rootfs's absolute path.
    pub rootfs: PathBuf,
    /// The configuration: 3 KB, which are not to be copied from frame to frame, as each takes pages of the stack for them.
    pub spec: Box<Spec>,
}

/// Reads and checks the configuration of a bundle.
pub fn load(bundle: &Path) -> Result<Bundle> {
    let path = bundle.canonicalize().with_context(|| format!("--bundle {bundle:?}"))?;
    ensure!(path.is_dir(), "--bundle {bundle:?}: is not a directory");
    let mut spec = read(&path.join("config.json"))?;
    check_version(spec.version())?;
    let rootfs = root::check(&spec, &path)?;
    mounts::destination::strip_rootfs(&mut spec, &rootfs);
    check(&spec)?;
    Ok(Bundle { path, rootfs, spec })
}

/// Reads a config.json; nothing in it is checked yet.
pub fn read(path: &Path) -> Result<Box<Spec>> {
    let json = input::read(path, input::LONGEST_CONFIG).with_context(|| format!("read {path:?}"))?;
    // A list would do for the parser, which takes the properties in their order then.
    let first = json.iter().find(|byte| !byte.is_ascii_whitespace());
    ensure!(first.is_none_or(|&byte| byte == b'{'), "{path:?}: is not a JSON object");
    parse(&json, "/process", &schema::CONFIG).with_context(|| format!("{path:?}"))
}

/// Reads a process as `exec --process` is given one; nothing in it is checked yet.
pub fn parse_process(json: &[u8]) -> Result<Process> {
    parse(json, "", &schema::PROCESS)
}

/// Gives what `update --resources` asks for the names of `linux.resources`, where its own are in other letters.
pub fn respell_resources(asked: &mut serde_json::Value) {
    spelling::respell(asked, &schema::RESOURCES);
}

fn parse<T: DeserializeOwned>(json: &[u8], process: &str, shape: &'static schema::Shape) -> Result<T> {
    let error = match read_as(json, shape) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    match spelling::for_the_library(json, process, shape) {
        Some(json) => read_as(&json, shape).map_err(|error| describe(&json, &error)),
        None => Err(describe(json, &error)),
    }
}

fn read_as<T: DeserializeOwned>(json: &[u8], shape: &'static schema::Shape) -> serde_json::Result<T> {
    let parsed = serde_json::from_slice(json)?;
    schema::check(json, shape)?;
    Ok(parsed)
}

fn describe(json: &[u8], error: &serde_json::Error) -> Error {
    let property = match error.is_eof() {
        true => String::new(),
        false => property::at(json, error.line(), error.column()),
    };
    let colon = if property.is_empty() { "" } else { ": " };
    anyhow!("{property}{colon}{error}")
}

/// A newer minor version only adds what may be ignored; an unknown major one may mean anything (config.md, "Version").
fn check_version(version: &str) -> Result<()> {
    let mut parts = version.split(['.', '-', '+']);
    let mut number = || parts.next()?.parse::<u64>().ok();
    match (number(), number(), number()) {
        (Some(1), Some(_), Some(_)) => Ok(()),
        (Some(_), Some(_), Some(_)) => bail!("ociVersion: {version:?} is not a version of the 1.x specification"),
        _ => bail!("ociVersion: {version:?} is not a version (SemVer 2.0.0), such as \"1.3.0\""),
    }
}

fn check(spec: &Spec) -> Result<()> {
    let keys = || spec.annotations().iter().flat_map(|annotations| annotations.keys());
    ensure!(!keys().any(String::is_empty), "annotations: a key must not be an empty string");
    namespaces::check(spec)?;
    uid_mappings::check(spec)?;
    process::check(process::of(spec)?)?;
    hostname::check(spec)?;
    mounts::check(spec)?;
    hooks::check(spec)?;
    devices::check(spec)?;
    sysctl::check(spec)?;
    time_offsets::check(spec)?;
    rootfs_propagation::check(spec)?;
    masked_paths::check(spec)?;
    if let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
        cgroups::check(resources)?;
    }
    readonly_paths::check(spec)?;
    net_devices::check(spec)?;
    intel_rdt::check(spec)?;
    mount_label::check(spec)?;
    personality::check(spec)?;
    memory_policy::check(spec)?;
    match spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        Some(profile) => seccomp::check(profile).context("linux.seccomp"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_minor_version_is_fine_and_another_major_one_is_not() {
        for good in ["1.0.0", "1.3.0", "1.99.0", "1.2.1-dev", "1.0.0-rc5-dev"] {
            assert!(check_version(good).is_ok(), "{good}");
        }
        for bad in ["", "1", "1.0", "2.0.0", "0.5.0", "one.0.0"] {
            assert!(check_version(bad).is_err(), "{bad}");
        }
    }
}
