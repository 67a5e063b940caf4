//! features.md: what the runtime says it can do, against what it does.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::recursive_options::FLAGS_OF_MOUNT;
use crate::bench::Bench;
use crate::case::{Case, case, skip};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(versions, "features.md#specification-version", "ociVersionMin is not above ociVersionMax"),
    case!(versions_are_accepted, "features.md#specification-version", "both versions are accepted in a configuration"),
    case!(hooks, "features.md#hooks", "the hooks named are hooks of the specification"),
    case!(mount_options, "features.md#mount-options", "the mount options named are recognized").known(&[
        ("runc 1.1", "names ratime and gives the kernel a change of access times that it refuses"),
        ("runc 1.3", "names `defaults`, takes it for the filesystem's, and refuses that with a bind mount"),
        ("crun", FLAGS_OF_MOUNT),
    ]),
];

/// The document, or a skip: a runtime need not have one.
pub fn features(container: &Container) -> Result<Value> {
    let outcome = container.call(&["features"])?;
    if outcome.code != Some(0) {
        skip!("the runtime has no features command");
    }
    serde_json::from_str(&outcome.stdout).context("the features document is not JSON")
}

pub fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The three numbers of a version.
fn numbers(version: &Value) -> Result<Vec<u32>> {
    let text = version.as_str().with_context(|| format!("{version} is not a string"))?;
    let core = text.split(['-', '+']).next().unwrap_or_default();
    core.split('.').map(|number| number.parse().with_context(|| format!("{text} is not a version"))).collect()
}

fn versions(bench: &Bench) -> Result<()> {
    let features = features(&Container::new(bench)?)?;
    let (min, max) = (numbers(&features["ociVersionMin"])?, numbers(&features["ociVersionMax"])?);
    ensure!(min <= max, "{} is above {}", features["ociVersionMin"], features["ociVersionMax"]);
    Ok(())
}

fn versions_are_accepted(bench: &Bench) -> Result<()> {
    let features = features(&Container::new(bench)?)?;
    for key in ["ociVersionMin", "ociVersionMax"] {
        let mut container = Container::new(bench)?;
        container.config["ociVersion"] = features[key].clone();
        container.run().context(key)?;
    }
    Ok(())
}

fn hooks(bench: &Bench) -> Result<()> {
    let features = features(&Container::new(bench)?)?;
    let known = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let unknown: Vec<_> = texts(&features["hooks"]).into_iter().filter(|name| !known.contains(name)).collect();
    ensure!(unknown.is_empty(), "unknown hooks: {unknown:?}");
    Ok(())
}

fn mount_options(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    let features = features(&container)?;
    let options = texts(&features["mountOptions"]);
    if options.is_empty() {
        skip!("no mountOptions in the features document");
    }
    // These need mappings, something to be mounted on, or a filesystem that knows them.
    let special = ["idmap", "ridmap", "remount", "tmpcopyup", "copy-symlink", "acl", "noacl", "mand", "nomand"];
    let source = container.dir.join("out");
    for option in options.iter().filter(|option| !special.contains(option)) {
        let bind = if option.starts_with("rbind") { "rbind" } else { "bind" };
        container.mount(json!({ "destination": format!("/m/{option}"), "source": source, "options": [bind, option] }));
    }
    container.run().map(drop)
}
