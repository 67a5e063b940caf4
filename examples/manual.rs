//! `manual DIR`: writes tare(8), a page for each command, and the completions for the usual shells into a directory, of the
//! definition of the command line. A program of its own: what it takes is not to be loaded at each start of a container.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use tare::commands::cli::Cli;
use tare::error::{Context as _, Result, ensure};

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    ensure!(arguments.len() == 1, "usage: manual DIR");
    fs::create_dir_all(&arguments[0]).with_context(|| format!("mkdir {:?}", arguments[0]))?;
    pages(&arguments[0])?;
    completions(&arguments[0])
}

/// Each page has the name that man(1) looks for.
fn pages(directory: &Path) -> Result<()> {
    let command = Cli::definition();
    for subcommand in command.get_subcommands() {
        page(directory, &format!("tare-{}", subcommand.get_name()), subcommand.clone())?;
    }
    page(directory, "tare", command)
}

fn page(directory: &Path, name: &str, command: Command) -> Result<()> {
    let mut text = Vec::new();
    Man::new(command).title(name).section("8").render(&mut text).context("render")?;
    let path = directory.join(format!("{name}.8"));
    fs::write(&path, text).with_context(|| format!("write {path:?}"))
}

/// Each file has the name that its shell looks for.
fn completions(directory: &Path) -> Result<()> {
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut Cli::definition(), "tare", directory)
            .with_context(|| format!("write the completions for {shell}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(directory: &Path, file: &str) -> String {
        fs::read_to_string(directory.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    #[test]
    fn every_command_has_a_page_and_every_shell_a_completion() {
        let directory = std::env::temp_dir().join(format!("tare-manual-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        pages(&directory).unwrap();
        completions(&directory).unwrap();
        for page in ["tare.8", "tare-create.8", "tare-run.8", "tare-spec.8"] {
            let text = text(&directory, page);
            assert!(text.contains(".TH") && text.contains(".SH NAME"), "{page}: {text}");
        }
        for (file, word) in [("tare.bash", "complete"), ("_tare", "#compdef"), ("tare.fish", "complete -c tare")] {
            let text = text(&directory, file);
            assert!(text.contains(word) && text.contains("create"), "{file}: {text}");
        }
        let checked = std::process::Command::new("bash").arg("-n").arg(directory.join("tare.bash")).status().unwrap();
        assert!(checked.success());
        fs::remove_dir_all(directory).unwrap();
    }
}
