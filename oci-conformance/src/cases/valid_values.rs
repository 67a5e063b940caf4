//! config.md#valid-values: what the JSON schema of the specification refuses is refused.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(process, "config.md#valid-values", "values of process that the schema refuses").known(LENIENT),
    case!(mounts, "config.md#valid-values", "values of root, mounts and hooks that the schema refuses").known(LENIENT),
    case!(linux, "config.md#valid-values", "values of linux that the schema refuses").known(LENIENT),
    case!(resources, "config.md#valid-values", "values of linux.resources that the schema refuses").known(LENIENT),
    case!(seccomp, "config.md#valid-values", "values of linux.seccomp that the schema refuses").known(LENIENT),
];

const LENIENT: &[(&str, &str)] = &[
    ("runc", "it has no schema: what is missing is empty, and newer properties are not read"),
    ("crun", "its parser takes texts for numbers, and does not look at the range or the pattern of a value"),
];

/// Sets each value by its JSON pointer, alone; every bundle has to be refused.
fn refused(bench: &Bench, values: &[(&str, Value)]) -> Result<()> {
    let mut accepted = Vec::new();
    for (pointer, value) in values {
        let mut container = Container::new(bench)?;
        let mut place = &mut container.config;
        for name in pointer.split('/').skip(1) {
            place = &mut place[name];
        }
        *place = value.clone();
        if container.create_or_start_refused().is_err() {
            accepted.push(format!("{pointer} = {value}"));
        }
    }
    match accepted.is_empty() {
        true => Ok(()),
        false => bail!("accepted: {}", accepted.join(", ")),
    }
}

fn process(bench: &Bench) -> Result<()> {
    let rlimit = |name, soft, hard| json!([{ "type": name, "soft": soft, "hard": hard }]);
    refused(
        bench,
        &[
            ("/process/terminal", json!("yes")),
            ("/process/cwd", json!(7)),
            ("/process/args", json!(["/bin/probe", 7])),
            ("/process/env", json!("A=b")),
            ("/process/user/uid", json!("root")),
            ("/process/user/gid", json!(-1)),
            ("/process/user/umask", json!("022")),
            ("/process/user/additionalGids", json!([4_294_967_296_u64])),
            ("/process/capabilities/bounding", json!("CAP_KILL")),
            ("/process/noNewPrivileges", json!(1)),
            ("/process/oomScoreAdj", json!("5")),
            ("/process/rlimits", rlimit("nofile", json!(1), json!(1))),
            ("/process/rlimits", rlimit("RLIMIT_NOFILE", json!(-1), json!(1))),
            ("/process/rlimits", rlimit("RLIMIT_NOFILE", json!("1"), json!(1))),
            ("/process/scheduler", json!({ "nice": 1 })),
            ("/process/scheduler", json!({ "policy": "SCHED_OTHER", "nice": 2_147_483_648_u64 })),
            ("/process/ioPriority", json!({ "priority": 1 })),
            ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": "1" })),
            ("/process/execCPUAffinity", json!({ "initial": "all" })),
        ],
    )
}

fn mounts(bench: &Bench) -> Result<()> {
    let mount = |name: &str, value: Value| {
        let mut mount = json!({ "destination": "/m", "type": "tmpfs", "source": "m" });
        mount[name] = value;
        json!([mount])
    };
    let hook = |name: &str, value: Value| {
        let mut hook = json!({ "path": "/bin/true" });
        hook[name] = value;
        json!([hook])
    };
    refused(
        bench,
        &[
            ("/root/path", json!(7)),
            ("/root/readonly", json!("no")),
            ("/hostname", json!(7)),
            ("/domainname", json!(7)),
            ("/mounts", json!({})),
            ("/mounts", mount("destination", json!(7))),
            ("/mounts", mount("type", json!(7))),
            ("/mounts", mount("options", json!("ro"))),
            ("/mounts", mount("uidMappings", json!([{ "containerID": 0, "hostID": 0 }]))),
            ("/hooks/createRuntime", json!({ "path": "/bin/true" })),
            ("/hooks/createRuntime", json!([{ "args": ["x"] }])),
            ("/hooks/prestart", hook("args", json!("x"))),
            ("/hooks/createContainer", hook("env", json!({ "A": "b" }))),
            ("/hooks/poststop", hook("timeout", json!(0))),
            ("/hooks/poststart", hook("timeout", json!(-1))),
            ("/annotations", json!({ "a": 7 })),
            ("/annotations", json!(["a"])),
        ],
    )
}

