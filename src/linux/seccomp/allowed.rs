//! Decides from the compiled program which system calls a filter lets through, so that no call is made that it refuses: a
//! refusal may kill the process.

use super::bpf::{
    AND, ANY_BIT, ARCH, AT_LEAST, EQUAL, GREATER, Instruction, JUMP, LOAD, NUMBER, RETURN, argument_word,
};

/// The most instructions that are looked at for one call; a program that takes more counts as a refusal.
const MOST_STEPS: usize = 1 << 16;

/// Returns whether each way through the program lets the call through. `None` is an argument that is not known: where the
/// program tests it, both ways count.
///
/// Unknown instructions, and programs without an end, count as a refusal.
pub(super) fn allows(program: &[Instruction], arch: u32, number: u32, args: &[Option<u64>; 6]) -> bool {
    let mut ways = vec![(0, Some(0))];
    let mut steps = 0;
    while let Some((mut at, mut value)) = ways.pop() {
        loop {
            steps += 1;
            let Some(instruction) = program.get(at).filter(|_| steps <= MOST_STEPS) else { return false };
            let operand = instruction.operand;
            at += 1;
            let test: fn(u32, u32) -> bool = match instruction.code {
                LOAD => {
                    value = match operand {
                        NUMBER => Some(number),
                        ARCH => Some(arch),
                        _ => known_word(args, operand),
                    };
                    continue;
                }
                AND => {
                    value = value.map(|value| value & operand);
                    continue;
                }
                JUMP => {
                    at += operand as usize;
                    continue;
                }
                RETURN if lets_through(operand) => break,
                EQUAL => |value, operand| value == operand,
                GREATER => |value, operand| value > operand,
                AT_LEAST => |value, operand| value >= operand,
                ANY_BIT => |value, operand| value & operand != 0,
                _ => return false,
            };
            let (if_true, if_false) = (at + usize::from(instruction.if_true), at + usize::from(instruction.if_false));
            at = match value {
                Some(value) if test(value, operand) => if_true,
                Some(_) => if_false,
                None => {
                    ways.push((if_false, value));
                    if_true
                }
            };
        }
    }
    true
}

fn lets_through(action: u32) -> bool {
    matches!(action & libc::SECCOMP_RET_ACTION_FULL, libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG)
}

/// Half of an argument, if the argument is known.
fn known_word(args: &[Option<u64>; 6], offset: u32) -> Option<u32> {
    let index = offset.checked_sub(super::bpf::ARGUMENTS)? as usize / 8;
    (*args.get(index)?)?;
    argument_word(&args.map(Option::unwrap_or_default), offset)
}

#[cfg(test)]
mod tests {
    use super::super::bpf::{plain, test};
    use super::*;

    const NATIVE: u32 = 0xc000_003e;
    const ALLOW: Instruction = plain(RETURN, libc::SECCOMP_RET_ALLOW);
    const DENY: Instruction = plain(RETURN, libc::SECCOMP_RET_ERRNO | 1);

    #[test]
    fn a_known_argument_decides_and_an_unknown_one_refuses() {
        // As engines write it: clone only without flags of namespaces.
        let program = [
            plain(LOAD, NUMBER),
            test(EQUAL, 56, 0, 4),
            plain(LOAD, 16),
            plain(AND, 0x7e02_0000),
            test(EQUAL, 0, 0, 1),
            ALLOW,
            DENY,
        ];
        let asked = |number, flags| allows(&program, NATIVE, number, &[flags, None, None, None, None, None]);
        assert!(asked(56, Some(0x8000)));
        assert!(!asked(56, Some(0x2000_0000)));
        assert!(!asked(56, None));
        assert!(!asked(57, Some(0)));
    }

    #[test]
    fn what_logs_lets_through_and_what_asks_or_ends_does_not() {
        let is = |action| allows(&[plain(RETURN, action)], NATIVE, 1, &[None; 6]);
        assert!(is(libc::SECCOMP_RET_ALLOW) && is(libc::SECCOMP_RET_LOG));
        for action in [
            libc::SECCOMP_RET_KILL_PROCESS,
            libc::SECCOMP_RET_KILL_THREAD,
            libc::SECCOMP_RET_TRAP,
            libc::SECCOMP_RET_USER_NOTIF,
            libc::SECCOMP_RET_TRACE,
            libc::SECCOMP_RET_ERRNO,
        ] {
            assert!(!is(action), "{action:#x}");
        }
    }

    #[test]
    fn a_program_that_is_not_understood_refuses() {
        assert!(!allows(&[], NATIVE, 1, &[None; 6]));
        assert!(!allows(&[plain(0xffff, 0), ALLOW], NATIVE, 1, &[None; 6]));
        assert!(!allows(&[plain(JUMP, u32::MAX), ALLOW], NATIVE, 1, &[None; 6]));
    }
}
