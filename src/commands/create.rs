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
        let preserved_fds = self.preserve_fds + listen_fds()?;
        for fd in 3..3 + self.preserve_fds {
            ensure!(is_open(fd as i32), "--preserve-fds {}: descriptor {fd} is not open", self.preserve_fds);
        }
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

/// Sockets passed by a service manager (sd_listen_fds(3)).
fn listen_fds() -> Result<u32> {
    match std::env::var("LISTEN_FDS") {
        Ok(count) if !count.is_empty() => count.parse().with_context(|| format!("LISTEN_FDS={count:?}")),
        _ => Ok(0),
    }
}
