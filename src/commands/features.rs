//! `features`: what this runtime knows, as the spec's Features structure (features.md).
//!
//! It tells what is built, not what the host has; engines read it before there is a container or a privilege.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::error::{Context, Result};
use crate::linux::{memory_policy, seccomp};

/// What is not built for all of Linux by nature: a line each, so that each is easily kept true.
struct Built {
    cgroup_v1: bool,
    cgroup_v2: bool,
    cgroup_systemd: bool,
    cgroup_systemd_user: bool,
    cgroup_rdma: bool,
    apparmor: bool,
    selinux: bool,
    intel_rdt: bool,
    intel_rdt_schemata: bool,
    intel_rdt_monitoring: bool,
    idmap: bool,
    net_devices: bool,
}

const BUILT: Built = Built {
    cgroup_v1: true,
    cgroup_v2: true,
    cgroup_systemd: true,
    cgroup_systemd_user: true,
    cgroup_rdma: true,
    apparmor: true,
    selinux: true,
    intel_rdt: true,
    intel_rdt_schemata: true,
    intel_rdt_monitoring: true,
    idmap: true,
    net_devices: true,
};

const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

/// Annotations of a config.json that an engine should not let its users set: they reach systemd, CRIU or the runtime.
const UNSAFE_ANNOTATIONS: [&str; 3] = ["bundle", "org.systemd.property.", "org.criu.config"];

/// Prints the features.
///
/// # Errors
/// Those of [`document`], and of writing to standard output.
pub fn run() -> Result<()> {
    let text = document(&crate::mounts::options::names())?;
    std::io::stdout().write_all(text.as_bytes()).context("write to standard output")
}

/// The Features structure as indented JSON with a line break at its end. `mount_options` are the options that do not
/// depend on the filesystem.
///
/// # Errors
/// libseccomp does not tell its version.
pub fn document(mount_options: &[&str]) -> Result<String> {
    let libseccomp = seccomp::libseccomp_version()?;
    let mut mount_options = mount_options.to_vec();
    mount_options.sort_unstable();
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": HOOKS,
        "mountOptions": mount_options,
        "linux": linux(),
        "annotations": BTreeMap::from([("io.github.seccomp.libseccomp.version", libseccomp)]),
        "potentiallyUnsafeConfigAnnotations": UNSAFE_ANNOTATIONS,
    });
    let mut text = serde_json::to_string_pretty(&document).context("encode the features")?;
    text.push('\n');
    Ok(text)
}

fn linux() -> Value {
    json!({
        "namespaces": NAMESPACES,
        "capabilities": capabilities(),
        "cgroup": {
            "v1": BUILT.cgroup_v1,
            "v2": BUILT.cgroup_v2,
            "systemd": BUILT.cgroup_systemd,
            "systemdUser": BUILT.cgroup_systemd_user,
            "rdma": BUILT.cgroup_rdma,
        },
        "seccomp": {
            "enabled": true,
            "actions": seccomp::ACTIONS,
            "operators": seccomp::OPERATORS,
            "archs": seccomp::archs(),
            "knownFlags": seccomp::FLAGS,
            "supportedFlags": seccomp::supported_flags(),
        },
        "apparmor": { "enabled": BUILT.apparmor },
        "selinux": { "enabled": BUILT.selinux },
        "intelRdt": {
            "enabled": BUILT.intel_rdt,
            "schemata": BUILT.intel_rdt_schemata,
            "monitoring": BUILT.intel_rdt_monitoring,
        },
        "memoryPolicy": { "modes": memory_policy::MODES, "flags": memory_policy::FLAGS },
        "mountExtensions": { "idmap": { "enabled": BUILT.idmap } },
        "netDevices": { "enabled": BUILT.net_devices },
    })
}

