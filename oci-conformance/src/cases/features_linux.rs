//! features-linux.md, and the annotations of features.md: what is named is recognized.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::features::{features, texts};
use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(only_known_properties, "features.md#specification-version", "no property is beyond the specification's"),
    case!(hooks_are_run, "features.md#hooks", "each hook named is called"),
    case!(namespaces, "features-linux.md#namespaces", "each namespace named is recognized"),
    case!(capabilities, "features-linux.md#capabilities", "each capability named is recognized"),
    case!(
        cgroup,
        "features-linux.md#cgroup",
        "v1, v2, systemd, systemdUser and rdma are booleans, one of v1 and v2 true"
    ),
    case!(seccomp_actions, "features-linux.md#seccomp", "each action named is recognized"),
    case!(seccomp_operators, "features-linux.md#seccomp", "each operator named is recognized"),
    case!(seccomp_archs, "features-linux.md#seccomp", "each architecture named is recognized"),
    case!(seccomp_known_flags, "features-linux.md#seccomp", "the flags known are ones of the specification"),
    case!(seccomp_supported_flags, "features-linux.md#seccomp", "each flag supported is known, and accepted"),
    case!(apparmor, "features-linux.md#apparmor", "enabled is a boolean"),
    case!(selinux, "features-linux.md#selinux", "enabled is a boolean"),
    case!(intel_rdt, "features-linux.md#intel-rdt", "enabled, schemata and monitoring are booleans"),
    case!(memory_policy, "features-linux.md#memorypolicy", "each mode and flag named is recognized"),
    case!(idmap, "features-linux.md#mountextensions", "idmap.enabled is true exactly when mappings are used"),
    case!(net_devices, "features-linux.md#netdevices", "enabled is a boolean"),
    case!(annotations, "features.md#annotations", "annotations are texts with keys"),
    case!(unsafe_annotations, "features.md#unsafe-annotations-in-configjson", "unsafe annotations are a list of texts"),
];

fn linux(bench: &Bench, property: &str) -> Result<Value> {
    let found = features(&Container::new(bench)?)?["linux"][property].clone();
    if found.is_null() {
        skip!("no linux.{property} in the features document");
    }
    Ok(found)
}

fn booleans(found: &Value, names: &[&str]) -> Result<()> {
    for name in names {
        ensure!(found[name].is_null() || found[name].is_boolean(), "{name} is {}", found[name]);
    }
    Ok(())
}

/// The names of properties; a trailing `*` stands for whatever is below.
const PROPERTIES: &[&str] = &[
    "/ociVersionMin",
    "/ociVersionMax",
    "/hooks",
    "/mountOptions",
    "/annotations/*",
    "/potentiallyUnsafeConfigAnnotations",
    "/linux/namespaces",
    "/linux/capabilities",
    "/linux/cgroup/v1",
    "/linux/cgroup/v2",
    "/linux/cgroup/systemd",
    "/linux/cgroup/systemdUser",
    "/linux/cgroup/rdma",
    "/linux/seccomp/enabled",
    "/linux/seccomp/actions",
    "/linux/seccomp/operators",
    "/linux/seccomp/archs",
    "/linux/seccomp/knownFlags",
    "/linux/seccomp/supportedFlags",
    "/linux/apparmor/enabled",
    "/linux/selinux/enabled",
    "/linux/intelRdt/enabled",
    "/linux/intelRdt/schemata",
    "/linux/intelRdt/monitoring",
    "/linux/memoryPolicy/modes",
    "/linux/memoryPolicy/flags",
    "/linux/mountExtensions/idmap/enabled",
    "/linux/netDevices/enabled",
];

fn leaves(at: &str, value: &Value, found: &mut Vec<String>) {
    match value.as_object() {
        Some(object) => object.iter().for_each(|(name, value)| leaves(&format!("{at}/{name}"), value, found)),
        None => found.push(at.to_owned()),
    }
}

fn only_known_properties(bench: &Bench) -> Result<()> {
    let mut found = Vec::new();
    leaves("", &features(&Container::new(bench)?)?, &mut found);
    let known = |leaf: &String| {
        PROPERTIES.iter().any(|known| match known.strip_suffix('*') {
            Some(prefix) => leaf.starts_with(prefix),
            None => leaf == known,
        })
    };
    found.retain(|leaf| !known(leaf));
    ensure!(found.is_empty(), "unknown properties: {found:?}");
    Ok(())
}

