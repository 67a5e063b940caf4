//! kept.json and seccomp.bpf: what `exec` needs of config.json, as it was at `create`.
//!
//! The bundle is the caller's and may change or go: changes after `create` must not affect the
//! container (runtime.md, "Lifecycle", step 2). Both files are complete before the first record is
//! written, so that a container with a record has them. They are never changed afterwards.
//!
//! | file | content |
//! |---|---|
//! | kept.json | `version`; `spec`: what `exec` applies; `filter`: flags, size and checksum |
//! | seccomp.bpf | the compiled filter: `struct sock_filter`s in the machine's byte order |
//!
//! A filter that cannot be read is an error: a program never starts without the filter that its
//! container has.

use std::fs::File;
use std::io::Write as _;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use oci_spec::runtime::{LinuxMemoryPolicy, LinuxPersonality, LinuxSeccompAction, Process, Spec};
use serde::{Deserialize, Serialize};

use super::{Container, read, record};
use crate::error::{Context as _, Result, anyhow, bail, ensure};
use crate::linux::seccomp::Filter;

pub(super) const KEPT: &str = "kept.json";
pub(super) const FILTER: &str = "seccomp.bpf";

/// The version of the format. A change that an older reader would misunderstand raises it.
const VERSION: u32 = 1;

/// The configuration of a container, as `exec` applies it.
#[derive(Debug)]
pub struct Kept {
    /// The configuration: `process`, `linux.personality`, `linux.memoryPolicy`, the cpuset of
    /// `linux.resources` and the listener of `linux.seccomp`. All else is absent.
    pub spec: Box<Spec>,
    /// The compiled `linux.seccomp`.
    pub filter: Option<Filter>,
}

/// Both files, ready to be written.
#[derive(Debug)]
pub struct Encoded {
    json: Vec<u8>,
    filter: Option<Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FilterHeader {
    flags: u32,
    size: usize,
    checksum: u64,
}

#[derive(Debug, Deserialize)]
struct Read {
    version: u32,
    filter: Option<FilterHeader>,
    spec: Box<Spec>,
}

/// Read on its own where the rest has a form that is not known.
#[derive(Debug, Deserialize)]
struct ReadVersion {
    version: u32,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<FilterHeader>,
    spec: WrittenSpec<'a>,
}

/// The reduced configuration in the form of config.json, so that the reader of that reads it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenSpec<'a> {
    oci_version: &'a str,
    process: Option<&'a Process>,
    linux: WrittenLinux<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenLinux<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    personality: Option<&'a LinuxPersonality>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_policy: Option<&'a LinuxMemoryPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<WrittenResources<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seccomp: Option<WrittenSeccomp<'a>>,
}

#[derive(Serialize)]
struct WrittenResources<'a> {
    cpu: WrittenCpu<'a>,
}

#[derive(Serialize)]
struct WrittenCpu<'a> {
    cpus: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenSeccomp<'a> {
    default_action: LinuxSeccompAction,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener_path: Option<&'a std::path::PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener_metadata: Option<&'a String>,
}

/// Encodes what is kept of a checked configuration and its compiled filter.
pub fn encode(spec: &Spec, filter: Option<&Filter>) -> Result<Encoded> {
    let linux = spec.linux().as_ref();
    let seccomp = linux.and_then(|linux| linux.seccomp().as_ref()).map(|profile| WrittenSeccomp {
        default_action: profile.default_action(),
        listener_path: profile.listener_path().as_ref(),
        listener_metadata: profile.listener_metadata().as_ref(),
    });
    let cpu = linux.and_then(|linux| linux.resources().as_ref()?.cpu().as_ref());
    let cpus = cpu.and_then(|cpu| cpu.cpus().as_deref());
    let written = Written {
        version: VERSION,
        filter: filter.map(|filter| FilterHeader {
            flags: filter.flags(),
            size: filter.bpf().len(),
            checksum: checksum(filter.bpf()),
        }),
        spec: WrittenSpec {
            oci_version: record::OCI_VERSION,
            process: spec.process().as_ref(),
            linux: WrittenLinux {
                personality: linux.and_then(|linux| linux.personality().as_ref()),
                memory_policy: linux.and_then(|linux| linux.memory_policy().as_ref()),
                resources: cpus.map(|cpus| WrittenResources { cpu: WrittenCpu { cpus } }),
                seccomp,
            },
        },
    };
    let json = serde_json::to_vec(&written).context(KEPT)?;
    Ok(Encoded { json, filter: filter.map(|filter| filter.bpf().to_vec()) })
}

