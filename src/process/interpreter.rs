//! Why a program that is there cannot be executed: the kernel has the same words for what it needs beside it.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::args::{check_executable, go_words};
use crate::input;
use crate::root::obstacle;

/// As much as the kernel itself looks at to find a script's interpreter, and more: the headers of a program.
const HEAD: usize = 4096;

/// What execve(2) failed with, in the words that callers match, and which interpreter it is about.
pub fn explain(program: &Path, errno: Errno) -> String {
    let words = go_words(errno);
    let culprit = interpreter(program).and_then(|interpreter| {
        let errno = check_executable(&interpreter).err()?;
        Some(format!(": its interpreter {interpreter:?}: {}{}", go_words(errno), obstacle::hint(&interpreter)))
    });
    format!("exec {}: {words}{}", program.display(), culprit.unwrap_or_default())
}

fn interpreter(program: &Path) -> Option<PathBuf> {
    let mut head = Vec::with_capacity(HEAD);
    input::open(program).ok()?.take(HEAD as u64).read_to_end(&mut head).ok()?;
    let name = of_script(&head).or_else(|| of_program(&head))?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name)))
}

/// The first word behind `#!`.
fn of_script(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    line.split(|byte| byte.is_ascii_whitespace()).find(|word| !word.is_empty())
}

/// The dynamic linker that an ELF program of 64 bits asks for (PT_INTERP).
fn of_program(head: &[u8]) -> Option<&[u8]> {
    const PT_INTERP: u64 = 3;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    };
    let table = usize::try_from(number(32, 8)?).ok()?;
    let (size, count) = (number(54, 2)? as usize, number(56, 2)? as usize);
    let header =
        (0..count).map(|index| table.saturating_add(index * size)).find(|&at| number(at, 4) == Some(PT_INTERP))?;
    let start = usize::try_from(number(header + 8, 8)?).ok()?;
    let length = usize::try_from(number(header + 32, 8)?).ok()?;
    let name = head.get(start..start.checked_add(length)?)?;
    name.split(|&byte| byte == 0).next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_it_behind_the_mark() {
        assert_eq!(of_script(b"#!/bin/sh -e\necho"), Some(&b"/bin/sh"[..]));
        assert_eq!(of_script(b"#! /bin/x"), Some(&b"/bin/x"[..]));
        assert_eq!(of_script(b"#!\n"), None);
        assert_eq!(of_script(b"echo"), None);
    }

    #[test]
    fn a_program_names_its_linker_and_nonsense_nothing() {
        let program = std::fs::read("/bin/ls").unwrap();
        let head = &program[..HEAD.min(program.len())];
        assert!(of_program(head).unwrap().starts_with(b"/lib"), "{:?}", of_program(head));
        for length in [0, 6, 40, 60, 70] {
            assert_eq!(of_program(&head[..length]), None);
        }
        let mut wild = head.to_vec();
        wild[32..40].fill(0xff);
        assert_eq!(of_program(&wild), None);
    }

    #[test]
    fn what_is_executable_has_no_culprit() {
        assert_eq!(explain(Path::new("/bin/ls"), Errno::EACCES), "exec /bin/ls: permission denied");
    }
}
