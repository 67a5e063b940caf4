//! Compiled filters on disk: a container engine gives each container the same profile, and to compile it costs more
//! than all the rest of a start.
//!
//! An entry holds the whole key, not only its hash: a hit is a comparison, so a collision costs a compilation and can
//! never give a container another profile's filter. Only a file that is ours, and that nobody else can write, is read.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `tareBPF1` |
//! | 8 | checksum of the program |
//! | 4 | length of the key |
//! | rest | the key, the program |

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use libseccomp::{ScmpArch, ScmpVersion};
use nix::unistd::Uid;
use oci_spec::runtime::LinuxSeccomp;

use super::Program;
use crate::error::{Context, Result, bail};
use crate::sys::seccomp::{INSTRUCTION, append_kernel_build};

const MAGIC: &[u8; 8] = b"tareBPF1";
const HEADER: usize = MAGIC.len() + size_of::<u64>() + size_of::<u32>();

/// A node has a handful of profiles.
const MAX_ENTRIES: usize = 64;

/// Everything that the compiled program depends on: this version of the compiler (tare and libseccomp), the kernel
/// (libseccomp asks it which actions it has), the architecture and the profile's rules, in their order. The flags and
/// the listener are not part of the program.
pub(super) fn key(seccomp: &LinuxSeccomp) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 * 1024);
    key.extend_from_slice(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes());
    if let Ok(version) = ScmpVersion::current() {
        [version.major, version.minor, version.micro].into_iter().for_each(|part| number(&mut key, part));
    }
    append_kernel_build(&mut key);
    number(&mut key, ScmpArch::native() as u32);
    number(&mut key, seccomp.default_action() as u32);
    optional(&mut key, seccomp.default_errno_ret());
    let archs = seccomp.architectures().as_deref().unwrap_or_default();
    number(&mut key, archs.len() as u32);
    archs.iter().for_each(|&arch| number(&mut key, arch as u32));
    for rule in seccomp.syscalls().iter().flatten() {
        number(&mut key, rule.action() as u32);
        optional(&mut key, rule.errno_ret());
        number(&mut key, rule.names().len() as u32);
        for name in rule.names() {
            number(&mut key, name.len() as u32);
            key.extend_from_slice(name.as_bytes());
        }
        let args = rule.args().as_deref().unwrap_or_default();
        number(&mut key, args.len() as u32);
        for arg in args {
            number(&mut key, arg.op() as u32);
            key.extend((arg.index() as u64).to_ne_bytes());
            key.extend(arg.value().to_ne_bytes());
            key.extend(arg.value_two().unwrap_or(0).to_ne_bytes());
        }
    }
    key
}

fn number(key: &mut Vec<u8>, value: u32) {
    key.extend_from_slice(&value.to_ne_bytes());
}

fn optional(key: &mut Vec<u8>, value: Option<u32>) {
    key.push(value.is_some().into());
    number(key, value.unwrap_or(0));
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn entry(dir: &Path, key: &[u8]) -> PathBuf {
    dir.join(format!("{:016x}", hash(key)))
}

/// The program compiled for this key, if a sound entry has it.
///
/// # Errors
/// The reason why there is none: no entry, another key's, one that is not ours alone, a damaged one.
pub(super) fn load(dir: &Path, key: &[u8]) -> Result<Program> {
    let mut file =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(entry(dir, key)).context("open")?;
    let metadata = file.metadata().context("fstat")?;
    if !metadata.is_file() || metadata.uid() != Uid::effective().as_raw() || metadata.mode() & 0o022 != 0 {
        bail!("owner {} and mode {:o} are not ours alone", metadata.uid(), metadata.mode());
    }
    let start = HEADER + key.len();
    let size = metadata.size() as usize;
    let room = start + INSTRUCTION..=start + usize::from(u16::MAX) * INSTRUCTION;
    if !room.contains(&size) || !(size - start).is_multiple_of(INSTRUCTION) {
        bail!("{size} bytes are no entry for this key");
    }
    let mut bytes = vec![0; size];
    file.read_exact(&mut bytes).context("read")?;
    if bytes[..HEADER] != header(key, &bytes[start..]) || bytes[HEADER..start] != *key {
        bail!("another key or a damaged entry");
    }
    Ok(Program { bytes, start })
}

fn header(key: &[u8], program: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&hash(program).to_ne_bytes());
    header[16..].copy_from_slice(&(key.len() as u32).to_ne_bytes());
    header
}

/// Adds or replaces the entry of this key, atomically, and removes the oldest entries beyond the limit.
///
/// # Errors
/// The call that failed. The filter is there all the same: the caller goes on without the cache.
pub(super) fn store(dir: &Path, key: &[u8], program: &[u8]) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| format!("mkdir {}", dir.display()))?;
    let path = entry(dir, key);
    let new = path.with_extension(std::process::id().to_string());
    let written = write(&new, &[&header(key, program), key, program])
        .with_context(|| format!("write {}", new.display()))
        .and_then(|()| fs::rename(&new, &path).with_context(|| format!("rename {}", new.display())));
    if written.is_err() {
        let _ = fs::remove_file(&new); // it may not be there; what counts is the error above
    }
    written?;
    prune(dir).with_context(|| format!("prune {}", dir.display()))
}

