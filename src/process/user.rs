//! `process.user`: ids, groups, umask, and the home directory that goes with them.

use std::io::{self, BufRead as _, BufReader, Read};
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, fstat, makedev};
use nix::unistd::{Gid, Uid, fchown, getresgid, getresuid, setgid, setgroups, setresgid, setresuid, setuid};
use oci_spec::runtime::Process;

use crate::error::{Context as _, Result};
use crate::input;
use crate::linux::ids;
use crate::linux::uid_mappings::is_rootless;
use crate::sys::process::set_umask as set_umask_of_all;

/// How much of the container's /etc/passwd is looked at: it is the attacker's file.
const LONGEST_PASSWD: u64 = 1 << 20;

/// Checks that all ids are ids.
pub fn check(process: &Process) -> Result<()> {
    let user = process.user();
    ids::check(user.uid()).context("process.user.uid")?;
    ids::check(user.gid()).context("process.user.gid")?;
    for (index, &gid) in user.additional_gids().iter().flatten().enumerate() {
        ids::check(gid).with_context(|| format!("process.user.additionalGids[{index}]"))?;
    }
    Ok(())
}

/// Sets the umask, 0022 if none is configured.
pub fn set_umask(process: &Process) {
    set_umask_of_all(Mode::from_bits_truncate(process.user().umask().unwrap_or(0o022)));
}

/// Becomes the container's user, with exactly the configured groups.
pub fn become_user(process: &Process, user_namespace: bool) -> Result<()> {
    let user = process.user();
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().copied().map(Gid::from_raw).collect();
    match setgroups(&groups) {
        // A user namespace made by an ordinary user may not drop groups (user_namespaces(7), "setgroups").
        // A seccomp profile that denies it would leave the caller's.
        Err(Errno::EPERM) if groups.is_empty() && (user_namespace || is_rootless()) => {}
        result => result.context("process.user.additionalGids: setgroups")?,
    }
    let gid = Gid::from_raw(user.gid());
    set_gid(gid).with_context(|| format!("process.user.gid: setgid {gid}"))?;
    let uid = Uid::from_raw(user.uid());
    set_uid(uid).with_context(|| format!("process.user.uid: setuid {uid}"))
}

/// Sets all three group ids. A seccomp profile that was made for a runtime that uses setgid(2) may deny setresgid(2).
fn set_gid(gid: Gid) -> nix::Result<()> {
    let Err(errno) = setresgid(gid, gid, gid) else { return Ok(()) };
    setgid(gid)
        .and_then(|()| getresgid())
        .map_err(|_| errno)
        .and_then(|now| if [now.real, now.effective, now.saved] == [gid; 3] { Ok(()) } else { Err(errno) })
}

/// Sets all three user ids, as [`set_gid`].
fn set_uid(uid: Uid) -> nix::Result<()> {
    let Err(errno) = setresuid(uid, uid, uid) else { return Ok(()) };
    setuid(uid)
        .and_then(|()| getresuid())
        .map_err(|_| errno)
        .and_then(|now| if [now.real, now.effective, now.saved] == [uid; 3] { Ok(()) } else { Err(errno) })
}

/// Gives pipes and the like on the standard streams to the user, who may want to open them again by /proc/self/fd (runc
/// does so). The group stays, and so does what is everybody's or not to be changed.
pub fn own_streams(process: &Process) -> Result<()> {
    let uid = process.user().uid();
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    for (name, stream) in [("input", input.as_fd()), ("output", output.as_fd()), ("error", error.as_fd())] {
        // It may be closed.
        let Ok(found) = fstat(stream) else { continue };
        let is_null = found.st_mode & libc::S_IFMT == libc::S_IFCHR && found.st_rdev == makedev(1, 3);
        if found.st_uid == uid || is_null {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // Not mapped into the user namespace, read-only, or a socket.
            Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS | Errno::ENOTSUP) => {}
            result => result.with_context(|| format!("process.user.uid: chown standard {name}"))?,
        }
    }
    Ok(())
}

/// Finds the user's home directory in the container's /etc/passwd; `/` if the user has none there,
/// or if there is no such file. To be called with the container's privileges, before any limit: the
/// user may not be able to read the file.
///
/// # Errors
/// The file is there and cannot be read: the user may have a home directory.
pub fn home(process: &Process) -> Result<Vec<u8>> {
    const PASSWD: &str = "/etc/passwd";
    let uid = process.user().uid();
    let found = match input::open(Path::new(PASSWD)) {
        Ok(passwd) => find_home(passwd.take(LONGEST_PASSWD), uid),
        Err(error) => match error.raw_os_error() {
            // Absent, or a device such as /dev/null that is mounted over it.
            None | Some(libc::ENOENT | libc::ENOTDIR | libc::ENXIO) => Ok(None),
            Some(_) => Err(error),
        },
    };
    let home = found.with_context(|| {
        format!("process.env: look up HOME of user {uid}: read {PASSWD:?} (set HOME to do without)")
    })?;
    Ok(home.unwrap_or_else(|| b"/".to_vec()))
}

/// The lines are bytes: a name in another encoding is no reason to stop.
fn find_home(passwd: impl Read, uid: u32) -> io::Result<Option<Vec<u8>>> {
    for line in BufReader::new(passwd).split(b'\n') {
        if let Some(home) = home_of(&line?, uid) {
            return Ok(Some(home.to_vec()));
        }
    }
    Ok(None)
}

fn home_of(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.split(|&byte| byte == b':');
    let id = std::str::from_utf8(fields.nth(2)?).ok()?;
    let home = fields.nth(2).filter(|home| !home.is_empty() && !home.contains(&0))?;
    (id.parse() == Ok(uid)).then_some(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_by_the_id_and_only_in_a_whole_line() {
        assert_eq!(home_of(b"root:x:0:0:root:/root:/bin/sh", 0), Some(b"/root".as_slice()));
        assert_eq!(home_of(b"a:x:5:5:Ren\xe9:/h\xe9:/bin/sh", 5), Some(b"/h\xe9".as_slice()));
        for (line, uid) in [(&b"root:x:0:0:root:/root:/bin/sh"[..], 1), (b"root:x:0:0", 0), (b"root:x:0:0:r::/sh", 0)] {
            assert_eq!(home_of(line, uid), None);
        }
    }

    #[test]
    fn a_line_that_is_not_utf_8_hides_no_other_and_a_failing_read_is_an_error() {
        let passwd = b"a:x:1:1:Andr\xe9:/a:/bin/sh\nb:x:2:2::/b:/bin/sh\n".as_slice();
        assert_eq!(find_home(passwd, 1).unwrap().as_deref(), Some(b"/a".as_slice()));
        assert_eq!(find_home(passwd, 2).unwrap().as_deref(), Some(b"/b".as_slice()));
        assert_eq!(find_home(passwd, 3).unwrap(), None);
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
        }
        assert!(find_home(passwd.chain(Failing), 3).is_err());
    }
}
