//! What the kernel tells of a process in /proc/<pid>/stat (proc_pid_stat(5)).

use std::fs::File;
use std::io::{self, Read as _};

/// Room for all of its 52 fields.
pub const LONGEST: usize = 2048;

/// Reads the file at `path`. Some 300 bytes, given out by one read(2): what grows a buffer for them would make six.
pub fn read<'a>(path: &str, buffer: &'a mut [u8; LONGEST]) -> io::Result<&'a [u8]> {
    let length = File::open(path)?.read(buffer)?;
    Ok(&buffer[..length])
}

/// The field of this number, from 3 on. Field 2, the name in parentheses, may hold anything, `)` and spaces too.
pub fn field(stat: &[u8], number: usize) -> Option<&str> {
    let after_name = &stat[stat.iter().rposition(|&byte| byte == b')')? + 1..];
    let mut fields = after_name.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    std::str::from_utf8(fields.nth(number.checked_sub(3)?)?).ok()
}
