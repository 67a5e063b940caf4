//! The program inside a container and the program of hooks: it says what it sees, or waits, or ends in a given way.

mod actions;
mod view;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::SigSet;
use serde_json::json;

/// The name under which the program is the probe.
pub const NAME: &str = "probe";

/// How long a holding container lives if nobody kills it: longer than any case.
const HOLD: Duration = Duration::from_secs(120);

/// Runs the probe with its arguments, the name left out.
pub fn main(args: Vec<String>) -> ExitCode {
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("report") => report(rest),
        Some("signal") => wait_for_signal(),
        Some("hold") => {
            say("holding");
            sleep(HOLD);
            ExitCode::SUCCESS
        }
        Some("hook") => hook(rest),
        Some("exit") => code(rest.first().map_or("0", String::as_str)),
        // A hook may be called without arguments.
        None => ExitCode::SUCCESS,
        Some(other) => {
            eprintln!("the probe does not know {other}");
            ExitCode::from(64)
        }
    }
}

fn code(text: &str) -> ExitCode {
    ExitCode::from(text.parse().unwrap_or(65))
}

fn say(line: &str) {
    // Without a reader there is nothing to do about it.
    let _ = writeln!(std::io::stdout(), "{line}");
    let _ = std::io::stdout().flush();
}

/// `report [to:FILE] [ACTION...]`: one JSON line on stdout or into the file.
fn report(actions: &[String]) -> ExitCode {
    let mut seen = view::view();
    let target = actions.first().and_then(|first| first.strip_prefix("to:"));
    seen["answers"] = actions::perform(&actions[usize::from(target.is_some())..]);
    match target {
        None => say(&seen.to_string()),
        Some(file) => {
            if let Err(error) = std::fs::write(file, format!("{seen}\n")) {
                eprintln!("write {file}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// `signal`: waits for any signal that can be waited for, and names it.
fn wait_for_signal() -> ExitCode {
    let all = SigSet::all();
    if let Err(errno) = all.thread_block() {
        eprintln!("block the signals: {errno}");
        return ExitCode::FAILURE;
    }
    say("ready");
    match all.wait() {
        Ok(signal) => {
            say(signal.as_str());
            ExitCode::SUCCESS
        }
        Err(errno) => {
            eprintln!("wait for a signal: {errno}");
            ExitCode::FAILURE
        }
    }
}

/// `hook FILE LABEL [exit:N | ACTION...]`: appends one JSON line to the file.
fn hook(args: &[String]) -> ExitCode {
    let [file, label, actions @ ..] = args else {
        return ExitCode::from(66);
    };
    let mut stdin = String::new();
    let _ = std::io::stdin().read_to_string(&mut stdin);
    let mut seen = view::view();
    seen["label"] = json!(label);
    seen["stdin"] = serde_json::from_str(&stdin).unwrap_or(json!(stdin));
    let (ends, actions): (Vec<_>, Vec<_>) = actions.iter().cloned().partition(|action| action.starts_with("exit:"));
    seen["answers"] = actions::perform(&actions);
    let line = format!("{seen}\n");
    let written =
        OpenOptions::new().append(true).create(true).open(file).and_then(|mut to| to.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("write {file}: {error}");
        return ExitCode::from(67);
    }
    code(ends.first().map_or("0", |end| end.trim_start_matches("exit:")))
}
