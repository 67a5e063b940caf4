//! The same filter in fewer instructions.
//!
//! libseccomp writes a test and a return for each system call and architecture: 1,250 instructions for an engine's
//! usual profile. The kernel checks, compiles and probes them at each start. But neighbouring numbers mostly share
//! their fate: what a program does is a handful of ranges of numbers on each architecture, and the few pieces that
//! look at arguments. So this takes the finished program apart into those, and writes a search tree over the ranges.
//!
//! It only relies on what the program says, not on how libseccomp came to it. Whatever it does not understand, or a
//! result that does not do the same, leaves the program as it is.

use std::collections::{BTreeMap, BTreeSet};

use super::bpf::{
    AND, ANY_BIT, ARCH, AT_LEAST, EQUAL, GREATER, Instruction, JUMP, LOAD, NUMBER, Outcome, RETURN, X32_BIT, plain,
    run, test,
};

/// How far a test may jump, with room for the stepping stones that are put in between.
const REACH: usize = 250;

/// Up to so many numbers are told apart one by one, more by halves.
const CHAIN: usize = 4;

/// Numbers that the program treats alike.
#[derive(Clone, Copy)]
struct Range {
    first: u32,
    last: u32,
    outcome: Outcome,
}

/// The shorter program, if there is one.
pub(super) fn compact(program: &[Instruction]) -> Option<Vec<Instruction>> {
    let limits = limits(program)?;
    let compact = rewrite(program, &limits)?;
    (compact.len() < program.len() && same(program, &compact, &limits)).then_some(compact)
}

fn rewrite(program: &[Instruction], limits: &Limits) -> Option<Vec<Instruction>> {
    let mut writer = Writer { program, backwards: Vec::new(), returns: BTreeMap::new(), pieces: BTreeMap::new() };
    let mut entry = writer.architecture(&ranges(program, limits, limits.unknown_arch)?)?;
    let mut entries = Vec::new();
    for &arch in &limits.archs {
        entries.push((arch, writer.architecture(&ranges(program, limits, arch)?)?));
    }
    for (arch, section) in entries {
        entry = writer.test(EQUAL, arch, section, entry);
    }
    writer.go_on_at(entry);
    writer.backwards.push(plain(LOAD, ARCH));
    writer.backwards.reverse();
    Some(writer.backwards)
}

/// The values at which a program's behaviour can change.
struct Limits {
    archs: BTreeSet<u32>,
    /// Stands for all that the program does not name.
    unknown_arch: u32,
    numbers: BTreeSet<u32>,
}

/// Follows what each test looks at (jumps only go forward, one pass sees all). None if a test could look at two
/// things, or at something other than a plain number or architecture.
fn limits(program: &[Instruction]) -> Option<Limits> {
    #[derive(Clone, Copy, PartialEq)]
    enum Value {
        Never,
        Arch,
        Number,
        Argument,
        Mixed,
    }
    let mut values = vec![Value::Never; program.len() + 1];
    let mut limits = Limits { archs: BTreeSet::new(), unknown_arch: 0, numbers: BTreeSet::from([0]) };
    let mut reached = vec![false; program.len() + 1];
    reached[0] = true;
    for (at, instruction) in program.iter().enumerate() {
        if !reached[at] {
            continue;
        }
        let operand = instruction.operand;
        let value = match (instruction.code, operand) {
            (LOAD, NUMBER) => Value::Number,
            (LOAD, ARCH) => Value::Arch,
            (LOAD, _) => Value::Argument,
            (AND, _) if values[at] != Value::Argument => return None,
            _ => values[at],
        };
        let tested = [EQUAL, GREATER, AT_LEAST, ANY_BIT].contains(&instruction.code);
        match (tested, value, instruction.code) {
            (false, ..) | (true, Value::Argument, _) => {}
            (true, Value::Arch, EQUAL) => _ = limits.archs.insert(operand),
            (true, Value::Number, EQUAL) => limits.numbers.extend([operand, operand.saturating_add(1)]),
            (true, Value::Number, GREATER) => _ = limits.numbers.insert(operand.saturating_add(1)),
            (true, Value::Number, AT_LEAST) => _ = limits.numbers.insert(operand),
            (true, Value::Number, ANY_BIT) if operand == X32_BIT => {
                limits.numbers.extend((1..4).map(|i| i * X32_BIT));
            }
            _ => return None,
        }
        for next in successors(program, at)? {
            let known = &mut values[next];
            *known = if !reached[next] || *known == value { value } else { Value::Mixed };
            reached[next] = true;
        }
    }
    limits.unknown_arch = (0..).find(|arch| !limits.archs.contains(arch))?;
    Some(limits)
}