impl Container {
    /// Writes both files. Before the first record: a reader looks at that first, so it sees them
    /// whole.
    pub fn keep(&self, kept: &Encoded) -> Result<()> {
        self.write_once(KEPT, &kept.json)?;
        kept.filter.as_ref().map_or(Ok(()), |filter| self.write_once(FILTER, filter))
    }

    fn write_once(&self, name: &str, content: &[u8]) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let write = || {
            let mut file = File::from(openat(&self.dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
            file.write_all(content)
        };
        write().with_context(|| format!("write {:?}", self.path.join(name)))
    }

    /// Reads what was kept at `create`.
    ///
    /// # Errors
    /// A container of a version that kept nothing, or of one with another format; damaged files.
    pub fn kept(&self) -> Result<Kept> {
        let Some(json) = self.read_own(KEPT)? else {
            ensure!(self.load()?.is_some(), "container {:?} does not exist", self.id);
            bail!(
                "container {:?}: an earlier version of tare created it and kept no {KEPT}, which exec needs: \
                 delete the container and create it again",
                self.id
            );
        };
        let describe = || format!("container {:?}: {KEPT}", self.id);
        let kept = decode(&json).with_context(describe)?;
        let filter = kept.filter.map(|header| self.filter(&header)).transpose()?;
        let profile = kept.spec.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some());
        ensure!(
            profile == filter.is_some(),
            "{}: is damaged: a seccomp profile and no filter, or the reverse",
            describe()
        );
        Ok(Kept { spec: kept.spec, filter })
    }

    fn filter(&self, header: &FilterHeader) -> Result<Filter> {
        let describe = || format!("container {:?}: {FILTER}", self.id);
        let bpf = self.read_own(FILTER)?.ok_or_else(|| anyhow!("{}: is missing", describe()))?;
        ensure!(
            bpf.len() == header.size && checksum(&bpf) == header.checksum,
            "{}: is damaged: its size or checksum is not that of {KEPT}",
            describe()
        );
        Filter::from_bpf(header.flags, bpf).with_context(describe)
    }

    /// Neither a link nor a pipe: the directory is the owner's alone, but a mistake must not make a
    /// command wait.
    fn read_own(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match openat(&self.dir, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => Ok(None),
            result => result
                .map_err(std::io::Error::from)
                .and_then(|file| read(File::from(file)))
                .map(Some)
                .with_context(|| format!("read {:?}", self.path.join(name))),
        }
    }
}

fn decode(json: &[u8]) -> Result<Read> {
    let error = match serde_json::from_slice::<Read>(json) {
        Ok(kept) if kept.version == VERSION => return Ok(kept),
        Ok(kept) => return Err(unknown(kept.version)),
        Err(error) => error,
    };
    match serde_json::from_slice::<ReadVersion>(json) {
        Ok(ReadVersion { version }) if version != VERSION => Err(unknown(version)),
        _ => Err(error).context("is damaged"),
    }
}

fn unknown(version: u32) -> crate::error::Error {
    anyhow!("unknown format version {version} (this tare reads {VERSION}): use the version that created the container")
}

