//! Socket activation (sd_listen_fds(3)): what a service manager passes to the runtime is passed on to the program, which is
//! told of it by the same variables.

use crate::error::{Context as _, Result};

/// Descriptors that are passed on to the program, from 3 on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// How many there are.
    pub count: u32,
    /// What tells the program of them.
    pub env: Vec<String>,
}

/// Those that were passed to this process: the variables may be another one's, inherited.
pub fn received() -> Result<Passed> {
    let env = |name: &str| std::env::var(name).ok();
    of(env, std::process::id())
}

fn of(env: impl Fn(&str) -> Option<String>, own_pid: u32) -> Result<Passed> {
    if env("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(own_pid) {
        return Ok(Passed::default());
    }
    let Some(count) = env("LISTEN_FDS").filter(|count| !count.is_empty()) else { return Ok(Passed::default()) };
    let number = count.parse().with_context(|| format!("LISTEN_FDS={count:?}"))?;
    if number == 0 {
        return Ok(Passed::default());
    }
    // The program is the first in its pid namespace, as runc assumes, too.
    let mut told = vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()];
    told.extend(env("LISTEN_FDNAMES").map(|names| format!("LISTEN_FDNAMES={names}")));
    Ok(Passed { count: number, env: told })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(variables: &[(&str, &str)]) -> Result<Passed> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        of(find, 42)
    }

    #[test]
    fn only_what_was_passed_to_this_process_is_passed_on() {
        let passed = sockets(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a:b")]).unwrap();
        assert_eq!(passed.count, 2);
        assert_eq!(passed.env, ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b"]);
        for others in
            [&[("LISTEN_PID", "41"), ("LISTEN_FDS", "2")][..], &[("LISTEN_FDS", "2")], &[("LISTEN_PID", "42")]]
        {
            assert_eq!(sockets(others).unwrap(), Passed::default(), "{others:?}");
        }
        assert!(sockets(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "x")]).is_err());
    }
}
