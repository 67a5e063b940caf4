//! `process.user`: ids, groups, umask, and the home directory that goes with them.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, fstat, makedev};
use nix::unistd::{Gid, Uid, fchown, setgroups, setresgid, setresuid};
use oci_spec::runtime::Process;

use crate::error::{Context as _, Result};
use crate::input;
use crate::linux::ids;
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
pub fn become_user(process: &Process) -> Result<()> {
    let user = process.user();
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().copied().map(Gid::from_raw).collect();
    match setgroups(&groups) {
        // A user namespace made by an ordinary user may not drop groups (user_namespaces(7), "setgroups").
        Err(Errno::EPERM) if groups.is_empty() => {}
        result => result.context("process.user.additionalGids: setgroups")?,
    }
    let gid = Gid::from_raw(user.gid());
    setresgid(gid, gid, gid).with_context(|| format!("process.user.gid: setgid {gid}"))?;
    let uid = Uid::from_raw(user.uid());
    setresuid(uid, uid, uid).with_context(|| format!("process.user.uid: setuid {uid}"))
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

/// The user's home directory by the container's /etc/passwd; `/` if it has none.
pub fn home(process: &Process) -> Vec<u8> {
    let Ok(passwd) = input::open(Path::new("/etc/passwd")) else { return b"/".to_vec() };
    // Bytes, not text: a name in it may be Latin-1.
    let lines = BufReader::new(passwd.take(LONGEST_PASSWD)).split(b'\n').map_while(std::result::Result::ok);
    let mut homes = lines.filter_map(|line| home_of(&line, process.user().uid()));
    homes.next().unwrap_or_else(|| b"/".to_vec())
}

fn home_of(line: &[u8], uid: u32) -> Option<Vec<u8>> {
    let mut fields = line.split(|&byte| byte == b':');
    let id = std::str::from_utf8(fields.nth(2)?).ok()?;
    let home = fields.nth(2).filter(|home| !home.is_empty() && !home.contains(&0))?;
    (id.parse() == Ok(uid)).then(|| home.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_by_the_id_and_only_in_a_whole_line() {
        assert_eq!(home_of(b"root:x:0:0:root:/root:/bin/sh", 0).as_deref(), Some(&b"/root"[..]));
        assert_eq!(home_of(b"a:x:5:5:Ren\xe9:/h\xe9:/bin/sh", 5).as_deref(), Some(&b"/h\xe9"[..]));
        for (line, uid) in [(&b"root:x:0:0:root:/root:/bin/sh"[..], 1), (b"root:x:0:0", 0), (b"root:x:0:0:r::/sh", 0)] {
            assert_eq!(home_of(line, uid), None);
        }
    }
}