fn hooks_are_run(bench: &Bench) -> Result<()> {
    use super::hooks::{hook, inner_hook, labels};
    let mut container = Container::new(bench)?;
    let features = features(&container)?;
    let named = texts(&features["hooks"]);
    container.mount_out();
    for name in &named {
        let call = if *name == "startContainer" { inner_hook(name, &[]) } else { hook(&container, name, &[]) };
        container.config["hooks"][name] = json!([call]);
    }
    container.run()?;
    container.wait_for_status("stopped")?;
    container.ok(&["delete", &container.id])?;
    let called = labels(&container)?;
    let missing: Vec<_> = named.iter().filter(|name| !called.iter().any(|called| called == **name)).collect();
    ensure!(missing.is_empty(), "not called: {missing:?}");
    Ok(())
}

fn namespaces(bench: &Bench) -> Result<()> {
    for kind in texts(&linux(bench, "namespaces")?) {
        let mut container = Container::new(bench)?;
        container.namespace(json!({ "type": kind }));
        if kind == "user" {
            let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
            container.config["linux"]["uidMappings"] = mapping.clone();
            container.config["linux"]["gidMappings"] = mapping;
        }
        container.run().context(kind.to_owned())?;
    }
    Ok(())
}

fn capabilities(bench: &Bench) -> Result<()> {
    let named = linux(bench, "capabilities")?;
    ensure!(texts(&named).iter().all(|name| name.starts_with("CAP_")), "not all are capabilities: {named}");
    let mut container = Container::new(bench)?;
    container.config["process"]["capabilities"] = json!({ "bounding": named });
    container.run().map(drop)
}

fn cgroup(bench: &Bench) -> Result<()> {
    let found = linux(bench, "cgroup")?;
    booleans(&found, &["v1", "v2", "systemd", "systemdUser", "rdma"])?;
    ensure!(found["v1"] == true || found["v2"] == true, "neither v1 nor v2: {found}");
    Ok(())
}

/// A profile made of each name that the document has has to be accepted. The names may be too many for one profile.
fn accepted(bench: &Bench, names: &str, profile: impl Fn(&str) -> Value) -> Result<()> {
    let seccomp = linux(bench, "seccomp")?;
    for name in texts(&seccomp[names]) {
        let mut container = Container::new(bench)?;
        let mut profile = profile(name);
        let text = profile.to_string();
        // Whoever listens has to be there.
        let socket = container.dir.join("listener");
        let _listener = std::os::unix::net::UnixListener::bind(&socket)?;
        if text.contains("SCMP_ACT_NOTIFY") {
            profile["listenerPath"] = json!(socket);
        }
        container.config["linux"]["seccomp"] = profile;
        container.run().context(name.to_owned())?;
    }
    Ok(())
}

fn with_rule(rule: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
}

fn seccomp_actions(bench: &Bench) -> Result<()> {
    accepted(bench, "actions", |name| with_rule(json!({ "names": ["swapon"], "action": name })))
}

fn seccomp_operators(bench: &Bench) -> Result<()> {
    accepted(bench, "operators", |name| {
        let arg = json!({ "index": 0, "value": 1, "op": name });
        with_rule(json!({ "names": ["swapon"], "action": "SCMP_ACT_ERRNO", "args": [arg] }))
    })
}

fn seccomp_archs(bench: &Bench) -> Result<()> {
    let native = if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" };
    accepted(bench, "archs", |name| {
        let mut profile = with_rule(json!({ "names": ["swapon"], "action": "SCMP_ACT_ERRNO" }));
        // libseccomp mixes no architectures of different byte order.
        let big =
            ["S390", "S390X", "PPC", "PPC64", "PARISC", "PARISC64", "MIPS", "MIPS64", "MIPS64N32", "M68K", "SHEB"];
        let named = name.trim_start_matches("SCMP_ARCH_");
        profile["architectures"] = if big.contains(&named) { json!([]) } else { json!([native, name]) };
        profile
    })
}

