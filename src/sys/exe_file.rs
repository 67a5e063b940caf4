//! The file that a process runs from (`/proc/<pid>/exe`), exchanged while it runs.
//!
//! The kernel lets a process take another file (prctl(2), PR_SET_MM) when nothing of the old one is mapped any more. So each
//! segment is mapped anew, from the new file, at the same place; what is writable has been written by now and is replaced by
//! a copy.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::{mem, ptr, slice};

use nix::errno::Errno;

use super::{check, proc_stat};

/// struct prctl_mm_map of linux/prctl.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// Makes this process run from `file`, which has to have the same content as the file that it runs from, and to be open for
/// reading. On an error the process goes on as before, parts of it from either file.
///
/// The caller must have one thread. ENOSYS: the program is not a static one; EPERM: none of CAP_SYS_RESOURCE, CAP_SYS_ADMIN
/// and CAP_CHECKPOINT_RESTORE is there; EINVAL: nor is CONFIG_CHECKPOINT_RESTORE in the kernel.
pub fn exchange(file: BorrowedFd<'_>) -> io::Result<()> {
    let (segments, bias) = segments().ok_or(Errno::ENOSYS)?;
    for segment in segments.iter().filter(|segment| segment.p_type == libc::PT_LOAD && segment.p_filesz > 0) {
        replace(segment, bias, file)?;
    }
    for relro in segments.iter().filter(|segment| segment.p_type == libc::PT_GNU_RELRO) {
        protect(relro, bias)?;
    }
    take_alone(file).or_else(|_| take_with_map(file))
}

/// Takes the file and nothing else, for which CAP_SYS_RESOURCE is asked, on the host.
fn take_alone(file: BorrowedFd<'_>) -> nix::Result<()> {
    let fd = file.as_raw_fd() as libc::c_ulong;
    // SAFETY: only numbers are passed; the kernel refuses while anything of the old file is mapped.
    check(unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_EXE_FILE, fd, 0_u64, 0_u64) }.into()).map(drop)
}

/// Takes it with all that is told of the memory, for which CAP_CHECKPOINT_RESTORE does, in any user namespace.
fn take_with_map(file: BorrowedFd<'_>) -> io::Result<()> {
    let mut buffer = [0; proc_stat::LONGEST];
    let map = memory_map(proc_stat::read("/proc/self/stat", &mut buffer)?, file).ok_or(Errno::ENOSYS)?;
    let (map, size) = (&raw const map, size_of::<MemoryMap>());
    // SAFETY: the kernel reads a structure of this size, whose addresses are those that it has given itself.
    check(unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, map, size, 0_u64) }.into())?;
    Ok(())
}

/// The program headers, and what is added to their addresses; none if a dynamic linker has mapped more than they tell of.
fn segments() -> Option<(&'static [libc::Elf64_Phdr], usize)> {
    // SAFETY: getauxval(3) has no conditions.
    let (headers, count, size) =
        unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM), libc::getauxval(libc::AT_PHENT)) };
    if headers == 0 || size as usize != mem::size_of::<libc::Elf64_Phdr>() {
        return None;
    }
    // SAFETY: the kernel gave the address, number and size of the program headers, which stay mapped and are not written.
    let segments = unsafe { slice::from_raw_parts(headers as *const libc::Elf64_Phdr, count as usize) };
    let own = segments.iter().find(|segment| segment.p_type == libc::PT_PHDR)?;
    let is_static = !segments.iter().any(|segment| segment.p_type == libc::PT_INTERP);
    is_static.then(|| (segments, (headers as usize).wrapping_sub(own.p_vaddr as usize)))
}

/// The whole pages between two addresses that are in the program headers.
fn pages(begin: usize, end: usize, bias: usize) -> Range<usize> {
    let page = page_size();
    bias + begin / page * page..bias + end.div_ceil(page) * page
}

