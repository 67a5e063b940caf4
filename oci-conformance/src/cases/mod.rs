//! The cases, a file for each part of the specification.

use crate::case::Case;

mod annotations;
mod cgroups;
mod devices;
mod features;
mod features_linux;
mod hook_failures;
mod hooks;
mod hostname;
mod idmap;
mod intel_rdt;
mod kill;
mod labels;
mod lifecycle;
mod memory_policy;
mod mount_options;
mod mounts;
mod namespaces;
mod net_devices;
mod paths;
mod personality;
mod process;
mod propagation;
mod recursive_options;
mod resources;
mod root;
mod scheduler;
mod seccomp;
mod seccomp_flags;
mod state;
mod sysctl;
mod time;
mod user;
mod valid_values;
mod version;

/// Every case of the suite, in the order of the result.
pub fn all() -> Vec<&'static Case> {
    [
        version::CASES,
        valid_values::CASES,
        state::CASES,
        lifecycle::CASES,
        kill::CASES,
        hooks::CASES,
        hook_failures::CASES,
        root::CASES,
        mounts::CASES,
        mount_options::CASES,
        recursive_options::CASES,
        idmap::CASES,
        propagation::CASES,
        process::CASES,
        scheduler::CASES,
        labels::CASES,
        user::CASES,
        hostname::CASES,
        annotations::CASES,
        namespaces::CASES,
        time::CASES,
        devices::CASES,
        intel_rdt::CASES,
        net_devices::CASES,
        cgroups::CASES,
        resources::CASES,
        sysctl::CASES,
        seccomp::CASES,
        seccomp_flags::CASES,
        paths::CASES,
        personality::CASES,
        memory_policy::CASES,
        features::CASES,
        features_linux::CASES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_sections_name_a_file_and_an_anchor() {
        let mut names = BTreeSet::new();
        for case in super::all() {
            assert!(names.insert(case.full_name()), "{} twice", case.full_name());
            let (file, anchor) = case.section.split_once('#').unwrap_or_default();
            let files =
                ["runtime.md", "runtime-linux.md", "config.md", "config-linux.md", "features.md", "features-linux.md"];
            assert!(files.contains(&file) && !anchor.is_empty(), "{}: {}", case.full_name(), case.section);
            assert!(!case.title.ends_with('.') && case.title.len() < 140, "{}", case.title);
        }
    }
}