/// FNV-1a, for damage and not for attackers: they cannot write here.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn spec() -> Spec {
        let json = r#"{
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 1, "gid": 2, "umask": 63, "additionalGids": [3, 4] },
                "args": ["sh"], "env": ["A=1", "B=\u0007"], "cwd": "/w",
                "capabilities": { "bounding": ["CAP_CHECKPOINT_RESTORE", "CAP_BPF"], "ambient": ["CAP_KILL"] },
                "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 18446744073709551615, "soft": 1 }],
                "noNewPrivileges": true, "apparmorProfile": "p", "selinuxLabel": "a:b:c", "oomScoreAdj": -7,
                "ioPriority": { "class": "IOPRIO_CLASS_IDLE", "priority": 0 },
                "scheduler": { "policy": "SCHED_BATCH", "nice": 3, "flags": ["SCHED_RESET_ON_FORK"] },
                "execCPUAffinity": { "initial": "0", "final": "0-1" }
            },
            "hostname": "not kept",
            "linux": {
                "personality": { "domain": "LINUX32" },
                "memoryPolicy": { "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] },
                "resources": { "cpu": { "cpus": "0-1" }, "pids": { "limit": 5 } },
                "seccomp": { "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "s", "listenerMetadata": "m",
                    "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }] }
            }
        }"#;
        serde_json::from_str(json).unwrap()
    }

    fn kept_by(name: &str) -> (Container, std::path::PathBuf) {
        let root = std::env::temp_dir().join(format!("tare-kept-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let (container, _lock) = Container::create(&crate::state::Root::named(root.clone()), "x").unwrap();
        let filter = Filter::from_bpf(8, vec![6, 0, 0, 0, 0, 0, 0xff, 0x7f]).unwrap();
        container.keep(&encode(&spec(), Some(&filter)).unwrap()).unwrap();
        (container, root)
    }

    #[test]
    fn what_is_kept_reads_back_as_it_was() {
        let (container, root) = kept_by("whole");
        let (kept, spec) = (container.kept().unwrap(), spec());
        assert_eq!(kept.spec.process(), spec.process());
        let (found, linux) = (kept.spec.linux().as_ref().unwrap(), spec.linux().as_ref().unwrap());
        assert_eq!(found.personality(), linux.personality());
        assert_eq!(found.memory_policy(), linux.memory_policy());
        let cpus = |spec: &Spec| {
            let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
            resources.cpu().clone().unwrap().cpus().clone()
        };
        assert_eq!(cpus(&kept.spec), cpus(&spec));
        let (profile, whole) = (found.seccomp().as_ref().unwrap(), linux.seccomp().as_ref().unwrap());
        assert_eq!(profile.listener_path(), whole.listener_path());
        assert_eq!(profile.listener_metadata(), whole.listener_metadata());
        let filter = kept.filter.unwrap();
        assert_eq!((filter.flags(), filter.bpf()), (8, [6, 0, 0, 0, 0, 0, 0xff, 0x7f].as_slice()));
        let lock = container.lock().unwrap();
        container.remove(&lock).unwrap();
        assert!(!container.path().exists());
        fs::remove_dir_all(root).unwrap();
    }

    /// Version 1 as it was first written: what reads it today reads it for ever.
    #[test]
    fn the_first_format_is_read() {
        let text = r#"{"version":1,"spec":{"ociVersion":"1.3.0","process":{"user":{"uid":0,"gid":0},"cwd":"/"},
            "linux":{"personality":{"domain":"LINUX"},"memoryPolicy":{"mode":"MPOL_DEFAULT"},
            "resources":{"cpu":{"cpus":"0"}}}}}"#;
        let kept = decode(text.as_bytes()).unwrap();
        assert!(kept.filter.is_none());
        let text = r#"{"version":1,"filter":{"flags":4,"size":8,"checksum":18446744073709551615},
            "spec":{"ociVersion":"1.3.0","linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}}}"#;
        let header = decode(text.as_bytes()).unwrap().filter.unwrap();
        assert_eq!((header.flags, header.size, header.checksum), (4, 8, u64::MAX));
    }

    #[test]
    fn another_format_is_named_and_damage_is_said() {
        for other in [r#"{"version":2,"spec":{"ociVersion":"1.3.0"}}"#, r#"{"version":9,"spec":[]}"#] {
            let error = format!("{:#}", decode(other.as_bytes()).unwrap_err());
            assert!(error.contains("unknown format version"), "{error}");
        }
        for damaged in ["", "{", r#"{"version":1}"#, r#"{"spec":{"ociVersion":"1.3.0"}}"#, "\0\0\0"] {
            let error = format!("{:#}", decode(damaged.as_bytes()).unwrap_err());
            assert!(error.contains("is damaged"), "{error}");
        }
    }

    #[test]
    fn a_filter_that_is_not_whole_is_never_none() {
        type Damage = fn(&std::path::Path);
        let damages: [(&str, Damage); 5] = [
            ("cut", |filter| fs::write(filter, [6, 0, 0, 0]).unwrap()),
            ("empty", |filter| fs::write(filter, "").unwrap()),
            ("flipped", |filter| fs::write(filter, [6, 0, 0, 0, 0, 0, 0xff, 0x7e]).unwrap()),
            ("missing", |filter| fs::remove_file(filter).unwrap()),
            ("unnamed", |filter| {
                let json = filter.with_file_name(KEPT);
                let mut kept: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
                kept.as_object_mut().unwrap().remove("filter");
                fs::write(json, kept.to_string()).unwrap();
            }),
        ];
        for (name, damage) in damages {
            let (container, root) = kept_by(name);
            damage(&container.path().join(FILTER));
            assert!(container.kept().is_err(), "{name}");
            fs::remove_dir_all(root).unwrap();
        }
    }
}
