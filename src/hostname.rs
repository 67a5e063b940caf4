//! `hostname` and `domainname`.

use std::ffi::OsStr;

use nix::sys::utsname::uname;
use nix::unistd::sethostname;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::{Context as _, Result, ensure};
use crate::linux::namespaces::{self, Namespaces};
use crate::sys::process::set_domain_name;

/// Both names are the container's alone, so they need a UTS namespace.
pub fn check(spec: &Spec) -> Result<()> {
    let has_uts = namespaces::has(spec, LinuxNamespaceType::Uts);
    ensure!(has_uts || given(spec.hostname()).is_none(), "hostname: unable to set it without a private UTS namespace");
    ensure!(
        has_uts || given(spec.domainname()).is_none(),
        "domainname: unable to set it without a private UTS namespace"
    );
    Ok(())
}

/// Refuses to change the names of a UTS namespace that is joined by a path and is the host's all the same. The name that it
/// has is no change: some engines give it to a container in the host's network.
pub fn check_joined(spec: &Spec, namespaces: &Namespaces) -> Result<()> {
    let (hostname, domainname) = (given(spec.hostname()), given(spec.domainname()));
    if (hostname.is_none() && domainname.is_none()) || !namespaces.is_shared(LinuxNamespaceType::Uts)? {
        return Ok(());
    }
    let current = uname().context("uname")?;
    let changes = |name: Option<&str>, current: &OsStr| name.is_some_and(|name| name != current);
    ensure!(!changes(hostname, current.nodename()), "hostname: unable to set it without a private UTS namespace");
    ensure!(!changes(domainname, current.domainname()), "domainname: unable to set it without a private UTS namespace");
    Ok(())
}

/// Sets both in init's UTS namespace.
pub fn apply(spec: &Spec) -> Result<()> {
    if let Some(name) = given(spec.hostname()) {
        sethostname(name).with_context(|| format!("hostname: set {name:?}"))?;
    }
    if let Some(name) = given(spec.domainname()) {
        set_domain_name(name).with_context(|| format!("domainname: set {name:?}"))?;
    }
    Ok(())
}

fn given(name: &Option<String>) -> Option<&str> {
    name.as_deref().filter(|name| !name.is_empty())
}
