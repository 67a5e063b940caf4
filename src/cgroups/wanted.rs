//! What config.json says of the container's cgroup, but for its limits.

use std::collections::HashMap;
use std::path::Path;

use nix::unistd::geteuid;
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::Kind;
use crate::linux::{namespaces, uid_mappings};
use crate::root::path::clean;

/// The cgroup that a new container is to have.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Who makes it.
    pub kind: Kind,
    /// `linux.cgroupsPath`; an empty one is none.
    pub path: Option<&'a Path>,
    /// The container's id, for a default path.
    pub id: &'a str,
    /// Those of systemd's properties are among them.
    pub annotations: Option<&'a HashMap<String, String>>,
    /// The user of the host that is to own it, if that is not the caller.
    pub owner: Option<u32>,
}

impl<'a> Wanted<'a> {
    /// As the configuration has it.
    pub fn of(spec: &'a Spec, kind: Kind, id: &'a str) -> Self {
        let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
        Self {
            kind,
            path: path.filter(|path| !path.as_os_str().is_empty()),
            id,
            annotations: spec.annotations().as_ref(),
            owner: owner(spec).filter(|owner| *owner != geteuid().as_raw()),
        }
    }

    /// One that only has a place.
    #[cfg(test)]
    pub(super) fn at(kind: Kind, path: Option<&'a Path>, id: &'a str) -> Self {
        Self { kind, path, id, annotations: None, owner: None }
    }
}

/// Who the program's user is on the host, if the container may write to its cgroup: then it is theirs (config-linux.md,
/// "Cgroup ownership").
fn owner(spec: &Spec) -> Option<u32> {
    let may_write = |mount: &Mount| {
        let read_only = mount.options().iter().flatten().any(|option| option == "ro");
        mount.source().as_deref() == Some(Path::new("cgroup"))
            && clean(mount.destination()).as_os_str() == "/sys/fs/cgroup"
            && !read_only
    };
    if !namespaces::is_new(spec, LinuxNamespaceType::Cgroup) || !spec.mounts().iter().flatten().any(may_write) {
        return None;
    }
    let user = spec.process().as_ref()?.user().uid();
    if !namespaces::has(spec, LinuxNamespaceType::User) {
        return Some(user);
    }
    let (mappings, _) = uid_mappings::mappings(spec);
    mappings.iter().find_map(|mapping| {
        let offset = user.checked_sub(mapping.container_id()).filter(|offset| *offset < mapping.size())?;
        mapping.host_id().checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner_of(user: u32, options: &str, namespaces: &str) -> Option<u32> {
        let json = r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":USER,"gid":0}},
            "mounts":[{"destination":"/sys/fs/cgroup/","type":"cgroup","source":"cgroup","options":[OPTIONS]}],
            "linux":{"namespaces":[NAMESPACES],"uidMappings":[{"containerID":0,"hostID":1000,"size":1},
            {"containerID":1,"hostID":5000,"size":10}]}}"#;
        let json = json.replace("USER", &user.to_string()).replace("OPTIONS", options);
        owner(&serde_json::from_str(&json.replace("NAMESPACES", namespaces)).unwrap())
    }

    #[test]
    fn a_cgroup_that_is_mounted_writable_is_the_users() {
        const BOTH: &str = r#"{"type":"cgroup"},{"type":"user"}"#;
        assert_eq!(owner_of(0, "", BOTH), Some(1000));
        assert_eq!(owner_of(3, r#""rw""#, BOTH), Some(5002));
        assert_eq!(owner_of(11, "", BOTH), None, "not mapped");
        assert_eq!(owner_of(7, "", r#"{"type":"cgroup"}"#), Some(7));
        assert_eq!(owner_of(0, r#""ro""#, BOTH), None);
        assert_eq!(owner_of(0, "", r#"{"type":"user"}"#), None);
        assert_eq!(owner_of(0, "", r#"{"type":"user"},{"type":"cgroup","path":"/proc/1/ns/cgroup"}"#), None);
    }
}
