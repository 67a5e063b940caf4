//! `process.env`: the program's whole environment; nothing of the runtime's own is added but HOME.

use oci_spec::runtime::Process;

use crate::error::{Result, ensure};

/// Every entry is `NAME=value`.
pub fn check(process: &Process) -> Result<()> {
    for variable in process.env().iter().flatten() {
        ensure!(variable.find('=').is_some_and(|at| at > 0), "{variable:?} is not of the form NAME=value");
        ensure!(!variable.contains('\0'), "{variable:?} holds a zero byte");
    }
    Ok(())
}

/// The value of a variable: that of its last entry.
pub fn value<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter().rev().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
}

/// The environment with each name once, its last value winning: what is configured, what tells of passed descriptors, and
/// HOME, which programs expect (runc sets it too).
pub fn prepare(process: &Process, passed: &[String], home: impl FnOnce() -> String) -> Vec<String> {
    let configured = process.env().iter().flatten().chain(passed).collect::<Vec<_>>();
    let mut env: Vec<String> = Vec::with_capacity(configured.len() + 1);
    for (index, variable) in configured.iter().enumerate() {
        let name = &variable[..variable.find('=').map_or(variable.len(), |at| at + 1)];
        if !configured[index + 1..].iter().any(|later| later.starts_with(name)) {
            env.push((*variable).clone());
        }
    }
    if value(&env, "HOME").unwrap_or_default().is_empty() {
        env.retain(|variable| !variable.starts_with("HOME="));
        env.push(format!("HOME={}", home()));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::ProcessBuilder;

    #[test]
    fn the_last_of_two_values_wins_and_home_is_added_once() {
        let env = ["A=1", "AB=2", "A=3", "HOME="].map(String::from);
        let process = ProcessBuilder::default().env(env).build().unwrap();
        assert_eq!(prepare(&process, &["AB=4".into()], || "/root".into()), ["A=3", "AB=4", "HOME=/root"]);
        let process = ProcessBuilder::default().env(["HOME=/h".to_string()]).build().unwrap();
        assert_eq!(prepare(&process, &[], || unreachable!()), ["HOME=/h"]);
    }

    #[test]
    fn a_variable_without_a_name_is_refused() {
        for bad in ["", "PATH", "=x"] {
            let process = ProcessBuilder::default().env([bad.to_string()]).build().unwrap();
            assert!(check(&process).is_err(), "{bad:?}");
        }
    }
}
