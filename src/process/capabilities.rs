//! `process.capabilities`: the five sets are exactly those configured (CVE-2022-24769: inheritable too).

use std::str::FromStr as _;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process};

use crate::error::{Context as _, Result, anyhow};
use crate::sys::process::{drop_from_bounding_set, is_in_bounding_set, permitted_capabilities, set_capabilities};

/// What cannot be granted is warned about and left out (config.md, "Linux Process"). A name that no kernel knows is
/// left out when config.json is read.
pub fn check(process: &Process) {
    let Some(configured) = process.capabilities() else { return };
    // Permitted is what can be had: without it neither file nor ambient capabilities give anything.
    // Asked for one by one: the kernel has no call for the whole set.
    let available = |&capability: &Capability| caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
    let sets = [configured.bounding(), configured.effective(), configured.permitted()];
    let mut missing: Vec<_> = sets.into_iter().flatten().flatten().filter_map(known).collect();
    missing.sort_unstable_by_key(|capability| capability.index());
    missing.dedup();
    missing.retain(|capability| !available(capability));
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
        log::warn!("process.capabilities: not available here, left out: {}", names.join(", "));
    }
    warn_of_ambient(configured);
}

/// Only what is permitted and inheritable can be ambient (capabilities(7)); the rest is left out, as by runc. Here, because
/// init has closed the log when it finds out.
fn warn_of_ambient(configured: &LinuxCapabilities) {
    let has = |set: &Option<Capabilities>, capability| set.as_ref().is_some_and(|set| set.contains(capability));
    for capability in configured.ambient().iter().flatten() {
        if !has(configured.permitted(), capability) || !has(configured.inheritable(), capability) {
            log::warn!("can't raise ambient capability CAP_{capability}: it is not both permitted and inheritable");
        }
    }
}

/// The sets, worked out and ready to be applied: a bit for each capability. The library's are hash sets, and to fill those
/// took longer than all system calls here.
#[derive(Debug)]
pub struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: Vec<Capability>,
}

impl Sets {
    /// The configured sets; without the property all are empty, as the specification has no default.
    pub fn of(process: &Process) -> Self {
        let configured = process.capabilities().as_ref();
        let set = |select: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
            let names = configured.and_then(|sets| select(sets).as_ref()).into_iter().flatten();
            names.filter_map(known).fold(0, |set, capability| set | capability.bitmask())
        };
        Self {
            bounding: set(LinuxCapabilities::bounding),
            effective: set(LinuxCapabilities::effective),
            permitted: set(LinuxCapabilities::permitted),
            inheritable: set(LinuxCapabilities::inheritable),
            ambient: configured
                .and_then(|sets| sets.ambient().as_ref())
                .into_iter()
                .flatten()
                .filter_map(known)
                .collect(),
        }
    }

    /// Drops what is not in the bounding set, while CAP_SETPCAP is still there, and keeps the rest over the change of
    /// user to come.
    pub fn apply_bounding(&self) -> Result<()> {
        for capability in (0..64).filter(|capability| self.bounding & 1 << capability == 0) {
            match drop_from_bounding_set(capability) {
                Ok(()) => {}
                Err(errno) => match is_in_bounding_set(capability) {
                    Err(Errno::EINVAL) => break, // the kernel has fewer
                    // Gone already, from a process that may not change the set.
                    Ok(false) => {}
                    _ => {
                        return Err(errno)
                            .with_context(|| format!("process.capabilities.bounding: drop number {capability}"));
                    }
                },
            }
        }
        caps::securebits::set_keepcaps(true).map_err(|error| failed("bounding", &error))
    }

    /// Sets the rest, as the container's user. What is not permitted by now cannot be had and was warned about.
    pub fn apply(&self) -> Result<()> {
        caps::securebits::set_keepcaps(false).map_err(|error| failed("permitted", &error))?;
        let have = permitted_capabilities().context("process.capabilities: capget")?;
        let (permitted, inheritable) = (self.permitted & have, self.inheritable & have);
        // All three at once, which the library cannot: it would read and write all of them for each.
        set_capabilities(self.effective & permitted, permitted, inheritable).context("process.capabilities: capset")?;
        caps::clear(None, CapSet::Ambient).map_err(|error| failed("ambient", &error))?;
        // What is not both permitted and inheritable was warned about; the kernel refuses it.
        let possible = |capability: &&Capability| permitted & inheritable & capability.bitmask() != 0;
        for &capability in self.ambient.iter().filter(possible) {
            caps::raise(None, CapSet::Ambient, capability)
                .map_err(|error| anyhow!("process.capabilities.ambient: raise {capability}: {error}"))?;
        }
        Ok(())
    }
}

fn failed(set: &str, error: &caps::errors::CapsError) -> crate::error::Error {
    anyhow!("process.capabilities.{set}: {error}")
}

/// The same capability in the words of the library that sets it. Both libraries know the same names; one that only the
/// first knows would be left out like any that is not available.
fn known(capability: &oci_spec::runtime::Capability) -> Option<Capability> {
    Capability::from_str(&format!("CAP_{capability}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{Capability as Oci, LinuxCapabilitiesBuilder, ProcessBuilder};
    use std::collections::HashSet;

    #[test]
    fn a_configured_name_is_the_kernels_capability() {
        assert_eq!(known(&Oci::CheckpointRestore), Some(Capability::CAP_CHECKPOINT_RESTORE));
        assert_eq!(known(&Oci::Syslog), Some(Capability::CAP_SYSLOG));
        assert_eq!(known(&Oci::IpcLock), Some(Capability::CAP_IPC_LOCK));
    }

    #[test]
    fn what_is_not_configured_is_empty() {
        let sets = LinuxCapabilitiesBuilder::default()
            .bounding(HashSet::from([Oci::Kill]))
            .inheritable(HashSet::new())
            .build()
            .unwrap();
        let process = ProcessBuilder::default().capabilities(sets).build().unwrap();
        assert_eq!(Sets::of(&process).bounding, Capability::CAP_KILL.bitmask());
        assert_eq!(Sets::of(&process).inheritable, 0);
    }
}
