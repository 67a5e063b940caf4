//! `tare completions` and `tare man`, from the definition of the command line.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::cli::Cli;
use crate::error::{Context as _, Result};

/// Prints the completions for a shell.
pub fn completions(shell: Shell) -> Result<()> {
    clap_complete::generate(shell, &mut Cli::command(), "tare", &mut io::stdout());
    Ok(())
}

/// Writes tare(8) and a page for each command.
pub fn pages(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("mkdir {directory:?}"))?;
    let command = Cli::command();
    for subcommand in command.get_subcommands() {
        page(directory, &format!("tare-{}", subcommand.get_name()), subcommand.clone())?;
    }
    page(directory, "tare", command)
}

fn page(directory: &Path, name: &str, command: clap::Command) -> Result<()> {
    let path = directory.join(format!("{name}.8"));
    let mut text = Vec::new();
    Man::new(command).title(name).section("8").render(&mut text).context("render")?;
    fs::write(&path, text).with_context(|| format!("write {path:?}"))
}
