//! Files that somebody else put in place: the caller's configuration, the container's own files. Opening a fifo waits for
//! its other end, and a device never ends: only a regular file is read, and only up to a bound.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::statfs::{FsType, fstatfs};

/// The largest configuration in bytes: a hundred times what any engine writes.
pub const LONGEST_CONFIG: u64 = 16 << 20;

/// PIPEFS_MAGIC: where pipes without a name are.
const PIPEFS_MAGIC: FsType = FsType(0x5049_5045);

/// Opens a regular file for reading. Never waits, and never takes a terminal over.
///
/// # Errors
/// Those of open(2), and "is not a regular file".
pub fn open(path: &Path) -> io::Result<File> {
    open_sized(path).map(|(file, _)| file)
}

/// Reads a regular file of at most `longest` bytes.
///
/// # Errors
/// Those of [`open`] and read(2), and "is larger than".
pub fn read(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let (file, size) = open_sized(path)?;
    read_all(file, size, longest)
}

/// Reads what a flag names: a regular file, or a pipe that the caller opened, such as a shell's `<(command)`. A fifo has a
/// name in a filesystem, which somebody else may open or not: it is refused.
///
/// # Errors
/// As [`read`].
pub fn read_argument(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let file = open_any(path)?;
    let metadata = file.metadata()?;
    if metadata.file_type().is_fifo() && fstatfs(&file)?.filesystem_type() == PIPEFS_MAGIC {
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    } else if !metadata.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    read_all(file, metadata.len(), longest)
}

/// Reads a stream to its end, of at most `longest` bytes; `expected` is how many are likely.
///
/// # Errors
/// Those of read(2), and "is larger than".
pub fn read_all(stream: impl Read, expected: u64, longest: u64) -> io::Result<Vec<u8>> {
    // One more than there should be: the read that finds the end needs room.
    let room = usize::try_from(expected.min(longest)).unwrap_or_default() + 1;
    let mut bytes = Vec::with_capacity(room);
    stream.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::other(format!("is larger than {longest} bytes")));
    }
    Ok(bytes)
}

fn open_sized(path: &Path) -> io::Result<(File, u64)> {
    let file = open_any(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(io::Error::other("is not a regular file")),
    }
}

fn open_any(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn only_a_regular_file_within_the_bound_is_read() {
        let dir = std::env::temp_dir().join(format!("tare-input-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (file, fifo) = (dir.join("file"), dir.join("fifo"));
        std::fs::write(&file, "12345").unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert_eq!(read(&file, 4).unwrap_err().to_string(), "is larger than 4 bytes");
        for other in [fifo.as_path(), &dir, Path::new("/dev/zero")] {
            assert_eq!(read(other, 5).unwrap_err().to_string(), "is not a regular file", "{other:?}");
            assert!(read_argument(other, 5).is_err(), "{other:?}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_pipe_of_the_callers_is_read_to_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let writes = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            writer.write_all(b"late").unwrap();
        });
        assert_eq!(read_argument(Path::new(&path), 10).unwrap(), b"late");
        writes.join().unwrap();
        assert!(read(Path::new(&path), 10).is_err());
    }
}
