//! config.md: ociVersion, and what a configuration may hold beyond this specification.

use anyhow::Result;
use serde_json::json;

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(
        one_zero_is_accepted,
        "config.md#specification-version",
        "a 1.0.0 bundle works: minor versions are compatible"
    ),
    case!(patch_versions_are_accepted, "config.md#specification-version", "1.0.2 bundles with a pre-release part work"),
    case!(not_semver, "config.md#specification-version", "an ociVersion that is not SemVer is refused")
        .known(&[("runc", "ociVersion is not looked at"), ("crun 1.28", "ociVersion is not looked at")]),
    case!(missing, "config.md#specification-version", "a configuration without ociVersion is refused")
        .known(&[("runc", "ociVersion is not looked at")]),
    case!(unknown_properties, "config.md#extensibility", "unknown properties are ignored"),
    case!(wrong_type, "config.md#valid-values", "a property of a wrong JSON type is refused")
        .known(&[("crun", "reads a string as the number 0")]),
    case!(not_json, "runtime.md#create", "a config.json that is not JSON is refused"),
];

fn runs_with(bench: &Bench, version: &str) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!(version);
    container.report(&[]).map(drop)
}

fn one_zero_is_accepted(bench: &Bench) -> Result<()> {
    runs_with(bench, "1.0.0")
}

fn patch_versions_are_accepted(bench: &Bench) -> Result<()> {
    runs_with(bench, "1.0.2-dev")
}

fn not_semver(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["ociVersion"] = json!("one.two");
    container.create_refused().map(drop)
}

fn missing(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    if let Some(config) = container.config.as_object_mut() {
        config.remove("ociVersion");
    }
    container.create_refused().map(drop)
}

fn unknown_properties(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["unknownProperty"] = json!({ "a": [1, "two"] });
    container.config["process"]["unknownProperty"] = json!("x");
    container.config["linux"]["unknownProperty"] = json!(null);
    container.report(&[]).map(drop)
}

fn wrong_type(bench: &Bench) -> Result<()> {
    let mut container = Container::new(bench)?;
    container.config["process"]["user"]["uid"] = json!("root");
    container.create_refused().map(drop)
}

fn not_json(bench: &Bench) -> Result<()> {
    let container = Container::new(bench)?;
    std::fs::write(container.bundle().join("config.json"), "{\"ociVersion\": \"1.0.2\",")?;
    let outcome = container.create_saved(&container.bundle())?;
    anyhow::ensure!(outcome.code != Some(0), "`create` was accepted");
    container.refused(&["state", &container.id]).map(drop)
}
