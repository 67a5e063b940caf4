//! Classic BPF as far as seccomp filters use it.

/// An instruction: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    /// Instructions to skip if a test holds.
    pub(super) if_true: u8,
    /// Instructions to skip if it does not.
    pub(super) if_false: u8,
    pub(super) operand: u32,
}

pub(super) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(super) const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub(super) const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(super) const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
pub(super) const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub(super) const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
pub(super) const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Where the call's number, its architecture and its arguments are in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
pub(super) const ARGUMENTS: u32 = 16;

/// The bit that tells an x32 call from an x86_64 one: the kernel gives both the same architecture.
pub(super) const X32_BIT: u32 = 1 << 30;

pub(super) const fn test(code: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, operand }
}

pub(super) const fn plain(code: u16, operand: u32) -> Instruction {
    test(code, operand, 0, 0)
}

/// Reads instructions in the machine's byte order.
pub(super) fn parse(bytes: &[u8]) -> Vec<Instruction> {
    let (instructions, _) = bytes.as_chunks::<8>();
    let parse = |&[c0, c1, if_true, if_false, o0, o1, o2, o3]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([c0, c1]),
        if_true,
        if_false,
        operand: u32::from_ne_bytes([o0, o1, o2, o3]),
    };
    instructions.iter().map(parse).collect()
}

/// Writes instructions in the machine's byte order.
pub(super) fn bytes(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.if_true, instruction.if_false]);
        bytes.extend(instruction.operand.to_ne_bytes());
    }
    bytes
}

/// What a program does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It returns this.
    Return(u32),
    /// It looks at an argument, which is not known: the load at this index.
    Looks(usize),
}

/// Runs a program; `args` that are not known stop it where it first looks at one. None for a program that is not one
/// of libseccomp's: an instruction that it does not use, or no end.
pub(super) fn run(program: &[Instruction], arch: u32, number: u32, args: Option<&[u64; 6]>) -> Option<Outcome> {
    let (mut value, mut at) = (0, 0);
    loop {
        let instruction = program.get(at)?;
        let operand = instruction.operand;
        let holds = match instruction.code {
            LOAD => {
                value = match (operand, args) {
                    (NUMBER, _) => number,
                    (ARCH, _) => arch,
                    (_, None) => return Some(Outcome::Looks(at)),
                    (_, Some(args)) => argument_word(args, operand)?,
                };
                at += 1;
                continue;
            }
            AND => {
                value &= operand;
                at += 1;
                continue;
            }
            JUMP => {
                at += 1 + operand as usize;
                continue;
            }
            RETURN => return Some(Outcome::Return(operand)),
            EQUAL => value == operand,
            GREATER => value > operand,
            AT_LEAST => value >= operand,
            ANY_BIT => value & operand != 0,
            _ => return None,
        };
        at += 1 + usize::from(if holds { instruction.if_true } else { instruction.if_false });
    }
}

pub(super) fn argument_word(args: &[u64; 6], offset: u32) -> Option<u32> {
    let offset = offset.checked_sub(ARGUMENTS)? as usize;
    let bytes = args.get(offset / 8)?.to_ne_bytes();
    let half = bytes.get(offset % 8..offset % 8 + 4)?;
    Some(u32::from_ne_bytes(half.try_into().ok()?))
}