fn page_size() -> usize {
    // SAFETY: getauxval(3) has no conditions; the kernel always tells this.
    unsafe { libc::getauxval(libc::AT_PAGESZ) as usize }
}

fn replace(segment: &libc::Elf64_Phdr, bias: usize, file: BorrowedFd<'_>) -> nix::Result<()> {
    let begin = segment.p_vaddr as usize;
    let pages = pages(begin, begin + segment.p_filesz as usize, bias);
    let place = pages.start as *mut libc::c_void;
    if segment.p_flags & libc::PF_W != 0 {
        return replace_by_a_copy(place, pages.len());
    }
    let mut protection = libc::PROT_READ;
    if segment.p_flags & libc::PF_X != 0 {
        protection |= libc::PROT_EXEC;
    }
    // A segment is as far from the begin of a page in the file as in memory (elf(5)).
    let offset = (segment.p_offset as usize / page_size() * page_size()) as libc::off_t;
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
    // SAFETY: these pages are a segment of this program that nobody writes, and the file has the same content. The code that
    // runs is among it: the kernel exchanges the mapping as a whole.
    mapped(unsafe { libc::mmap(place, pages.len(), protection, flags, file.as_raw_fd(), offset) }).map(drop)
}

fn replace_by_a_copy(place: *mut libc::c_void, length: usize) -> nix::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory anywhere.
    let copy = mapped(unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) })?;
    // SAFETY: both are mapped, this long, and apart. There is one thread, and nothing between the copy and its move writes
    // anything but the stack and errno, which is in a thread's own memory, not in a segment.
    mapped(unsafe {
        ptr::copy_nonoverlapping(place, copy, length);
        libc::mremap(copy, length, length, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, place)
    })
    .map(drop)
}

/// Read-only again, as the C library left it: without the last page if data follows in it.
fn protect(relro: &libc::Elf64_Phdr, bias: usize) -> nix::Result<()> {
    let begin = relro.p_vaddr as usize;
    let end = (begin + relro.p_memsz as usize) / page_size() * page_size();
    let pages = pages(begin, end, bias);
    // SAFETY: from here on nobody writes to these pages: that is what the linker has put them together for.
    check(unsafe { libc::mprotect(pages.start as *mut _, pages.len(), libc::PROT_READ) }.into()).map(drop)
}

fn mapped(result: *mut libc::c_void) -> nix::Result<*mut libc::c_void> {
    if result == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(result) }
}

/// All as it is, but for the file. None if the text is not that of /proc/self/stat.
fn memory_map(stat: &[u8], file: BorrowedFd<'_>) -> Option<MemoryMap> {
    let fields: Vec<&str> = proc_stat::fields(stat)?.collect();
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(MemoryMap {
        start_code: field(26)?,
        end_code: field(27)?,
        start_stack: field(28)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        // SAFETY: sbrk(3) of 0 changes nothing.
        brk: unsafe { libc::sbrk(0) } as u64,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
        auxv: 0,
        auxv_size: 0,
        exe_fd: file.as_raw_fd() as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn the_memory_map_is_that_of_stat() {
        let numbers: Vec<_> = (3..=52).map(|number| number.to_string()).collect();
        let stat = format!("1 (a) b (c) {}", numbers.join(" "));
        let map = memory_map(stat.as_bytes(), std::io::stdin().as_fd()).unwrap();
        assert_eq!((map.start_code, map.end_code, map.start_stack, map.arg_start, map.env_end), (26, 27, 28, 48, 51));
        assert_eq!((map.exe_fd, map.auxv_size), (0, 0));
        assert_eq!(memory_map(b"1 (a) S 1", std::io::stdin().as_fd()), None);
    }

    #[test]
    fn a_range_is_of_whole_pages() {
        assert_eq!(pages(0x26a5c0, 0x26b001, 0), 0x26a000..0x26c000);
        assert_eq!(pages(0x1000, 0x2000, 0x10000), 0x11000..0x12000);
    }
}
