//! `linux.resources.devices` as the rules that v1's lists and v2's filter are made of.

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use crate::error::{Context, Result, bail};

/// Access bits, with the values of the kernel's `BPF_DEVCG_ACC_*`.
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

/// What kind of device a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Any,
    Block,
    Char,
}

/// One rule; no number means every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) node: Node,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: u8,
}

impl Rule {
    const fn allow(node: Node, major: Option<u32>, minor: Option<u32>, access: u8) -> Self {
        Self { allow: true, node, major, minor, access }
    }
}

/// The form of `devices.allow` and `devices.deny`: `c 1:3 rwm`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = match self.node {
            Node::Any => 'a',
            Node::Block => 'b',
            Node::Char => 'c',
        };
        write!(f, "{node} ")?;
        match self.major {
            Some(major) => write!(f, "{major}:")?,
            None => f.write_str("*:")?,
        }
        match self.minor {
            Some(minor) => write!(f, "{minor} ")?,
            None => f.write_str("* ")?,
        }
        for (bit, letter) in [(READ, "r"), (WRITE, "w"), (MKNOD, "m")] {
            if self.access & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// How many of the default rules allow to make any node.
const MKNOD_WILDCARDS: usize = 2;

/// What every container may do, whatever its config says: callers rely on runc's list and on its place after the
/// config's rules. mknod makes a node, opening it is another access; 10:200 is /dev/net/tun, without which VPNs broke in
/// runc 1.2.
const DEFAULTS: [Rule; MKNOD_WILDCARDS + 9] = [
    Rule::allow(Node::Char, None, None, MKNOD),
    Rule::allow(Node::Block, None, None, MKNOD),
    Rule::allow(Node::Char, Some(1), Some(3), ALL),    // null
    Rule::allow(Node::Char, Some(1), Some(8), ALL),    // random
    Rule::allow(Node::Char, Some(1), Some(7), ALL),    // full
    Rule::allow(Node::Char, Some(5), Some(0), ALL),    // tty
    Rule::allow(Node::Char, Some(1), Some(5), ALL),    // zero
    Rule::allow(Node::Char, Some(1), Some(9), ALL),    // urandom
    Rule::allow(Node::Char, Some(136), None, ALL),     // pts/*
    Rule::allow(Node::Char, Some(5), Some(2), ALL),    // ptmx
    Rule::allow(Node::Char, Some(10), Some(200), ALL), // net/tun
];

/// The config's rules, then the default ones. What no rule matches is denied.
pub(super) fn rules(resources: &LinuxResources) -> Result<Vec<Rule>> {
    let mut rules = parse(resources.devices().as_deref().unwrap_or_default())?;
    // Where all is allowed, the wildcards for mknod could only undo what the config denies in particular.
    let defaults = if deny_by_default(resources) { &DEFAULTS[..] } else { &DEFAULTS[MKNOD_WILDCARDS..] };
    rules.extend_from_slice(defaults);
    Ok(rules)
}

/// Whether the rules deny whatever they do not name, as the default and every engine's do. Making nodes is allowed then,
/// by the default rules; a list that allows all else may deny it.
pub fn deny_by_default(resources: &LinuxResources) -> bool {
    let blanket = |device: &&LinuxDeviceCgroup| {
        let all = |number: Option<i64>| matches!(number, None | Some(-1));
        device.typ().unwrap_or(LinuxDeviceType::A) == LinuxDeviceType::A && all(device.major()) && all(device.minor())
    };
    resources.devices().iter().flatten().rfind(blanket).is_none_or(|last| !last.allow())
}

/// The config's rules, refused if they are not what the spec allows.
pub(super) fn parse(configured: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut rules = Vec::with_capacity(configured.len() + DEFAULTS.len());
    for (index, device) in configured.iter().enumerate() {
        rules.push(rule(device).with_context(|| format!("linux.resources.devices[{index}]"))?);
    }
    Ok(rules)
}

fn rule(device: &LinuxDeviceCgroup) -> Result<Rule> {
    let node = match device.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => Node::Any,
        LinuxDeviceType::B => Node::Block,
        LinuxDeviceType::C => Node::Char,
        other => bail!("type: invalid cgroup device type {:?}", other.as_str()),
    };
    let mut access = 0;
    for letter in device.access().as_deref().unwrap_or_default().bytes() {
        access |= match letter {
            b'r' => READ,
            b'w' => WRITE,
            b'm' => MKNOD,
            // A type of device, no access; runc takes no notice of it.
            b'a' => 0,
            _ => bail!("access: {:?} is not made of r, w and m", device.access().as_deref().unwrap_or_default()),
        };
    }
    if access == 0 {
        bail!("access: device access field cannot be empty");
    }
    Ok(Rule {
        allow: device.allow(),
        node,
        major: number("major", device.major())?,
        minor: number("minor", device.minor())?,
        access,
    })
}

/// -1 is runc's own "every number", which older callers write.
fn number(name: &str, value: Option<i64>) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value).map(Some).ok().with_context(|| format!("{name}: {value} is out of range")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::one_line;

    fn parsed(json: &str) -> Result<Vec<Rule>> {
        parse(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap())
    }

    #[test]
    fn unset_means_all_and_rules_print_as_the_kernel_reads_them() {
        let rules = parsed(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
                {"allow":true,"type":"b","major":8,"minor":-1,"access":"r"}]"#,
        )
        .unwrap();
        let lines: Vec<_> = rules.iter().map(|rule| (rule.allow, rule.to_string())).collect();
        assert_eq!(lines, [(false, "a *:* rwm".into()), (true, "c 10:229 rw".into()), (true, "b 8:* r".into())]);
    }

    #[test]
    fn the_default_rules_come_last() {
        let resources = serde_json::from_str(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#).unwrap();
        let rules = rules(&resources).unwrap();
        assert!(!rules[0].allow);
        assert_eq!(rules[1..], DEFAULTS);
    }

    #[test]
    fn nonsense_is_refused_by_its_index() {
        for (json, expected) in [
            (r#"[{"allow":true,"type":"c","access":""}]"#, "linux.resources.devices[0]: access: device access field"),
            (r#"[{"allow":true,"type":"p","access":"r"}]"#, "linux.resources.devices[0]: type: "),
            (r#"[{"allow":true,"major":4294967296,"access":"r"}]"#, "linux.resources.devices[0]: major: 4294967296 "),
            (r#"[{"allow":true,"minor":-2,"access":"r"}]"#, "linux.resources.devices[0]: minor: -2 "),
        ] {
            let line = one_line(&parsed(json).unwrap_err());
            assert!(line.starts_with(expected), "{json}: {line}");
        }
    }
}