fn linux(bench: &Bench) -> Result<()> {
    let device = |name: &str, value: Value| {
        let mut device = json!({ "path": "/dev/x", "type": "c", "major": 1, "minor": 3 });
        device[name] = value;
        json!([device])
    };
    refused(
        bench,
        &[
            ("/linux/namespaces", json!([{ "path": "/proc/self/ns/net" }])),
            ("/linux/namespaces", json!([{ "type": "sideways" }])),
            ("/linux/uidMappings", json!([{ "containerID": 0, "hostID": -1, "size": 1 }])),
            ("/linux/timeOffsets", json!({ "monotonic": { "nanosecs": -1 } })),
            ("/linux/devices", device("type", json!("x"))),
            ("/linux/devices", device("major", json!("1"))),
            ("/linux/devices", device("fileMode", json!("0666"))),
            ("/linux/devices", device("uid", json!(-1))),
            ("/linux/devices", json!([{ "type": "c", "major": 1, "minor": 3 }])),
            ("/linux/netDevices", json!({ "eth9": { "name": 7 } })),
            ("/linux/cgroupsPath", json!(7)),
            ("/linux/rootfsPropagation", json!("sideways")),
            ("/linux/maskedPaths", json!("/proc/kcore")),
            ("/linux/readonlyPaths", json!([7])),
            ("/linux/sysctl", json!({ "kernel.shmmni": 7 })),
            ("/linux/mountLabel", json!(7)),
            ("/linux/intelRdt", json!({ "memBwSchema": "L3:0=f" })),
            ("/linux/intelRdt", json!({ "enableMonitoring": "yes" })),
            ("/linux/memoryPolicy", json!({ "mode": "MPOL_SIDEWAYS" })),
            ("/linux/memoryPolicy", json!({ "mode": "MPOL_DEFAULT", "flags": ["MPOL_F_SIDEWAYS"] })),
            ("/linux/personality", json!({ "domain": "LINUX64" })),
        ],
    )
}

fn resources(bench: &Bench) -> Result<()> {
    let throttle = |value: Value| json!({ "throttleReadBpsDevice": [value] });
    refused(
        bench,
        &[
            ("/linux/resources", json!([])),
            ("/linux/resources/devices", json!([{ "access": "rwm" }])),
            ("/linux/resources/devices", json!([{ "allow": "no" }])),
            ("/linux/resources/memory", json!({ "limit": "1G" })),
            ("/linux/resources/memory", json!({ "swappiness": -1 })),
            ("/linux/resources/memory", json!({ "disableOOMKiller": 1 })),
            ("/linux/resources/cpu", json!({ "shares": -1 })),
            ("/linux/resources/cpu", json!({ "quota": "1" })),
            ("/linux/resources/cpu", json!({ "cpus": 0 })),
            ("/linux/resources/pids", json!({})),
            ("/linux/resources/pids", json!({ "limit": "max" })),
            ("/linux/resources/blockIO", json!({ "weight": 65_536 })),
            ("/linux/resources/blockIO", json!({ "weightDevice": [{ "major": "8", "minor": 0, "weight": 10 }] })),
            ("/linux/resources/blockIO", throttle(json!({ "minor": 0, "rate": 1 }))),
            ("/linux/resources/blockIO", throttle(json!({ "major": 8, "minor": 0, "rate": -1 }))),
            ("/linux/resources/hugepageLimits", json!([{ "pageSize": "2mb", "limit": 0 }])),
            ("/linux/resources/hugepageLimits", json!([{ "pageSize": "2MB" }])),
            ("/linux/resources/network", json!({ "classID": -1 })),
            ("/linux/resources/network", json!({ "priorities": [{ "name": "lo" }] })),
            ("/linux/resources/rdma", json!({ "mlx": { "hcaHandles": -1 } })),
            ("/linux/resources/unified", json!({ "pids.max": 7 })),
        ],
    )
}

fn seccomp(bench: &Bench) -> Result<()> {
    let rule = |name: &str, value: Value| {
        let mut rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" });
        rule[name] = value;
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
    };
    let arg = |value: Value| rule("args", json!([value]));
    let profile = |name: &str, value: Value| {
        let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        profile[name] = value;
        profile
    };
    let at = "/linux/seccomp";
    refused(
        bench,
        &[
            (at, json!({})),
            (at, profile("defaultAction", json!("ALLOW"))),
            (at, profile("defaultErrnoRet", json!(-1))),
            (at, profile("architectures", json!(["X86"]))),
            (at, profile("flags", json!(["SECCOMP_FILTER_FLAG_NEW_LISTENER"]))),
            (at, profile("listenerPath", json!(7))),
            (at, rule("names", json!([]))),
            (at, rule("names", json!("mkdir"))),
            (at, rule("action", json!(7))),
            (at, rule("errnoRet", json!("EPERM"))),
            (at, arg(json!({ "value": 1, "op": "SCMP_CMP_EQ" }))),
            (at, arg(json!({ "index": 0, "op": "SCMP_CMP_EQ" }))),
            (at, arg(json!({ "index": 0, "value": 1 }))),
            (at, arg(json!({ "index": -1, "value": 1, "op": "SCMP_CMP_EQ" }))),
            (at, arg(json!({ "index": 0, "value": 1, "op": "==" }))),
        ],
    )
}
