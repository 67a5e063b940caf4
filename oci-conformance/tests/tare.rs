//! The suite on this project's own runtime: every failure has to have a reason in the table, and every reason a failure.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The runtime that `TARE_TEST_RUNTIME` names, or the one that was built beside the suite.
fn runtime() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_BIN_EXE_oci-conformance")).with_file_name("tare");
    let path = std::env::var_os("TARE_TEST_RUNTIME").map_or_else(beside, PathBuf::from);
    path.exists().then_some(path)
}

/// Says why nothing was tested, also in the file that the test runner adds up.
fn skip(reason: &str) {
    let line = format!("skipped: the conformance suite: {reason}\n");
    print!("{line}");
    if let Some(path) = std::env::var_os("TARE_TEST_SKIPS") {
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("write TARE_TEST_SKIPS");
    }
}

#[test]
fn every_failure_has_a_reason_and_every_reason_a_failure() {
    if !nix::unistd::geteuid().is_root() {
        return skip("not root");
    }
    let Some(runtime) = runtime() else {
        return skip("no runtime: set TARE_TEST_RUNTIME");
    };
    let output = Command::new(env!("CARGO_BIN_EXE_oci-conformance"))
        .arg("--runtime")
        .arg(&runtime)
        .args(["--format", "json"])
        .output()
        .expect("start the suite");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "the suite could not run: {stderr}");
    let mut wrong = Vec::new();
    for line in stdout.lines() {
        let finding: Value = serde_json::from_str(line).expect("a line is JSON");
        match (finding["result"].as_str(), finding["known"].is_null()) {
            (Some("fail"), true) => wrong.push(format!("{} fails: {}", finding["name"], finding["message"])),
            (Some("pass"), false) => {
                wrong.push(format!("{} passes: remove its reason from the table", finding["name"]))
            }
            _ => {}
        }
    }
    assert!(stdout.lines().count() > 380, "only {} cases: {stderr}", stdout.lines().count());
    assert!(wrong.is_empty(), "{}\n{stderr}", wrong.join("\n"));
}
