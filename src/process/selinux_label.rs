//! `process.selinuxLabel`: the context that the kernel switches to when the program is executed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::FsFlags;
use oci_spec::runtime::Process;

use crate::error::{Context as _, Result, ensure, errno};
use crate::mounts::procfs::Procfs;

/// SELINUX_MAGIC
const SELINUXFS_MAGIC: FsType = FsType(0xf97c_ff8c);

/// A label that is asked for can be had. The words are runc's.
pub fn check(process: &Process) -> Result<()> {
    ensure!(
        configured(process).is_none() || is_enabled(),
        "selinux label is specified in config, but selinux is disabled or not supported"
    );
    Ok(())
}

/// Is there a policy, and may it be asked about? Decided as runc does.
pub fn is_enabled() -> bool {
    // Read-only it is shown to containers, which have nothing to set.
    let mounted = statfs("/sys/fs/selinux")
        .is_ok_and(|found| found.filesystem_type() == SELINUXFS_MAGIC && !found.flags().contains(FsFlags::ST_RDONLY));
    mounted && fs::read("/proc/self/attr/current").is_ok_and(|label| label.trim_ascii_end() != b"kernel\0")
}

/// Tells the kernel.
pub fn apply(process: &Process) -> Result<()> {
    set(process, open(process)?)
}

/// Opens what [`set`] writes to, by a procfs that the container cannot have touched (CVE-2019-16884): a process outside of
/// the container's pid namespace is not in the container's procfs. Only this process may write.
pub fn open(process: &Process) -> Result<Option<File>> {
    let Some(label) = configured(process) else { return Ok(None) };
    open_attribute("attr/exec").map(Some).with_context(|| format!("process.selinuxLabel: apply {label:?}"))
}

/// Tells the kernel by the opened file.
pub fn set(process: &Process, file: Option<File>) -> Result<()> {
    let (Some(label), Some(mut file)) = (configured(process), file) else { return Ok(()) };
    file.write_all(label.as_bytes()).with_context(|| format!("process.selinuxLabel: apply {label:?}"))
}

/// The label of the session keyring that is made next: the program is to be able to use it.
pub fn apply_to_keyring(process: &Process) -> Result<()> {
    let Some(label) = configured(process) else { return Ok(()) };
    let set = || -> Result<()> { Ok(open_attribute("attr/keycreate")?.write_all(label.as_bytes())?) };
    match set() {
        // A kernel without keyrings.
        Err(error) if errno(&error) == Some(Errno::ENOENT) => Ok(()),
        result => result.with_context(|| format!("process.selinuxLabel: label the keyring {label:?}")),
    }
}

fn open_attribute(file: &str) -> Result<File> {
    Ok(Procfs::new()?.write_to(&Path::new("thread-self").join(file))?)
}

fn configured(process: &Process) -> Option<&str> {
    process.selinux_label().as_deref().filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_refused_where_nobody_reads_it() {
        let process = |label: &str| -> Process {
            let json = format!(r#"{{"cwd":"/","user":{{"uid":0,"gid":0}},"selinuxLabel":"{label}"}}"#);
            serde_json::from_str(&json).unwrap()
        };
        check(&process("")).unwrap();
        assert_eq!(check(&process("system_u:system_r:container_t:s0")).is_ok(), is_enabled());
    }
}
