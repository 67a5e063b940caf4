//! Container ids: a name for a directory, so never a way out of it.

use crate::error::{Result, bail};

const LONGEST: usize = 1024;

/// Refuses an id that could not be, or should not be, a directory's name.
pub fn check(id: &str) -> Result<()> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    // A leading dot would also hide the container among the runtime's own files below --root.
    if id.is_empty() || id.len() > LONGEST || id.starts_with('.') || !id.chars().all(safe) {
        bail!("container id {id:?}: invalid container ID format (letters, digits and _ + - . only, not first a dot)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_plain_name() {
        for good in ["a", "A-b_c.d+e", "0123456789abcdef"] {
            assert!(check(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", ".cache", "a/b", "../x", "a b", "a\n", "ä", &"x".repeat(1025)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
