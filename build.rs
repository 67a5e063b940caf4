//! Finds the commit that `--version` prints.

use std::process::Command;

fn main() {
    let commit = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output().ok();
    let commit = commit.filter(|output| output.status.success()).map(|output| output.stdout);
    let commit = commit.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
    let commit = if commit.trim().is_empty() { "unknown" } else { commit.trim() };
    println!("cargo:rustc-env=TARE_COMMIT={commit}");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/logs/HEAD");
    println!("cargo:rerun-if-changed=src");
}
