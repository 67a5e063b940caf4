//! `tare create`

use super::cli;
use crate::cgroups::Kind;
use crate::error::Result;
use crate::parent::create::{Options, create};
use crate::process::listen_fds::{self, Passed};
use crate::state::Root;

/// Creates the container and leaves it waiting.
pub fn run(options: Options) -> Result<()> {
    create(&options).map(drop)
}

impl cli::Create {
    /// The flags as the parent stage takes them, the environment's LISTEN_FDS included.
    pub fn options(self, root: Root, cgroups: Kind, detached: bool) -> Result<Options> {
        let preserved_fds = preserved_fds(self.preserve_fds)?;
        Ok(Options {
            root,
            id: self.id,
            bundle: self.bundle,
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            pidfd_socket: self.pidfd_socket,
            detached,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserved_fds,
            cgroups,
        })
    }
}

/// The descriptors after the standard ones that the program gets: the sockets that a service manager passed, and after them
/// those of `--preserve-fds`, which have to be there.
pub fn preserved_fds(asked: u32) -> Result<Passed> {
    let mut passed = listen_fds::received()?;
    passed.preserve(asked)?;
    Ok(passed)
}
