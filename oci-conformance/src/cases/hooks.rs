//! config.md: the hooks of all six kinds: when, where, and with what.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::{Container, text};

pub const CASES: &[Case] = &[
    case!(prestart, "config.md#prestart", "prestart: in create, in the runtime's namespaces, with the state on stdin"),
    case!(create_runtime, "config.md#createruntime-hooks", "createRuntime: in create, in the runtime's namespaces"),
    case!(
        create_container,
        "config.md#createcontainer-hooks",
        "createContainer: in create, in the container's namespaces"
    )
    .known(&[("crun", "gives the pid 0")]),
    case!(
        create_container_path,
        "config.md#createcontainer-hooks",
        "createContainer: before pivot_root, the mounts made"
    ),
    case!(
        start_container,
        "config.md#startcontainer-hooks",
        "startContainer: in start, in the container, path and all"
    )
    .known(&[("crun", "gives / as the bundle")]),
    case!(poststart, "config.md#poststart", "poststart: before start returns, in the runtime's namespaces")
        .known(&[("runc", "calls poststart hooks in create")]),
    case!(poststop, "config.md#poststop", "poststop: before delete returns, in the runtime's namespaces"),
    case!(
        namespaces_exist,
        "config.md#prestart",
        "createRuntime and prestart run when the container's namespaces exist"
    ),
    case!(order_of_kinds, "runtime.md#lifecycle", "the kinds of hooks follow each other as the lifecycle says").known(
        &[
            ("runc", "calls poststart hooks in create"),
            ("crun", "start does not wait for the startContainer hooks: the poststart hooks may come first"),
        ],
    ),
    case!(listed_order, "config.md#posix-platform-hooks", "hooks of a kind are called in the listed order"),
    case!(
        args_and_env,
        "config.md#posix-platform-hooks",
        "a hook gets its args and, as the environment, its env alone"
    ),
    case!(no_args, "config.md#posix-platform-hooks", "args and env of a hook may be left out")
        .known(&[("crun 1.8", "dies of SIGPIPE, now and then, where a hook does not read the state")]),
];

/// A hook in the runtime's mount namespace that appends what it sees to the container's file `hooks`.
pub fn hook(container: &Container, label: &str, more: &[&str]) -> Value {
    hook_at(&container.bench.suite.probe(), &container.out("hooks"), label, more)
}

/// The same inside the container, whose /out is mounted.
pub fn inner_hook(label: &str, more: &[&str]) -> Value {
    hook_at(Path::new("/bin/probe"), Path::new("/out/hooks"), label, more)
}

fn hook_at(path: &Path, file: &Path, label: &str, more: &[&str]) -> Value {
    let file = file.to_string_lossy();
    let mut args = vec!["probe", "hook", &file, label];
    args.extend(more);
    json!({ "path": path, "args": args })
}

/// What the hooks have written, in the order of the calls.
pub fn calls(container: &Container) -> Result<Vec<Value>> {
    let file = container.out("hooks");
    if !file.exists() {
        return Ok(Vec::new());
    }
    text(&file)?.lines().map(|line| serde_json::from_str(line).context("a hook's line")).collect()
}

/// The labels of the hooks that were called.
pub fn labels(container: &Container) -> Result<Vec<String>> {
    Ok(calls(container)?.iter().map(|call| call["label"].as_str().unwrap_or("?").to_owned()).collect())
}

/// The only call there was until now.
fn only_call(container: &Container) -> Result<Value> {
    let mut calls = calls(container)?;
    match (calls.pop(), calls.len()) {
        (Some(call), 0) => Ok(call),
        (None, _) => bail!("the hook was not called"),
        (Some(_), more) => bail!("the hook was called {} times", more + 1),
    }
}

/// Hooks of create are called in it, but behind the lifecycle's step 2: the specification has both words for that.
const IN_CREATE: &[&str] = &["creating", "created"];

