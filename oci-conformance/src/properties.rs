//! `properties.tsv`: the properties of config.json, where each is implemented and which cases look at it.

use anyhow::{Context, Result, ensure};

/// Properties that one part of the runtime implements.
pub struct Group {
    /// What they have in common.
    pub name: &'static str,
    /// Files and directories of this project's runtime.
    pub source: Vec<&'static str>,
    /// Its test files; `unit` stands for the tests in the source.
    pub tests: Vec<&'static str>,
    /// In the order of the specification.
    pub properties: Vec<Property>,
}

/// A property, or properties that make sense only together.
pub struct Property {
    /// Its path in config.json.
    pub name: &'static str,
    /// `file#anchor` in the specification.
    pub section: &'static str,
    /// Full names of cases.
    pub cases: Vec<&'static str>,
}

/// Reads the table that is built in.
pub fn read() -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for line in include_str!("../properties.tsv").lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, second, third] = columns[..] else { anyhow::bail!("not three columns: {line}") };
        match name.strip_prefix("= ") {
            Some(name) => groups.push(Group {
                name,
                source: second.split(", ").collect(),
                tests: third.split_whitespace().collect(),
                properties: Vec::new(),
            }),
            None => {
                let group = groups.last_mut().with_context(|| format!("before any group: {line}"))?;
                group.properties.push(Property { name, section: second, cases: third.split_whitespace().collect() });
            }
        }
    }
    ensure!(!groups.is_empty(), "there are no properties");
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_property_has_a_case_and_every_case_named_exists() {
        let known: BTreeSet<String> = crate::cases::all().iter().map(|case| case.full_name()).collect();
        let mut names = BTreeSet::new();
        for property in read().expect("a table").iter().flat_map(|group| &group.properties) {
            assert!(names.insert(property.name), "{} twice", property.name);
            assert!(!property.cases.is_empty(), "{}: no case", property.name);
            for case in &property.cases {
                assert!(known.contains(*case), "{}: there is no case {case}", property.name);
            }
        }
        assert!(names.len() > 100, "{} properties", names.len());
    }

    #[test]
    fn every_case_on_the_configuration_belongs_to_a_property() {
        let groups = read().expect("a table");
        let named: BTreeSet<&str> =
            groups.iter().flat_map(|group| &group.properties).flat_map(|property| &property.cases).copied().collect();
        // What is about a configuration as a whole.
        let whole = ["config.md#extensibility", "config.md#valid-values"];
        for case in crate::cases::all() {
            let name = case.full_name();
            let of_a_property = case.section.starts_with("config") && !whole.contains(&case.section);
            assert!(!of_a_property || named.contains(name.as_str()), "{name} belongs to no property");
        }
    }

    #[test]
    fn files_exist() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for group in read().expect("a table") {
            for file in group.source.iter().chain(&group.tests).filter(|file| **file != "unit") {
                assert!(root.join(file).exists(), "{}: {file}", group.name);
            }
        }
    }
}