/// The instructions that may come next, all of them in the program.
fn successors(program: &[Instruction], at: usize) -> Option<impl Iterator<Item = usize> + use<>> {
    let instruction = program[at];
    let (one, other) = match instruction.code {
        RETURN => (None, None),
        LOAD | AND => (Some(at + 1), None),
        JUMP => (Some(at + 1 + instruction.operand as usize), None),
        EQUAL | GREATER | AT_LEAST | ANY_BIT => {
            (Some(at + 1 + usize::from(instruction.if_true)), Some(at + 1 + usize::from(instruction.if_false)))
        }
        _ => return None,
    };
    let inside = |next: Option<usize>| next.is_none_or(|next| next < program.len());
    (inside(one) && inside(other)).then(|| one.into_iter().chain(other))
}

fn ranges(program: &[Instruction], limits: &Limits, arch: u32) -> Option<Vec<Range>> {
    let mut ranges: Vec<Range> = Vec::new();
    for &first in &limits.numbers {
        let outcome = run(program, arch, first, None)?;
        match ranges.last_mut() {
            Some(before) if before.outcome == outcome => continue,
            Some(before) => before.last = first - 1, // limits ascend
            None => {}
        }
        ranges.push(Range { first, last: u32::MAX, outcome });
    }
    Some(ranges)
}

/// Whether two programs agree at all limits and beside them, for a few arguments.
fn same(one: &[Instruction], other: &[Instruction], limits: &Limits) -> bool {
    const SAMPLES: [[u64; 6]; 4] = [[0; 6], [1; 6], [u64::MAX; 6], [u32::MAX as u64; 6]];
    let numbers = || limits.numbers.iter().flat_map(|&limit| [limit.wrapping_sub(1), limit]);
    limits.archs.iter().chain([&limits.unknown_arch]).all(|&arch| {
        numbers().all(|number| {
            SAMPLES.iter().all(|args| {
                let expected = run(one, arch, number, Some(args));
                expected.is_some() && expected == run(other, arch, number, Some(args))
            })
        })
    })
}

/// Writes a program from its end, so that what a jump goes to is always there already. A place is an index into
/// `backwards`.
struct Writer<'a> {
    program: &'a [Instruction],
    backwards: Vec<Instruction>,
    /// The last place that returns a value.
    returns: BTreeMap<u32, usize>,
    /// The places of the pieces that look at arguments, by where they start in the program.
    pieces: BTreeMap<usize, usize>,
}

