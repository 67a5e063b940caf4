//! `linux.timeOffsets`: how far the clocks of a new time namespace are ahead (time_namespaces(7), Linux 5.6).

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;

use oci_spec::runtime::{LinuxNamespaceType, LinuxTimeOffset, Spec};

use super::namespaces;
use crate::error::{Context as _, Result, ensure};

const OFFSETS: &str = "/proc/self/timens_offsets";

/// The clocks are ones that have an offset, and they are the container's own.
pub fn check(spec: &Spec) -> Result<()> {
    for (clock, offset) in configured(spec) {
        ensure!(
            matches!(clock.as_str(), "monotonic" | "boottime"),
            "linux.timeOffsets.{clock}: only monotonic and boottime can have an offset"
        );
        ensure!(
            offset.nanosecs().is_none_or(|nanoseconds| nanoseconds < 1_000_000_000),
            "linux.timeOffsets.{clock}.nanosecs: must be below a second"
        );
        ensure!(
            namespaces::is_new(spec, LinuxNamespaceType::Time),
            "linux.timeOffsets.{clock}: needs a new time namespace among linux.namespaces"
        );
    }
    Ok(())
}

/// Opens what [`apply`] writes to, while this process may.
pub fn open() -> Result<File> {
    File::options().write(true).open(OFFSETS).with_context(|| format!("linux.timeOffsets: open {OFFSETS}"))
}

/// Sets the offsets of the namespace that this process's next child is born in: they are fixed once somebody is in it.
pub fn apply(spec: &Spec, mut offsets: &File) -> Result<()> {
    let mut text = String::new();
    for (clock, offset) in configured(spec) {
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        let _ = writeln!(text, "{clock} {seconds} {nanoseconds}"); // writing to a String cannot fail
    }
    if text.is_empty() {
        return Ok(());
    }
    offsets.write_all(text.as_bytes()).with_context(|| format!("linux.timeOffsets: write {text:?} to {OFFSETS}"))
}

fn configured(spec: &Spec) -> impl Iterator<Item = (&String, &LinuxTimeOffset)> {
    spec.linux().iter().flat_map(|linux| linux.time_offsets()).flatten()
}
