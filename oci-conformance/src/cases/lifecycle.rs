//! runtime.md: create, start and delete.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::{Container, Exit};
use crate::mountinfo;

pub const CASES: &[Case] = &[
    case!(create_needs_an_id, "runtime.md#create", "create without an ID is an error"),
    case!(create_needs_a_bundle, "runtime.md#create", "create with a bundle that is not there is an error"),
    case!(create_with_an_id_in_use, "runtime.md#create", "an ID in use is refused, and its container is untouched"),
    case!(create_with_an_invalid_id, "runtime.md#create", "an ID that leads out of the state directory is refused"),
    case!(create_does_not_run_the_program, "runtime.md#lifecycle", "create does not run the user's program"),
    case!(create_applies_the_configuration, "runtime.md#create", "create applies everything but process"),
    case!(config_is_read_once, "runtime.md#lifecycle", "what changes in config.json after create has no effect"),
    case!(
        failed_create_leaves_nothing,
        "runtime.md#errors",
        "a create that failed leaves no container, cgroup or mount"
    ),
    case!(start_needs_an_id, "runtime.md#start", "start without an ID is an error"),
    case!(start_of_an_unknown_id, "runtime.md#start", "start of a container that does not exist is an error"),
    case!(start_runs_the_program, "runtime.md#start", "start runs the program of process.args"),
    case!(start_of_a_running_container, "runtime.md#start", "a running container is not started again, nor disturbed"),
    case!(start_of_a_stopped_container, "runtime.md#start", "a stopped container is not started again"),
    case!(start_without_process, "runtime.md#start", "a configuration without process cannot be started")
        .known(&[("crun 1.28", "start does not wait for the container, which fails only then")]),
    case!(delete_needs_an_id, "runtime.md#delete", "delete without an ID is an error"),
    case!(delete_of_an_unknown_id, "runtime.md#delete", "delete of a container that does not exist is an error"),
    case!(delete_of_a_created_container, "runtime.md#delete", "a created container is not deleted, nor disturbed")
        .known(&[
            ("runc", "a created container is killed and deleted"),
            ("crun", "a created container is killed and deleted"),
            ("tare", "a created container is killed and deleted: engines count on what runc does"),
        ]),
    case!(delete_of_a_running_container, "runtime.md#delete", "a running container is not deleted, nor disturbed"),
    case!(delete_removes_what_create_made, "runtime.md#delete", "delete removes the state and the cgroups"),
    case!(delete_leaves_what_others_made, "runtime.md#delete", "delete leaves bind sources and the bundle as they are"),
    case!(the_id_can_be_used_again, "runtime.md#delete", "the ID of a deleted container can be used again"),
];

fn create_needs_an_id(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    container.save()?;
    container.refused(&["create", "--bundle", &container.bundle().to_string_lossy()]).map(drop)
}

fn create_needs_a_bundle(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    let missing = container.dir.join("no-bundle");
    container.refused(&["create", "--bundle", &missing.to_string_lossy(), &container.id])?;
    container.refused(&["state", &container.id]).map(drop)
}

fn create_with_an_id_in_use(bench: &Bench) -> Result<()> {
    let first = Container::holding(bench)?;
    first.launch()?;
    let second = Container::holding(bench)?;
    second.save()?;
    let root = first.state_root.to_string_lossy();
    let bundle = second.bundle();
    second.refused(&["--root", &root, "create", "--bundle", &bundle.to_string_lossy(), &first.id])?;
    first.expect_status("running")?;
    let bundle = first.state()?["bundle"].clone();
    ensure!(bundle == json!(first.bundle()), "the first container's bundle is now {bundle}");
    Ok(())
}

fn create_with_an_invalid_id(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.save()?;
    let bundle = container.bundle();
    for id in ["../escaped", "a/b", "..", ""] {
        container.refused(&["create", "--bundle", &bundle.to_string_lossy(), id])?;
    }
    ensure!(!container.dir.join("escaped").exists(), "something was made outside of the state directory");
    Ok(())
}

fn create_does_not_run_the_program(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount_out();
    container.args(&["report", "to:/out/ran"]);
    container.create()?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    container.expect_status("created")?;
    ensure!(!container.out("ran").exists(), "the program ran before start");
    container.start()?;
    container.wait()?;
    ensure!(container.out("ran").exists(), "the program did not run after start");
    Ok(())
}

