//! apparmorProfile, selinuxLabel and mountLabel: in force where the kernel has the module, refused where it has not.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(apparmor_profile, "config.md#linux-process", "apparmorProfile is the profile of the program"),
    case!(apparmor_unknown, "config.md#linux-process", "an AppArmor profile that is not loaded is refused"),
    case!(without_apparmor, "config.md#linux-process", "apparmorProfile is refused where the kernel has no AppArmor")
        .known(&[("crun", "it is ignored")]),
    case!(selinux_label, "config.md#linux-process", "selinuxLabel is the label of the program"),
    case!(without_selinux, "config.md#linux-process", "selinuxLabel is refused where the kernel has no SELinux"),
    case!(mount_label, "config-linux.md#mount-label", "mountLabel is the label of mounts"),
    case!(
        mount_without_selinux,
        "config-linux.md#mount-label",
        "mountLabel is refused where the kernel has no SELinux"
    )
    .known(&[("crun", "it is ignored")]),
];

fn apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|enabled| enabled.starts_with('Y'))
}

fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn with<'a>(bench: &'a Bench, part: &str, property: &str, value: &str) -> Result<Container<'a>> {
    let mut container = Container::new(bench)?;
    container.config[part][property] = json!(value);
    Ok(container)
}

fn label(value: &Value) -> &str {
    value.as_str().unwrap_or_default().trim_end_matches(['\0', '\n'])
}

fn apparmor_profile(bench: &Bench) -> Result<()> {
    if !apparmor() {
        skip!("AppArmor is not enabled");
    }
    let report = with(bench, "process", "apparmorProfile", "unconfined")?.report(&["read:/proc/self/attr/current"])?;
    let found = label(report.worked("read:/proc/self/attr/current")?).to_owned();
    ensure!(found.starts_with("unconfined"), "the profile is {found}");
    Ok(())
}

fn apparmor_unknown(bench: &Bench) -> Result<()> {
    if !apparmor() {
        skip!("AppArmor is not enabled");
    }
    with(bench, "process", "apparmorProfile", "no-such-profile")?.create_or_start_refused()
}

fn without_apparmor(bench: &Bench) -> Result<()> {
    if apparmor() {
        skip!("AppArmor is enabled");
    }
    with(bench, "process", "apparmorProfile", "some-profile")?.create_or_start_refused()
}

fn own_label() -> Result<String> {
    if !selinux() {
        skip!("SELinux is not enabled");
    }
    Ok(label(&json!(std::fs::read_to_string("/proc/self/attr/current")?)).to_owned())
}

fn selinux_label(bench: &Bench) -> Result<()> {
    let own = own_label()?;
    let report = with(bench, "process", "selinuxLabel", &own)?.report(&["read:/proc/self/attr/current"])?;
    let found = label(report.worked("read:/proc/self/attr/current")?);
    ensure!(found == own, "the label is {found}");
    Ok(())
}

fn without_selinux(bench: &Bench) -> Result<()> {
    if selinux() {
        skip!("SELinux is enabled");
    }
    with(bench, "process", "selinuxLabel", "system_u:system_r:container_t:s0")?.create_or_start_refused()
}

fn mount_label(bench: &Bench) -> Result<()> {
    own_label()?;
    let wanted = "system_u:object_r:container_file_t:s0";
    let report = with(bench, "linux", "mountLabel", wanted)?.report(&[])?;
    let mount = report.mount_at("/dev/shm")?;
    ensure!(mount.super_options.iter().any(|option| option.contains(wanted)), "/dev/shm: {:?}", mount.super_options);
    Ok(())
}

fn mount_without_selinux(bench: &Bench) -> Result<()> {
    if selinux() {
        skip!("SELinux is enabled");
    }
    with(bench, "linux", "mountLabel", "system_u:object_r:container_file_t:s0")?.create_refused().map(drop)
}
