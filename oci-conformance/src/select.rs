//! `--filter`.

use crate::case::Case;

/// The cases of which the name, the section or the title contains any of the texts, in any case of letters.
pub fn select<'a>(all: &[&'a Case], texts: &[String]) -> Vec<&'a Case> {
    let texts: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
    let matches = |case: &&&Case| {
        let words = format!("{}\n{}\n{}", case.full_name(), case.section, case.title).to_lowercase();
        texts.is_empty() || texts.iter().any(|text| words.contains(text))
    };
    all.iter().filter(matches).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_name_section_and_title_and_add_up() {
        let all = crate::cases::all();
        let count = |texts: &[&str]| select(&all, &texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>()).len();
        assert_eq!(count(&[]), all.len());
        assert_eq!(count(&["no such text"]), 0);
        let (hooks, kill) = (count(&["hooks/"]), count(&["RUNTIME.md#KILL"]));
        assert!(hooks > 5 && kill > 2);
        assert_eq!(count(&["hooks/", "runtime.md#kill"]), hooks + kill);
    }
}