fn create_applies_the_configuration(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    container.config["hostname"] = json!("at-create");
    container.mount(json!({ "destination": "/made", "type": "tmpfs", "source": "made" }));
    container.create()?;
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid()?))?;
    let points: Vec<_> = mountinfo::parse(&table).into_iter().map(|mount| mount.point).collect();
    ensure!(points.iter().any(|point| point == "/made"), "not mounted after create: {points:?}");
    let host = fs::read_link("/proc/self/ns/uts")?;
    let uts = fs::read_link(format!("/proc/{}/ns/uts", container.pid()?))?;
    ensure!(uts != host, "no uts namespace after create");
    Ok(())
}

fn config_is_read_once(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.args(&["exit", "3"]);
    container.create()?;
    container.args(&["exit", "4"]);
    container.save()?;
    container.start()?;
    let exit = container.wait()?;
    ensure!(exit == Exit::Code(3), "the program ended with {exit:?}: config.json was read again");
    Ok(())
}

fn failed_create_leaves_nothing(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["resources"]["pids"] = json!({ "limit": 100 });
    container.mount(json!({ "destination": "/x", "type": "no-such-filesystem", "source": "x" }));
    container.create_refused()?;
    let path = format!("{}/{}", bench.suite.mark, container.id);
    let cgroups = bench.suite.cgroups.existing(&path);
    ensure!(cgroups.is_empty(), "cgroups were left: {cgroups:?}");
    let mounts = mountinfo::points_below(&container.dir);
    ensure!(mounts.is_empty(), "mounts were left: {mounts:?}");
    // The ID is free again.
    let mounts = container.config["mounts"].as_array_mut();
    mounts.and_then(Vec::pop);
    container.run().map(drop)
}

fn start_needs_an_id(bench: &Bench) -> Result<()> {
    Container::new(bench)?.refused(&["start"]).map(drop)
}

fn start_of_an_unknown_id(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    container.refused(&["start", &container.id]).map(drop)
}

fn start_runs_the_program(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.args(&["exit", "7"]);
    let exit = container.run()?;
    ensure!(exit == Exit::Code(7), "the program ended with {exit:?}, not with 7");
    Ok(())
}

fn start_of_a_running_container(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.launch()?;
    container.wait_for_output("holding")?;
    container.refused(&["start", &container.id])?;
    container.expect_status("running")?;
    let count = container.output()?.matches("holding").count();
    ensure!(count == 1, "the program ran {count} times");
    Ok(())
}

fn start_of_a_stopped_container(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    container.run()?;
    container.refused(&["start", &container.id])?;
    container.expect_status("stopped")
}

fn start_without_process(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    if let Some(config) = container.config.as_object_mut() {
        config.remove("process");
    }
    container.create_or_start_refused()
}

fn delete_needs_an_id(bench: &Bench) -> Result<()> {
    Container::new(bench)?.refused(&["delete"]).map(drop)
}

fn delete_of_an_unknown_id(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    container.refused(&["delete", &container.id]).map(drop)
}

fn delete_of_a_created_container(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.create()?;
    container.refused(&["delete", &container.id])?;
    container.expect_status("created")?;
    container.start()
}

fn delete_of_a_running_container(bench: &Bench) -> Result<()> {
    let container = Container::holding(bench)?;
    container.launch()?;
    container.refused(&["delete", &container.id])?;
    container.expect_status("running")
}

fn delete_removes_what_create_made(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["linux"]["resources"]["pids"] = json!({ "limit": 100 });
    container.create()?;
    let path = format!("{}/{}", bench.suite.mark, container.id);
    ensure!(!bench.suite.cgroups.existing(&path).is_empty(), "there is no cgroup {path} after create");
    container.start()?;
    container.wait()?;
    container.ok(&["delete", &container.id])?;
    container.refused(&["state", &container.id])?;
    let cgroups = bench.suite.cgroups.existing(&path);
    ensure!(cgroups.is_empty(), "cgroups were left: {cgroups:?}");
    let mounts = mountinfo::points_below(&container.dir);
    ensure!(mounts.is_empty(), "mounts were left: {mounts:?}");
    Ok(())
}

fn delete_leaves_what_others_made(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount_out();
    fs::write(container.out("kept"), "x")?;
    container.run()?;
    container.ok(&["delete", &container.id])?;
    for path in [container.out("kept"), container.rootfs().join("bin/probe"), container.bundle().join("config.json")] {
        ensure!(path.exists(), "{} is gone", path.display());
    }
    Ok(())
}

fn the_id_can_be_used_again(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    for _ in 0..2 {
        container.run()?;
        container.ok(&["delete", &container.id])?;
    }
    Ok(())
}
