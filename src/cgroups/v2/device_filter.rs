//! The device rules as an eBPF program: v2 has no device files.

use crate::cgroups::device_rules::{ALL, Node, Rule};
use crate::sys::bpf::Instruction;

// Registers: the context (struct bpf_cgroup_dev_ctx), then what it says.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const NODE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Both in one, as the kernel has them: 12 bits and 20.
const NUMBER: u8 = 6;

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND_32: u8 = 0x54;
const SHIFT_LEFT: u8 = 0x67;
const OR_REGISTER: u8 = 0x4f;
const SHIFT_RIGHT_32: u8 = 0x74;
const JUMP: u8 = 0x05;
const JUMP_IF_ANY_BIT: u8 = 0x45;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

const MINOR_BITS: i32 = 20;

const DEVICE_BLOCK: i32 = 1;
const DEVICE_CHAR: i32 = 2;

fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

fn answer(allow: bool) -> [Instruction; 2] {
    [instruction(MOVE, RESULT, 0, allow.into()), instruction(EXIT, 0, 0, 0)]
}

/// The program: for each access bit the last matching rule decides, what none matches is denied.
///
/// It walks the rules backwards. ACCESS holds the bits that are still undecided: a rule that denies one of them denies
/// the access, a rule that allows takes its bits away until none is left.
pub(super) fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, NODE | CONTEXT << 4, 0, 0), // access_type: node in the low, access in the high half
        instruction(MOVE_REGISTER, ACCESS | NODE << 4, 0, 0),
        instruction(AND_32, NODE, 0, 0xffff),
        instruction(SHIFT_RIGHT_32, ACCESS, 0, 16),
        instruction(LOAD_WORD, MAJOR | CONTEXT << 4, 4, 0),
        instruction(LOAD_WORD, MINOR | CONTEXT << 4, 8, 0),
        instruction(MOVE_REGISTER, NUMBER | MAJOR << 4, 0, 0),
        instruction(SHIFT_LEFT, NUMBER, 0, MINOR_BITS),
        instruction(OR_REGISTER, NUMBER | MINOR << 4, 0, 0),
    ];
    let mut rules = rules;
    while let Some((rule, before)) = rules.split_last() {
        if is_everything(rule) {
            // The verifier refuses unreachable instructions: rules before this one decide nothing.
            program.extend(answer(rule.allow));
            return program;
        }
        let group = group(rules);
        if group.is_empty() {
            program.extend(block(rule));
            rules = before;
        } else {
            rules = &rules[..rules.len() - group.len()];
            program.extend(together(rule, &group));
        }
    }
    program.extend(answer(false));
    program
}

/// More in a group could be too far to jump over.
const LARGEST_GROUP: usize = 1000;

/// The comparisons of the last rules that are alike: for nodes of one kind, for all access, and with the same answer. Which
/// of them matches does not matter then.
fn group(rules: &[Rule]) -> Vec<(u8, i32)> {
    let Some(last) = rules.last() else { return Vec::new() };
    let alike = |rule: &&Rule| rule.node == last.node && rule.allow == last.allow;
    rules.iter().rev().take(LARGEST_GROUP).take_while(alike).map_while(comparison).collect()
}

/// The register and the value that tell whether a node of the right kind is the rule's; none if it takes more than one look.
fn comparison(rule: &Rule) -> Option<(u8, i32)> {
    if rule.node == Node::Any || rule.access != ALL {
        return None;
    }
    let major = i32::try_from(rule.major?).ok()?;
    let Some(minor) = rule.minor else { return Some((MAJOR, major)) };
    // A larger one would be sign-extended, or, if it is none of a device, look like another.
    let fits = major < 1 << (31 - MINOR_BITS) && minor < 1 << MINOR_BITS;
    fits.then_some((NUMBER, major << MINOR_BITS | minor as i32))
}

