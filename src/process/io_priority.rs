//! `process.ioPriority` (ioprio_set(2)).

use oci_spec::runtime::{IOPriorityClass as Class, Process};

use crate::error::{Context as _, Result, anyhow, ensure};
use crate::sys::schedule::set_io_priority;

/// A class has eight levels.
pub fn check(process: &Process) -> Result<()> {
    let Some(priority) = process.io_priority() else { return Ok(()) };
    let level = priority.priority();
    ensure!((0..=7).contains(&level), "priority: {level} is not between 0 and 7");
    Ok(())
}

/// Takes the priority on, for the whole group of processes that the program leads.
pub fn apply(process: &Process) -> Result<()> {
    let Some(priority) = process.io_priority() else { return Ok(()) };
    let class = match priority.class() {
        Class::IoprioClassRt => 1,
        Class::IoprioClassBe => 2,
        Class::IoprioClassIdle => 3,
    };
    let level =
        u16::try_from(priority.priority()).map_err(|_| anyhow!("process.ioPriority.priority: is out of range"))?;
    set_io_priority(class, level)
        .with_context(|| format!("process.ioPriority: ioprio_set {}, level {level}", priority.class()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_of_eight() {
        for (level, good) in [(0, true), (7, true), (8, false), (-1, false)] {
            let json = format!(
                r#"{{"cwd":"/","user":{{"uid":0,"gid":0}},"ioPriority":{{"class":"IOPRIO_CLASS_RT","priority":{level}}}}}"#
            );
            assert_eq!(check(&serde_json::from_str(&json).unwrap()).is_ok(), good, "{level}");
        }
    }
}
