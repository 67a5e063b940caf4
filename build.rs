//! Finds the commit that `--version` prints.

use std::path::Path;
use std::process::Command;

/// What git prints, without the line break; empty if there is no git or no repository.
fn git(args: &[&str]) -> String {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success());
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn main() {
    let commit = git(&["describe", "--always", "--dirty", "--abbrev=12"]);
    println!("cargo:rustc-env=TARE_COMMIT={}", if commit.is_empty() { "unknown" } else { &commit });
    println!("cargo:rerun-if-changed=src");
    // Asked of git, because in a linked worktree .git is a file; and only what is there, because cargo takes a missing
    // file for one that has changed, and would build everything again each time.
    for file in ["HEAD", "logs/HEAD"].map(|name| git(&["rev-parse", "--git-path", name])) {
        if !file.is_empty() && Path::new(&file).exists() {
            println!("cargo:rerun-if-changed={file}");
        }
    }
}
