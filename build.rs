//! Finds the commit that `--version` prints, and tells the linker what to leave out and what belongs together.

use std::path::Path;
use std::process::Command;

/// What git prints, without the line break; empty if there is no git or no repository.
fn git(args: &[&str]) -> String {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success());
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Nobody unwinds in the release binary (panic = "abort"): the tables for it, the C library's too, would be a seventh of it.
/// And what a start needs of it lies side by side, because the kernel maps 64 KiB around each page that is touched.
fn lay_out() {
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo:rustc-link-arg-bin=tare=-Wl,--no-eh-frame-hdr");
        for script in ["hack/text/no-unwind-tables.ld", "hack/text/order.ld"] {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
            println!("cargo:rustc-link-arg-bin=tare=-Wl,-T,{}", script.display());
            println!("cargo:rerun-if-changed={}", script.display());
        }
    }
}

fn main() {
    lay_out();
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
