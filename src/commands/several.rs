//! Commands for several containers at once: those that are named, or (`--regex`, as crun has it) those whose ids match.

use regex::Regex;

use crate::error::{Context as _, Result};
use crate::state::{self, Root};

/// The ids of all containers that match a regular expression anywhere; none that does is no error.
pub fn matching(root: &Root, pattern: &str) -> Result<Vec<String>> {
    let pattern = Regex::new(pattern).with_context(|| format!("--regex {pattern:?}"))?;
    Ok(state::ids(root)?.into_iter().filter(|id| pattern.is_match(id)).collect())
}

/// Acts on each; one that fails does not keep the others from it.
pub fn each(ids: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut failed = Ok(());
    for id in ids {
        if let Err(error) = act(id)
            && let Err(earlier) = std::mem::replace(&mut failed, Err(error))
        {
            crate::log::fatal(&earlier);
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_acted_on_and_the_last_failure_is_left() {
        let ids = ["a", "b", "c"].map(String::from);
        let mut seen = Vec::new();
        let result = each(&ids, |id| {
            seen.push(id.to_owned());
            crate::error::ensure!(id == "c", "{id}");
            Ok(())
        });
        assert_eq!(seen, ids);
        assert_eq!(result.unwrap_err().to_string(), "b");
    }
}