fn write(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file: File =
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
    file.write_all(&parts.concat())
}

/// Also the way out for files that a runtime killed while writing left behind.
fn prune(dir: &Path) -> std::io::Result<()> {
    let mut entries = Vec::with_capacity(MAX_ENTRIES + 1);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        entries.push((entry.metadata()?.modified()?, entry.path()));
    }
    entries.sort();
    let surplus = entries.len().saturating_sub(MAX_ENTRIES);
    entries[..surplus].iter().try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::super::{Filter, prepare};
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(test: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("tare-seccomp-{test}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            Dir(dir)
        }

        fn files(&self) -> Vec<PathBuf> {
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn profile(errno: u32) -> LinuxSeccomp {
        serde_json::from_value(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }],
        }))
        .unwrap()
    }

    /// What `prepare` gives, after the only entry went through `damage`; the entry has to be sound again then.
    fn after(test: &str, damage: impl Fn(&Path)) -> (Filter, Filter) {
        let dir = Dir::new(test);
        let first = prepare(&profile(1), Some(&dir.0)).unwrap();
        assert_eq!(dir.files().len(), 1);
        damage(&dir.files()[0]);
        assert!(load(&dir.0, &key(&profile(1))).is_err());
        let second = prepare(&profile(1), Some(&dir.0)).unwrap();
        assert_eq!(load(&dir.0, &key(&profile(1))).unwrap().bpf(), first.bpf());
        (first, second)
    }

    #[test]
    fn a_second_start_compiles_nothing_and_loads_the_same() {
        let dir = Dir::new("hit");
        let first = prepare(&profile(1), Some(&dir.0)).unwrap();
        assert_eq!(first.program.start, 0);
        let second = prepare(&profile(1), Some(&dir.0)).unwrap();
        assert!(second.program.start > HEADER);
        assert_eq!(first.bpf(), second.bpf());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&dir.0), mode(&dir.files()[0])), (0o700, 0o600));
    }

    #[test]
    fn another_profile_is_another_entry_and_a_collision_is_a_miss() {
        let dir = Dir::new("miss");
        prepare(&profile(1), Some(&dir.0)).unwrap();
        let own = prepare(&profile(2), Some(&dir.0)).unwrap();
        assert_eq!(dir.files().len(), 2);
        fs::copy(entry(&dir.0, &key(&profile(2))), entry(&dir.0, &key(&profile(1)))).unwrap();
        assert!(load(&dir.0, &key(&profile(1))).is_err());
        assert_eq!(load(&dir.0, &key(&profile(2))).unwrap().bpf(), own.bpf());
    }

    #[test]
    fn a_damaged_entry_is_replaced() {
        let flip = |at: fn(usize) -> usize| {
            move |path: &Path| {
                let mut bytes = fs::read(path).unwrap();
                let at = at(bytes.len());
                bytes[at] ^= 0x10;
                fs::write(path, bytes).unwrap();
            }
        };
        let cut = |path: &Path| fs::write(path, &fs::read(path).unwrap()[..40]).unwrap();
        let empty = |path: &Path| fs::write(path, "").unwrap();
        let shorter = |path: &Path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() - INSTRUCTION]).unwrap();
        };
        for (first, second) in [
            after("magic", flip(|_| 0)),
            after("key", flip(|_| HEADER + 3)),
            after("program", flip(|size| size - 3)),
            after("cut", cut),
            after("empty", empty),
            after("shorter", shorter),
        ] {
            assert_eq!(first.bpf(), second.bpf());
        }
    }

    #[test]
    fn an_entry_that_others_can_write_is_not_trusted() {
        let (_, second) = after("mode", |path| fs::set_permissions(path, PermissionsExt::from_mode(0o620)).unwrap());
        assert_eq!(second.program.start, 0);
        if Uid::effective().is_root() {
            after("owner", |path| std::os::unix::fs::chown(path, Some(65534), None).unwrap());
        }
        after("link", |path| {
            let elsewhere = path.with_extension("moved");
            fs::rename(path, &elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, path).unwrap();
        });
    }

    #[test]
    fn the_cache_keeps_the_newest_entries_and_its_loss_is_no_error() {
        let dir = Dir::new("prune");
        for errno in 1..=MAX_ENTRIES as u32 + 3 {
            prepare(&profile(errno), Some(&dir.0)).unwrap();
        }
        assert_eq!(dir.files().len(), MAX_ENTRIES);
        assert!(load(&dir.0, &key(&profile(1))).is_err());
        assert!(load(&dir.0, &key(&profile(MAX_ENTRIES as u32 + 3))).is_ok());
        prepare(&profile(1), Some(Path::new("/proc/version/no-directory"))).unwrap();
    }
}
