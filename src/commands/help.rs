//! What is said of the command line when it asks for help or cannot be understood.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::cli::Cli;
use crate::error::{Error, Result, anyhow};

/// The first lines are those that callers of runc may look for.
const PROGRAM: &str = "NAME:
   tare, a drop-in for runc - Open Container Initiative runtime

USAGE:
   {usage}

{all-args}";

/// Behind the name of a command.
const COMMAND: &str = " - {about}

USAGE:
   {usage}

{all-args}";

/// Prints the help of the whole program.
pub fn print() -> Result<i32> {
    definition().print_help()?;
    Ok(0)
}

/// Help is printed and succeeds; what cannot be understood fails with 1, like runc.
pub fn answer(args: &[OsString], error: &clap::Error) -> Result<i32> {
    if error.use_stderr() {
        return Err(misunderstood(error));
    }
    // The layout is not worth its time where no help is asked for.
    if let Err(help) = definition().try_get_matches_from(args) {
        help.print()?;
    }
    Ok(0)
}

fn definition() -> Command {
    Cli::definition().help_template(PROGRAM).mut_subcommands(|command| {
        let template = format!("NAME:\n   tare {}{COMMAND}", command.get_name());
        command.help_template(template)
    })
}

fn misunderstood(error: &clap::Error) -> Error {
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand)
    {
        return anyhow!("unrecognized subcommand '{name}': No help topic for '{name}' (see tare --help)");
    }
    let text = error.render().to_string();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let missing: Vec<&str> = text.lines().skip(1).take_while(|line| line.starts_with("  ")).map(str::trim).collect();
    let line = [first.trim_start_matches("error: "), &missing.join(" ")].join(" ");
    anyhow!("{} (see tare --help)", line.trim())
}