/// A group: each of its rules is one jump to what all of them decide. For the verifier, which follows both ways from each
/// jump, that is a third of the work: it was a tenth of a start.
fn together(rule: &Rule, group: &[(u8, i32)]) -> Vec<Instruction> {
    let decision = answer(rule.allow);
    let behind = group.len() + 1 + decision.len();
    let node = if rule.node == Node::Char { DEVICE_CHAR } else { DEVICE_BLOCK };
    let mut block = Vec::with_capacity(1 + behind);
    block.push(instruction(JUMP_UNLESS_EQUAL, NODE, behind as i16, node)); // LARGEST_GROUP fits
    for (index, (register, value)) in group.iter().enumerate() {
        block.push(instruction(JUMP_IF_EQUAL, *register, (group.len() - index) as i16, *value));
    }
    block.push(instruction(JUMP, 0, decision.len() as i16, 0));
    block.extend(decision);
    block
}

fn is_everything(rule: &Rule) -> bool {
    rule.node == Node::Any && rule.major.is_none() && rule.minor.is_none() && rule.access == ALL
}

/// One rule: conditions that jump behind the block, then what it decides.
fn block(rule: &Rule) -> Vec<Instruction> {
    let mut conditions = Vec::with_capacity(3);
    match rule.node {
        Node::Any => {}
        Node::Block => conditions.push((NODE, DEVICE_BLOCK)),
        Node::Char => conditions.push((NODE, DEVICE_CHAR)),
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        match number.map(i32::try_from) {
            None => {}
            Some(Ok(number)) => conditions.push((register, number)),
            // Device numbers have 12 and 20 bits: this one matches nothing (and would be sign-extended).
            Some(Err(_)) => return Vec::new(),
        }
    }
    let decision = if rule.allow { allow(rule.access) } else { deny(rule.access) };
    let mut block = Vec::with_capacity(conditions.len() + decision.len());
    for (index, (register, value)) in conditions.iter().enumerate() {
        let behind = conditions.len() - index - 1 + decision.len();
        block.push(instruction(JUMP_UNLESS_EQUAL, *register, behind as i16, *value)); // at most 2 + 4
    }
    block.extend(decision);
    block
}

fn allow(access: u8) -> Vec<Instruction> {
    if access == ALL {
        return answer(true).into();
    }
    let mut decision =
        vec![instruction(AND_32, ACCESS, 0, (ALL & !access).into()), instruction(JUMP_UNLESS_EQUAL, ACCESS, 2, 0)];
    decision.extend(answer(true));
    decision
}

