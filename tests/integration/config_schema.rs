//! What the specification's JSON schema refuses is refused, with the path of what is wrong, before anything is made.

use serde_json::{Value, json};

use crate::container::Container;
use crate::log::text_message;
use crate::runtime::only_tare;

/// Puts a value at a path like the one that the error has to name: `linux.devices[0].type`.
fn put(config: &mut Value, path: &str, value: Value) {
    let mut place = config;
    for name in path.split('.').flat_map(|name| name.split('[')) {
        place = match name.strip_suffix(']').map(str::parse::<usize>) {
            Some(index) => {
                let list = match place {
                    Value::Array(list) => list,
                    other => {
                        *other = json!([]);
                        other.as_array_mut().expect("a list")
                    }
                };
                let index = index.expect("an index");
                while list.len() <= index {
                    list.push(json!({}));
                }
                &mut list[index]
            }
            None => &mut place[name],
        };
    }
    *place = value;
}

/// Each change is made alone to a whole configuration; the message has to name the path: for what is missing, that of the
/// object where it should be.
#[track_caller]
fn refused(changes: &[(&str, Value)], whole: &[(&str, Value)]) {
    only_tare!("other runtimes look at few of these, and name no path");
    let mut wrong = Vec::new();
    for (path, value) in changes {
        let mut c = Container::new();
        for (path, value) in whole {
            put(&mut c.config, path, value.clone());
        }
        put(&mut c.config, path, value.clone());
        let outcome = c.create();
        if outcome.exit_code() != 1 {
            c.delete_force();
            wrong.push(format!("{path} = {value}: exit code {}", outcome.exit_code()));
            continue;
        }
        let message = text_message(&outcome.stderr, &outcome);
        // What is wrong may be an element of the list that was put there.
        if ![": ", " ", "[0]: "].iter().any(|end| message.contains(&format!("{path}{end}"))) {
            wrong.push(format!("{path} = {value}: {message}"));
        }
        c.assert_nothing_left();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_top_level() {
    refused(
        &[
            ("ociVersion", json!(1)),
            ("hostname", json!(["x"])),
            ("domainname", json!(7)),
            ("annotations", json!(["a"])),
            ("annotations.a", json!(7)),
            ("root", json!(["rootfs"])),
            ("root.path", json!(7)),
            ("root.readonly", json!("yes")),
            ("mounts", json!({})),
            ("hooks", json!("x")),
            ("linux", json!([])),
        ],
        &[],
    );
}

#[test]
fn mounts() {
    let at = |name: &str| format!("mounts[0].{name}");
    let changes: Vec<(String, Value)> = vec![
        (at("destination"), json!(7)),
        (at("type"), json!(7)),
        (at("source"), json!({})),
        (at("options"), json!("ro")),
        (at("options[0]"), json!(7)),
        (at("uidMappings"), json!({})),
        (at("uidMappings[0]"), json!({ "hostID": 0, "size": 1 })),
        (at("uidMappings[0]"), json!({ "containerID": 0, "size": 1 })),
        (at("gidMappings[0]"), json!({ "containerID": 0, "hostID": 0 })),
        (at("gidMappings[0].size"), json!(-1)),
        ("mounts[1]".into(), json!({ "type": "tmpfs" })),
        ("mounts[1]".into(), json!(["/x", "tmpfs"])),
    ];
    let changes: Vec<_> = changes.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
    refused(&changes, &[]);
}

#[test]
fn hooks() {
    refused(
        &[
            ("hooks.prestart", json!({})),
            ("hooks.createRuntime[0]", json!({ "args": ["x"] })),
            ("hooks.createContainer[0].path", json!(7)),
            ("hooks.startContainer[0]", json!(["/x"])),
        ],
        &[],
    );
    refused(
        &[
            ("hooks.poststop[0].args", json!("x")),
            ("hooks.poststop[0].env", json!({ "A": "b" })),
            ("hooks.poststop[0].timeout", json!("1")),
            ("hooks.poststop[0].timeout", json!(0)),
            ("hooks.poststop[0].timeout", json!(-1)),
        ],
        &[("hooks.poststop[0].path", json!("/x"))],
    );
}

#[test]
fn process() {
    refused(
        &[
            ("process", json!([])),
            ("process.args", json!("x")),
            ("process.args[1]", json!(7)),
            ("process.env[0]", json!(7)),
            ("process.cwd", json!(7)),
            ("process.terminal", json!(1)),
            ("process.consoleSize", json!({ "height": 1 })),
            ("process.consoleSize", json!([1, 1])),
            ("process.consoleSize.height", json!(-1)),
            ("process.user", json!([0, 0])),
            ("process.user.uid", json!(4_294_967_296_u64)),
            ("process.user.gid", json!(-1)),
            ("process.user.umask", json!("022")),
            ("process.user.additionalGids", json!(7)),
            ("process.user.additionalGids[0]", json!(-1)),
            ("process.capabilities", json!(["CAP_KILL"])),
            ("process.capabilities.bounding", json!("CAP_KILL")),
            ("process.capabilities.effective", json!([7])),
            ("process.noNewPrivileges", json!("no")),
            ("process.oomScoreAdj", json!(1.5)),
            ("process.apparmorProfile", json!(7)),
            ("process.selinuxLabel", json!(7)),
            ("process.rlimits", json!({})),
            ("process.rlimits[0]", json!({ "type": "RLIMIT_CORE", "soft": 1 })),
            ("process.rlimits[0]", json!({ "soft": 1, "hard": 1 })),
            ("process.rlimits[0].type", json!("core")),
            ("process.rlimits[0].soft", json!(-1)),
            ("process.rlimits[0].hard", json!("1")),
        ],
        &[],
    );
}

#[test]
fn the_process_scheduled() {
    refused(
        &[
            ("process.scheduler", json!({ "nice": 1 })),
            ("process.scheduler.policy", json!("SCHED_SIDEWAYS")),
            ("process.scheduler.nice", json!(2_147_483_648_u64)),
            ("process.scheduler.priority", json!("1")),
            ("process.scheduler.flags", json!(["SCHED_FLAG_SIDEWAYS"])),
            ("process.scheduler.runtime", json!(-1)),
            ("process.scheduler.deadline", json!("1")),
            ("process.scheduler.period", json!(1.5)),
            ("process.ioPriority.class", json!("IOPRIO_CLASS_SIDEWAYS")),
            ("process.ioPriority.priority", json!("1")),
            ("process.execCPUAffinity", json!("0")),
            ("process.execCPUAffinity", json!({ "initial": "all" })),
            ("process.execCPUAffinity.final", json!(0)),
        ],
        &[
            ("process.scheduler", json!({ "policy": "SCHED_OTHER" })),
            ("process.ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 1 })),
        ],
    );
    refused(&[("process.ioPriority", json!({ "priority": 1 }))], &[]);
}

#[test]
fn linux() {
    refused(
        &[
            ("linux.namespaces", json!({})),
            ("linux.namespaces[0]", json!({ "path": "/proc/self/ns/net" })),
            ("linux.namespaces[0].type", json!("sideways")),
            ("linux.namespaces[0].path", json!(7)),
            ("linux.uidMappings[0]", json!({ "containerID": 0, "hostID": 0 })),
            ("linux.gidMappings[0].hostID", json!(-1)),
            ("linux.timeOffsets.monotonic", json!([1])),
            ("linux.timeOffsets.monotonic.secs", json!("1")),
            ("linux.timeOffsets.boottime.nanosecs", json!(-1)),
            ("linux.netDevices", json!(["eth0"])),
            ("linux.netDevices.eth0", json!(["x"])),
            ("linux.netDevices.eth0.name", json!(7)),
            ("linux.cgroupsPath", json!(7)),
            ("linux.rootfsPropagation", json!("sideways")),
            ("linux.maskedPaths", json!("/x")),
            ("linux.readonlyPaths[0]", json!(7)),
            ("linux.mountLabel", json!(7)),
            ("linux.sysctl", json!([])),
            ("linux.intelRdt", json!([])),
            ("linux.intelRdt.memBwSchema", json!("L3:0=f")),
            ("linux.intelRdt.schemata", json!("MB:0=1")),
            ("linux.intelRdt.enableMonitoring", json!("yes")),
            ("linux.memoryPolicy", json!({ "nodes": "0" })),
            ("linux.memoryPolicy.mode", json!("MPOL_SIDEWAYS")),
            ("linux.personality", json!({})),
            ("linux.personality.domain", json!("LINUX64")),
            ("linux.personality.flags", json!("x")),
        ],
        &[],
    );
    refused(
        &[("linux.memoryPolicy.flags", json!(["MPOL_F_SIDEWAYS"])), ("linux.memoryPolicy.nodes", json!(0))],
        &[("linux.memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "0" }))],
    );
}

#[test]
fn devices() {
    refused(
        &[
            ("linux.devices", json!({})),
            ("linux.devices[0]", json!({ "path": "/dev/x", "major": 1, "minor": 3 })),
            ("linux.devices[0]", json!({ "type": "c", "major": 1, "minor": 3 })),
            ("linux.devices[0]", json!({ "path": "/dev/x", "type": "c", "minor": 3 })),
            ("linux.devices[0].type", json!("x")),
            ("linux.devices[0].path", json!(7)),
            ("linux.devices[0].major", json!("1")),
            ("linux.devices[0].fileMode", json!("0666")),
            ("linux.devices[0].fileMode", json!(512)),
            ("linux.devices[0].uid", json!(-1)),
            ("linux.devices[0].gid", json!(4_294_967_296_u64)),
        ],
        &[("linux.devices[0]", json!({ "path": "/dev/x", "type": "c", "major": 1, "minor": 3 }))],
    );
}

#[test]
fn resources() {
    refused(
        &[
            ("linux.resources", json!([])),
            ("linux.resources.devices", json!({})),
            ("linux.resources.devices[0]", json!({ "access": "rwm" })),
            ("linux.resources.devices[0].allow", json!("yes")),
            ("linux.resources.devices[0].type", json!(7)),
            ("linux.resources.devices[0].major", json!("1")),
            ("linux.resources.devices[0].access", json!(7)),
            ("linux.resources.memory", json!([])),
            ("linux.resources.memory.limit", json!("1G")),
            ("linux.resources.memory.swappiness", json!(-1)),
            ("linux.resources.memory.disableOOMKiller", json!(1)),
            ("linux.resources.memory.checkBeforeUpdate", json!("x")),
            ("linux.resources.cpu", json!([])),
            ("linux.resources.cpu.shares", json!(-1)),
            ("linux.resources.cpu.quota", json!("1")),
            ("linux.resources.cpu.burst", json!(-1)),
            ("linux.resources.cpu.period", json!(1.5)),
            ("linux.resources.cpu.realtimeRuntime", json!("1")),
            ("linux.resources.cpu.cpus", json!(0)),
            ("linux.resources.cpu.idle", json!("1")),
            ("linux.resources.pids", json!({})),
            ("linux.resources.pids.limit", json!("max")),
            ("linux.resources.hugepageLimits[0]", json!({ "pageSize": "2MB" })),
            ("linux.resources.hugepageLimits[0].pageSize", json!("2mb")),
            ("linux.resources.hugepageLimits[0].limit", json!(-1)),
            ("linux.resources.network", json!([])),
            ("linux.resources.network.classID", json!(-1)),
            ("linux.resources.network.priorities[0]", json!({ "name": "lo" })),
            ("linux.resources.rdma.mlx", json!([1, 2])),
            ("linux.resources.rdma.mlx.hcaHandles", json!(-1)),
            ("linux.resources.unified", json!(["x"])),
        ],
        &[
            ("linux.resources.hugepageLimits[0]", json!({ "pageSize": "2MB", "limit": 0 })),
            ("linux.resources.devices[0]", json!({ "allow": false, "access": "rwm" })),
        ],
    );
}

#[test]
fn block_io() {
    let at = |name: &str| format!("linux.resources.blockIO.{name}");
    let mut changes = vec![
        (at("weight"), json!(65_536)),
        (at("leafWeight"), json!(-1)),
        (at("weightDevice[0]"), json!({ "minor": 0, "weight": 10 })),
        (at("weightDevice[0].major"), json!("8")),
        (at("weightDevice[0].weight"), json!(65_536)),
    ];
    for name in ["throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice"]
    {
        changes.push((at(name), json!({})));
        changes.push((at(&format!("{name}[0]")), json!({ "major": 8, "rate": 1 })));
        changes.push((at(&format!("{name}[0].rate")), json!(-1)));
    }
    let device = json!({ "major": 8, "minor": 0, "weight": 10 });
    let throttle = json!([{ "major": 8, "minor": 0, "rate": 1 }]);
    let whole = [
        (at("weightDevice[0]"), device),
        (at("throttleReadBpsDevice"), throttle.clone()),
        (at("throttleWriteBpsDevice"), throttle.clone()),
        (at("throttleReadIOPSDevice"), throttle.clone()),
        (at("throttleWriteIOPSDevice"), throttle),
    ];
    let changes: Vec<_> = changes.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
    let whole: Vec<_> = whole.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
    refused(&changes, &whole);
}

#[test]
fn seccomp() {
    refused(
        &[
            ("linux.seccomp", json!({})),
            ("linux.seccomp.defaultAction", json!("ALLOW")),
            ("linux.seccomp.defaultErrnoRet", json!(-1)),
            ("linux.seccomp.architectures", json!(["X86"])),
            ("linux.seccomp.flags", json!(["SECCOMP_FILTER_FLAG_SIDEWAYS"])),
            ("linux.seccomp.listenerPath", json!(7)),
            ("linux.seccomp.listenerMetadata", json!(7)),
            ("linux.seccomp.syscalls", json!({})),
            ("linux.seccomp.syscalls[0]", json!({ "action": "SCMP_ACT_ERRNO" })),
            ("linux.seccomp.syscalls[0]", json!({ "names": ["mkdir"] })),
            ("linux.seccomp.syscalls[0].names", json!([])),
            ("linux.seccomp.syscalls[0].action", json!("ERRNO")),
            ("linux.seccomp.syscalls[0].errnoRet", json!("EPERM")),
            ("linux.seccomp.syscalls[0].args[0]", json!({ "value": 1, "op": "SCMP_CMP_EQ" })),
            ("linux.seccomp.syscalls[0].args[0].index", json!(-1)),
            ("linux.seccomp.syscalls[0].args[0].op", json!("==")),
            ("linux.seccomp.syscalls[0].args[0].value", json!("1")),
        ],
        &[
            ("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW" })),
            ("linux.seccomp.syscalls[0]", json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" })),
            ("linux.seccomp.syscalls[0].args[0]", json!({ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" })),
        ],
    );
}
