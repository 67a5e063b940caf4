//! runtime.md#lifecycle and config.md: hooks that fail, hang, or cannot be called.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::hooks::{hook, inner_hook, labels};
use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(
        prestart,
        "runtime.md#lifecycle",
        "a prestart hook that fails makes create fail, and the container is destroyed"
    ),
    case!(create_runtime, "runtime.md#lifecycle", "a createRuntime hook that fails makes create fail"),
    case!(create_container, "runtime.md#lifecycle", "a createContainer hook that fails makes create fail"),
    case!(start_container, "runtime.md#lifecycle", "a startContainer hook that fails makes start fail; nothing is run")
        .known(&[
            ("runc", "start does not wait for the startContainer hooks"),
            ("crun", "start does not wait for the startContainer hooks"),
        ]),
    case!(start_container_destroys, "runtime.md#lifecycle", "a startContainer hook that fails destroys the container")
        .known(&[("runc", "the container is left stopped"), ("crun", "the container is left stopped")]),
    case!(poststart, "runtime.md#lifecycle", "a poststart hook that fails makes start fail and stops the container")
        .known(&[("runc", "calls poststart hooks in create"), ("crun 1.8", "ignores how a poststart hook ends")]),
    case!(poststop, "runtime.md#lifecycle", "a poststop hook that fails is a warning: the others run, delete succeeds")
        .known(&[
            ("runc 1.1", "calls no further poststop hook after one that failed"),
            ("runc 1.3", "delete fails then, and calls no further poststop hook"),
        ]),
    case!(
        failed_create_runs_poststop,
        "runtime.md#lifecycle",
        "after a failed createRuntime hook the poststop hooks run"
    )
    .known(&[("crun", "calls no poststop hooks then")]),
    case!(missing_program, "config.md#posix-platform-hooks", "a hook whose program is not there makes create fail"),
    case!(relative_path, "config.md#posix-platform-hooks", "a hook's path that is not absolute is refused").known(&[
        ("runc", "the path is taken from the working directory"),
        ("crun", "the path is taken from the working directory"),
    ]),
    case!(timeout, "config.md#posix-platform-hooks", "a hook is aborted after its timeout, and create fails"),
    case!(timeout_of_zero, "config.md#posix-platform-hooks", "a timeout that is not greater than zero is refused")
        .known(&[("crun", "takes it for no timeout")]),
];

/// A create that fails, with nothing left.
fn destroyed(container: &Container) -> Result<()> {
    container.create_refused()?;
    let path = format!("{}/{}", container.bench.suite.mark, container.id);
    let cgroups = container.bench.suite.cgroups.existing(&path);
    ensure!(cgroups.is_empty(), "cgroups were left: {cgroups:?}");
    Ok(())
}

fn failing_in_create(bench: &Bench, kind: &str) -> Result<()> {
    let mut container = Container::holding(bench)?;
    let hooks = [hook(&container, "first", &["exit:1"]), hook(&container, "second", &[])];
    container.config["hooks"] = json!({ kind: hooks });
    destroyed(&container)?;
    ensure!(labels(&container)? == ["first"], "called: {:?}", labels(&container)?);
    Ok(())
}

fn prestart(bench: &Bench) -> Result<()> {
    failing_in_create(bench, "prestart")
}

fn create_runtime(bench: &Bench) -> Result<()> {
    failing_in_create(bench, "createRuntime")
}

fn create_container(bench: &Bench) -> Result<()> {
    failing_in_create(bench, "createContainer")
}

fn with_failing_start_container<'a>(bench: &'a Bench) -> Result<Container<'a>> {
    let mut container = Container::new(bench)?;
    container.mount_out();
    container.args(&["report", "to:/out/ran"]);
    container.config["hooks"] = json!({ "startContainer": [inner_hook("it", &["exit:1"])] });
    container.create()?;
    Ok(container)
}

fn start_container(bench: &Bench) -> Result<()> {
    let container = with_failing_start_container(bench)?;
    let refused = container.refused(&["start", &container.id]);
    ensure!(labels(&container)? == ["it"], "called: {:?}", labels(&container)?);
    container.wait()?;
    ensure!(!container.out("ran").exists(), "the program ran all the same");
    refused.map(drop)
}

fn start_container_destroys(bench: &Bench) -> Result<()> {
    let container = with_failing_start_container(bench)?;
    let _ = container.call(&["start", &container.id])?;
    container.wait()?;
    let state = container.call(&["state", &container.id])?;
    ensure!(state.code != Some(0), "the container is still there: {}", state.stdout.trim());
    Ok(())
}

fn poststart(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    container.config["hooks"] = json!({ "poststart": [hook(&container, "it", &["exit:1"])] });
    container.create()?;
    container.refused(&["start", &container.id])?;
    ensure!(labels(&container)? == ["it"], "called: {:?}", labels(&container)?);
    container.wait()?;
    Ok(())
}

fn poststop(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let hooks = [hook(&container, "first", &["exit:1"]), hook(&container, "second", &[])];
    container.config["hooks"] = json!({ "poststop": hooks });
    container.run()?;
    container.wait_for_status("stopped")?;
    container.ok(&["delete", &container.id])?;
    ensure!(labels(&container)? == ["first", "second"], "called: {:?}", labels(&container)?);
    container.refused(&["state", &container.id]).map(drop)
}

fn failed_create_runs_poststop(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    container.config["hooks"] = json!({
        "createRuntime": [hook(&container, "createRuntime", &["exit:1"])],
        "poststop": [hook(&container, "poststop", &[])],
    });
    destroyed(&container)?;
    ensure!(labels(&container)? == ["createRuntime", "poststop"], "called: {:?}", labels(&container)?);
    Ok(())
}

fn refused_hook(bench: &Bench, hook: Value) -> Result<()> {
    let mut container = Container::holding(bench)?;
    container.config["hooks"] = json!({ "createRuntime": [hook] });
    destroyed(&container)
}

fn missing_program(bench: &Bench) -> Result<()> {
    refused_hook(bench, json!({ "path": "/no/such/hook" }))
}

fn relative_path(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    // There is such a program in the directory of the bundle, where a runtime may be.
    std::fs::hard_link(bench.suite.probe(), container.bundle().join("probe"))?;
    std::fs::hard_link(bench.suite.probe(), container.dir.join("probe"))?;
    container.config["hooks"] = json!({ "createRuntime": [{ "path": "./probe" }] });
    container.create_refused().map(drop)
}

fn timeout(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    let mut slow = hook(&container, "it", &["sleep:8"]);
    slow["timeout"] = json!(1);
    container.config["hooks"] = json!({ "createRuntime": [slow] });
    let begin = Instant::now();
    destroyed(&container)?;
    ensure!(begin.elapsed() < Duration::from_secs(6), "the hook was not aborted after a second");
    Ok(())
}

fn timeout_of_zero(bench: &Bench) -> Result<()> {
    for timeout in [0, -1] {
        refused_hook(bench, json!({ "path": bench.suite.probe(), "timeout": timeout }))?;
    }
    Ok(())
}