fn seccomp_known_flags(bench: &Bench) -> Result<()> {
    let known = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"];
    for flag in texts(&linux(bench, "seccomp")?["knownFlags"]) {
        let name = flag.strip_prefix("SECCOMP_FILTER_FLAG_").unwrap_or_default();
        ensure!(known.contains(&name), "{flag} is unknown");
    }
    Ok(())
}

fn seccomp_supported_flags(bench: &Bench) -> Result<()> {
    let seccomp = linux(bench, "seccomp")?;
    let known = texts(&seccomp["knownFlags"]);
    for flag in texts(&seccomp["supportedFlags"]) {
        ensure!(known.contains(&flag), "{flag} is supported and not known");
    }
    accepted(bench, "supportedFlags", |name| {
        let action = if name.ends_with("WAIT_KILLABLE_RECV") { "SCMP_ACT_NOTIFY" } else { "SCMP_ACT_ERRNO" };
        let mut profile = with_rule(json!({ "names": ["swapon"], "action": action }));
        profile["flags"] = json!([name]);
        profile
    })
}

fn apparmor(bench: &Bench) -> Result<()> {
    booleans(&linux(bench, "apparmor")?, &["enabled"])
}

fn selinux(bench: &Bench) -> Result<()> {
    booleans(&linux(bench, "selinux")?, &["enabled"])
}

fn intel_rdt(bench: &Bench) -> Result<()> {
    booleans(&linux(bench, "intelRdt")?, &["enabled", "schemata", "monitoring"])
}

fn memory_policy(bench: &Bench) -> Result<()> {
    let policy = linux(bench, "memoryPolicy")?;
    let container = |value: Value| -> Result<Container> {
        let mut container = Container::new(bench)?;
        container.config["ociVersion"] = json!("1.3.0");
        container.config["linux"]["memoryPolicy"] = value;
        Ok(container)
    };
    for mode in texts(&policy["modes"]) {
        let nodeless = ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&mode);
        let value = if nodeless { json!({ "mode": mode }) } else { json!({ "mode": mode, "nodes": "0" }) };
        container(value)?.run().context(mode.to_owned())?;
    }
    for flag in texts(&policy["flags"]) {
        container(json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": [flag] }))?.run().context(flag.to_owned())?;
    }
    Ok(())
}

fn idmap(bench: &Bench) -> Result<()> {
    let enabled = linux(bench, "mountExtensions")?["idmap"]["enabled"].clone();
    let mut container = Container::new(bench)?;
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    let source = container.dir.join("out");
    container.mount(json!({
        "destination": "/m", "source": source, "options": ["bind", "idmap"],
        "uidMappings": mapping, "gidMappings": mapping,
    }));
    let used = container
        .report(&["stat:/m"])
        .is_ok_and(|report| report.worked("stat:/m").is_ok_and(|found| found["uid"] == 100_000));
    match (enabled.as_bool(), used) {
        (Some(true), true) | (Some(false) | None, false) => Ok(()),
        (enabled, used) => bail!("enabled is {enabled:?}, and mappings are {}used", if used { "" } else { "not " }),
    }
}

fn net_devices(bench: &Bench) -> Result<()> {
    booleans(&linux(bench, "netDevices")?, &["enabled"])
}

fn annotations(bench: &Bench) -> Result<()> {
    let features = features(&Container::new(bench)?)?;
    let annotations = &features["annotations"];
    if annotations.is_null() {
        skip!("no annotations in the features document");
    }
    let object = annotations.as_object().with_context(|| format!("annotations are {annotations}"))?;
    ensure!(object.iter().all(|(key, value)| !key.is_empty() && value.is_string()), "annotations are {annotations}");
    Ok(())
}

fn unsafe_annotations(bench: &Bench) -> Result<()> {
    let features = features(&Container::new(bench)?)?;
    let found = &features["potentiallyUnsafeConfigAnnotations"];
    if found.is_null() {
        skip!("no potentiallyUnsafeConfigAnnotations in the features document");
    }
    let list = found.as_array().with_context(|| format!("they are {found}"))?;
    ensure!(list.iter().all(|text| text.as_str().is_some_and(|text| !text.is_empty())), "they are {found}");
    Ok(())
}
