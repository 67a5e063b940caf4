//! config.md: annotations.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(in_the_state, "runtime.md#state", "the state has the configured annotations"),
    case!(none, "runtime.md#state", "without annotations the state has none or an empty map"),
    case!(empty_value, "config.md#annotations", "a value may be empty, a key may be unknown"),
    case!(empty_key, "config.md#annotations", "an empty key is refused")
        .known(&[("runc", "keys are not looked at"), ("crun", "keys are not looked at")]),
    case!(not_a_string, "config.md#annotations", "a value that is not a string is refused"),
];

fn in_the_state(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    let annotations = json!({ "org.example.one": "1", "two": "a \"b\"\n\u{e9}" });
    container.config["annotations"] = annotations.clone();
    container.create()?;
    let found = container.state()?["annotations"].clone();
    // A runtime may add some of its own.
    for (key, value) in annotations.as_object().into_iter().flatten() {
        ensure!(found[key] == *value, "annotations are {found}");
    }
    Ok(())
}

fn none(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.create()?;
    let found = container.state()?["annotations"].clone();
    let empty = found.is_null() || found.as_object().is_some_and(serde_json::Map::is_empty);
    ensure!(empty, "annotations are {found}");
    Ok(())
}

fn empty_value(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    container.config["annotations"] = json!({ "org.example.empty": "", "org.opencontainers.unknown": "x" });
    container.create()?;
    let found = container.state()?["annotations"].clone();
    ensure!(found["org.example.empty"] == "", "annotations are {found}");
    Ok(())
}

fn empty_key(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    container.config["annotations"] = json!({ "": "x" });
    container.create_refused().map(drop)
}

fn not_a_string(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    container.config["annotations"] = json!({ "org.example.number": 1 });
    container.create_refused().map(drop)
}
