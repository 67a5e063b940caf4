//! `linux.sysctl`: kernel parameters of the container's own namespaces, never of the host.

use std::io::Write as _;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType as Type, Spec};

use super::namespaces::{self, Namespaces};
use crate::error::{Context as _, Error, Result, anyhow, bail, ensure};
use crate::mounts::procfs::Procfs;

/// Parameters of an IPC namespace that are not below fs.mqueue.
const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Each parameter belongs to a namespace that the container has.
pub fn check(spec: &Spec) -> Result<()> {
    for name in configured(spec).map(|(name, _)| name) {
        let climbs = path_of(name).split('/').any(|part| matches!(part, "" | "." | ".."));
        ensure!(!climbs, "linux.sysctl {name:?}: is not the name of a kernel parameter");
        check_one(spec, &name.replace('/', ".")).with_context(|| format!("linux.sysctl {name:?}"))?;
    }
    Ok(())
}

/// Refuses a parameter whose namespace is joined by a path and is the host's all the same.
pub fn check_joined(spec: &Spec, namespaces: &Namespaces) -> Result<()> {
    for (name, _) in configured(spec) {
        let context = || format!("linux.sysctl {name:?}");
        let needed = namespace_of(&name.replace('/', ".")).with_context(context)?;
        if namespaces.is_shared(needed)? {
            return Err(of_the_host(needed)).with_context(context);
        }
    }
    Ok(())
}

fn check_one(spec: &Spec, name: &str) -> Result<()> {
    let needed = namespace_of(name)?;
    if !namespaces::has(spec, needed) {
        return Err(of_the_host(needed));
    }
    Ok(())
}

fn of_the_host(needed: Type) -> Error {
    anyhow!("is not allowed without a {needed} namespace of the container's own: it is the host's")
}

fn namespace_of(name: &str) -> Result<Type> {
    Ok(if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        Type::Ipc
    } else if name.starts_with("net.") {
        Type::Network
    } else if name == "kernel.domainname" {
        Type::Uts
    } else if name == "kernel.hostname" {
        bail!("is set by hostname");
    } else if name.starts_with("user.") {
        Type::User
    } else {
        bail!("is not in a separate kernel namespace");
    })
}

/// Sets the parameters, by a procfs that the container cannot have touched.
pub fn apply(spec: &Spec) -> Result<()> {
    let mut configured = configured(spec).peekable();
    if configured.peek().is_none() {
        return Ok(());
    }
    let proc = Procfs::new().context("linux.sysctl: open procfs")?;
    for (name, value) in configured {
        let path = Path::new("sys").join(path_of(name));
        let write = || -> Result<()> { Ok(proc.write_to(&path)?.write_all(value.as_bytes())?) };
        write().with_context(|| format!("linux.sysctl {name:?}: write {value:?} to /proc/{}", path.display()))?;
    }
    Ok(())
}

/// The file of a parameter (sysctl(8)): where the first separator is a slash, dots are part of names.
fn path_of(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('/') => name.to_owned(),
        _ => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    }
}

fn configured(spec: &Spec) -> impl Iterator<Item = (&String, &String)> {
    spec.linux().iter().flat_map(|linux| linux.sysctl()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_separator_names_the_same_file() {
        assert_eq!(path_of("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path_of("net/ipv4/conf/eth0.5/forwarding"), "net/ipv4/conf/eth0.5/forwarding");
        assert_eq!(path_of("net.ipv4.conf.eth0/5.forwarding"), "net/ipv4/conf/eth0.5/forwarding");
    }
}
