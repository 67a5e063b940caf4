//! `process.args`: what is executed, and where it is found.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::stat;
use nix::unistd::{AccessFlags, faccessat};
use oci_spec::runtime::Process;

use crate::error::{Context as _, Result, anyhow, bail, ensure};
use crate::root::obstacle;

/// There is a program to run.
pub fn check(process: &Process) -> Result<()> {
    let args = process.args().as_deref().unwrap_or_default();
    ensure!(args.first().is_some_and(|program| !program.is_empty()), "must name a program");
    to_c_strings(args).map(drop)
}

/// The strings as execve(2) takes them.
pub fn to_c_strings(strings: &[String]) -> Result<Vec<CString>> {
    let convert = |string: &String| CString::new(string.as_str()).map_err(|_| anyhow!("{string:?} holds a zero byte"));
    strings.iter().map(convert).collect()
}

/// Finds the program in the container: as its user, in its PATH, from its working directory. The words of the errors are
/// those that callers match on.
pub fn find(program: &str, path: &str) -> Result<PathBuf> {
    if program.contains('/') {
        let path = Path::new(program);
        let Err(errno) = check_executable(path) else { return Ok(PathBuf::from(program)) };
        let (words, hint) = (go_words(errno), obstacle::hint(path));
        match errno {
            Errno::EACCES | Errno::EISDIR if hint.is_empty() => bail!("exec: {program:?}: {words}"),
            _ => bail!("exec: {program:?}: stat {program}: {words}{hint}"),
        }
    }
    let mut denied = None;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(program);
        match check_executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => denied = Some(candidate),
            Err(_) => {}
        }
    }
    match denied {
        Some(candidate) => bail!("exec: {:?}: permission denied", candidate.display().to_string()),
        None => bail!("exec: {program:?}: executable file not found in $PATH"),
    }
}

/// Checks that it is a file which this process may execute.
pub fn check_executable(path: &Path) -> Result<(), Errno> {
    let found = stat(path)?;
    match found.st_mode & libc::S_IFMT {
        libc::S_IFREG => {}
        libc::S_IFDIR => return Err(Errno::EISDIR),
        // What execve(2) says of a fifo, a socket or a device.
        _ => return Err(Errno::EACCES),
    }
    // Root may read anything but execute only what somebody may.
    if found.st_mode & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    // By the effective ids, as execve(2) does: access(2) would leave out capabilities such as CAP_DAC_OVERRIDE.
    match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        // A seccomp profile that does not know the call, as in runc: execve(2) will tell.
        Err(Errno::EPERM | Errno::ENOSYS) => Ok(()),
        result => result,
    }
}

/// An errno in the words of runc's language, which containerd and Docker look for.
pub fn go_words(errno: Errno) -> String {
    let words = crate::error::words(errno);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

/// The program's path as execve(2) takes it.
pub fn to_c_string(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).with_context(|| format!("{path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_the_path_or_missed_in_the_callers_words() {
        assert_eq!(find("sh", "/nowhere:/bin").unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("/bin/sh", "").unwrap(), Path::new("/bin/sh"));
        let missed = |program, path| find(program, path).unwrap_err().to_string();
        assert_eq!(missed("nope", "/bin"), "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(missed("/bin/nope", ""), "exec: \"/bin/nope\": stat /bin/nope: no such file or directory");
        assert_eq!(
            missed("/nowhere/nope", ""),
            "exec: \"/nowhere/nope\": stat /nowhere/nope: no such file or directory (\"/nowhere\" does not exist)"
        );
        assert_eq!(missed("/etc", ""), "exec: \"/etc\": is a directory");
        assert_eq!(missed("/etc/passwd", ""), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(missed("passwd", "/etc"), "exec: \"/etc/passwd\": permission denied");
    }
}
