//! `linux.mountLabel`: the SELinux context of all files in the filesystems that are made for the container.

use std::os::fd::BorrowedFd;

use oci_spec::runtime::Spec;

use crate::error::{Context as _, Result, ensure};
use crate::process::selinux_label;
use crate::sys::mount::set_extended_attribute;

/// A label that is asked for can be had.
pub fn check(spec: &Spec) -> Result<()> {
    ensure!(
        of(spec).is_none() || selinux_label::is_enabled(),
        "linux.mountLabel: selinux label is specified in config, but selinux is disabled or not supported"
    );
    Ok(())
}

/// The configured label.
pub fn of(spec: &Spec) -> Option<&str> {
    spec.linux().as_ref()?.mount_label().as_deref().filter(|label| !label.is_empty())
}

/// The option of a filesystem that gives all its files this label. The kernel's own (/proc, /sys, cgroups) have labels by
/// the policy, and a message queue's takes no option.
pub fn option(fstype: &str, label: Option<&str>) -> Option<String> {
    let labels_itself = matches!(fstype, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2");
    label.filter(|_| !labels_itself).map(|label| format!("context={label}"))
}

/// As it has to be in a list of options that commas separate: the categories of a label have commas too.
pub fn quoted(option: &str) -> String {
    match option.strip_prefix("context=") {
        Some(label) => format!("context=\"{label}\""),
        None => option.to_owned(),
    }
}

/// Labels what takes no option, when it is mounted.
pub fn apply(fstype: &str, label: Option<&str>, mount: BorrowedFd<'_>) -> Result<()> {
    let Some(label) = label.filter(|_| fstype == "mqueue") else { return Ok(()) };
    set_extended_attribute(mount, c"security.selinux", label.as_bytes())
        .with_context(|| format!("linux.mountLabel: label it {label:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    #[test]
    fn filesystems_of_files_have_the_option_and_the_kernels_own_have_not() {
        let context = format!("context={LABEL}");
        for fstype in ["tmpfs", "devpts", "overlay"] {
            assert_eq!(option(fstype, Some(LABEL)).as_deref(), Some(context.as_str()));
            assert_eq!(option(fstype, None), None);
        }
        for fstype in ["proc", "sysfs", "mqueue", "cgroup2"] {
            assert_eq!(option(fstype, Some(LABEL)), None);
        }
        assert_eq!(quoted(&context), format!("context=\"{LABEL}\""));
        assert_eq!(quoted("mode=755"), "mode=755");
    }

    #[test]
    fn a_label_is_refused_where_nobody_reads_it() {
        let spec = |label: &str| -> Spec {
            serde_json::from_str(&format!(r#"{{"ociVersion":"1.0.0","linux":{{"mountLabel":"{label}"}}}}"#)).unwrap()
        };
        check(&spec("")).unwrap();
        assert_eq!(check(&spec(LABEL)).is_ok(), selinux_label::is_enabled());
    }
}