impl Writer<'_> {
    fn push(&mut self, instruction: Instruction) -> usize {
        self.backwards.push(instruction);
        self.backwards.len() - 1
    }

    /// What the next instruction has to skip to get to a place.
    fn distance(&self, place: usize) -> usize {
        self.backwards.len() - 1 - place
    }

    /// The place, or a stepping stone to it if a test would not reach it.
    fn near(&mut self, place: usize) -> usize {
        if self.distance(place) <= REACH {
            return place;
        }
        match self.backwards[place] {
            Instruction { code: RETURN, operand, .. } => self.result(operand),
            _ => self.push(plain(JUMP, self.distance(place) as u32)),
        }
    }

    fn go_on_at(&mut self, place: usize) {
        if self.distance(place) > 0 {
            self.push(plain(JUMP, self.distance(place) as u32));
        }
    }

    fn result(&mut self, value: u32) -> usize {
        match self.returns.get(&value) {
            Some(&place) if self.distance(place) <= REACH => place,
            _ => {
                let place = self.push(plain(RETURN, value));
                self.returns.insert(value, place);
                place
            }
        }
    }

    fn test(&mut self, code: u16, operand: u32, if_true: usize, if_false: usize) -> usize {
        if if_true == if_false {
            return if_true;
        }
        let (if_true, if_false) = (self.near(if_true), self.near(if_false));
        // REACH leaves room for the stone of the other branch: both fit 8 bits.
        let (if_true, if_false) = (self.distance(if_true) as u8, self.distance(if_false) as u8);
        self.push(test(code, operand, if_true, if_false))
    }

    fn architecture(&mut self, ranges: &[Range]) -> Option<usize> {
        for range in ranges {
            if let Outcome::Looks(at) = range.outcome {
                self.piece(at)?;
            }
        }
        let tree = self.tree(ranges);
        if let [_] = ranges {
            return Some(tree);
        }
        self.go_on_at(tree);
        Some(self.push(plain(LOAD, NUMBER)))
    }

    fn tree(&mut self, ranges: &[Range]) -> usize {
        if let Some(chain) = self.chain(ranges) {
            return chain;
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let (if_true, if_false) = (self.tree(high), self.tree(low));
        self.test(AT_LEAST, high[0].first, if_true, if_false)
    }

    /// A few single numbers in what is otherwise one range need one test each, where a tree needs two.
    fn chain(&mut self, ranges: &[Range]) -> Option<usize> {
        let most = ranges.iter().max_by_key(|range| range.last - range.first)?.outcome;
        let singles = || ranges.iter().filter(|range| range.outcome != most);
        if singles().count() > CHAIN || singles().any(|range| range.first != range.last) {
            return None;
        }
        let mut entry = self.outcome(most);
        for single in singles() {
            let place = self.outcome(single.outcome);
            entry = self.test(EQUAL, single.first, place, entry);
        }
        Some(entry)
    }

    fn outcome(&mut self, outcome: Outcome) -> usize {
        match outcome {
            Outcome::Return(value) => self.result(value),
            Outcome::Looks(at) => self.pieces[&at], // architecture() has just written them all
        }
    }

    /// Copies what the program does from an instruction on. It begins by loading, so it needs nothing from before.
    fn piece(&mut self, start: usize) -> Option<()> {
        if self.pieces.contains_key(&start) {
            return Some(());
        }
        let mut reachable = BTreeSet::from([start]);
        for at in start..self.program.len() {
            if reachable.contains(&at) {
                reachable.extend(successors(self.program, at)?);
            }
        }
        let mut places = BTreeMap::new();
        for &at in reachable.iter().rev() {
            let instruction = self.program[at];
            let next = |skip: usize| places[&(at + 1 + skip)]; // reachable, behind, and so written before
            let place = match instruction.code {
                RETURN => self.result(instruction.operand),
                JUMP => next(instruction.operand as usize),
                LOAD | AND => {
                    self.go_on_at(next(0));
                    self.push(plain(instruction.code, instruction.operand))
                }
                code => {
                    let (if_true, if_false) = (next(instruction.if_true.into()), next(instruction.if_false.into()));
                    self.test(code, instruction.operand, if_true, if_false)
                }
            };
            places.insert(at, place);
        }
        self.pieces.insert(start, places[&start]);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use libseccomp::{ScmpArch, ScmpSyscall};
    use serde_json::{Value, json};

    use super::super::bpf::bytes;
    use super::super::compile::generate;
    use super::*;

    const X86_64: u32 = 0xc000_003e;
    const X86: u32 = 0x4000_0003;

    /// A sequence that looks random and is the same at each run.
    struct Sequence(u64);

    impl Sequence {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % end
        }

        fn of<T: Copy>(&mut self, all: &[T]) -> T {
            all[self.below(all.len())]
        }
    }

    const OPERATORS: [&str; 7] = [
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ];
    const ACTIONS: [&str; 5] =
        ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_LOG"];
    const VALUES: [u64; 9] = [0, 1, 2, 0xff, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX - 1, u64::MAX];

    fn profile(sequence: &mut Sequence) -> Value {
        let mut rules = Vec::new();
        for _ in 0..sequence.below(12) {
            let names: Vec<String> = (0..1 + sequence.below(30))
                .filter_map(|_| {
                    let number = ScmpSyscall::from_raw_syscall(sequence.below(450) as i32);
                    number.get_name_by_arch(sequence.of(&[ScmpArch::X8664, ScmpArch::X86])).ok()
                })
                .collect();
            let mut rule = json!({ "names": names, "action": sequence.of(&ACTIONS) });
            if sequence.below(3) == 0 {
                let arg = |sequence: &mut Sequence| {
                    json!({
                        "index": sequence.below(6), "op": sequence.of(&OPERATORS),
                        "value": sequence.of(&VALUES), "valueTwo": sequence.of(&VALUES),
                    })
                };
                rule["args"] = (0..1 + sequence.below(3)).map(|_| arg(sequence)).collect();
            }
            rules.push(rule);
        }
        let archs = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
        json!({
            "defaultAction": sequence.of(&ACTIONS), "syscalls": rules, "architectures": archs[..sequence.below(4)],
        })
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_short_program_does_the_same_for_every_call() {
        let (mut sequence, mut tried) = (Sequence(1), 0);

        for _ in 0..150 {
            let profile = profile(&mut sequence);
            // libseccomp refuses some contradictions.
            let long = match generate(&serde_json::from_value(profile.clone()).unwrap()) {
                Ok(l) => l,
                Err(e) => {
                    println!("REF {e:#} ");
                    continue;
                }
            };
            let short = rewrite(&long, &limits(&long).unwrap()).unwrap();

            tried += 1;
            let edges = [X32_BIT, X32_BIT - 1, 2 * X32_BIT, 3 * X32_BIT, 3 * X32_BIT + 600, u32::MAX - 1, u32::MAX];
            for number in (0..600).chain(X32_BIT..X32_BIT + 600).chain(edges) {
                for arch in [X86_64, X86, 0xc000_00b7, 0] {
                    let args = [(); 6].map(|()| sequence.of(&VALUES));
                    let (one, other) = (run(&long, arch, number, Some(&args)), run(&short, arch, number, Some(&args)));
                    assert!(one.is_some() && one == other, "{arch:x} {number} {args:x?}: {one:?} {other:?} {profile}");
                }
            }
        }
        assert!(tried > 100, "{tried} of 150");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_long_allow_list_shrinks_to_its_ranges() {
        let names: Vec<String> = (0..300)
            .filter(|number| number % 20 != 0)
            .map(|number| ScmpSyscall::from_raw_syscall(number).get_name_by_arch(ScmpArch::X8664).unwrap())
            .collect();
        let rules = json!([{ "names": names, "action": "SCMP_ACT_ALLOW" }]);
        let long = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules });
        let long = generate(&serde_json::from_value(long).unwrap()).unwrap();
        let short = compact(&long).unwrap();
        assert!(long.len() > 300 && short.len() < 60, "{} {}", long.len(), short.len());
        assert!(bytes(&short).len() == short.len() * 8);
    }

    #[test]
    fn a_program_that_is_not_understood_stays_as_it_is() {
        let (number, allow) = (plain(LOAD, NUMBER), plain(RETURN, 0x7fff_0000));
        let store = plain((libc::BPF_ST) as u16, 0);
        let masked = plain(AND, 0xff);
        assert_eq!(compact(&[number, store, test(EQUAL, 1, 0, 0), allow, allow, allow]), None);
        assert_eq!(compact(&[number, masked, test(EQUAL, 1, 0, 0), allow, allow, allow]), None);
        assert_eq!(compact(&[number, test(EQUAL, 1, 0, 9), allow, allow, allow, allow]), None);
        assert_eq!(compact(&[test(EQUAL, 1, 0, 0), allow, allow, allow, allow]), None);
        assert_eq!(compact(&[]), None);
        assert_eq!(compact(&[number, test(EQUAL, 1, 0, 1), allow, allow, allow]), Some(vec![plain(LOAD, ARCH), allow]));
    }
}
