//! `process.env`: the program's whole environment; nothing of the runtime's own is added but HOME.

use std::collections::BTreeSet;
use std::ffi::CString;

use oci_spec::runtime::Process;

use crate::error::{Context as _, Result, ensure};

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

/// Whether the environment names a home directory, so that none has to be looked up.
pub fn has_home(process: &Process) -> bool {
    let env = process.env().as_deref().unwrap_or_default();
    value(env, "HOME").is_some_and(|home| !home.is_empty())
}

/// The environment with each name once, its last value winning: what is configured, what tells of
/// passed descriptors, and HOME, which programs expect (runc sets it too). A home directory is
/// bytes: its name need not be UTF-8.
pub fn prepare(process: &Process, passed: &[String], home: impl FnOnce() -> Vec<u8>) -> Result<Vec<CString>> {
    // Sorted, not hashed: a hash's seed is random, and a seccomp filter may forbid getrandom(2) by
    // now.
    let mut names = BTreeSet::new();
    let mut env = Vec::new();
    let mut has_home = false;
    for variable in passed.iter().rev().chain(process.env().iter().flatten().rev()) {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        if !names.insert(name) || name == "HOME" && value.is_empty() {
            continue;
        }
        has_home |= name == "HOME";
        env.push(to_c_string(variable.as_str())?);
    }
    env.reverse();
    if !has_home {
        env.push(to_c_string([b"HOME=", home().as_slice()].concat())?);
    }
    Ok(env)
}

fn to_c_string(variable: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(variable).context("process.env")
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::ProcessBuilder;

    #[test]
    fn the_last_of_two_values_wins_and_home_is_added_once() {
        let env = ["A=1", "AB=2", "A=3", "HOME="].map(String::from);
        let process = ProcessBuilder::default().env(env).build().unwrap();
        let prepared = prepare(&process, &["AB=4".into()], || b"/h\xf6me".to_vec()).unwrap();
        assert_eq!(prepared, [c"A=3", c"AB=4", c"HOME=/h\xf6me"].map(CString::from));
        let process = ProcessBuilder::default().env(["HOME=/h".to_string()]).build().unwrap();
        assert_eq!(prepare(&process, &[], || unreachable!()).unwrap(), [c"HOME=/h".to_owned()]);
        let process = ProcessBuilder::default().env(["HOME=/h", "B=", "HOME="].map(String::from)).build().unwrap();
        let prepared = prepare(&process, &[], || b"/".to_vec()).unwrap();
        assert_eq!(prepared, [c"B=", c"HOME=/"].map(CString::from));
    }

    #[test]
    fn a_variable_without_a_name_is_refused() {
        for bad in ["", "PATH", "=x"] {
            let process = ProcessBuilder::default().env([bad.to_string()]).build().unwrap();
            assert!(check(&process).is_err(), "{bad:?}");
        }
    }
}
