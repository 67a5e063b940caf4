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

/// The fields from number 3 on. Field 2, the name in parentheses, may hold anything, `)` and spaces too.
pub fn fields(stat: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let after_name = stat[stat.iter().rposition(|&byte| byte == b')')? + 1..].trim_ascii();
    Some(after_name.split(|&byte| byte == b' ').map_while(|field| std::str::from_utf8(field).ok()))
}

/// The field of this number, from 3 on.
pub fn field(stat: &[u8], number: usize) -> Option<&str> {
    fields(stat)?.nth(number.checked_sub(3)?)
}
