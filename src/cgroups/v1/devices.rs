//! The device list of v1: `devices.allow` and `devices.deny`.

use std::path::Path;

use crate::cgroups::device_rules::{ALL, Node, Rule};
use crate::cgroups::file;
use crate::error::{Result, bail};

/// What the kernel keeps: a default and the exceptions to it, exactly one for each node and pair of numbers.
#[derive(Debug, PartialEq, Eq)]
struct List {
    allow: bool,
    exceptions: Vec<Rule>,
}

impl List {
    /// Replays the rules in their order, beginning with everything denied. A rule that the kernel would silently ignore
    /// is refused: a container would have a device that its config denies.
    fn replay(rules: &[Rule]) -> Result<Self> {
        let mut list = Self { allow: false, exceptions: Vec::new() };
        for rule in rules {
            if rule.node != Node::Any {
                list.apply(*rule)?;
            } else if rule.major.is_none() && rule.minor.is_none() && rule.access == ALL {
                list = Self { allow: rule.allow, exceptions: Vec::new() };
            } else if rule.access == ALL || rule.allow {
                // The kernel takes any `a` for everything: `a 1:3 r` would allow all devices.
                list.apply(Rule { node: Node::Char, ..*rule })?;
                list.apply(Rule { node: Node::Block, ..*rule })?;
            } else {
                list = Self { allow: false, exceptions: list.denied(*rule)? };
            }
        }
        Ok(list)
    }

    /// The exceptions left after `a *:* r` and the like took some access away from all of them.
    fn denied(&self, rule: Rule) -> Result<Vec<Rule>> {
        if self.allow || rule.major.is_some() || rule.minor.is_some() {
            bail!("{rule}: cgroup v1 cannot deny a part of what all devices may do");
        }
        let mut left = self.exceptions.clone();
        left.iter_mut().for_each(|exception| exception.access &= !rule.access);
        left.retain(|exception| exception.access != 0);
        Ok(left)
    }

    fn apply(&mut self, rule: Rule) -> Result<()> {
        let same = |exception: &Rule| {
            (exception.node, exception.major, exception.minor) == (rule.node, rule.major, rule.minor)
        };
        if rule.allow != self.allow {
            match self.exceptions.iter_mut().find(|exception| same(exception)) {
                Some(exception) => exception.access |= rule.access,
                None => self.exceptions.push(rule),
            }
            return Ok(());
        }
        let wider = |exception: &&Rule| {
            let covers = |own: Option<u32>, other: Option<u32>| own.is_none() || own == other;
            exception.node == rule.node
                && covers(exception.major, rule.major)
                && covers(exception.minor, rule.minor)
                && exception.access & rule.access != 0
                && !same(exception)
        };
        if let Some(wider) = self.exceptions.iter().find(wider) {
            bail!("{rule}: not supported by cgroup v1 (cannot punch a hole in the wildcard rule {wider})");
        }
        for exception in self.exceptions.iter_mut().filter(|exception| same(exception)) {
            exception.access &= !rule.access;
        }
        self.exceptions.retain(|exception| exception.access != 0);
        Ok(())
    }
}

/// Writes the list that the rules amount to.
pub(super) fn set(dir: &Path, rules: &[Rule]) -> Result<()> {
    let list = List::replay(rules)?;
    let (default, exceptions) = if list.allow { ("allow", "deny") } else { ("deny", "allow") };
    file::write(dir, &format!("devices.{default}"), "a")?;
    if list.exceptions.is_empty() {
        return Ok(());
    }
    let name = format!("devices.{exceptions}");
    let open = file::open(dir, &name)?;
    list.exceptions.iter().try_for_each(|exception| file::write_to(&open, dir, &name, &exception.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::device_rules;
    use crate::error::one_line;

    fn list(json: &str) -> Result<(bool, Vec<String>)> {
        let list = List::replay(&device_rules::parse(&serde_json::from_str::<Vec<_>>(json).unwrap())?)?;
        Ok((list.allow, list.exceptions.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn rules_count_in_their_order() {
        let found = list(
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"access":"rwm"},
                {"allow":true,"type":"c","major":1,"minor":3,"access":"r"},
                {"allow":true,"type":"c","major":1,"minor":3,"access":"w"},
                {"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}]"#,
        );
        assert_eq!(found.unwrap(), (false, vec!["c 1:3 rw".into()]));
        let found = list(
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","access":"rwm"},
                {"allow":true,"type":"b","access":"m"}]"#,
        );
        assert_eq!(found.unwrap(), (true, vec!["b *:* rw".into()]));
    }

    #[test]
    fn all_with_numbers_is_never_everything() {
        let found = list(r#"[{"allow":true,"major":1,"minor":3,"access":"rwm"}]"#);
        assert_eq!(found.unwrap(), (false, vec!["c 1:3 rwm".into(), "b 1:3 rwm".into()]));
        let found = list(r#"[{"allow":true,"type":"c","major":1,"access":"rw"},{"allow":false,"access":"w"}]"#);
        assert_eq!(found.unwrap(), (false, vec!["c 1:* r".into()]));
    }

    #[test]
    fn a_hole_that_the_kernel_would_ignore_is_refused() {
        let error = list(
            r#"[{"allow":true,"type":"c","access":"rw"},{"allow":false,"type":"c","major":1,"minor":1,"access":"r"}]"#,
        );
        assert_eq!(
            one_line(&error.unwrap_err()),
            "c 1:1 r: not supported by cgroup v1 (cannot punch a hole in the wildcard rule c *:* rw)"
        );
    }
}
