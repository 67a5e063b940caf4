//! The lines of `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)).

/// A mount, as far as anybody asks.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Which directory of its filesystem is mounted.
    pub root: String,
    /// Where it is mounted.
    pub point: String,
    /// The filesystem's type.
    pub fstype: &'a str,
    /// The filesystem's own options.
    pub options: &'a str,
}

impl<'a> Line<'a> {
    /// Reads a line; `None` if it is not one.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let (fstype, options) = (filesystem.next()?, filesystem.nth(1)?);
        let mut mount = mount.split(' ').skip(3);
        Some(Self { root: unescape(mount.next()?), point: unescape(mount.next()?), fstype, options })
    }
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut parts = field.split('\\');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(byte.into());
                text.push_str(&part[3..]);
            }
            None => text.push_str(part),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_optional_fields_and_without() {
        for optional in ["", "shared:9 ", "shared:9 master:2 "] {
            let line = format!("41 31 0:37 /docker/abc /sys/a\\040b rw,relatime {optional}- cgroup none rw,memory");
            let expected = Line {
                root: "/docker/abc".to_owned(),
                point: "/sys/a b".to_owned(),
                fstype: "cgroup",
                options: "rw,memory",
            };
            assert_eq!(Line::parse(&line), Some(expected));
        }
        assert_eq!(Line::parse(""), None);
        assert_eq!(Line::parse("1 2 0:5 / /x rw"), None);
    }
}
