//! The numbers in a cgroup's files. A file that is not there has none: the controller is off, or the kernel is older or
//! newer than the file.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use super::file;
use crate::error::{Context as _, Result};

/// The one number of a file; `max` is the largest there is.
pub(super) fn number(dir: &Path, name: &str) -> Result<Option<u64>> {
    let Some(text) = file::read_if_there(dir, name)? else { return Ok(None) };
    match text.trim() {
        "max" => Ok(Some(u64::MAX)),
        text => parse(dir, name, text).map(Some),
    }
}

/// A file of lines `key number`; empty if it is not there.
pub(super) fn keyed(dir: &Path, name: &str) -> Result<BTreeMap<String, u64>> {
    let text = file::read_if_there(dir, name)?.unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(key, value)| Ok((key.to_owned(), parse(dir, name, value)?))).collect()
}

/// Numbers between spaces.
pub(super) fn row(dir: &Path, name: &str) -> Result<Vec<u64>> {
    let text = file::read_if_there(dir, name)?.unwrap_or_default();
    text.split_whitespace().map(|field| parse(dir, name, field)).collect()
}

/// A list such as `0-3,7`.
pub(super) fn list(dir: &Path, name: &str) -> Result<Vec<u16>> {
    let text = file::read_if_there(dir, name)?.unwrap_or_default();
    let mut numbers = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        numbers.extend(exact::<u16>(dir, name, first)?..=exact(dir, name, last)?);
    }
    Ok(numbers)
}

/// A number that is not negative. The kernel adds up what each processor counts, which may be less than nothing for a
/// moment.
pub(super) fn parse(dir: &Path, name: &str, text: &str) -> Result<u64> {
    let text = text.trim();
    match text.strip_prefix('-') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) => Ok(0),
        _ => exact(dir, name, text),
    }
}

/// A number as it is.
pub(super) fn exact<T: FromStr<Err = std::num::ParseIntError>>(dir: &Path, name: &str, text: &str) -> Result<T> {
    let text = text.trim();
    text.parse().with_context(|| format!("{name} of {}: {text:?} is no number", dir.display()))
}

/// The sizes of huge pages of this machine, as the files of the controller are named: `2MB`.
pub(super) fn huge_page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let mut sizes: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok())
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(named_size).collect()
}

/// As the kernel's `mem_fmt` does, which knows no size in between.
fn named_size(kilobytes: u64) -> String {
    match kilobytes {
        1_048_576.. => format!("{}GB", kilobytes >> 20),
        1024.. => format!("{}MB", kilobytes >> 10),
        _ => format!("{kilobytes}KB"),
    }
}

/// Directories of files that stand for a cgroup's.
#[cfg(test)]
pub(super) mod fixture {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering};

    pub(in crate::cgroups) struct Fixture(PathBuf);

    impl Fixture {
        pub(in crate::cgroups) fn new(files: &[(&str, &str)]) -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let name = format!("tare-cgroup-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let dir = std::env::temp_dir().join(name);
            std::fs::create_dir(&dir).unwrap();
            for (file, text) in files {
                std::fs::write(dir.join(file), text).unwrap();
            }
            Self(dir)
        }

        pub(in crate::cgroups) fn dir(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::Fixture;
    use super::*;

    #[test]
    fn a_missing_file_has_no_numbers_and_a_wrong_one_is_named() {
        let cgroup = Fixture::new(&[
            ("max", "max\n"),
            ("negative", "-4096\n"),
            ("wrong", "a lot\n"),
            ("keyed", "anon 1\nfile -2\nodd\n"),
            ("row", "1 2 3 \n"),
            ("list", "0-2,7\n"),
            ("empty", "\n"),
        ]);
        let dir = cgroup.dir();
        assert_eq!(number(dir, "no such").unwrap(), None);
        assert_eq!(number(dir, "max").unwrap(), Some(u64::MAX));
        assert_eq!(number(dir, "negative").unwrap(), Some(0));
        assert!(number(dir, "wrong").unwrap_err().to_string().starts_with("wrong of "));
        assert_eq!(keyed(dir, "keyed").unwrap(), BTreeMap::from([("anon".into(), 1), ("file".into(), 0)]));
        assert_eq!(row(dir, "row").unwrap(), [1, 2, 3]);
        assert_eq!(list(dir, "list").unwrap(), [0, 1, 2, 7]);
        assert!(list(dir, "empty").unwrap().is_empty() && list(dir, "wrong").is_err());
    }

    #[test]
    fn huge_pages_are_named_as_their_files_are() {
        let sizes: Vec<String> = [64, 2048, 32768, 1_048_576, 16_777_216].into_iter().map(named_size).collect();
        assert_eq!(sizes, ["64KB", "2MB", "32MB", "1GB", "16GB"]);
    }
}
