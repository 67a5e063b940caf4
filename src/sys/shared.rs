//! Memory that this process and those that it forks have in common.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// Numbers, all zero, that a child sees change and the parent too. They are there until the process ends.
pub fn numbers(count: usize) -> nix::Result<&'static [AtomicU64]> {
    let Some(bytes) = NonZeroUsize::new(count * size_of::<AtomicU64>()) else { return Ok(&[]) };
    let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
    // SAFETY: the kernel chooses a place where nothing else is.
    let memory = unsafe { mmap_anonymous(None, bytes, protection, flags) }?;
    // SAFETY: the mapping is page-aligned, as long as `count` numbers, zeroed, and never unmapped; who else maps it has it
    // by a fork of this program, and uses it through these atomics, too.
    Ok(unsafe { std::slice::from_raw_parts(memory.as_ptr().cast(), count) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_is_stored_is_there() {
        let numbers = numbers(1000).unwrap();
        numbers[999].store(7, Ordering::Release);
        assert_eq!((numbers[998].load(Ordering::Acquire), numbers[999].load(Ordering::Acquire)), (0, 7));
    }
}
