//! runtime.md: the state and its query.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(needs_an_id, "runtime.md#query-state", "state without an ID is an error"),
    case!(unknown_id, "runtime.md#query-state", "state of a container that does not exist is an error"),
    case!(properties, "runtime.md#state", "the state has ociVersion, id, status, pid and bundle of the right types"),
    case!(created, "runtime.md#state", "after create the status is created and pid is a living process"),
    case!(running, "runtime.md#state", "after start the status is running and pid is the same"),
    case!(stopped, "runtime.md#state", "the status is stopped when the process has exited"),
    case!(stopped_before_it_is_reaped, "runtime.md#state", "a process that nobody has waited for yet has exited"),
    case!(absolute_bundle, "runtime.md#state", "bundle is absolute, though create was given a relative path"),
    case!(two_containers, "runtime.md#state", "each of two containers has a state of its own"),
    case!(
        across_invocations,
        "runtime.md#scope-of-a-container",
        "who creates a container can use every operation on it"
    ),
];

fn needs_an_id(bench: &Bench) -> Result<()> {
    Container::new(bench)?.refused(&["state"]).map(drop)
}

fn unknown_id(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    container.refused(&["state", &container.id]).map(drop)
}

fn properties(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.create()?;
    let state = container.state()?;
    let version = state["ociVersion"].as_str().unwrap_or_default();
    let numbers: Vec<&str> = version.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    let semver = numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok());
    ensure!(semver, "ociVersion is {}, not SemVer", state["ociVersion"]);
    ensure!(state["id"] == container.id.as_str(), "id is {}", state["id"]);
    ensure!(state["status"].is_string(), "status is {}", state["status"]);
    ensure!(state["pid"].as_i64().is_some_and(|pid| pid > 0), "pid is {}", state["pid"]);
    let bundle = container.bundle();
    ensure!(state["bundle"].as_str().map(Path::new) == Some(&bundle), "bundle is {}", state["bundle"]);
    let annotations = &state["annotations"];
    ensure!(annotations.is_null() || annotations.is_object(), "annotations is {annotations}");
    Ok(())
}

fn created(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.create()?;
    container.expect_status("created")?;
    let pid = container.state()?["pid"].clone();
    ensure!(pid == container.pid()?, "pid is {pid}, the pid file says {}", container.pid()?);
    ensure!(Path::new(&format!("/proc/{pid}")).exists(), "there is no process {pid}");
    Ok(())
}

fn running(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.launch()?;
    container.wait_for_output("holding")?;
    container.expect_status("running")?;
    let pid = container.state()?["pid"].clone();
    ensure!(pid == container.pid()?, "pid is {pid}, it was {}", container.pid()?);
    Ok(())
}

fn stopped(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    container.run()?;
    container.expect_status("stopped")
}

fn stopped_before_it_is_reaped(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    container.launch()?;
    container.wait_for_status("stopped")
}

fn absolute_bundle(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.save()?;
    // Commands run in the directory above the bundle.
    let outcome = container.create_saved(Path::new("bundle"))?;
    ensure!(outcome.code == Some(0), "`create --bundle bundle` failed: {}", outcome.stderr.trim());
    let bundle = container.state()?["bundle"].clone();
    ensure!(bundle == json!(container.bundle()), "bundle is {bundle}, not {}", container.bundle().display());
    Ok(())
}

fn two_containers(bench: &Bench) -> Result<()> {
    let one = Container::holding(bench)?;
    let mut other = Container::holding(bench)?;
    other.state_root = one.state_root.clone();
    one.create()?;
    other.launch()?;
    let key = |state: Value| (state["id"].clone(), state["status"].clone(), state["pid"].clone());
    let expected = (json!(one.id), json!("created"), json!(one.pid()?));
    ensure!(key(one.state()?) == expected, "the first one's state is {}", one.state()?);
    let expected = (json!(other.id), json!("running"), json!(other.pid()?));
    ensure!(key(other.state()?) == expected, "the second one's state is {}", other.state()?);
    Ok(())
}

fn across_invocations(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.launch()?;
    container.ok(&["state", &container.id])?;
    container.ok(&["kill", &container.id, "KILL"])?;
    container.wait()?;
    container.wait_for_status("stopped")?;
    container.ok(&["delete", &container.id]).map(drop)
}
