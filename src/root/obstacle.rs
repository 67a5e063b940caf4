//! Which part of a path it is that a message about the whole path is true of.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::stat;

/// In brackets, to be put behind a message; empty if the message has said it all.
pub fn hint(path: &Path) -> String {
    find(path).map_or_else(String::new, |obstacle| format!(" ({obstacle})"))
}

fn find(path: &Path) -> Option<String> {
    let parts: Vec<&Path> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    let (part, errno) = parts.into_iter().rev().find_map(|part| Some((part, stat(part).err()?)))?;
    let directory = part.parent().unwrap_or(Path::new("/"));
    match errno {
        Errno::ENOENT => match fs::read_link(part) {
            Ok(target) => Some(format!("{part:?} is a link to {target:?}, which does not exist")),
            Err(_) => (part != path).then(|| format!("{part:?} does not exist")),
        },
        Errno::ENOTDIR => Some(format!("{directory:?} is not a directory")),
        Errno::EACCES => Some(format!("{directory:?} may not be searched by this user")),
        Errno::ELOOP => Some(format!("{part:?} is a link to itself")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_is_named_that_keeps_one_from_the_rest() {
        let dir = std::env::temp_dir().join(format!("tare-obstacle-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.join("dangling")).unwrap();
        std::os::unix::fs::symlink("loop", dir.join("loop")).unwrap();
        let hint = |path: &str| hint(&dir.join(path)).replace(&dir.display().to_string(), "D");
        assert_eq!(hint("file"), "");
        assert_eq!(hint("missing"), "");
        assert_eq!(hint("missing/a/b"), " (\"D/missing\" does not exist)");
        assert_eq!(hint("file/a/b"), " (\"D/file\" is not a directory)");
        assert_eq!(hint("dangling/a"), " (\"D/dangling\" is a link to \"nowhere\", which does not exist)");
        assert_eq!(hint("loop/a"), " (\"D/loop\" is a link to itself)");
        fs::remove_dir_all(dir).unwrap();
    }
}
