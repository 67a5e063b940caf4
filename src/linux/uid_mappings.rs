//! `linux.uidMappings` and `linux.gidMappings`: who the container's ids are on the host (user_namespaces(7)).

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use nix::fcntl::readlink;
use nix::unistd::geteuid;
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};

use super::{ids, namespaces};
use crate::error::{Context as _, Result, anyhow, bail, ensure};

/// Not root, or root of a user namespace only. The second costs a file to read, unless it is the kernel's first one, which
/// always has the same number (PROC_USER_INIT_INO).
pub fn is_rootless() -> bool {
    let whole = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    let is_first = || readlink("/proc/self/ns/user").is_ok_and(|name| name == "user:[4026531837]");
    !geteuid().is_root() || !is_first() && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !whole(map))
}

/// A new user namespace has mappings, and nothing else has.
pub fn check(spec: &Spec) -> Result<()> {
    let (uids, gids) = mappings(spec);
    if namespaces::is_new(spec, LinuxNamespaceType::User) {
        ensure!(!uids.is_empty(), "linux.uidMappings: a new user namespace needs at least one mapping");
        ensure!(!gids.is_empty(), "linux.gidMappings: a new user namespace needs at least one mapping");
    }
    let mapped = !uids.is_empty() || !gids.is_empty();
    if mapped && !namespaces::has(spec, LinuxNamespaceType::User) {
        bail!("linux.uidMappings: mappings without a user namespace among linux.namespaces");
    }
    for (name, mappings) in [("uidMappings", uids), ("gidMappings", gids)] {
        ids::check_mappings(mappings).map_err(|error| anyhow!("linux.{name}{error}"))?;
    }
    Ok(())
}

/// Writes the mappings of init, which waits for them.
pub fn apply(spec: &Spec, pid: i32) -> Result<()> {
    let (uids, gids) = mappings(spec);
    // An ordinary user may map groups only after giving up setgroups(2), except by newgidmap.
    if !geteuid().is_root() && gids.len() == 1 && gids[0].size() == 1 {
        write(pid, "setgroups", "deny").context("linux.gidMappings")?;
    }
    map(pid, "gid_map", "newgidmap", gids).context("linux.gidMappings")?;
    map(pid, "uid_map", "newuidmap", uids).context("linux.uidMappings")
}

/// Mappings beside a namespace that is joined change nothing, but callers give them (containerd and CRI-O do): they have
/// to be those that the namespace has, as the process `pid` in it shows.
pub fn check_joined(spec: &Spec, pid: i32) -> Result<()> {
    let (uids, gids) = mappings(spec);
    for (name, file, configured) in [("uidMappings", "uid_map", uids), ("gidMappings", "gid_map", gids)] {
        if configured.is_empty() {
            continue;
        }
        let path = format!("/proc/{pid}/{file}");
        let text = fs::read_to_string(&path).with_context(|| format!("linux.{name}: read {path}"))?;
        let extents = configured.iter().map(|mapping| [mapping.container_id(), mapping.host_id(), mapping.size()]);
        ensure!(
            same(extents.collect(), &text),
            "linux.{name}: are not those of the user namespace that is joined: either leave them out, or its path"
        );
    }
    Ok(())
}

/// The kernel may show the extents in another order than they were written in.
fn same(mut configured: Vec<[u32; 3]>, text: &str) -> bool {
    let number = |field: Option<&str>| field.and_then(|field| field.parse().ok());
    let extent = |line: &str| -> Option<[u32; 3]> {
        let mut fields = line.split_whitespace();
        Some([number(fields.next())?, number(fields.next())?, number(fields.next())?])
    };
    let Some(mut found) = text.lines().map(extent).collect::<Option<Vec<_>>>() else { return false };
    configured.sort_unstable();
    found.sort_unstable();
    configured == found
}

/// `linux.uidMappings` and `linux.gidMappings`.
pub fn mappings(spec: &Spec) -> (&[LinuxIdMapping], &[LinuxIdMapping]) {
    let Some(linux) = spec.linux() else { return (&[], &[]) };
    let uids = linux.uid_mappings().as_deref().unwrap_or_default();
    (uids, linux.gid_mappings().as_deref().unwrap_or_default())
}

/// Writes one of the two files of a process, or lets the setuid program do it that may write more.
pub fn map(pid: i32, file: &str, helper: &str, mappings: &[LinuxIdMapping]) -> Result<()> {
    let mut text = String::new();
    for mapping in mappings {
        let _ = writeln!(text, "{} {} {}", mapping.container_id(), mapping.host_id(), mapping.size());
    }
    match write(pid, file, &text) {
        // More than the caller's own id: the ids that /etc/subuid grants are given by a program with the privilege.
        Err(error) if !geteuid().is_root() => run_helper(pid, helper, mappings).with_context(|| format!("{error:#}")),
        result => result,
    }
}

fn write(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    fs::write(&path, text).with_context(|| format!("write {text:?} to {path}"))
}

fn run_helper(pid: i32, helper: &str, mappings: &[LinuxIdMapping]) -> Result<()> {
    let numbers = mappings.iter().flat_map(|mapping| [mapping.container_id(), mapping.host_id(), mapping.size()]);
    let output = Command::new(helper)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .output()
        .with_context(|| format!("run {helper} (package uidmap)"))?;
    ensure!(output.status.success(), "{helper}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_the_same_in_any_order_and_only_as_a_whole() {
        let text = "         0     100000      65536\n     70000       1000          1\n";
        assert!(same(vec![[70000, 1000, 1], [0, 100_000, 65536]], text));
        assert!(!same(vec![[0, 100_000, 65536]], text));
        assert!(!same(vec![[0, 100_000, 65536], [70000, 1001, 1]], text));
        assert!(same(vec![[0, 0, u32::MAX]], "0 0 4294967295\n"));
        assert!(!same(vec![], "0 0\n"));
    }
}
