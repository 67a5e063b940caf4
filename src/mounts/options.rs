//! `mounts[].options`: one table of every option that is not the filesystem's own.

use nix::mount::MsFlags;

use crate::sys::mount::{Attributes, attr};

/// What an option does.
#[derive(Clone, Copy, Debug)]
enum Effect {
    /// Sets flags of the mount.
    Set(u64),
    /// Clears flags of the mount.
    Clear(u64),
    /// Chooses an access-time mode.
    Atime(u64),
    /// Takes the choice of an access-time mode back: what there is without one stays.
    Unchosen(u64),
    /// Changes the propagation.
    Propagation(MsFlags),
    /// Mounts a part of another tree.
    Bind,
    /// A flag of the filesystem, of the same name.
    Filesystem,
    /// Changes a mount that is there.
    Remount,
    /// Fills the new tmpfs with what the directory below it holds.
    CopyUp,
    /// Shows the files to belong to others.
    Idmap,
    /// What mount(8) or the kernel itself does not act on (MS_SILENT, MS_I_VERSION and MS_POSIXACL are the kernel's own).
    Nothing,
}

/// An option: its name, whether it reaches the mounts below too, what it does.
struct Entry(&'static str, bool, Effect);

use Effect::{Atime, Bind, Clear, CopyUp, Filesystem, Idmap, Nothing, Propagation, Remount, Set, Unchosen};

#[rustfmt::skip]
const TABLE: &[Entry] = &[
    Entry("acl", false, Nothing),
    Entry("async", false, Filesystem),
    Entry("atime", false, Unchosen(attr::NOATIME)),
    Entry("bind", false, Bind),
    Entry("defaults", false, Nothing),
    Entry("dev", false, Clear(attr::NODEV)),
    Entry("diratime", false, Clear(attr::NODIRATIME)),
    Entry("dirsync", false, Filesystem),
    Entry("exec", false, Clear(attr::NOEXEC)),
    Entry("idmap", false, Idmap),
    Entry("iversion", false, Nothing),
    Entry("lazytime", false, Filesystem),
    Entry("loud", false, Nothing),
    Entry("mand", false, Filesystem),
    Entry("noacl", false, Nothing),
    Entry("noatime", false, Atime(attr::NOATIME)),
    Entry("nodev", false, Set(attr::NODEV)),
    Entry("nodiratime", false, Set(attr::NODIRATIME)),
    Entry("noexec", false, Set(attr::NOEXEC)),
    Entry("noiversion", false, Nothing),
    Entry("nolazytime", false, Filesystem),
    Entry("nomand", false, Filesystem),
    Entry("norelatime", false, Unchosen(0)),
    Entry("nostrictatime", false, Unchosen(attr::STRICTATIME)),
    Entry("nosuid", false, Set(attr::NOSUID)),
    Entry("nosymfollow", false, Set(attr::NOSYMFOLLOW)),
    Entry("private", false, Propagation(MsFlags::MS_PRIVATE)),
    Entry("ratime", true, Atime(0)),
    Entry("rbind", true, Bind),
    Entry("rdev", true, Clear(attr::NODEV)),
    Entry("rdiratime", true, Clear(attr::NODIRATIME)),
    Entry("relatime", false, Atime(0)),
    Entry("remount", false, Remount),
    Entry("rexec", true, Clear(attr::NOEXEC)),
    Entry("ridmap", true, Idmap),
    Entry("rnoatime", true, Atime(attr::NOATIME)),
    Entry("rnodev", true, Set(attr::NODEV)),
    Entry("rnodiratime", true, Set(attr::NODIRATIME)),
    Entry("rnoexec", true, Set(attr::NOEXEC)),
    Entry("rnorelatime", true, Unchosen(0)),
    Entry("rnostrictatime", true, Atime(0)),
    Entry("rnosuid", true, Set(attr::NOSUID)),
    Entry("rnosymfollow", true, Set(attr::NOSYMFOLLOW)),
    Entry("ro", false, Set(attr::RDONLY)),
    Entry("rprivate", true, Propagation(MsFlags::MS_PRIVATE)),
    Entry("rrelatime", true, Atime(0)),
    Entry("rro", true, Set(attr::RDONLY)),
    Entry("rrw", true, Clear(attr::RDONLY)),
    Entry("rshared", true, Propagation(MsFlags::MS_SHARED)),
    Entry("rslave", true, Propagation(MsFlags::MS_SLAVE)),
    Entry("rstrictatime", true, Atime(attr::STRICTATIME)),
    Entry("rsuid", true, Clear(attr::NOSUID)),
    Entry("rsymfollow", true, Clear(attr::NOSYMFOLLOW)),
    Entry("runbindable", true, Propagation(MsFlags::MS_UNBINDABLE)),
    Entry("rw", false, Clear(attr::RDONLY)),
    Entry("shared", false, Propagation(MsFlags::MS_SHARED)),
    Entry("silent", false, Nothing),
    Entry("slave", false, Propagation(MsFlags::MS_SLAVE)),
    Entry("strictatime", false, Atime(attr::STRICTATIME)),
    Entry("suid", false, Clear(attr::NOSUID)),
    Entry("symfollow", false, Clear(attr::NOSYMFOLLOW)),
    Entry("sync", false, Filesystem),
    Entry("tmpcopyup", false, CopyUp),
    Entry("unbindable", false, Propagation(MsFlags::MS_UNBINDABLE)),
];

/// The names of all options that the runtime itself acts on, for `features`.
pub fn names() -> Vec<&'static str> {
    TABLE.iter().map(|entry| entry.0).collect()
}

