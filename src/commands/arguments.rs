//! Arguments as they come: which command they name, and long options with one dash, before the parser sees them.

use std::ffi::{OsStr, OsString};

use clap::ArgAction;

use super::cli::Cli;

/// The command, by a look that costs nothing next to parsing. It is a guess: an option that is not known here may hide it.
pub fn command(args: &[OsString]) -> Option<&str> {
    let mut args = args.iter().skip(1).map(|arg| arg.to_str().unwrap_or_default());
    while let Some(arg) = args.next() {
        match arg.trim_start_matches('-') {
            _ if !arg.starts_with('-') => return Some(arg),
            "root" | "log" | "log-format" | "cgroup-manager" | "timing" | "timing-format" => drop(args.next()),
            _ => {}
        }
    }
    None
}

/// Accepts long options with one dash, as Go's flag package does and callers of runc rely on (`-no-subreaper`).
pub fn with_two_dashes(mut args: Vec<OsString>) -> Vec<OsString> {
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len()).min(end_of_exec(&args));
    // Nearly no caller needs this, and asking the definition costs more than the whole parse.
    let unusual = |arg: &OsString| {
        long_option(arg).is_some_and(|(_, value)| {
            !arg.as_encoded_bytes().starts_with(b"--")
                || matches!(value, Some("true" | "false" | "1" | "0" | "t" | "f"))
        })
    };
    if !args[..end].iter().skip(1).any(unusual) {
        return args;
    }
    let mut command = Cli::definition();
    command.build();
    let rest = args.split_off(end);
    let program = args.first().cloned();
    let understood = args.iter().skip(1).filter_map(|arg| with_two(arg, &command));
    program.into_iter().chain(understood).chain(rest).collect()
}

/// Where the arguments of the program of `exec`, or of ps(1), begin, which are not ours to understand: after the first one
/// behind the command that is neither an option nor, as far as can be told without the definition, an option's value.
fn end_of_exec(args: &[OsString]) -> usize {
    let Some(exec) = args.iter().position(|arg| arg == "exec" || arg == "ps") else { return args.len() };
    const SWITCHES: &[&str] = &["tty", "t", "detach", "d", "no-new-privs", "ignore-paused"];
    let mut rest = args.iter().enumerate().skip(exec + 1);
    while let Some((index, arg)) = rest.next() {
        let text = arg.to_str().unwrap_or_default();
        if !text.starts_with('-') {
            return index + 1;
        }
        if !text.contains('=') && !SWITCHES.contains(&text.trim_start_matches('-')) {
            rest.next();
        }
    }
    args.len()
}

/// One argument with two dashes, if it is a long option; none if it is a switch that is set to false.
fn with_two(arg: &OsStr, command: &clap::Command) -> Option<OsString> {
    let Some((name, value)) = long_option(arg) else { return Some(arg.to_owned()) };
    match (is_switch(command, name), value) {
        (Some(true), Some("true" | "1" | "t")) => Some(OsString::from(format!("--{name}"))),
        (Some(true), Some("false" | "0" | "f")) => None,
        (Some(_), _) if !arg.as_encoded_bytes().starts_with(b"--") => {
            let mut dashed = OsString::from("-");
            dashed.push(arg);
            Some(dashed)
        }
        _ => Some(arg.to_owned()),
    }
}

/// The name and the value in `-name`, `--name`, `-name=value`; a short option has a name of one letter.
fn long_option(arg: &OsStr) -> Option<(&str, Option<&str>)> {
    let dashed = arg.to_str()?.strip_prefix('-')?;
    let option = dashed.strip_prefix('-').unwrap_or(dashed);
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    (name.len() > 1 && !name.starts_with('-')).then_some((name, value))
}

/// Is this long option, of any command, a switch? None: there is no such option.
fn is_switch(command: &clap::Command, name: &str) -> Option<bool> {
    let own = command.get_arguments().find(|arg| arg.get_long() == Some(name));
    if let Some(arg) = own {
        return Some(matches!(arg.get_action(), ArgAction::SetTrue));
    }
    if name == "help" {
        return Some(true);
    }
    command.get_subcommands().find_map(|subcommand| is_switch(subcommand, name).filter(|_| name != "help"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dashed(args: &[&str]) -> Vec<OsString> {
        with_two_dashes(args.iter().map(OsString::from).collect())
    }

    #[test]
    fn the_command_is_found_behind_the_flags() {
        let found = |line: &str| {
            let args: Vec<_> = line.split(' ').map(OsString::from).collect();
            command(&args).map(str::to_owned)
        };
        assert_eq!(found("tare run x").as_deref(), Some("run"));
        let line = "tare --root /x -log-format json --log=/y --debug create -b . x";
        assert_eq!(found(line).as_deref(), Some("create"));
        assert_eq!(found("tare --root run state x").as_deref(), Some("state"));
        assert_eq!(found("tare state run").as_deref(), Some("state"));
        assert_eq!(found("tare --version"), None);
    }

    #[test]
    fn a_long_option_may_have_one_dash() {
        assert_eq!(
            dashed(&["tare", "-root", "/x", "run", "-no-subreaper", "-bundle=/b", "-d", "x"]),
            ["tare", "--root", "/x", "run", "--no-subreaper", "--bundle=/b", "-d", "x"]
        );
    }

    #[test]
    fn the_options_of_a_program_are_its_own() {
        assert_eq!(
            dashed(&["tare", "exec", "-cwd", "/", "-tty", "x", "find", "-user", "y"]),
            ["tare", "exec", "--cwd", "/", "--tty", "x", "find", "-user", "y"]
        );
    }

    #[test]
    fn a_switch_may_be_told_its_value() {
        assert_eq!(
            dashed(&["tare", "-debug=false", "run", "--keep=true", "-no-pivot=false"]),
            ["tare", "run", "--keep"]
        );
    }

    #[test]
    fn what_is_no_option_of_ours_stays() {
        assert_eq!(dashed(&["tare", "list", "-qf", "-", "--", "-root"]), ["tare", "list", "-qf", "-", "--", "-root"]);
    }
}
