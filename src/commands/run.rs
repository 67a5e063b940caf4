//! `tare run`

use crate::error::{Context as _, Result, one_line};
use crate::parent::create::{Options, create};
use crate::parent::foreground::{self, Signals};
use crate::parent::notify_socket::Proxy;
use crate::parent::{delete, start};

/// Creates and starts a container; unless detached, stays with it and returns its exit status.
pub fn run(options: &Options, keep: bool, subreaper: bool) -> Result<i32> {
    if options.detached {
        return run_detached(options);
    }
    if subreaper {
        // Orphans of the container, when it shares our pid namespace, come to us instead of the host's init.
        prctl::set_child_subreaper(true).map_err(nix::errno::Errno::from_raw).context("PR_SET_CHILD_SUBREAPER")?;
    }
    let signals = Signals::catch()?;
    let mut created = create(options)?;
    let terminal = created.terminal.take();
    // This process stays the one to watch: it ends as the container does.
    let started = Proxy::open(&created.container, std::process::id())
        .and_then(|notify| start::start(&created.container, &created.record, created.lock).map(|()| notify));
    let ended = started.and_then(|notify| foreground::stay(&created.init, &signals, terminal, notify));
    if (!keep || ended.is_err())
        && let Err(error) = delete::delete_killed(&created.container)
    {
        // How the program ended is what the caller waits for.
        log::warn!("container {:?} is left for `delete`: {}", created.record.id, one_line(&error));
    }
    ended
}

fn run_detached(options: &Options) -> Result<i32> {
    let created = create(options)?;
    let started = Proxy::open(&created.container, created.init.pid as u32)
        .and_then(|notify| start::start(&created.container, &created.record, created.lock).map(|()| notify));
    match started {
        Err(error) => {
            delete::delete_killed(&created.container)?;
            Err(error)
        }
        Ok(notify) => notify.map_or(Ok(()), |notify| notify.stay_until_ready(&created.init.pidfd)).map(|()| 0),
    }
}
