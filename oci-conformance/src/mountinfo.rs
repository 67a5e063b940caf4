//! /proc/<pid>/mountinfo, proc_pid_mountinfo(5).

use std::fs;
use std::path::{Path, PathBuf};

/// One line of a mount table.
#[derive(Debug, PartialEq)]
pub struct Mount {
    /// The path of the mount's root in its filesystem.
    pub root: String,
    /// Where it is mounted.
    pub point: String,
    /// The mount's own options: `ro`, `nosuid`, ...
    pub options: Vec<String>,
    /// The propagation tags: `shared:1`, `master:2`, `unbindable`.
    pub tags: Vec<String>,
    /// The filesystem's type.
    pub kind: String,
    /// The filesystem's options.
    pub super_options: Vec<String>,
}

impl Mount {
    /// True when the mount, or its filesystem, has that option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().chain(&self.super_options).any(|known| known == option)
    }

    /// True when a propagation tag begins with that word.
    pub fn tagged(&self, word: &str) -> bool {
        self.tags.iter().any(|tag| tag.split(':').next() == Some(word))
    }
}

/// The lines of a mount table in the order of the mounts; a line that is not whole is left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point, options) = (left.next()?, left.next()?, left.next()?);
    let mut right = right.splitn(3, ' ');
    let (kind, super_options) = (right.next()?, right.nth(1)?);
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    Some(Mount {
        root: unescape(root),
        point: unescape(point),
        options: list(options),
        tags: left.map(str::to_owned).collect(),
        kind: kind.to_owned(),
        super_options: list(super_options),
    })
}

/// Blanks and backslashes are written as three octal digits.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The mount points below a directory in this mount namespace, in the order of the mounts.
pub fn points_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    parse(&table).into_iter().map(|mount| PathBuf::from(mount.point)).filter(|point| point.starts_with(dir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n";
        let mount = &parse(line)[0];
        assert_eq!((mount.root.as_str(), mount.point.as_str(), mount.kind.as_str()), ("/mnt1", "/mnt 2", "ext3"));
        assert!(mount.has("noatime") && mount.has("errors=continue") && !mount.has("ro"));
        assert!(mount.tagged("shared") && mount.tagged("master") && !mount.tagged("unbindable"));
    }

    #[test]
    fn a_line_without_tags_and_a_broken_one() {
        let text = "22 27 0:21 / /proc rw,relatime - proc proc rw\n22 27 0:21 / /proc rw\n\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 1);
        assert!(mounts[0].tags.is_empty() && mounts[0].super_options == ["rw"]);
    }
}
