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

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const JUMP: u8 = 0x05;
const JUMP_IF_ANY_BIT: u8 = 0x45;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

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
    ];
    for rule in rules.iter().rev() {
        if is_everything(rule) {
            // The verifier refuses unreachable instructions: rules before this one decide nothing.
            program.extend(answer(rule.allow));
            return program;
        }
        program.extend(block(rule));
    }
    program.extend(answer(false));
    program
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
