//! `tare create`

use std::path::PathBuf;

use super::cli;
use crate::cgroups::Kind;
use crate::error::{Context as _, Result, ensure};
use crate::parent::create::{Options, create};
use crate::sys::fd::is_open;

/// Creates the container and leaves it waiting.
pub fn run(options: Options) -> Result<()> {
    create(&options).map(drop)
}

impl cli::Create {
    /// The flags as the parent stage takes them, the environment's LISTEN_FDS included.
    pub fn options(self, root: PathBuf, cgroups: Kind, detached: bool) -> Result<Options> {
        let preserved_fds = preserved_fds(self.preserve_fds)?;
        Ok(Options {
            root,
            id: self.id,
            bundle: self.bundle,
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            detached,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserved_fds,
            cgroups,
        })
    }
}

/// How many descriptors after the standard ones the program gets: those of `--preserve-fds`, which have to be there, and
/// those of LISTEN_FDS.
pub fn preserved_fds(asked: u32) -> Result<u32> {
    for fd in 3..3 + asked {
        ensure!(is_open(fd as i32), "--preserve-fds {asked}: descriptor {fd} is not open");
    }
    Ok(asked + listen_fds()?)
}

/// Sockets passed by a service manager (sd_listen_fds(3)).
fn listen_fds() -> Result<u32> {
    match std::env::var("LISTEN_FDS") {
        Ok(count) if !count.is_empty() => count.parse().with_context(|| format!("LISTEN_FDS={count:?}")),
        _ => Ok(0),
    }
}