/// The state on stdin has to be the container's, with one of these statuses.
fn expect_state(container: &Container, call: &Value, statuses: &[&str], pid: Option<i32>) -> Result<()> {
    let state = &call["stdin"];
    ensure!(state.is_object(), "stdin held no JSON object but {state}");
    ensure!(state["id"] == container.id.as_str(), "id in the hook's state is {}", state["id"]);
    ensure!(state["ociVersion"].is_string(), "ociVersion in the hook's state is {}", state["ociVersion"]);
    ensure!(state["bundle"] == json!(container.bundle()), "bundle in the hook's state is {}", state["bundle"]);
    ensure!(state["annotations"]["org.example.hook"] == "yes", "annotations are {}", state["annotations"]);
    if let Some(pid) = pid {
        ensure!(state["pid"] == pid, "pid in the hook's state is {}, not {pid}", state["pid"]);
    }
    let known = statuses.iter().any(|status| state["status"] == *status);
    ensure!(known, "status in the hook's state is {}, not {}", state["status"], statuses.join(" or "));
    Ok(())
}

/// The call's namespace of that kind is the suite's own, or it is not.
fn expect_namespace(call: &Value, kind: &str, ours: bool) -> Result<()> {
    let own = std::fs::read_link(format!("/proc/self/ns/{kind}"))?;
    let same = call["namespaces"][kind] == json!(own);
    ensure!(
        same == ours,
        "the hook's {kind} namespace is {}, the runtime's is {}",
        call["namespaces"][kind],
        own.display()
    );
    Ok(())
}

fn expect_runtime_namespaces(call: &Value) -> Result<()> {
    ["mnt", "uts", "pid", "ipc"].iter().try_for_each(|kind| expect_namespace(call, kind, true))
}

fn annotated<'a>(bench: &'a Bench) -> Result<Container<'a>> {
    let mut container = Container::holding(bench)?;
    container.config["annotations"] = json!({ "org.example.hook": "yes" });
    Ok(container)
}

fn in_create(bench: &Bench, kind: &str) -> Result<()> {
    let mut container = annotated(bench)?;
    container.config["hooks"] = json!({ kind: [hook(&container, kind, &[])] });
    container.create()?;
    let call = only_call(&container)?;
    expect_runtime_namespaces(&call)?;
    expect_state(&container, &call, IN_CREATE, Some(container.pid()?))
}

fn prestart(bench: &Bench) -> Result<()> {
    in_create(bench, "prestart")
}

fn create_runtime(bench: &Bench) -> Result<()> {
    in_create(bench, "createRuntime")
}

fn create_container(bench: &Bench) -> Result<()> {
    let mut container = annotated(bench)?;
    container.config["hooks"] = json!({ "createContainer": [hook(&container, "it", &[])] });
    container.create()?;
    let call = only_call(&container)?;
    ["mnt", "uts", "ipc", "pid"].iter().try_for_each(|kind| expect_namespace(&call, kind, false))?;
    // The pid is the one that the container sees: that of the first process in a new pid namespace.
    expect_state(&container, &call, IN_CREATE, Some(1))
}

fn create_container_path(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    container.mount(json!({ "destination": "/made", "type": "tmpfs", "source": "made" }));
    container.config["hooks"] = json!({ "createContainer": [hook(&container, "it", &["stat:/bin/probe"])] });
    container.create()?;
    let call = only_call(&container)?;
    let answer = &call["answers"]["stat:/bin/probe"];
    ensure!(answer["error"] == "ENOENT", "the hook's root is the container's already: {answer}");
    let made = container.rootfs().join("made");
    let table = call["mountinfo"].as_str().unwrap_or_default();
    let found = crate::mountinfo::parse(table).into_iter().any(|mount| Path::new(&mount.point) == made);
    ensure!(found, "the container's mounts are not made yet when the hook runs: {table}");
    Ok(())
}

fn start_container(bench: &Bench) -> Result<()> {
    let mut container = annotated(bench)?;
    container.mount_out();
    container.config["hooks"] = json!({ "startContainer": [inner_hook("it", &["stat:/bin/probe"])] });
    container.create()?;
    ensure!(calls(&container)?.is_empty(), "the hook was called by create");
    container.start()?;
    container.wait_for_output("holding")?;
    let call = only_call(&container)?;
    ["mnt", "uts", "ipc", "pid"].iter().try_for_each(|kind| expect_namespace(&call, kind, false))?;
    expect_state(&container, &call, &["created"], Some(1))
}

fn poststart(bench: &Bench) -> Result<()> {
    let mut container = annotated(bench)?;
    container.config["hooks"] = json!({ "poststart": [hook(&container, "it", &[])] });
    container.create()?;
    ensure!(calls(&container)?.is_empty(), "the hook was called by create");
    container.start()?;
    let call = only_call(&container)?;
    expect_runtime_namespaces(&call)?;
    expect_state(&container, &call, &["running"], Some(container.pid()?))
}

