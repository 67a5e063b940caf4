//! `linux.personality` (personality(2)): what kind of machine the container's programs are told that they run on.

use oci_spec::runtime::{LinuxPersonality, LinuxPersonalityDomain, Spec};

use crate::error::{Context as _, Result, bail};
use crate::sys::schedule::set_personality;

/// The specification has no flags yet.
pub fn check(spec: &Spec) -> Result<()> {
    match configured(spec).and_then(|personality| personality.flags().as_deref()).unwrap_or_default() {
        [] => Ok(()),
        [flag, ..] => bail!("linux.personality.flags: {flag:?}: there are no flags in the specification"),
    }
}

/// Takes the personality on; the program keeps it.
pub fn apply(spec: &Spec) -> Result<()> {
    let Some(personality) = configured(spec) else { return Ok(()) };
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    };
    set_personality(domain).with_context(|| format!("linux.personality.domain: personality {domain:#x}"))
}

fn configured(spec: &Spec) -> Option<&LinuxPersonality> {
    spec.linux().as_ref()?.personality().as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_refused() {
        let spec = |flags: &str| -> Spec {
            let json = r#"{"ociVersion":"1.0.0","linux":{"personality":{"domain":"LINUX32","flags":FLAGS}}}"#;
            serde_json::from_str(&json.replace("FLAGS", flags)).unwrap()
        };
        check(&spec("[]")).unwrap();
        assert!(check(&spec(r#"["ADDR_NO_RANDOMIZE"]"#)).is_err());
    }
}
