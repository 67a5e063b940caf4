//! `spec`: the config.json that a new bundle starts from.
//!
//! Byte for byte what `runc spec` writes on cgroup v2: scripts edit it by pattern. So it is a text in pieces; a type's
//! serialiser would choose the order of fields itself. Unlike runc's it names a cgroup namespace on v1 too, where the
//! container would otherwise see the host's paths.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use nix::unistd::{Gid, Uid};
use oci_spec::runtime::Spec;

use crate::error::{Context, Result, bail};

/// Writes config.json into the bundle, for a container of the calling user if `rootless`.
///
/// # Errors
/// There is a config.json already, or it cannot be written.
pub fn write(bundle: &Path, rootless: bool) -> Result<()> {
    let path = bundle.join("config.json");
    let text = match rootless {
        true => rootless_text(Uid::effective().as_raw(), Gid::effective().as_raw()),
        false => default_text(),
    };
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display())),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("File config.json exists. Remove it first"),
        Err(error) => Err(error).with_context(|| format!("open {}", path.display())),
    }
}

/// The configuration of a container that root starts on this host.
///
/// # Errors
/// None that a test of this file would not have found.
pub fn default_spec() -> Result<Spec> {
    serde_json::from_str(&default_text()).context("the default config.json")
}

/// The configuration of a container that the user `uid`, `gid` starts: root in a user namespace with this one
/// mapping, the host's network and /sys, no cgroup limits.
///
/// # Errors
/// None that a test of this file would not have found.
pub fn rootless_spec(uid: u32, gid: u32) -> Result<Spec> {
    serde_json::from_str(&rootless_text(uid, gid)).context("the rootless config.json")
}

fn default_text() -> String {
    [
        PROCESS_AND_MOUNTS,
        DEVPTS_GID,
        MORE_MOUNTS,
        SYSFS,
        CGROUP_MOUNT,
        RESOURCES,
        NAMESPACES,
        NETWORK_NAMESPACE,
        MORE_NAMESPACES,
        CGROUP_NAMESPACE,
        PATHS,
    ]
    .concat()
}

fn rootless_text(uid: u32, gid: u32) -> String {
    let uids = mapping("uidMappings", uid);
    let gids = mapping("gidMappings", gid);
    [
        PROCESS_AND_MOUNTS, // and no gid= behind: the group is not mapped
        MORE_MOUNTS,
        SYS_OF_THE_HOST,
        CGROUP_MOUNT,
        &uids,
        &gids,
        NAMESPACES,
        MORE_NAMESPACES,
        CGROUP_NAMESPACE,
        USER_NAMESPACE,
        PATHS,
    ]
    .concat()
}

fn mapping(property: &str, id: u32) -> String {
    format!(
        r#"		"{property}": [
			{{
				"containerID": 0,
				"hostID": {id},
				"size": 1
			}}
		],
"#
    )
}

const PROCESS_AND_MOUNTS: &str = r#"{
	"ociVersion": "1.3.0",
	"process": {
		"terminal": true,
		"user": {
			"uid": 0,
			"gid": 0
		},
		"args": [
			"sh"
		],
		"env": [
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"TERM=xterm"
		],
		"cwd": "/",
		"capabilities": {
			"bounding": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"effective": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"permitted": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			]
		},
		"rlimits": [
			{
				"type": "RLIMIT_NOFILE",
				"hard": 1024,
				"soft": 1024
			}
		],
		"noNewPrivileges": true
	},
	"root": {
		"path": "rootfs",
		"readonly": true
	},
	"hostname": "runc",
	"mounts": [
		{
			"destination": "/proc",
			"type": "proc",
			"source": "proc"
		},
		{
			"destination": "/dev",
			"type": "tmpfs",
			"source": "tmpfs",
			"options": [
				"nosuid",
				"strictatime",
				"mode=755",
				"size=65536k"
			]
		},
		{
			"destination": "/dev/pts",
			"type": "devpts",
			"source": "devpts",
			"options": [
				"nosuid",
				"noexec",
				"newinstance",
				"ptmxmode=0666",
				"mode=0620""#;

const DEVPTS_GID: &str = r#",
				"gid=5""#;

const MORE_MOUNTS: &str = r#"
			]
		},
		{
			"destination": "/dev/shm",
			"type": "tmpfs",
			"source": "shm",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"mode=1777",
				"size=65536k"
			]
		},
		{
			"destination": "/dev/mqueue",
			"type": "mqueue",
			"source": "mqueue",
			"options": [
				"nosuid",
				"noexec",
				"nodev"
			]
		},
		{
			"destination": "/sys",
"#;

const SYSFS: &str = r#"			"type": "sysfs",
			"source": "sysfs",
			"options": [
"#;

const SYS_OF_THE_HOST: &str = r#"			"type": "none",
			"source": "/sys",
			"options": [
				"rbind",
"#;

const CGROUP_MOUNT: &str = r#"				"nosuid",
				"noexec",
				"nodev",
				"ro"
			]
		},
		{
			"destination": "/sys/fs/cgroup",
			"type": "cgroup",
			"source": "cgroup",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"relatime",
				"ro"
			]
		}
	],
	"linux": {
"#;

const RESOURCES: &str = r#"		"resources": {
			"devices": [
				{
					"allow": false,
					"access": "rwm"
				}
			]
		},
