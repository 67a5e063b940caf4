//! The program's heap, in the place of the C library's, whose bookkeeping was a fifth of the instructions of a start.
//!
//! Blocks are of a few sizes, and each size has a list of those that are free: to take one and to give it back are a few
//! instructions. Where a list is empty, a large free block is cut up: a page that was used before costs nothing, a new one
//! two microseconds. The largest are the C library's. A list's memory is never given back to the kernel: commands are short,
//! and those that last use again what they have freed.
//!
//! After a fork what is older stays as it is, used or not: whoever writes there first has the page copied for it. What is
//! newer has pages of its own. (Of more chunks than one, which few programs come to, that is so for the last.)

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ffi::c_char;
use std::ops::Range;
use std::process::abort;
use std::ptr;

/// What small sizes are multiples of, and every block's alignment.
const GRAIN: usize = 16;
/// The largest small size. Above it, sizes are powers of two.
const SMALL: usize = 1024;
/// The largest block that has a list.
const LARGEST: usize = 32 * 1024;
/// How many sizes there are.
const CLASSES: usize = SMALL / GRAIN + (LARGEST / SMALL).ilog2() as usize;
/// How much memory the kernel is asked for at a time; a page of it counts when it is used.
const CHUNK: usize = 256 * 1024;

unsafe extern "C" {
    /// sys/single_threaded.h of glibc (2.32): not zero until a second thread is made.
    static __libc_single_threaded: c_char;
}

/// The allocator of a program of one thread; with a second one the program aborts.
pub struct Heap;

static LISTS: Shared = Shared(UnsafeCell::new(Lists::new()));

struct Shared(UnsafeCell<Lists>);

// SAFETY: whoever is not the only thread aborts before anything of it is touched (`lists`).
unsafe impl Sync for Shared {}

struct Lists {
    /// Free blocks of each size.
    free: [*mut Free; CLASSES],
    /// What is left of the chunk: all zeroes.
    new: Rest,
    /// What is left of a large block that is cut up.
    used: Rest,
    /// What was given out of that chunk before a fork.
    old: Range<usize>,
}

/// Memory that is given out from its begin on.
struct Rest {
    next: *mut u8,
    left: usize,
}

impl Rest {
    const NOTHING: Self = Self { next: ptr::null_mut(), left: 0 };

    fn cut(&mut self, size: usize) -> *mut u8 {
        if self.left < size {
            return ptr::null_mut();
        }
        let block = self.next;
        // SAFETY: that much is left.
        self.next = unsafe { block.add(size) };
        self.left -= size;
        block
    }
}

/// A free block: it holds the next one.
struct Free(*mut Free);

fn is_one_thread() -> bool {
    // SAFETY: it is a number that only ever changes when a thread is made, by the thread that makes it.
    unsafe { ptr::read_volatile(&raw const __libc_single_threaded) != 0 }
}

fn lists() -> *mut Lists {
    if !is_one_thread() {
        abort();
    }
    LISTS.0.get()
}

/// The list of blocks for this layout; none if it is not for a list.
fn class(layout: Layout) -> Option<usize> {
    match layout.size() {
        _ if layout.align() > GRAIN => None,
        size @ ..=SMALL => Some(size.saturating_sub(1) / GRAIN),
        size @ ..=LARGEST => Some(SMALL / GRAIN - 1 + size.div_ceil(SMALL).next_power_of_two().ilog2() as usize),
        _ => None,
    }
}

/// The size of a list's blocks.
fn size(class: usize) -> usize {
    match class.checked_sub(SMALL / GRAIN) {
        None => (class + 1) * GRAIN,
        Some(above) => (SMALL * 2) << above,
    }
}

impl Lists {
    const fn new() -> Self {
        Self { free: [ptr::null_mut(); _], new: Rest::NOTHING, used: Rest::NOTHING, old: 0..0 }
    }

    fn take(&mut self, class: usize) -> *mut u8 {
        let free = self.pop(class);
        if !free.is_null() {
            return free;
        }
        let size = size(class);
        if self.used.left < size {
            self.cut_up_larger_than(class);
        }
        let block = self.used.cut(size);
        if block.is_null() { self.take_new(size) } else { block }
    }

    /// A block of zeroes: memory that nobody has had yet is not even looked at.
    fn take_zeroed(&mut self, class: usize) -> *mut u8 {
        let free = self.pop(class);
        if free.is_null() {
            return self.take_new(size(class));
        }
        // SAFETY: a block of this class is that long.
        unsafe { ptr::write_bytes(free, 0, size(class)) };
        free
    }

    fn pop(&mut self, class: usize) -> *mut u8 {
        let free = self.free[class];
        if !free.is_null() {
            // SAFETY: what is in the list was given back by `give`, which has written there, and belongs to nobody.
            self.free[class] = unsafe { (*free).0 };
        }
        free.cast()
    }

    /// What is left of the block that was cut up before is less than is asked for, and lost.
    fn cut_up_larger_than(&mut self, class: usize) {
        let larger = (class + 1).max(SMALL / GRAIN)..CLASSES;
        if let Some(class) = larger.rev().find(|&class| !self.free[class].is_null()) {
            self.used = Rest { next: self.pop(class), left: size(class) };
        }
    }

    fn take_new(&mut self, size: usize) -> *mut u8 {
        if self.new.left < size && !self.refill() {
            return ptr::null_mut();
        }
        self.new.cut(size)
    }

    fn give(&mut self, block: *mut u8, class: usize) {
        if self.old.contains(&block.addr()) {
            return;
        }
        let block: *mut Free = block.cast();
        // SAFETY: it came from `take`, which gives out nothing smaller and nothing less aligned, and nobody uses it any more.
        unsafe { block.write(Free(self.free[class])) };
        self.free[class] = block;
    }

