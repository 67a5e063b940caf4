//! Whether a program can run in a root filesystem that holds nothing else.

/// `PT_INTERP` of elf(5): the program header that names the dynamic loader.
const PT_INTERP: u32 = 3;

/// True for an ELF64 little-endian program without a dynamic loader.
pub fn is_static(program: &[u8]) -> Option<bool> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(program.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(program.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(program.get(at..at + 8)?.try_into().ok()?));
    if program.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(u64_at(32)?).ok()?;
    let (entry, entries) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
    for index in 0..entries {
        if u32_at(table.checked_add(index * entry)?)? == PT_INTERP {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::is_static;

    fn program(kinds: &[u32]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(64, 0);
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = kinds.len() as u8;
        for kind in kinds {
            let start = bytes.len();
            bytes.extend(kind.to_le_bytes());
            bytes.resize(start + 56, 0);
        }
        bytes
    }

    #[test]
    fn the_loader_s_header_makes_the_difference() {
        assert_eq!(is_static(&program(&[1, 1, 4])), Some(true));
        assert_eq!(is_static(&program(&[1, 3, 4])), Some(false));
    }

    #[test]
    fn what_is_not_a_whole_program_is_neither() {
        assert_eq!(is_static(b"#!/bin/sh"), None);
        assert_eq!(is_static(&program(&[1, 3])[..70]), None);
        assert_eq!(is_static(&program(&[1, 1])[..66]), None);
    }
}
