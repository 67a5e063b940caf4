//! The flags of a bind mount. Without an option for one it has those of its source, else those that were asked for and no
//! others, as `mount --bind -o` and runc have it. A flag that the host has locked for a user namespace stays, unless it was
//! asked away: then there is no such mount.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::decorate_below;
use super::options::{Options, names_of};
use crate::error::{Context as _, Result};
use crate::sys::mount::{Attributes, attr, attributes_of, set_attributes};

/// Flags that are locked where they are set, in the mounts of a user namespace that the host made.
const LOCKABLE: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
/// How access times are kept: to the kernel one value, which is locked whatever it is.
const ACCESS: u64 = attr::ATIME | attr::NODIRATIME;

/// Sets the flags and the propagation of a clone of the source.
pub fn set(tree: BorrowedFd<'_>, options: &Options<'_>) -> Result<()> {
    if options.any_flag && !replace(tree, &options.attributes)? {
        let source = attributes_of(tree).context("statvfs the source")?;
        let added = beside_locked(source, &options.attributes)?;
        if added.set | added.clear != 0 {
            set_attributes(tree, &added, false).with_context(|| format!("keep {}", names_of(source & LOCKABLE)))?;
        }
    }
    decorate_below(tree, options)
}

/// Gives the mount exactly these flags; false if some that it has are locked.
fn replace(tree: BorrowedFd<'_>, asked: &Attributes) -> Result<bool> {
    let wanted = whole(asked);
    let result = match set_attributes(tree, &wanted, false) {
        // Linux 5.14 is the first that changes nosymfollow here.
        Err(Errno::EINVAL) if asked.clear & attr::NOSYMFOLLOW == 0 => {
            set_attributes(tree, &Attributes { clear: wanted.clear & !attr::NOSYMFOLLOW, ..wanted }, false)
        }
        result => result,
    };
    match result {
        Err(Errno::EPERM) => Ok(false),
        result => result.map(|()| true).context("set the mount's attributes"),
    }
}

/// What was asked for, with every other flag cleared. Access times are kept as before, unless a way was chosen.
fn whole(asked: &Attributes) -> Attributes {
    let access = if chooses_access(asked) { ACCESS } else { 0 };
    Attributes { set: asked.set, clear: LOCKABLE | attr::NOSYMFOLLOW | access, ..Attributes::default() }
}

fn chooses_access(asked: &Attributes) -> bool {
    asked.clear & attr::ATIME != 0 || asked.set & attr::NODIRATIME != 0
}

/// What is left to change of a mount whose flags are locked.
fn beside_locked(source: u64, asked: &Attributes) -> Result<Attributes> {
    let refused = source & asked.clear & !asked.set & LOCKABLE;
    if refused != 0 {
        return Err(Errno::EPERM).with_context(|| format!("clear {} of the source: locked", names_of(refused)));
    }
    if chooses_access(asked) && (source ^ asked.set) & ACCESS != 0 {
        return Err(Errno::EPERM).context("change how the source keeps access times: locked");
    }
    let not_lockable = source & attr::NOSYMFOLLOW & !asked.set;
    Ok(Attributes { set: asked.set & !ACCESS, clear: not_lockable, ..Attributes::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(options: &[&str]) -> Attributes {
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        Options::parse(&options).attributes
    }

    #[test]
    fn what_was_not_asked_for_is_cleared_but_for_the_access_times() {
        let wanted = whole(&asked(&["ro", "exec", "atime", "diratime", "norelatime"]));
        assert_eq!((wanted.set, wanted.clear), (attr::RDONLY, LOCKABLE | attr::NOSYMFOLLOW));
        let wanted = whole(&asked(&["nodiratime"]));
        assert_eq!((wanted.set, wanted.clear & ACCESS), (attr::NODIRATIME, ACCESS));
    }

    #[test]
    fn locked_flags_stay_and_are_not_asked_away() {
        let source = attr::RDONLY | attr::NODEV | attr::NOSYMFOLLOW | attr::NOATIME;
        let added = beside_locked(source, &asked(&["nosuid", "exec", "atime"])).unwrap();
        assert_eq!((added.set, added.clear), (attr::NOSUID, attr::NOSYMFOLLOW));
        let added = beside_locked(source, &asked(&["ro", "noatime"])).unwrap();
        assert_eq!(added.set, attr::RDONLY);
        let refusal = |options: &[&str]| crate::error::one_line(&beside_locked(source, &asked(options)).unwrap_err());
        assert_eq!(refusal(&["rw", "dev"]), "clear nodev,ro of the source: locked: Operation not permitted");
        for options in [["relatime"], ["strictatime"], ["nodiratime"]] {
            assert!(refusal(&options).contains("access times"), "{options:?}");
        }
    }
}
