//! The tables of the documentation, made of the properties, the cases and their results.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::case::Case;
use crate::properties::{self, Group};
use crate::results::Column;

const BEGIN: &str = "<!-- made by hack/conformance-table: begin -->\n";
const END: &str = "<!-- made by hack/conformance-table: end -->\n";

/// The document with what is between the markers made anew.
pub fn replace(document: &str, columns: &[Column], cases: &[&Case]) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).context("the document has no marker of the beginning")?;
    let (_, after) = rest.split_once(END).context("the document has no marker of the end")?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", text(columns, cases)?))
}

fn text(columns: &[Column], cases: &[&Case]) -> Result<String> {
    let groups = properties::read()?;
    let runtimes = Runtimes::of(columns);
    let parts = [
        versions(columns),
        runtimes.implementation(&groups),
        runtimes.properties(&groups),
        runtimes.sentences(&groups, cases),
        failures(columns, cases),
    ];
    Ok(parts.join("\n"))
}

fn versions(columns: &[Column]) -> String {
    let mut lines =
        "What was tried:\n\n| runtime | cgroups | version | passed | failed | skipped |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for column in columns {
        let count = |verdict: &str| column.verdicts.values().filter(|found| *found == verdict).count();
        let counts = [count("pass"), count("fail"), count("skip")].map(|count| count.to_string()).join(" | ");
        lines += &format!("| {} | {} | {} | {counts} |\n", column.runtime, column.cgroups, column.version);
    }
    lines
}

/// The columns, by runtime and layout.
struct Runtimes<'a>(BTreeMap<(&'a str, &'a str), &'a Column>);

const RUNTIMES: [&str; 3] = ["tare", "runc", "crun"];

impl<'a> Runtimes<'a> {
    fn of(columns: &'a [Column]) -> Runtimes<'a> {
        Runtimes(columns.iter().map(|column| ((column.runtime.as_str(), column.cgroups.as_str()), column)).collect())
    }

    /// `yes / no`: on v1 and on v2, for each runtime.
    fn cells(&self, cases: &[&str]) -> String {
        let cell = |runtime: &str| ["v1", "v2"].map(|cgroups| self.word(runtime, cgroups, cases)).join(" / ");
        RUNTIMES.map(cell).join(" | ")
    }

    /// A failure counts most, then what was tried: a case that says nothing does not take a verdict away.
    fn word(&self, runtime: &str, cgroups: &str, cases: &[&str]) -> &'static str {
        if cases.is_empty() {
            return "**no case**";
        }
        let Some(column) = self.0.get(&(runtime, cgroups)) else { return "?" };
        let found: BTreeSet<&str> =
            cases.iter().map(|case| column.verdicts.get(*case).map_or("-", String::as_str)).collect();
        let words = [("fail", "**no**"), ("pass", "yes"), ("-", "?"), ("skip", "skipped")];
        words.iter().find(|(verdict, _)| found.contains(verdict)).map_or("?", |(_, word)| word)
    }

    fn implementation(&self, groups: &[Group]) -> String {
        let mut lines = "Where it is implemented and tested; \"unit\" stands for the tests in the file itself:\n\n\
            | property | file | test | tare | runc | crun |\n|---|---|---|---|---|---|\n"
            .to_owned();
        for group in groups {
            let quoted = |names: &[&str]| names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
            let cases: BTreeSet<&str> = group.properties.iter().flat_map(|property| &property.cases).copied().collect();
            let counts =
                RUNTIMES.map(|runtime| ["v1", "v2"].map(|cgroups| self.count(runtime, cgroups, &cases)).join(", "));
            let (source, tests) = (quoted(&group.source), quoted(&group.tests));
            lines += &format!("| {} | {source} | {tests} | {} |\n", quote(group.name), counts.join(" | "));
        }
        lines
    }

    /// How many of the cases that said anything were passed.
    fn count(&self, runtime: &str, cgroups: &str, cases: &BTreeSet<&str>) -> String {
        let Some(column) = self.0.get(&(runtime, cgroups)) else { return format!("{cgroups}: ?") };
        let count = |verdict: &str| {
            cases.iter().filter(|case| column.verdicts.get(**case).is_some_and(|found| found == verdict)).count()
        };
        let (passed, failed) = (count("pass"), count("fail"));
        format!("{cgroups}: {passed} of {}", passed + failed)
    }

