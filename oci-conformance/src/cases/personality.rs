//! config-linux.md#personality.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::case::{Case, case};
use crate::container::Container;

pub const CASES: &[Case] = &[
    case!(personality, "config-linux.md#personality", "LINUX32 shows the machine of 32 bits")
        .known(&[("runc 1.1", "does not know it")]),
    case!(unknown_personality, "config-linux.md#personality", "an unknown domain is refused")
        .known(&[("runc 1.1", "does not know it")]),
    case!(flags, "config-linux.md#personality", "a flag is refused: the specification has none yet").known(&[
        ("runc 1.1", "does not know it"),
        ("runc", "warns and goes on"),
        ("crun", "it is ignored"),
    ]),
];

fn with<'a>(bench: &'a Bench, property: &str, value: Value) -> Result<Container<'a>> {
    let mut container = Container::new(bench)?;
    container.config["linux"][property] = value;
    Ok(container)
}

fn personality(bench: &Bench) -> Result<()> {
    for (domain, expected) in [("LINUX", 0), ("LINUX32", 8)] {
        let mut container = with(bench, "personality", json!({ "domain": domain }))?;
        let report = container.report(&["read:/proc/self/personality"])?;
        let found = report.worked("read:/proc/self/personality")?.as_str().unwrap_or_default();
        let number = u32::from_str_radix(found.trim(), 16)?;
        ensure!(number & 0xff == expected, "the personality with {domain} is {number:#x}");
        let machine = report.at("/machine").as_str().unwrap_or_default();
        let short = machine.ends_with("64") != (domain == "LINUX32");
        ensure!(short || cfg!(not(target_arch = "x86_64")), "uname with {domain} says {machine}");
    }
    Ok(())
}

fn unknown_personality(bench: &Bench) -> Result<()> {
    with(bench, "personality", json!({ "domain": "NO_SUCH" }))?.create_or_start_refused()
}

fn flags(bench: &Bench) -> Result<()> {
    with(bench, "personality", json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] }))?.create_or_start_refused()
}
