//! `results.tsv`: how each case ended with each runtime on each layout of the cgroups, the last time it was tried.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::Case;

/// One run of the suite.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// `tare`, `runc`, `crun`.
    pub runtime: String,
    /// `v1` or `v2`.
    pub cgroups: String,
    /// The runtime's.
    pub version: String,
    /// `pass`, `fail` or `skip` by the case's full name.
    pub verdicts: BTreeMap<String, String>,
}

/// Every column that there is, in the order of the file.
pub fn parse(text: &str) -> Result<Vec<Column>> {
    let mut lines = text.lines();
    let heads = lines.next().unwrap_or_default().split('\t').skip(1);
    let mut columns: Vec<Column> = heads.map(column).collect::<Result<_>>()?;
    for line in lines {
        let mut cells = line.split('\t');
        let case = cells.next().unwrap_or_default();
        for (column, verdict) in columns.iter_mut().zip(cells).filter(|(_, verdict)| *verdict != "-") {
            column.verdicts.insert(case.to_owned(), verdict.to_owned());
        }
    }
    Ok(columns)
}

fn column(head: &str) -> Result<Column> {
    let words: Vec<&str> = head.splitn(3, ' ').collect();
    let [runtime, cgroups, version] = words[..] else { anyhow::bail!("not a runtime, a layout and a version: {head}") };
    let [runtime, cgroups, version] = [runtime, cgroups, version].map(str::to_owned);
    Ok(Column { runtime, cgroups, version, verdicts: BTreeMap::new() })
}

/// Reads the JSON lines that a run of the whole suite wrote.
pub fn from_json(lines: &str) -> Result<Column> {
    let mut found: Option<Column> = None;
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let text = |key: &str| line[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {line}"));
        let head = Column {
            runtime: text("runtime")?,
            cgroups: text("cgroups")?,
            version: text("version")?,
            verdicts: BTreeMap::new(),
        };
        let column = found.get_or_insert_with(|| head.clone());
        let same = (&column.runtime, &column.cgroups, &column.version) == (&head.runtime, &head.cgroups, &head.version);
        ensure!(same, "results of two runs in one file");
        column.verdicts.insert(text("name")?, text("result")?);
    }
    found.context("there are no results")
}

/// Puts a column in the place of the one of the same runtime and layout.
pub fn merge(columns: &mut Vec<Column>, new: Column) {
    match columns.iter_mut().find(|old| (&old.runtime, &old.cgroups) == (&new.runtime, &new.cgroups)) {
        Some(old) => *old = new,
        None => columns.push(new),
    }
    let place = |column: &Column| {
        let known = ["tare", "runc", "crun"].iter().position(|name| *name == column.runtime);
        (known.unwrap_or(usize::MAX), column.runtime.clone(), column.cgroups.clone())
    };
    columns.sort_by_key(place);
}

/// The file's text: the cases that there are, in their order.
pub fn write(columns: &[Column], cases: &[&Case]) -> String {
    let mut text = "case".to_owned();
    for column in columns {
        text += &format!("\t{} {} {}", column.runtime, column.cgroups, column.version);
    }
    text.push('\n');
    for case in cases {
        let name = case.full_name();
        text += &name;
        for column in columns {
            text.push('\t');
            text += column.verdicts.get(&name).map_or("-", String::as_str);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"runtime":"runc","cgroups":"v1","version":"1.1","name":"kill/created","result":"skip"}"#;

    #[test]
    fn what_is_written_is_read_again_and_replaced_by_a_later_run() {
        let cases = crate::cases::all();
        let mut columns = vec![from_json(LINE).expect("JSON")];
        merge(&mut columns, from_json(&LINE.replace("runc", "tare")).expect("JSON"));
        let text = write(&columns, &cases);
        assert!(text.starts_with("case\ttare v1 1.1\trunc v1 1.1\n"), "{text}");
        assert!(text.contains("kill/created\tskip\tskip\n") && text.contains("kill/stopped\t-\t-\n"), "{text}");
        assert_eq!(parse(&text).expect("a table"), columns);
        merge(&mut columns, from_json(&LINE.replace("skip", "pass").replace("1.1", "1.3")).expect("JSON"));
        assert!(write(&columns, &cases).contains("kill/created\tskip\tpass\n"));
    }

    #[test]
    fn two_runs_in_one_file_are_refused() {
        assert!(from_json(&format!("{LINE}\n{}", LINE.replace("v1", "v2"))).is_err());
        assert!(from_json("").is_err());
    }

    #[test]
    fn every_case_was_tried_with_this_projects_runtime() {
        let columns = parse(include_str!("../results.tsv")).expect("a table");
        let ours = columns.iter().find(|column| column.runtime == "tare" && column.cgroups == "v1").expect("a run");
        for case in crate::cases::all() {
            let name = case.full_name();
            assert!(ours.verdicts.contains_key(&name), "{name} has no result: make conformance-table");
        }
    }

    #[test]
    fn every_failure_is_explained() {
        let columns = parse(include_str!("../results.tsv")).expect("a table");
        let mut unexplained = Vec::new();
        for (column, case) in columns.iter().flat_map(|c| crate::cases::all().into_iter().map(move |case| (c, case))) {
            let failed = column.verdicts.get(&case.full_name()).is_some_and(|verdict| verdict == "fail");
            if failed && case.reason_for(&column.runtime, &column.version).is_none() {
                unexplained.push(format!("{} on {}: {}", column.runtime, column.cgroups, case.full_name()));
            }
        }
        assert!(unexplained.is_empty(), "no reason is known:\n{}", unexplained.join("\n"));
    }
}