    fn properties(&self, groups: &[Group]) -> String {
        let mut lines = "Each property, with the cases of `oci-conformance` that look at it; a cell says v1 / v2:\n\n\
            | property | specification | cases | tare | runc | crun |\n|---|---|---|---|---|---|\n"
            .to_owned();
        for property in groups.iter().flat_map(|group| &group.properties) {
            let (name, section) = (quote(property.name), section(property.section));
            let cells = self.cells(&property.cases);
            lines += &format!("| {name} | {section} | {} | {cells} |\n", property.cases.join(", "));
        }
        lines
    }

    fn sentences(&self, groups: &[Group], cases: &[&Case]) -> String {
        let named: BTreeSet<&str> =
            groups.iter().flat_map(|group| &group.properties).flat_map(|property| &property.cases).copied().collect();
        let mut lines = "The operations, the state, the lifecycle and the features document:\n\n\
            | specification | what it asks for | case | tare | runc | crun |\n|---|---|---|---|---|---|\n"
            .to_owned();
        for case in cases.iter().filter(|case| !named.contains(case.full_name().as_str())) {
            let name = case.full_name();
            let cells = self.cells(&[name.as_str()]);
            lines += &format!("| {} | {} | {name} | {cells} |\n", section(case.section), case.title);
        }
        lines
    }
}

/// A reason for each failure: the runtime's bug, or what it does not have.
fn failures(columns: &[Column], cases: &[&Case]) -> String {
    let mut lines = "Why a case fails:\n\n| case | runtime | on | why |\n|---|---|---|---|\n".to_owned();
    for case in cases {
        let name = case.full_name();
        for runtime in RUNTIMES {
            let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for column in columns.iter().filter(|column| column.runtime == runtime) {
                if column.verdicts.get(&name).is_some_and(|verdict| verdict == "fail") {
                    let reason = case.reason_for(runtime, &column.version).unwrap_or("**unexplained**");
                    reasons.entry(reason).or_default().push(format!("{} ({})", column.cgroups, column.version));
                }
            }
            for (reason, on) in reasons {
                lines += &format!("| {name} | {runtime} | {} | {reason} |\n", on.join(", "));
            }
        }
    }
    lines
}

/// Code, but for the words beside it.
fn quote(name: &str) -> String {
    if name == "unit" {
        return name.to_owned();
    }
    match name.split_once(": ").or_else(|| name.split_once(" (")) {
        Some((property, rest)) if name.contains(" (") => format!("`{property}` ({rest}"),
        Some((property, rest)) => format!("`{property}`: {rest}"),
        None => name.split(", ").map(|part| format!("`{part}`")).collect::<Vec<_>>().join(", "),
    }
}

/// `config.md#process` as a link into the specification.
fn section(section: &str) -> String {
    format!("[{section}](https://github.com/opencontainers/runtime-spec/blob/v1.3.0/{section})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_more_than_a_skip_and_a_pass_more_too() {
        let line = |name: &str, result: &str| {
            format!(r#"{{"runtime":"runc","cgroups":"v1","version":"1","name":"{name}","result":"{result}"}}"#)
        };
        let lines = [line("a/1", "pass"), line("a/2", "fail"), line("a/3", "skip")].join("\n");
        let columns = [crate::results::from_json(&lines).expect("JSON")];
        let runtimes = Runtimes::of(&columns);
        for (cases, word) in [
            (&["a/1", "a/2", "a/3"][..], "**no**"),
            (&["a/1", "a/3"], "yes"),
            (&["a/3"], "skipped"),
            (&["a/4"], "?"),
            (&[], "**no case**"),
        ] {
            assert_eq!(runtimes.word("runc", "v1", cases), word, "{cases:?}");
        }
        assert_eq!(runtimes.word("runc", "v2", &["a/1"]), "?");
    }

    #[test]
    fn the_document_is_up_to_date() {
        let document = include_str!("../../docs/conformance.md");
        let columns = crate::results::parse(include_str!("../results.tsv")).expect("a table");
        let made = replace(document, &columns, &crate::cases::all()).expect("markers");
        assert!(made == document, "docs/conformance.md: make conformance-table");
        assert!(!made.contains("**no case**"), "a property has no case");
    }

    #[test]
    fn what_is_around_the_markers_stays() {
        let document = format!("# a\n{BEGIN}OLD{END}\nb\n");
        let made = replace(&document, &[], &crate::cases::all()).expect("markers");
        assert!(made.starts_with("# a\n") && made.ends_with("\nb\n") && !made.contains("OLD"));
        assert_eq!(replace(&made, &[], &crate::cases::all()).expect("markers"), made);
        assert!(replace("no marker", &[], &[]).is_err());
    }
}
