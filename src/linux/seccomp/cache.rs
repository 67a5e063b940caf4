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

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use libseccomp::{ScmpArch, ScmpVersion};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{Uid, UnlinkatFlags, unlinkat};
use oci_spec::runtime::LinuxSeccomp;

use super::Program;
use crate::error::{Context, Result, bail};
use crate::sys::seccomp::{INSTRUCTION, append_kernel_build};

const MAGIC: &[u8; 8] = b"tareBPF1";
const HEADER: usize = MAGIC.len() + size_of::<u64>() + size_of::<u32>();

/// Below the state root.
const PLACE: &str = ".cache/seccomp";

/// A node has a handful of profiles.
const MAX_ENTRIES: usize = 64;

/// The directory of the entries. It is the caller's alone: root's cache below the state root of a
/// user could otherwise be any directory of the machine.
#[derive(Debug)]
pub struct Cache(OwnedFd);

impl Cache {
    /// Opens the cache below a state root, and makes it if it is not there.
    ///
    /// # Errors
    /// A part of its path is a symlink, or another user owns it or can write to it. The caller goes
    /// on without it.
    pub fn open(root: &OwnedFd) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH);
        // In one step where it is there (Linux 5.6): a directory above it that somebody else has
        // replaced can only lead to another one that is the caller's, which nobody else can move.
        if let Ok(found) = openat2(root, PLACE, how) {
            return Self::checked(found, PLACE).map(Self);
        }
        let mut dir = root.try_clone().context("dup")?;
        for name in PLACE.split('/') {
            match mkdirat(&dir, name, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno).with_context(|| format!("mkdir {name}")),
            }
            let found = openat(&dir, name, flags, Mode::empty()).with_context(|| format!("open {name}"))?;
            dir = Self::checked(found, name)?;
        }
        Ok(Self(dir))
    }

    fn checked(dir: OwnedFd, name: &str) -> Result<OwnedFd> {
        let stat = fstat(&dir).with_context(|| format!("stat {name}"))?;
        if stat.st_uid != Uid::effective().as_raw() || stat.st_mode & 0o022 != 0 {
            bail!("{name}: owner {} and mode {:o} are not ours alone", stat.st_uid, stat.st_mode & 0o7777);
        }
        Ok(dir)
    }
}

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

fn entry(key: &[u8]) -> String {
    format!("{:016x}", hash(key))
}

