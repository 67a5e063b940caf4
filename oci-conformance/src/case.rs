//! What a case is: a sentence of the specification and the function that checks it.

use std::fmt;

use anyhow::Result;

use crate::bench::Bench;

/// One observable sentence of the specification.
pub struct Case {
    /// The path of the file that holds the case: its last segment is the first half of the name.
    pub module: &'static str,
    /// The function's name.
    pub name: &'static str,
    /// `file#anchor` in the specification.
    pub section: &'static str,
    /// What the section asks for, in our words.
    pub title: &'static str,
    /// Passes, fails with what was seen instead, or ends with a [`Skip`].
    pub run: fn(&Bench) -> Result<()>,
    /// Runtimes that fail it for a known reason: the name, or the name and the beginning of a version, and the reason.
    pub known: &'static [(&'static str, &'static str)],
}

impl Case {
    /// `file/function`, unique in the suite.
    pub fn full_name(&self) -> String {
        let file = self.module.rsplit("::").next().unwrap_or(self.module);
        format!("{file}/{}", self.name)
    }

    /// Adds the reasons why named runtimes fail this case.
    pub const fn known(mut self, known: &'static [(&'static str, &'static str)]) -> Case {
        self.known = known;
        self
    }

    /// The known reason why that runtime fails; one for its version comes before one for every version.
    pub fn reason_for(&self, runtime: &str, version: &str) -> Option<&'static str> {
        let of_version =
            |name: &str| name.split_once(' ').is_some_and(|(of, begin)| of == runtime && version.starts_with(begin));
        let found = self.known.iter().find(|(name, _)| of_version(name));
        found.or_else(|| self.known.iter().find(|(name, _)| *name == runtime)).map(|(_, reason)| *reason)
    }
}

/// An entry of a file's table: the function, its section, and what the section asks for.
macro_rules! case {
    ($function:ident, $section:literal, $title:literal) => {
        $crate::case::Case {
            module: module_path!(),
            name: stringify!($function),
            section: $section,
            title: $title,
            run: $function,
            known: &[],
        }
    };
}
pub(crate) use case;

/// Why a case says nothing about this runtime on this machine.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Ends the calling case without a verdict.
macro_rules! skip {
    ($($reason:tt)*) => {
        return Err($crate::case::Skip(format!($($reason)*)).into())
    };
}
pub(crate) use skip;

#[cfg(test)]
mod tests {
    #[test]
    fn a_reason_for_the_version_comes_first() {
        let known = &[("runc", "all"), ("runc 1.1", "old")];
        let case = crate::cases::all()[0];
        let case = super::Case { known, name: case.name, ..*case };
        assert_eq!(case.reason_for("runc", "1.1.5+ds1"), Some("old"));
        assert_eq!(case.reason_for("runc", "1.3.6"), Some("all"));
        assert_eq!(case.reason_for("crun", "1.1"), None);
    }
}