fn deny(access: u8) -> Vec<Instruction> {
    if access == ALL {
        return answer(false).into();
    }
    let mut decision = vec![instruction(JUMP_IF_ANY_BIT, ACCESS, 1, access.into()), instruction(JUMP, 0, 2, 0)];
    decision.extend(answer(false));
    decision
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::device_rules::{self, MKNOD, READ, WRITE};
    use crate::sys::bpf;

    /// Runs a program as the kernel would, for one access.
    fn run(program: &[Instruction], node: i32, major: u32, minor: u32, access: u8) -> bool {
        let context = [u32::from(access) << 16 | node as u32, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let mut next = at + 1;
            let jump = at.checked_add_signed(1 + isize::from(offset)).unwrap();
            match code {
                LOAD_WORD => registers[to] = context[usize::try_from(offset).unwrap() / 4].into(),
                MOVE => registers[to] = immediate as u64,
                MOVE_REGISTER => registers[to] = registers[from],
                AND_32 => registers[to] = u64::from(registers[to] as u32 & immediate as u32),
                SHIFT_RIGHT_32 => registers[to] = u64::from(registers[to] as u32 >> immediate),
                SHIFT_LEFT => registers[to] <<= immediate,
                OR_REGISTER => registers[to] |= registers[from],
                JUMP => next = jump,
                JUMP_IF_ANY_BIT if registers[to] & immediate as u64 != 0 => next = jump,
                JUMP_UNLESS_EQUAL if registers[to] != immediate as u64 => next = jump,
                JUMP_IF_EQUAL if registers[to] == immediate as u64 => next = jump,
                JUMP_IF_ANY_BIT | JUMP_IF_EQUAL | JUMP_UNLESS_EQUAL => {}
                EXIT => return registers[usize::from(RESULT)] == 1,
                other => panic!("{other:#x} at {at}"),
            }
            at = next;
        }
    }

    /// What the program has to say, by the definition.
    fn expected(rules: &[Rule], node: i32, major: u32, minor: u32, access: u8) -> bool {
        let wanted = if node == DEVICE_CHAR { Node::Char } else { Node::Block };
        [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let last = rules.iter().rev().find(|rule| {
                (rule.node == Node::Any || rule.node == wanted)
                    && rule.major.is_none_or(|number| number == major)
                    && rule.minor.is_none_or(|number| number == minor)
                    && rule.access & bit != 0
            });
            last.is_some_and(|rule| rule.allow)
        })
    }

    fn agree(rules: &[Rule]) {
        let program = program(rules);
        for node in [DEVICE_CHAR, DEVICE_BLOCK] {
            for (major, minor) in [(0, 0), (1, 0), (1, 1), (0, 1), (2, 2), (1, 3), (136, 4)] {
                for access in 1..=ALL {
                    assert_eq!(
                        run(&program, node, major, minor, access),
                        expected(rules, node, major, minor, access),
                        "{rules:?}: {node} {major}:{minor} {access}"
                    );
                }
            }
        }
    }

    /// A small generator of numbers, the same in each run.
    fn random_rules(seed: &mut u64) -> Vec<Rule> {
        let mut next = |below: u64| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 33) % below
        };
        let number = |value: u64| (value < 3).then_some(value as u32);
        (0..next(9))
            .map(|_| Rule {
                allow: next(3) > 0,
                node: [Node::Any, Node::Block, Node::Char][next(3) as usize],
                major: number(next(5)),
                minor: number(next(5)),
                access: if next(2) == 0 { ALL } else { next(7) as u8 + 1 },
            })
            .collect()
    }

    #[test]
    fn rules_that_are_alike_are_a_jump_each() {
        let program = program(&device_rules::rules(&oci_spec::runtime::LinuxResources::default()).unwrap());
        assert!(program.len() < 40, "{} instructions", program.len());
    }

    #[test]
    fn numbers_that_do_not_fit_into_one_are_compared_apart() {
        let rule =
            |major, minor| Rule { allow: true, node: Node::Char, major: Some(major), minor: Some(minor), access: ALL };
        let rules = [rule(4095, 5), rule(1, 1 << 20), rule(2048, 0), rule(2047, 0xfffff)];
        let program = program(&rules);
        for (major, minor, allowed) in
            [(4095, 5, true), (2, 0, false), (1, 0, false), (2048, 0, true), (2047, 0xfffff, true), (2047, 0, false)]
        {
            assert_eq!(run(&program, DEVICE_CHAR, major, minor, READ), allowed, "{major}:{minor}");
        }
    }

    #[test]
    fn the_last_matching_rule_decides_each_access_bit() {
        let mut seed = 1;
        for _ in 0..2000 {
            agree(&random_rules(&mut seed));
        }
    }

    #[test]
    fn dockers_rules_with_the_defaults_behind() {
        let resources = serde_json::from_str(
            r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"},
                {"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}]}"#,
        )
        .unwrap();
        let rules = device_rules::rules(&resources).unwrap();
        agree(&rules);
        let program = program(&rules);
        assert!(run(&program, DEVICE_CHAR, 1, 3, READ | WRITE));
        assert!(run(&program, DEVICE_BLOCK, 8, 0, MKNOD));
        assert!(!run(&program, DEVICE_BLOCK, 8, 0, READ));
        assert!(!run(&program, DEVICE_CHAR, 1, 1, READ | MKNOD));
    }

    #[test]
    fn a_number_beyond_every_device_matches_nothing() {
        let rules = [Rule { allow: true, node: Node::Char, major: Some(u32::MAX), minor: None, access: ALL }];
        assert!(!run(&program(&rules), DEVICE_CHAR, u32::MAX, 0, READ));
    }

    #[test]
    fn the_kernels_verifier_accepts_any_rules() {
        let mut seed = 7;
        for _ in 0..100 {
            let rules = random_rules(&mut seed);
            match bpf::load_device_program(&program(&rules)) {
                Ok(_) => {}
                Err(errno @ (nix::errno::Errno::EPERM | nix::errno::Errno::ENOSYS)) => {
                    println!("skipped: bpf(2) says {errno}");
                    return;
                }
                Err(errno) => panic!("{rules:?}: {errno}"),
            }
        }
    }
}
