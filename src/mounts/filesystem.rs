//! New filesystems: proc, tmpfs, devpts, mqueue, sysfs, overlay and whatever else the kernel knows.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount as mount_by_path};
use nix::sys::stat::fstat;

use super::options::Options;
use super::{Surroundings, decorate, destination, place, tmpcopyup};
use crate::error::{Context as _, Result, anyhow, bail, ensure};
use crate::linux::mount_label;
use crate::root::Rootfs;
use crate::sys::mount::{Attributes, FsContext, attr, fsopen};

/// fsconfig(2) copies at most this much of a value, its final zero included.
const LONGEST_VALUE: usize = 256;

/// Makes a filesystem and mounts it at `path`.
pub fn mount(
    fstype: &str,
    source: Option<&Path>,
    options: &mut Options<'_>,
    path: &Path,
    around: Surroundings<'_>,
) -> Result<()> {
    let rootfs = around.rootfs;
    ensure!(fstype == "proc" || path != Path::new("/proc"), "only a filesystem of type proc can be mounted on /proc");
    let mode = if fstype == "tmpfs" { inherited_mode(options, path, rootfs)? } else { None };
    if matches!(fstype, "proc" | "sysfs") {
        check_is_directory(fstype, path, rootfs)?;
    }
    // A directory that is missing has no content, and its tmpfs the usual mode.
    let copy_up = options.copy_up && rootfs.find(path)?.is_some();
    let onto = destination::directory(rootfs, path)?;
    let context = mount_label::option(fstype, around.label);
    let shown = around.shown_pids.filter(|_| fstype == "proc");
    if shown.is_none() && options.filesystem.iter().any(|option| option.len() >= LONGEST_VALUE) {
        return mount_with_long_values(fstype, source, options, context, &onto, path, rootfs);
    }
    let source = source.and_then(Path::to_str).unwrap_or(fstype);
    let mut wanted: Vec<&str> = options.filesystem.clone();
    wanted.extend(mode.as_deref());
    wanted.extend(context.as_deref());
    if options.attributes.set & attr::RDONLY != 0 && !options.copy_up {
        wanted.push("ro");
    }
    let sealed = if options.copy_up { std::mem::take(&mut options.attributes) } else { Attributes::default() };
    let mount = match shown {
        Some(contexts) => configure(contexts.next()?, fstype, source, &wanted, options.attributes.set)?,
        None => open(fstype, source, &wanted, options.attributes.set)?,
    };
    if copy_up {
        // Not read-only yet, and not in the tree yet: nobody sees half of it.
        tmpcopyup::copy(&onto, &mount)?;
    }
    place(mount.as_fd(), onto.as_fd())?;
    mount_label::apply(fstype, around.label, mount.as_fd())?;
    decorate(mount.as_fd(), &Options { attributes: sealed, ..std::mem::take(options) })
}

/// Makes a filesystem and a detached mount of it with these attributes.
pub fn open(fstype: &str, source: &str, options: &[&str], attributes: u64) -> Result<OwnedFd> {
    let context = fsopen(&c_string(fstype)?).with_context(|| format!("open filesystem type {fstype:?}"))?;
    configure(context, fstype, source, options, attributes)
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| anyhow!("{text:?} holds a zero byte"))
}

fn configure(context: FsContext, fstype: &str, source: &str, options: &[&str], attributes: u64) -> Result<OwnedFd> {
    context.set_string(c"source", &c_string(source)?).with_context(|| format!("source {source:?}"))?;
    let explained = |result: nix::Result<()>, what: String| {
        result.with_context(|| match context.message() {
            Some(message) => format!("{what}: {message}"),
            None => what,
        })
    };
    for option in options {
        let result = match option.split_once('=') {
            Some((key, value)) => context.set_string(&c_string(key)?, &c_string(value)?),
            None => context.set_flag(&c_string(option)?),
        };
        explained(result, format!("{fstype} option {option:?}"))?;
    }
    explained(context.create(), format!("make filesystem {fstype:?}"))?;
    context.mount(attributes).with_context(|| format!("mount filesystem {fstype:?}"))
}

/// The old call takes a page of options, but only a path: the kernel's own name of the descriptor in hand.
fn mount_with_long_values(
    fstype: &str,
    source: Option<&Path>,
    options: &Options<'_>,
    context: Option<String>,
    onto: &OwnedFd,
    path: &Path,
    rootfs: &Rootfs,
) -> Result<()> {
    let target = format!("/proc/self/fd/{}", onto.as_raw_fd());
    let own = options.filesystem.iter().map(|option| option.to_string());
    let data = own.chain(context.as_deref().map(mount_label::quoted)).collect::<Vec<_>>().join(",");
    mount_by_path(source, target.as_str(), Some(fstype), MsFlags::empty(), Some(data.as_str()))
        .with_context(|| format!("mount {fstype:?} with {data:?}"))?;
    let mounted = rootfs.find(path)?.ok_or_else(|| anyhow!("{path:?} is gone"))?;
    decorate(mounted.as_fd(), options)
}

/// A tmpfs over a directory looks like it from the outside (runc does so): its mode stays unless one is asked for.
fn inherited_mode(options: &Options<'_>, path: &Path, rootfs: &Rootfs) -> Result<Option<String>> {
    if options.value("mode").is_some() {
        return Ok(None);
    }
    let Some(below) = rootfs.find(path)? else { return Ok(None) };
    let mode = fstat(&below).context("stat the destination")?.st_mode & 0o7777;
    Ok(Some(format!("mode={mode:04o}")))
}

/// /proc and /sys are looked into by name later: a link in their place would lead elsewhere (CVE-2019-19921), also one to
/// nothing, whose target would be made.
fn check_is_directory(fstype: &str, path: &Path, rootfs: &Rootfs) -> Result<()> {
    let (parent, name) = match rootfs.find(path)? {
        Some(_) => rootfs.parent_and_name(path)?,
        None if rootfs.is_link(path) => bail!("filesystem {fstype:?} must be mounted on ordinary directory"),
        None => return Ok(()),
    };
    let found = nix::sys::stat::fstatat(&parent, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW);
    let mode = found.with_context(|| format!("stat {path:?}"))?.st_mode;
    ensure!(mode & libc::S_IFMT == libc::S_IFDIR, "filesystem {fstype:?} must be mounted on ordinary directory");
    Ok(())
}
