//! User and group ids that the kernel is given. 4294967295 is (uid_t)-1: setresuid(2) and chown(2)
//! take it for "no change", so that a program would keep the runtime's own user. It is refused
//! wherever a configuration or a flag names an id.

use oci_spec::runtime::LinuxIdMapping;

use crate::error::{Result, ensure};

/// The options of filesystems that hold an id.
const OPTIONS: &[&str] = &["uid", "gid", "user_id", "group_id", "dfltuid", "dfltgid"];

/// Checks that a number is an id.
///
/// # Errors
/// 4294967295.
pub fn check(id: u32) -> Result<()> {
    ensure!(id != u32::MAX, "invalid id {id}: the kernel takes it for \"no change\"");
    Ok(())
}

/// Checks each mapping of a list: it is not empty, and all its ids are ids.
///
/// # Errors
/// With the index and the property: a size of 0, a range that reaches 4294967295 or beyond.
pub fn check_mappings(mappings: &[LinuxIdMapping]) -> Result<()> {
    for (index, mapping) in mappings.iter().enumerate() {
        let size = mapping.size();
        ensure!(size != 0, "[{index}].size: must not be 0");
        for (name, first) in [("containerID", mapping.container_id()), ("hostID", mapping.host_id())] {
            ensure!(
                first.checked_add(size).is_some(),
                "[{index}].{name}: {size} ids from {first} on reach beyond 4294967294, the last id"
            );
        }
    }
    Ok(())
}

/// Checks an option of a filesystem, such as `uid=1000`. What is not a number is for the filesystem
/// to judge.
///
/// # Errors
/// An id of 4294967295 or more, in any notation of the kernel's (kstrtouint with base 0).
pub fn check_option(option: &str) -> Result<()> {
    let Some((name, value)) = option.split_once('=') else { return Ok(()) };
    let id = if OPTIONS.contains(&name) { number(value) } else { None };
    ensure!(id.is_none_or(|id| id < u64::from(u32::MAX)), "option {option:?}: invalid id: 4294967294 is the last one");
    Ok(())
}

fn number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let (digits, base) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', ..] => (digits, 8),
        _ => (digits, 10),
    };
    // A number that is too long for this type is too large for an id.
    let all_digits = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
    all_digits.then(|| u64::from_str_radix(digits, base).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_that_changes_nothing_is_not_an_id() {
        for id in [0, 1, 65534, u32::MAX - 1] {
            check(id).unwrap();
        }
        assert!(check(u32::MAX).is_err());
    }

    #[test]
    fn a_mapping_ends_at_the_last_id() {
        let checked = |container: u32, host: u32, size: u32| {
            let json = format!(r#"[{{"containerID":{container},"hostID":{host},"size":{size}}}]"#);
            check_mappings(&serde_json::from_str::<Vec<LinuxIdMapping>>(&json).unwrap())
        };
        checked(0, 0, u32::MAX).unwrap();
        checked(u32::MAX - 1, 5, 1).unwrap();
        for (container, host, size) in
            [(0, 0, 0), (u32::MAX, 0, 1), (0, u32::MAX, 1), (1, 0, u32::MAX), (0, 7, u32::MAX)]
        {
            assert!(checked(container, host, size).is_err(), "{container} {host} {size}");
        }
    }

    #[test]
    fn an_option_holds_an_id_in_any_notation() {
        for good in ["uid=0", "gid=4294967294", "uid=0x10", "gid=017", "size=4294967295", "uid", "uid=", "uid=root"] {
            check_option(good).unwrap();
        }
        for bad in [
            "uid=4294967295",
            "gid=4294967296",
            "uid=0xffffffff",
            "gid=0XFFFFFFFF",
            "uid=037777777777",
            "uid=+4294967295",
            "user_id=4294967295",
            "gid=99999999999999999999999",
        ] {
            assert!(check_option(bad).is_err(), "{bad}");
        }
    }
}