/// In the kernel's order, by number.
fn capabilities() -> Vec<String> {
    let mut all: Vec<caps::Capability> = caps::all().into_iter().collect();
    all.sort_unstable_by_key(|capability| *capability as u8);
    all.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Features;

    use super::*;

    #[test]
    fn the_document_is_what_the_specs_types_read() {
        let text = document(&["rro", "bind"]).unwrap();
        let features: Features = serde_json::from_str(&text).unwrap();
        assert_eq!(features.oci_version_max(), "1.3.0");
        assert_eq!(features.mount_options().as_deref().unwrap(), ["bind", "rro"]);
        let linux = features.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), NAMESPACES.len());
        let capabilities = linux.capabilities().as_ref().unwrap();
        assert_eq!(capabilities.first().unwrap(), "CAP_CHOWN");
        assert_eq!(capabilities.last().unwrap(), "CAP_CHECKPOINT_RESTORE");
        let seccomp = linux.seccomp().as_ref().unwrap();
        assert_eq!(seccomp.actions().as_ref().unwrap().len(), 9);
        assert!(seccomp.archs().as_ref().unwrap().len() >= 19);
        assert!(linux.mount_extensions().as_ref().unwrap().idmap().as_ref().unwrap().enabled().is_some());
    }

    /// The schema's properties, each with a value that it has to have or to hold.
    #[test]
    fn every_property_of_the_schema_is_there() {
        let found: Value = serde_json::from_str(&document(&["rro", "idmap"]).unwrap()).unwrap();
        for (pointer, value) in [
            ("/ociVersionMin", json!("1.0.0")),
            ("/ociVersionMax", json!("1.3.0")),
            ("/linux/cgroup/v1", json!(true)),
            ("/linux/cgroup/v2", json!(true)),
            ("/linux/cgroup/systemd", json!(true)),
            ("/linux/cgroup/systemdUser", json!(true)),
            ("/linux/cgroup/rdma", json!(true)),
            ("/linux/seccomp/enabled", json!(true)),
            ("/linux/apparmor/enabled", json!(true)),
            ("/linux/selinux/enabled", json!(true)),
            ("/linux/intelRdt/enabled", json!(true)),
            ("/linux/intelRdt/schemata", json!(true)),
            ("/linux/intelRdt/monitoring", json!(true)),
            ("/linux/mountExtensions/idmap/enabled", json!(true)),
            ("/linux/netDevices/enabled", json!(true)),
        ] {
            assert_eq!(found.pointer(pointer), Some(&value), "{pointer}");
        }
        for (pointer, item, count) in [
            ("/hooks", "startContainer", 6),
            ("/mountOptions", "rro", 2),
            ("/potentiallyUnsafeConfigAnnotations", "org.systemd.property.", 3),
            ("/linux/namespaces", "time", 8),
            ("/linux/capabilities", "CAP_PERFMON", 41),
            ("/linux/seccomp/actions", "SCMP_ACT_NOTIFY", 9),
            ("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ", 7),
            ("/linux/seccomp/knownFlags", "SECCOMP_FILTER_FLAG_TSYNC", 4),
            ("/linux/memoryPolicy/modes", "MPOL_WEIGHTED_INTERLEAVE", 7),
            ("/linux/memoryPolicy/flags", "MPOL_F_NUMA_BALANCING", 3),
        ] {
            let list = found.pointer(pointer).and_then(Value::as_array).unwrap();
            assert!(list.iter().any(|found| found == item) && list.len() == count, "{pointer}: {list:?}");
        }
        let known = found["linux"]["seccomp"]["knownFlags"].as_array().unwrap();
        let supported = found["linux"]["seccomp"]["supportedFlags"].as_array().unwrap();
        assert!(supported.iter().all(|flag| known.contains(flag)) && !supported.is_empty(), "{supported:?}");
        assert!(found["annotations"]["io.github.seccomp.libseccomp.version"].is_string());
    }

    #[test]
    fn names_are_written_as_the_spec_spells_them() {
        let value: Value = serde_json::from_str(&document(&[]).unwrap()).unwrap();
        let seccomp = &value["linux"]["seccomp"];
        assert_eq!(seccomp["actions"][3], "SCMP_ACT_KILL_PROCESS");
        assert_eq!(seccomp["operators"][5], "SCMP_CMP_MASKED_EQ");
        assert_eq!(seccomp["knownFlags"][3], "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV");
        let archs = seccomp["archs"].as_array().unwrap();
        for name in ["SCMP_ARCH_X86_64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_S390X"] {
            assert!(archs.iter().any(|arch| arch == name), "{name}");
        }
    }
}
