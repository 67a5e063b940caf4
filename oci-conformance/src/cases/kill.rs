//! runtime.md: kill.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::{Container, Exit};

pub const CASES: &[Case] = &[
    case!(needs_an_id, "runtime.md#kill", "kill without an ID is an error"),
    case!(unknown_id, "runtime.md#kill", "kill of a container that does not exist is an error"),
    case!(by_name, "runtime.md#kill", "a signal given by its name arrives at the container's process"),
    case!(by_number, "runtime.md#kill", "a signal given by its number arrives at the container's process"),
    case!(invalid_signal, "runtime.md#kill", "a signal that does not exist is refused, and nothing is sent")
        .known(&[("crun 1.8", "takes an unknown name for signal 0")]),
    case!(created, "runtime.md#kill", "a created container can be killed"),
    case!(running, "runtime.md#kill", "a running container can be killed"),
    case!(stopped, "runtime.md#kill", "kill of a stopped container is an error"),
];

fn needs_an_id(bench: &Bench) -> Result<()> {
    Container::new(bench)?.refused(&["kill"]).map(drop)
}

fn unknown_id(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    container.refused(&["kill", &container.id, "KILL"]).map(drop)
}

fn delivered(bench: &Bench, spelling: &str, name: &str) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.args(&["signal"]);
    container.launch()?;
    container.wait_for_output("ready")?;
    container.ok(&["kill", &container.id, spelling])?;
    container.wait()?;
    let output = container.output()?;
    ensure!(output.contains(name), "the program got no {name}: {output}");
    Ok(())
}

fn by_name(bench: &Bench) -> Result<()> {
    delivered(bench, "USR1", "SIGUSR1")?;
    delivered(bench, "SIGHUP", "SIGHUP")
}

fn by_number(bench: &Bench) -> Result<()> {
    delivered(bench, "15", "SIGTERM")
}

fn invalid_signal(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.launch()?;
    container.refused(&["kill", &container.id, "NOSUCHSIGNAL"])?;
    container.expect_status("running")
}

fn created(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.create()?;
    container.ok(&["kill", &container.id, "KILL"])?;
    container.wait()?;
    container.wait_for_status("stopped")
}

fn running(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.launch()?;
    container.ok(&["kill", &container.id, "KILL"])?;
    let exit = container.wait()?;
    ensure!(exit == Exit::Signal(Signal::SIGKILL), "the program ended with {exit:?}");
    container.wait_for_status("stopped")
}

fn stopped(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    container.run()?;
    container.refused(&["kill", &container.id, "KILL"])?;
    container.expect_status("stopped")
}
