//! One file of a cgroup: written in one write(2), and an error that names value, file and directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use cgroups_rs::fs::error as crate_error;
use nix::errno::Errno;

use crate::error::{Context, Error, Result, errno};

/// Opens a file for writing. Without O_CREAT, for which a cgroup file system answers EACCES instead of ENOENT.
pub(super) fn open(dir: &Path, file: &str) -> Result<File> {
    OpenOptions::new().write(true).open(dir.join(file)).with_context(|| format!("open {file} of {}", dir.display()))
}

/// Writes a value.
pub(super) fn write(dir: &Path, file: &str, value: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open(dir.join(file))
        .and_then(|mut open| open.write_all(value.as_bytes()))
        .with_context(|| format!("write {value:?} to {file} of {}", dir.display()))
}

/// Writes a value to a file that is open already.
pub(super) fn write_to(mut open: &File, dir: &Path, file: &str, value: &str) -> Result<()> {
    open.write_all(value.as_bytes()).with_context(|| format!("write {value:?} to {file} of {}", dir.display()))
}

/// Reads a file.
pub(super) fn read(dir: &Path, file: &str) -> Result<String> {
    let mut text = String::with_capacity(128);
    File::open(dir.join(file))
        // Without `take` it would ask for the size first, which these files do not have.
        .and_then(|open| open.take(u64::MAX).read_to_string(&mut text))
        .with_context(|| format!("read {file} of {}", dir.display()))?;
    Ok(text)
}

/// Reads a file that need not be there: looking for one is no error, whose making would cost more than the look.
pub(super) fn read_if_there(dir: &Path, file: &str) -> Result<Option<String>> {
    let path = dir.join(file);
    let mut text = String::with_capacity(128);
    let read = File::open(path).and_then(|open| open.take(u64::MAX).read_to_string(&mut text));
    match read.map_err(|error| (error.raw_os_error().map(Errno::from_raw), error)) {
        Ok(_) => Ok(Some(text)),
        // Never was there, or was removed while it was open.
        Err((Some(Errno::ENOENT | Errno::ENODEV), _)) => Ok(None),
        Err((_, error)) => Err(error).with_context(|| format!("read {file} of {}", dir.display())),
    }
}

/// Reads a number.
pub(super) fn read_u64(dir: &Path, file: &str) -> Result<u64> {
    let text = read(dir, file)?;
    text.trim().parse().with_context(|| format!("{file} of {}: {text:?} is no number", dir.display()))
}

/// The number after `key` in a file of lines `key number`, 0 if unknown.
pub(super) fn count(dir: &Path, file: &str, key: &str) -> u64 {
    let Ok(text) = read(dir, file) else { return 0 };
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, number)| number.trim().parse().ok())
        .unwrap_or(0)
}

/// Whether the error is that a file or directory is not there, or was removed while it was open.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(errno(error), Some(Errno::ENOENT | Errno::ENODEV))
}

/// An error of cgroups-rs in our form.
pub(super) fn converted(dir: &Path, result: crate_error::Result<()>) -> Result<()> {
    let Err(error) = result else { return Ok(()) };
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let Some(mut errno) = cause.and_then(std::io::Error::raw_os_error).map(Errno::from_raw) else {
        return Err(Error::msg(format!("{error} ({})", dir.display())));
    };
    let what = match error.kind() {
        crate_error::ErrorKind::WriteFailed(file, value) if value == "[CREATE FILE]" => {
            let file = Path::new(file);
            // It opens with O_CREAT: EACCES is what a cgroup file system says of a file that is not there.
            if !file.exists() {
                errno = Errno::ENOENT;
            }
            format!("open {} of {}", file.file_name().unwrap_or_default().display(), dir.display())
        }
        crate_error::ErrorKind::WriteFailed(file, value) => {
            format!("write {:?} to {file} of {}", value.trim_matches('"'), dir.display())
        }
        other => format!("{other} ({})", dir.display()),
    };
    Err(Error::new(errno).context(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::one_line;
    use cgroups_rs::fs::memory::MemController;

    #[test]
    fn a_value_is_named_with_its_file_and_directory() {
        let dir = Path::new("/nonexistent/cgroup");
        let error = write(dir, "memory.max", "4096").unwrap_err();
        assert_eq!(one_line(&error), "write \"4096\" to memory.max of /nonexistent/cgroup: No such file or directory");
        assert!(is_gone(&error));
    }

    #[test]
    fn an_error_of_the_crate_reads_like_ours() {
        let dir = Path::new("/nonexistent/cgroup");
        let memory = MemController::new(dir.into(), dir.into(), false);
        let error = converted(dir, memory.set_limit(4096)).unwrap_err();
        assert_eq!(one_line(&error), "open memory.limit_in_bytes of /nonexistent/cgroup: No such file or directory");
        // /dev/full accepts the open and refuses the write.
        let dir = std::env::temp_dir().join(format!("tare-file-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.join("memory.limit_in_bytes")).unwrap();
        let memory = MemController::new(dir.clone(), dir.clone(), false);
        let error = converted(&dir, memory.set_limit(4096));
        std::fs::remove_dir_all(&dir).unwrap();
        let expected = format!("write \"4096\" to memory.limit_in_bytes of {}: No space left on device", dir.display());
        assert_eq!(one_line(&error.unwrap_err()), expected);
    }

    #[test]
    fn a_count_is_found_by_its_whole_key() {
        let dir = std::env::temp_dir().join(format!("tare-count-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("memory.events"), "oom 3\noom_kill 2\noom_group_kill 1\n").unwrap();
        let counted = (count(&dir, "memory.events", "oom_kill"), count(&dir, "missing", "oom_kill"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(counted, (2, 0));
    }
}