    /// Leaves alone whatever of the chunk was given out, and all that was given back, until now.
    fn keep(&mut self) {
        self.free = [ptr::null_mut(); _];
        self.used = Rest::NOTHING;
        let next = self.new.next.addr();
        self.old = (next + self.new.left).saturating_sub(CHUNK)..next;
    }

    /// A new chunk; what was left of the last one is less than the largest block, and lost.
    fn refill(&mut self) -> bool {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new memory anywhere.
        let chunk = unsafe { libc::mmap(ptr::null_mut(), CHUNK, protection, flags, -1, 0) };
        if chunk == libc::MAP_FAILED {
            return false;
        }
        self.new = Rest { next: chunk.cast(), left: CHUNK };
        true
    }
}

/// Has both processes of a fork leave alone the memory that they share.
pub(super) fn after_fork() {
    // Tests have more threads, and another heap.
    if is_one_thread() {
        // SAFETY: there is one thread, and the reference ends here.
        unsafe { (*LISTS.0.get()).keep() };
    }
}

// SAFETY: a block is as large and as aligned as its class says, which is what was asked for, and is given out again only
// after it was given back. Which of the two heaps a block is from is told by its layout alone.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            // SAFETY: there is one thread, and the reference ends here.
            Some(class) => unsafe { (*lists()).take(class) },
            // SAFETY: the caller's promises are the same.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            // SAFETY: there is one thread, and the reference ends here.
            Some(class) => unsafe { (*lists()).take_zeroed(class) },
            // SAFETY: the caller's promises are the same.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout) {
            // SAFETY: there is one thread, and the reference ends here.
            Some(class) => unsafe { (*lists()).give(block, class) },
            // SAFETY: the caller's promises are the same.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size is a valid one with this alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(layout), class(new_layout)) {
            (None, None) => {
                // SAFETY: the caller's promises are the same.
                return unsafe { System.realloc(block, layout, size) };
            }
            (old, new) if old == new => return block,
            _ => {}
        }
        // SAFETY: the caller's promises are the same, and what is copied is within both.
        unsafe {
            let new = self.alloc(new_layout);
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    #[test]
    fn a_block_that_was_given_back_is_the_next_of_its_size() {
        let mut lists = Lists::new();
        let (small, large) = (lists.take(0), lists.take(CLASSES - 1));
        assert_eq!(large as usize - small as usize, GRAIN);
        lists.give(small, 0);
        lists.give(large, CLASSES - 1);
        assert_eq!((lists.take(CLASSES - 1), lists.take(0)), (large, small));
        assert_eq!(lists.take(0) as usize - large as usize, LARGEST);
    }

    #[test]
    fn what_is_older_than_a_fork_is_not_given_out_again() {
        let mut lists = Lists::new();
        let (used, free) = (lists.take(3), lists.take(3));
        lists.give(free, 3);
        lists.keep();
        lists.give(used, 3);
        let new = lists.take(3);
        assert!(new > used && new > free, "{new:?} is {used:?} or {free:?}");
        lists.give(new, 3);
        assert_eq!(lists.take(3), new);
    }

    #[test]
    fn a_large_block_is_cut_up_where_there_is_no_small_one() {
        let mut lists = Lists::new();
        let large = lists.take(CLASSES - 1);
        lists.give(large, CLASSES - 1);
        let blocks: Vec<usize> = (0..LARGEST / GRAIN).map(|_| lists.take(0).addr() - large.addr()).collect();
        assert!(blocks.iter().enumerate().all(|(index, at)| index * GRAIN == *at), "{blocks:?}");
        assert!(lists.take(0).addr() >= large.addr() + LARGEST);
        assert!(lists.take(CLASSES - 1).addr() > large.addr());
    }

    #[test]
    fn a_block_of_zeroes_is_one_when_it_was_used_before_too() {
        let mut lists = Lists::new();
        let blocks = [lists.take_zeroed(7), lists.take_zeroed(7)];
        for block in blocks {
            // SAFETY: it is a block of this class, which nobody else has.
            let bytes = unsafe { std::slice::from_raw_parts_mut(block, size(7)) };
            assert_eq!(bytes, [0; 128]);
            bytes.fill(1);
            lists.give(block, 7);
        }
        for block in [lists.take_zeroed(7), lists.take_zeroed(7)] {
            assert!(blocks.contains(&block));
            // SAFETY: as above.
            assert_eq!(unsafe { std::slice::from_raw_parts(block, size(7)) }, [0; 128]);
        }
    }

    #[test]
    fn blocks_do_not_overlap() {
        let mut lists = Lists::new();
        let mut blocks: Vec<(usize, usize)> =
            (0..3000).map(|n| n * 7 % CLASSES).map(|class| (lists.take(class) as usize, size(class))).collect();
        blocks.sort_unstable();
        assert!(blocks.is_sorted_by(|one, next| one.0 + one.1 <= next.0), "a block begins in another");
        assert!(blocks.iter().all(|block| block.0 % GRAIN == 0));
    }

    #[test]
    fn a_class_is_large_enough_and_no_larger() {
        for (wanted, given) in
            [(1, 16), (16, 16), (17, 32), (1024, 1024), (1025, 2048), (2049, 4096), (LARGEST, LARGEST)]
        {
            assert_eq!(class(layout(wanted)).map(size), Some(given), "{wanted}");
        }
        assert_eq!(class(layout(LARGEST)), Some(CLASSES - 1));
        assert_eq!(class(layout(LARGEST + 1)), None);
        assert_eq!(class(Layout::from_size_align(32, 32).unwrap()), None);
    }
}