/// The options that set these flags of a mount, for messages.
pub fn names_of(flags: u64) -> String {
    let sets = |entry: &&Entry| matches!(entry, Entry(_, false, Set(flag)) if flags & flag != 0);
    TABLE.iter().filter(sets).map(|entry| entry.0).collect::<Vec<_>>().join(",")
}

/// A mount's options, sorted by what they are for.
#[derive(Debug, Default)]
pub struct Options<'config> {
    /// Flags of the mount itself.
    pub attributes: Attributes,
    /// There is an option for a flag of the mount itself, be it one that clears it.
    pub any_flag: bool,
    /// Flags of the mount and all mounts below it.
    pub recursive: Attributes,
    /// Changes of the propagation, in order: the flag, and whether it reaches the mounts below.
    pub propagation: Vec<(MsFlags, bool)>,
    /// A bind mount; true: with all mounts below the source.
    pub bind: Option<bool>,
    /// Change the mount that is there already.
    pub remount: bool,
    /// Begin with what is below.
    pub copy_up: bool,
    /// An idmapped mount; true: with all mounts below it.
    pub idmap: Option<bool>,
    /// The filesystem's own: flags and `key=value` pairs, in order.
    pub filesystem: Vec<&'config str>,
}

impl<'config> Options<'config> {
    /// Sorts the options. The last of several that contradict each other wins, as with mount(8).
    pub fn parse(options: &'config [String]) -> Self {
        let mut parsed = Self::default();
        for option in options.iter().filter(|option| !option.is_empty()) {
            let Ok(found) = TABLE.binary_search_by(|entry| entry.0.cmp(option)) else {
                parsed.filesystem.push(option);
                continue;
            };
            let Entry(_, recursive, effect) = TABLE[found];
            parsed.any_flag |= !recursive && matches!(effect, Set(_) | Clear(_) | Atime(_) | Unchosen(_));
            let attributes = if recursive { &mut parsed.recursive } else { &mut parsed.attributes };
            match effect {
                Set(flag) => set(attributes, flag, flag),
                Clear(flag) => set(attributes, flag, 0),
                Atime(mode) => set(attributes, attr::ATIME, mode),
                Unchosen(mode) if attributes.set & attr::ATIME == mode => {
                    attributes.set &= !attr::ATIME;
                    attributes.clear &= !attr::ATIME;
                }
                Unchosen(_) => {}
                Propagation(flag) => parsed.propagation.push((flag, recursive)),
                Bind => parsed.bind = Some(recursive || parsed.bind == Some(true)),
                Filesystem => parsed.filesystem.push(option),
                Remount => parsed.remount = true,
                CopyUp => parsed.copy_up = true,
                Idmap => parsed.idmap = Some(recursive || parsed.idmap == Some(true)),
                Nothing => {}
            }
        }
        parsed
    }

    /// The value of a filesystem option, such as `mode` of a tmpfs.
    pub fn value(&self, key: &str) -> Option<&'config str> {
        let mut pairs = self.filesystem.iter().filter_map(|option| option.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

/// Decides the bits of `mask`: set those of `value`, clear the rest. An undecided bit is left as it is by the kernel.
fn set(attributes: &mut Attributes, mask: u64, value: u64) {
    attributes.clear |= mask;
    attributes.set = attributes.set & !mask | value;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> (Attributes, Attributes, Vec<String>) {
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        let parsed = Options::parse(&options);
        let filesystem = parsed.filesystem.iter().map(|option| option.to_string()).collect();
        (parsed.attributes, parsed.recursive, filesystem)
    }

    #[test]
    fn the_table_is_sorted_for_the_search() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn the_last_of_two_contradicting_options_wins() {
        let (attributes, ..) = parse(&["ro", "rw", "noatime", "strictatime"]);
        assert_eq!(attributes.set, attr::STRICTATIME);
        assert_eq!(attributes.clear, attr::RDONLY | attr::ATIME);
    }

    #[test]
    fn an_access_time_mode_is_taken_back_only_by_its_own_opposite() {
        assert_eq!(parse(&["noatime", "atime"]).0.clear, 0);
        assert_eq!(parse(&["relatime", "norelatime"]).0.clear, 0);
        let (attributes, ..) = parse(&["noatime", "norelatime", "nostrictatime"]);
        assert_eq!((attributes.set, attributes.clear), (attr::NOATIME, attr::ATIME));
    }

    #[test]
    fn only_what_is_asked_for_is_decided_and_the_rest_is_the_filesystems() {
        let (attributes, recursive, filesystem) = parse(&["nosuid", "rro", "size=64k", "mode=755", ""]);
        assert_eq!((attributes.set, attributes.clear), (attr::NOSUID, attr::NOSUID));
        assert_eq!((recursive.set, recursive.clear), (attr::RDONLY, attr::RDONLY));
        assert_eq!(filesystem, ["size=64k", "mode=755"]);
    }
}
