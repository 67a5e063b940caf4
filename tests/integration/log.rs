//! `--log` and `--log-format`: where the runtime's own messages go and how callers read them.

use std::fs;

use serde_json::Value;

use crate::container::Container;
use crate::list::is_rfc3339;
use crate::runtime::{Outcome, is_tare, only_tare, read_text};

/// Checks that a message is one line in the form `time="..." level=error msg="..."`, and gives its msg.
#[track_caller]
pub fn text_message(text: &str, outcome: &Outcome) -> String {
    let parts = (|| {
        let line = text.strip_suffix('\n')?;
        let (time, rest) = line.strip_prefix("time=\"")?.split_once("\" level=error msg=\"")?;
        let message = rest.strip_suffix('"')?;
        (is_rfc3339(time) && !line.contains('\n') && !message.is_empty()).then(|| message.to_owned())
    })();
    parts.unwrap_or_else(|| outcome.fail("expected one line `time=\"...\" level=error msg=\"...\"`"))
}

fn failing(flags: &[&str]) -> (Container, Outcome) {
    let c = Container::new();
    let log = c.beside("log").display().to_string();
    let mut args: Vec<&str> = vec!["--log", &log];
    args.extend(flags);
    args.extend(["state", "nowhere"]);
    let outcome = c.call(&args).code(1);
    (c, outcome)
}

#[test]
fn without_a_log_the_error_is_one_line_on_stderr() {
    let c = Container::new();
    let outcome = c.call(&["state", "nowhere"]).code(1).prints("");
    assert!(text_message(&outcome.stderr, &outcome).contains("does not exist"));
}

#[test]
fn a_text_log_has_the_line() {
    for flags in [&[][..], &["--log-format", "text"]] {
        let (c, outcome) = failing(flags);
        assert!(text_message(&read_text(&c.beside("log")), &outcome).contains("does not exist"));
        // Callers without the log still show what stderr has.
        assert!(outcome.stderr.contains("does not exist"), "{}", outcome.stderr);
    }
}

#[test]
fn a_json_log_has_level_msg_and_time() {
    let (c, outcome) = failing(&["--log-format", "json"]);
    let text = read_text(&c.beside("log"));
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    let line: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().is_some_and(|message| message.contains("does not exist")), "{line}");
    assert!(line["time"].as_str().is_some_and(is_rfc3339), "{line}");
    assert_eq!(line.as_object().expect("an object").len(), 3, "{line}");
    assert!(outcome.stderr.contains("does not exist"), "{}", outcome.stderr);
}

#[test]
fn the_log_is_appended_to() {
    let c = Container::new();
    let log = c.beside("log");
    fs::write(&log, "before\n").expect("write");
    let path = log.display().to_string();
    for _ in 0..2 {
        c.call(&["--log", &path, "--log-format", "json", "state", "nowhere"]).code(1);
    }
    let text = read_text(&log);
    assert!(text.starts_with("before\n"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn an_error_of_init_is_one_line_in_the_log() {
    let mut c = Container::new();
    c.args(&["/no/such/tool"]);
    c.save();
    let log = c.beside("log");
    let mut command =
        c.command(&["--log", log.to_str().expect("a path"), "--log-format", "json", "create", "--bundle"]);
    command.arg(c.bundle.path()).arg(&c.id);
    let outcome = c.finish(&mut command).code(1);
    let text = read_text(&log);
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: Value = serde_json::from_str(&text).expect("JSON");
    assert!(line["msg"].as_str().is_some_and(|message| message.contains("/no/such/tool")), "{line}");
    assert!(outcome.stderr.contains("/no/such/tool"), "{}", outcome.stderr);
}

#[test]
fn nothing_is_logged_when_all_is_well() {
    let c = Container::sleeping();
    c.save();
    let log = c.beside("log");
    let path = log.display().to_string();
    let bundle = c.bundle.path().display().to_string();
    c.call(&["--log", &path, "--log-format", "json", "create", "--bundle", &bundle, &c.id]).ok().silent();
    c.call(&["--log", &path, "--log-format", "json", "start", &c.id]).ok().silent();
    c.call(&["--log", &path, "--log-format", "json", "delete", "--force", &c.id]).ok().silent();
    assert_eq!(fs::read_to_string(&log).unwrap_or_default(), "");
}

#[test]
fn quotes_and_newlines_cannot_break_the_line() {
    let mut c = Container::new();
    c.args(&["/no\"such\ntool\\"]);
    let outcome = c.create().code(1);
    if is_tare() {
        text_message(&outcome.stderr, &outcome);
    }
    c.save();
    let log = c.beside("log");
    let mut command =
        c.command(&["--log", log.to_str().expect("a path"), "--log-format", "json", "create", "--bundle"]);
    c.finish(command.arg(c.bundle.path()).arg(&c.id)).code(1);
    let line: Value = serde_json::from_str(&read_text(&log)).expect("one JSON object");
    assert!(line["msg"].as_str().is_some_and(|message| message.contains("such")), "{line}");
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error() {
    Container::new().call(&["--log", "/no/such/dir/log", "list"]).fails(&["/no/such/dir/log"]);
}

#[test]
fn an_unknown_format_is_refused_naming_it() {
    Container::new().call(&["--log-format", "xml", "list"]).fails(&["log-format", "xml"]);
}

#[test]
fn debug_tells_more_and_changes_nothing_else() {
    only_tare!("what is told is each runtime's own");
    let c = Container::sh("echo fine");
    c.save();
    let log = c.beside("log");
    let mut command =
        c.command(&["--debug", "--log", log.to_str().expect("a path"), "--log-format", "json", "run", "--bundle"]);
    c.finish(command.arg(c.bundle.path()).arg(&c.id)).ok().prints("fine\n");
    let text = read_text(&log);
    assert!(text.contains("\"msg\":\"init: "), "init said nothing: {text}");
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["level"], "debug", "{line}");
    }
}
