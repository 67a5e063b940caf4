//! Lists of CPUs and of memory nodes as the kernel writes them: `0-3,7` (cpuset(7), "List format").

use crate::error::{Context as _, Result, ensure};

/// The largest number that is taken: more than any kernel has, and a mask of it is still small.
const LARGEST: u32 = 64 * 1024 - 1;

/// The mask of a list: bit N of it is the number N. Empty for an empty list.
pub fn mask(list: &str) -> Result<Vec<u64>> {
    let mut mask = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<u32>().with_context(|| format!("{list:?}: {text:?}"));
        let (first, last) = (number(first)?, number(last)?);
        ensure!(first <= last, "{list:?}: {range:?} ends before it begins");
        ensure!(last <= LARGEST, "{list:?}: {last} is more than {LARGEST}");
        let words = last as usize / 64 + 1;
        mask.resize(words.max(mask.len()), 0);
        (first..=last).for_each(|number| mask[number as usize / 64] |= 1 << (number % 64));
    }
    Ok(mask)
}

/// A mask as one number, as the kernel's tools write it: `0x8f`.
pub fn hexadecimal(mask: &[u64]) -> String {
    let mut words = mask.iter().rev().skip_while(|word| **word == 0);
    let first = words.next().copied().unwrap_or_default();
    words.fold(format!("{first:#x}"), |text, word| text + &format!("{word:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_mask_of_its_numbers() {
        assert!(mask("").unwrap().is_empty());
        assert_eq!(mask("0-3,7").unwrap(), [0b1000_1111]);
        assert_eq!(mask("64,1").unwrap(), [0b10, 1]);
        assert_eq!(mask(" 1 , 2 ,").unwrap(), [0b110]);
        assert_eq!(mask("65535").unwrap().len(), 1024);
    }

    #[test]
    fn a_mask_is_written_as_one_number() {
        assert_eq!(hexadecimal(&[]), "0x0");
        assert_eq!(hexadecimal(&[0b1000_1111, 0]), "0x8f");
        assert_eq!(hexadecimal(&[2, 1]), "0x10000000000000002");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in ["x", "1-", "-1", "3-1", "1,x", "65536", "0-4294967296"] {
            assert!(mask(bad).is_err(), "{bad}");
        }
    }
}