"#;

const NAMESPACES: &str = r#"		"namespaces": [
			{
				"type": "pid"
			},
"#;

const NETWORK_NAMESPACE: &str = r#"			{
				"type": "network"
			},
"#;

const MORE_NAMESPACES: &str = r#"			{
				"type": "ipc"
			},
			{
				"type": "uts"
			},
			{
				"type": "mount"
			}"#;

const CGROUP_NAMESPACE: &str = r#",
			{
				"type": "cgroup"
			}"#;

const USER_NAMESPACE: &str = r#",
			{
				"type": "user"
			}"#;

const PATHS: &str = r#"
		],
		"maskedPaths": [
			"/proc/acpi",
			"/proc/asound",
			"/proc/kcore",
			"/proc/keys",
			"/proc/latency_stats",
			"/proc/timer_list",
			"/proc/timer_stats",
			"/proc/sched_debug",
			"/sys/firmware",
			"/proc/scsi"
		],
		"readonlyPaths": [
			"/proc/bus",
			"/proc/fs",
			"/proc/irq",
			"/proc/sys",
			"/proc/sysrq-trigger"
		]
	}
}"#;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn namespaces(text: &str) -> Vec<String> {
        let value: Value = serde_json::from_str(text).unwrap();
        let all = value["linux"]["namespaces"].as_array().unwrap();
        all.iter().map(|namespace| namespace["type"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_container_gets_a_cgroup_namespace() {
        assert_eq!(namespaces(&default_text()), ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
        assert_eq!(namespaces(&rootless_text(7, 8)), ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
    }

    #[test]
    fn the_text_is_what_a_serialiser_with_tabs_would_write() {
        // A value's keys are sorted: compare the lines as sets, and the structure by parsing.
        for text in [default_text(), rootless_text(1000, 100)] {
            let value: Value = serde_json::from_str(&text).unwrap();
            let mut pretty = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
            let mut serializer = serde_json::Serializer::with_formatter(&mut pretty, formatter);
            serde::Serialize::serialize(&value, &mut serializer).unwrap();
            let pretty = String::from_utf8(pretty).unwrap();
            let lines = |text: &str| {
                let mut lines: Vec<String> = text.lines().map(|line| line.trim_end_matches(',').to_owned()).collect();
                lines.sort();
                lines
            };
            assert_eq!(lines(&text), lines(&pretty));
        }
    }

    #[test]
    fn the_rootless_spec_needs_nothing_that_a_user_does_not_have() {
        let spec = rootless_spec(1000, 100).unwrap();
        let value = serde_json::to_value(&spec).unwrap();
        assert_eq!(value["linux"]["uidMappings"], json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]));
        assert_eq!(value["linux"]["gidMappings"], json!([{ "containerID": 0, "hostID": 100, "size": 1 }]));
        assert!(spec.linux().as_ref().unwrap().resources().is_none());
        let mounts = spec.mounts().as_ref().unwrap();
        let sys = mounts.iter().find(|mount| mount.destination() == Path::new("/sys")).unwrap();
        assert_eq!(sys.options().as_ref().unwrap()[0], "rbind");
        assert!(mounts.iter().flat_map(|mount| mount.options().iter().flatten()).all(|o| !o.starts_with("gid=")));
        assert_eq!(default_spec().unwrap().version(), "1.3.0");
    }

    #[test]
    fn an_existing_config_is_never_overwritten() {
        let bundle = std::env::temp_dir().join(format!("tare-spec-{}", std::process::id()));
        std::fs::create_dir(&bundle).unwrap();
        let first = write(&bundle, false);
        let second = write(&bundle, true);
        let text = std::fs::read_to_string(bundle.join("config.json"));
        std::fs::remove_dir_all(&bundle).unwrap();
        first.unwrap();
        assert_eq!(second.unwrap_err().to_string(), "File config.json exists. Remove it first");
        assert_eq!(text.unwrap(), default_text());
    }
}
