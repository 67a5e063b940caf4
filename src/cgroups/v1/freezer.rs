//! The v1 freezer.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::cgroups::file;
use crate::error::{Result, bail};

const STATE: &str = "freezer.state";

/// Freezes, and waits until the kernel says so, or thaws.
///
/// A v1 cgroup in which processes are being made does not freeze reliably: the write has to be repeated, and an
/// occasional thaw lets what blocks the others run. Bounded to about 300 ms; on failure it is thawed again.
pub(super) fn freeze(dir: &Path, frozen: bool) -> Result<()> {
    if !frozen {
        return file::write(dir, STATE, "THAWED");
    }
    let result = try_to_freeze(dir);
    if result.is_err() {
        let _ = file::write(dir, STATE, "THAWED"); // the failure to freeze is the one to report
    }
    result
}

fn try_to_freeze(dir: &Path) -> Result<()> {
    const TRIES: u32 = 1000;
    for attempt in 1..=TRIES {
        if attempt % 50 == 0 {
            file::write(dir, STATE, "THAWED")?;
            sleep(Duration::from_millis(10));
        }
        file::write(dir, STATE, "FROZEN")?;
        if attempt % 25 == 0 {
            sleep(Duration::from_micros(100));
        }
        match file::read(dir, STATE)?.trim() {
            "FROZEN" => return Ok(()),
            "FREEZING" => {}
            other => bail!("unexpected state {other:?} while freezing {}", dir.display()),
        }
    }
    bail!("unable to freeze {}: still FREEZING after {TRIES} tries", dir.display())
}

/// Whether it was frozen itself; an ancestor's freezing does not count. A directory that is not there is not frozen.
pub(super) fn is_frozen(dir: &Path) -> Result<bool> {
    Ok(file::read_if_there(dir, "freezer.self_freezing")?.is_some_and(|text| text.trim() == "1"))
}