fn poststop(bench: &Bench) -> Result<()> {
    let mut container = annotated(bench)?;
    container.args(&["exit", "0"]);
    let path = format!("{}/{}", bench.suite.mark, container.id);
    container.config["hooks"] = json!({ "poststop": [hook(&container, "it", &[])] });
    container.run()?;
    container.wait_for_status("stopped")?;
    ensure!(calls(&container)?.is_empty(), "the hook was called before delete");
    container.ok(&["delete", &container.id])?;
    let call = only_call(&container)?;
    expect_runtime_namespaces(&call)?;
    expect_state(&container, &call, &["stopped"], None)?;
    let left = bench.suite.cgroups.existing(&path);
    ensure!(left.is_empty(), "cgroups were left: {left:?}");
    Ok(())
}

fn namespaces_exist(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    let pid_of_state = "sleep:0";
    container.config["hooks"] = json!({
        "prestart": [hook(&container, "prestart", &[pid_of_state])],
        "createRuntime": [hook(&container, "createRuntime", &[pid_of_state])],
    });
    container.create()?;
    for call in calls(&container)? {
        // The process that the state names is the one that the container goes on with.
        ensure!(call["stdin"]["pid"] == container.pid()?, "{} saw pid {}", call["label"], call["stdin"]["pid"]);
    }
    ensure!(labels(&container)?.len() == 2, "called: {:?}", labels(&container)?);
    Ok(())
}

fn order_of_kinds(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.mount_out();
    container.config["hooks"] = json!({
        "poststop": [hook(&container, "poststop", &[])],
        "poststart": [hook(&container, "poststart", &[])],
        "startContainer": [inner_hook("startContainer", &[])],
        "createContainer": [hook(&container, "createContainer", &[])],
        "createRuntime": [hook(&container, "createRuntime", &[])],
        "prestart": [hook(&container, "prestart", &[])],
    });
    container.create()?;
    let create = ["prestart", "createRuntime", "createContainer"];
    ensure!(labels(&container)? == create, "create called {:?}", labels(&container)?);
    container.start()?;
    container.wait()?;
    container.wait_for_status("stopped")?;
    let start = ["startContainer", "poststart"];
    ensure!(labels(&container)? == [&create[..], &start].concat(), "create and start called {:?}", labels(&container)?);
    container.ok(&["delete", &container.id])?;
    let all = [&create[..], &start, &["poststop"]].concat();
    ensure!(labels(&container)? == all, "create, start and delete called {:?}", labels(&container)?);
    Ok(())
}

fn listed_order(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    container.mount_out();
    let names = ["c", "a", "b"];
    let outer = names.map(|name| hook(&container, name, &[]));
    let inner = names.map(|name| inner_hook(name, &[]));
    container.config["hooks"] = json!({ "createRuntime": outer, "createContainer": outer, "startContainer": inner });
    container.launch()?;
    container.wait_for_output("holding")?;
    let expected = [names, names, names].concat();
    ensure!(labels(&container)? == expected, "called in the order {:?}", labels(&container)?);
    Ok(())
}

fn args_and_env(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    let mut hook = hook(&container, "it", &["", "two words"]);
    hook["env"] = json!(["KEY=the value", "EMPTY="]);
    container.config["hooks"] = json!({ "createRuntime": [hook.clone()], "createContainer": [hook.clone()] });
    container.create()?;
    let calls = calls(&container)?;
    ensure!(calls.len() == 2, "the hooks were called {} times", calls.len());
    for call in calls {
        ensure!(call["args"] == hook["args"], "args are {}", call["args"]);
        // The order of an environment means nothing.
        let sorted = |env: &Value| {
            let mut env: Vec<_> = env.as_array().into_iter().flatten().map(Value::to_string).collect();
            env.sort();
            env
        };
        ensure!(sorted(&call["env"]) == sorted(&hook["env"]), "the environment is {}", call["env"]);
    }
    Ok(())
}

fn no_args(bench: &Bench) -> Result<()> {
    let mut container = Container::holding(bench)?;
    let hook = json!({ "path": bench.suite.probe() });
    container.config["hooks"] = json!({ "createRuntime": [hook], "poststart": [hook] });
    container.launch()
}