/// The program compiled for this key, if a sound entry has it.
///
/// # Errors
/// The reason why there is none: no entry, another key's, one that is not ours alone, a damaged one.
pub(super) fn load(cache: &Cache, key: &[u8]) -> Result<Program> {
    // Neither a symlink is followed nor a fifo waited for.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(&cache.0, entry(key).as_str(), flags, Mode::empty()).context("open")?);
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
pub(super) fn store(cache: &Cache, key: &[u8], program: &[u8]) -> Result<()> {
    let entry = entry(key);
    let new = format!("{entry}.{}", std::process::id());
    let written =
        write(cache, &new, &[&header(key, program), key, program]).with_context(|| format!("write {new}")).and_then(
            |()| renameat(&cache.0, new.as_str(), &cache.0, entry.as_str()).with_context(|| format!("rename {new}")),
        );
    if written.is_err() {
        let _ = remove(cache, &new); // it may not be there; what counts is the error above
    }
    written?;
    prune(cache).context("prune the cache")
}

fn write(cache: &Cache, name: &str, parts: &[&[u8]]) -> std::io::Result<()> {
    let _ = remove(cache, name); // of a process with the same id that was killed while it wrote
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(&cache.0, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    file.write_all(&parts.concat())
}

fn remove(cache: &Cache, name: &str) -> nix::Result<()> {
    unlinkat(&cache.0, name, UnlinkatFlags::NoRemoveDir)
}

/// Also the way out for files that a runtime killed while writing left behind.
fn prune(cache: &Cache) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut entries = Vec::with_capacity(MAX_ENTRIES + 1);
    for entry in Dir::openat(cache.0.as_fd(), ".", flags, Mode::empty())?.iter() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        match fstatat(&cache.0, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            // Directories are none of ours.
            Ok(stat) if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR => {}
            Ok(stat) => entries.push((stat.st_mtime, stat.st_mtime_nsec, name)),
            Err(Errno::ENOENT) => {} // pruned by another runtime
            Err(errno) => return Err(errno),
        }
    }
    entries.sort();
    let surplus = entries.len().saturating_sub(MAX_ENTRIES);
    entries[..surplus].iter().try_for_each(|(_, _, name)| match remove(cache, name) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use serde_json::json;

    use super::super::{Filter, prepare};
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(test: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("tare-seccomp-{test}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir(&dir).unwrap();
            Dir(dir)
        }

        fn root(&self) -> OwnedFd {
            File::open(&self.0).unwrap().into()
        }

        fn cache(&self) -> Cache {
            Cache::open(&self.root()).unwrap()
        }

        fn path(&self) -> PathBuf {
            self.0.join(PLACE)
        }

        fn files(&self) -> Vec<PathBuf> {
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
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
        let first = prepare(&profile(1), Some(&dir.cache())).unwrap();
        assert_eq!(dir.files().len(), 1);
        damage(&dir.files()[0]);
        assert!(load(&dir.cache(), &key(&profile(1))).is_err());
        let second = prepare(&profile(1), Some(&dir.cache())).unwrap();
        assert_eq!(load(&dir.cache(), &key(&profile(1))).unwrap().bpf(), first.bpf());
        (first, second)
    }

    #[test]
    fn a_second_start_compiles_nothing_and_loads_the_same() {
        let dir = Dir::new("hit");
        let first = prepare(&profile(1), Some(&dir.cache())).unwrap();
        assert_eq!(first.program.start, 0);
        let second = prepare(&profile(1), Some(&dir.cache())).unwrap();
        assert!(second.program.start > HEADER);
        assert_eq!(first.bpf(), second.bpf());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&dir.path()), mode(&dir.files()[0])), (0o700, 0o600));
    }

    #[test]
    fn another_profile_is_another_entry_and_a_collision_is_a_miss() {
        let dir = Dir::new("miss");
        prepare(&profile(1), Some(&dir.cache())).unwrap();
        let own = prepare(&profile(2), Some(&dir.cache())).unwrap();
        assert_eq!(dir.files().len(), 2);
        let path = |errno| dir.path().join(entry(&key(&profile(errno))));
        fs::copy(path(2), path(1)).unwrap();
        assert!(load(&dir.cache(), &key(&profile(1))).is_err());
        assert_eq!(load(&dir.cache(), &key(&profile(2))).unwrap().bpf(), own.bpf());
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
            symlink(&elsewhere, path).unwrap();
        });
        after("fifo", |path| {
            fs::remove_file(path).unwrap();
            nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
        });
    }

    #[test]
    fn a_cache_that_others_made_is_not_used() {
        let dir = Dir::new("place");
        let (cache, elsewhere) = (dir.0.join(".cache"), dir.0.join("elsewhere"));
        fs::create_dir_all(elsewhere.join("seccomp")).unwrap();
        symlink(&elsewhere, &cache).unwrap();
        assert!(Cache::open(&dir.root()).is_err());
        fs::remove_file(&cache).unwrap();
        fs::create_dir(&cache).unwrap();
        symlink(elsewhere.join("seccomp"), cache.join("seccomp")).unwrap();
        assert!(Cache::open(&dir.root()).is_err());
        assert_eq!(fs::read_dir(elsewhere.join("seccomp")).unwrap().count(), 0);
        fs::remove_file(cache.join("seccomp")).unwrap();
        dir.cache();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o770)).unwrap();
        assert!(Cache::open(&dir.root()).is_err());
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        if Uid::effective().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
            assert!(Cache::open(&dir.root()).is_err());
        }
    }

    #[test]
    fn the_cache_keeps_the_newest_entries_and_its_loss_is_no_error() {
        let dir = Dir::new("prune");
        for errno in 1..=MAX_ENTRIES as u32 + 3 {
            prepare(&profile(errno), Some(&dir.cache())).unwrap();
        }
        assert_eq!(dir.files().len(), MAX_ENTRIES);
        assert!(load(&dir.cache(), &key(&profile(1))).is_err());
        assert!(load(&dir.cache(), &key(&profile(MAX_ENTRIES as u32 + 3))).is_ok());
        let file: OwnedFd = File::open("/proc/version").unwrap().into();
        assert!(Cache::open(&file).is_err());
        fs::remove_dir_all(dir.path()).unwrap();
        let gone = dir.cache();
        fs::remove_dir(dir.path()).unwrap();
        prepare(&profile(1), Some(&gone)).unwrap();
    }
}
