//! Socket activation (sd_listen_fds(3)): what a service manager passes to the runtime is passed on
//! to the program, which is told of it by the same variables.

use std::os::fd::RawFd;

use crate::error::{Context as _, Result, ensure};
use crate::sys::fd::is_handed_over;

/// The first descriptor that is passed on.
const FIRST: RawFd = 3;

/// Descriptors that are passed on to the program, from 3 on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// How many there are; each was open when it was counted.
    count: u32,
    /// What tells the program of them.
    pub env: Vec<String>,
}

impl Passed {
    /// The first descriptor that is not passed on.
    pub fn end(&self) -> RawFd {
        FIRST + self.count as RawFd // no more than are open
    }

    /// Adds the next `count` descriptors, each of which has to be open.
    fn extend(&mut self, count: u32, is_open: impl Fn(RawFd) -> bool) -> Result<()> {
        // A number that no descriptor can have ends the loop as well as one that is not open.
        for _ in 0..count {
            ensure!(is_open(self.end()), "descriptor {} is not open", self.end());
            self.count += 1;
        }
        Ok(())
    }

    /// Adds the descriptors that `--preserve-fds` asks for, which come after those of a service
    /// manager.
    pub fn preserve(&mut self, count: u32) -> Result<()> {
        self.extend(count, is_handed_over).with_context(|| format!("--preserve-fds {count}"))
    }
}

/// Returns those that were passed to this process: the variables may be another one's, inherited.
/// Fails if one is not open: in its place the program would get what the runtime has opened.
pub fn received() -> Result<Passed> {
    let env = |name: &str| std::env::var(name).ok();
    of(env, std::process::id(), is_handed_over)
}

fn of(env: impl Fn(&str) -> Option<String>, own_pid: u32, is_open: impl Fn(RawFd) -> bool) -> Result<Passed> {
    if env("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(own_pid) {
        return Ok(Passed::default());
    }
    let Some(count) = env("LISTEN_FDS").filter(|count| !count.is_empty()) else { return Ok(Passed::default()) };
    let told = || format!("LISTEN_FDS={count:?}");
    let number = count.parse().with_context(told)?;
    if number == 0 {
        return Ok(Passed::default());
    }
    let mut passed = Passed::default();
    passed.extend(number, is_open).with_context(told)?;
    // The program is the first in its pid namespace, as runc assumes, too.
    passed.env = vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()];
    passed.env.extend(env("LISTEN_FDNAMES").map(|names| format!("LISTEN_FDNAMES={names}")));
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(variables: &[(&str, &str)]) -> Result<Passed> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        of(find, 42, |fd| (3..5).contains(&fd))
    }

    #[test]
    fn only_what_was_passed_to_this_process_is_passed_on() {
        let passed = sockets(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a:b")]).unwrap();
        assert_eq!(passed.end(), 5);
        assert_eq!(passed.env, ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b"]);
        for others in
            [&[("LISTEN_PID", "41"), ("LISTEN_FDS", "2")][..], &[("LISTEN_FDS", "2")], &[("LISTEN_PID", "42")]]
        {
            assert_eq!(sockets(others).unwrap(), Passed::default(), "{others:?}");
        }
        for bad in ["x", "3", "-1", "4294967293", "4294967295", "4294967296"] {
            assert!(sockets(&[("LISTEN_PID", "42"), ("LISTEN_FDS", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn those_that_are_preserved_come_after_those_of_a_service_manager() {
        let mut passed = sockets(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "1")]).unwrap();
        passed.extend(1, |fd| fd == 4).unwrap();
        assert_eq!(passed.end(), 5);
        assert_eq!(passed.extend(u32::MAX, |fd| fd < 10).unwrap_err().to_string(), "descriptor 10 is not open");
    }
}
