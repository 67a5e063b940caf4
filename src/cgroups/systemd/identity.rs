//! Whether the unit of a name is the one that this container's create started. Names are used
//! again: only that one may be stopped.
//!
//! `create` writes a mark of its own into the unit's properties, and into the record before it asks
//! for the unit. systemd gives each start of a unit an invocation id, by which the unit can be
//! addressed: what is looked at and what is then stopped are the same, whatever else gets the name
//! meanwhile.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::thread::sleep;
use std::time::{self, Duration};

use super::bus::{Bus, UNIT, is_refused};
use super::wire::{Value, Writer};
use crate::cgroups::Placement;
use crate::error::{Context as _, Result, anyhow, ensure};

/// The property that holds the mark: a list of references (systemd.unit(5)), of which systemd needs
/// nothing to exist.
const MARKED: &str = "Documentation";

/// Begins a mark. A reference to an info page may hold any text.
const PREFIX: &str = "info:tare/create-";

/// Makes a mark that no other create has: 128 bits of the standard library's keys, which are
/// random.
pub(super) fn new_mark() -> String {
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{PREFIX}{:016x}{:016x}", random(), random())
}

/// Adds the mark to the properties of a unit that is to be started; an annotation may name others
/// for the property.
pub(super) fn add_mark(properties: &mut Vec<(String, Value)>, mark: &str) {
    let mark = Value::Text(mark.to_owned());
    match properties.iter_mut().find(|(name, _)| name == MARKED) {
        Some((_, Value::Array(_, values))) => values.push(mark),
        _ => properties.push((MARKED.to_owned(), Value::Array("s".to_owned(), vec![mark]))),
    }
}

/// What has the name of a container's unit.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Gone,
    /// The container's unit.
    Ours(Instance),
    /// A unit that another create, or anything else, has started.
    Foreign,
}

/// How long systemd may have a unit that it has not begun to start.
const QUEUED: Duration = Duration::from_secs(10);
/// The time between two looks at it.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks at the unit that has the name now. systemd answers all messages before it runs a job: a
/// unit that is still to be started has no invocation id. It is waited for, because it will fail and
/// stay when its process has ended.
///
/// # Errors
/// systemd does not answer, or does not begin to start the unit in time.
pub(super) fn find(bus: &mut Bus, name: &str, placement: &Placement) -> Result<Found> {
    let describe = || format!("look at unit {name}");
    let end = time::Instant::now() + QUEUED;
    let instance = loop {
        if let Some(instance) = Instance::find(bus, name).with_context(describe)? {
            break instance;
        }
        if !is_queued(bus, name, placement).with_context(describe)? {
            return Ok(Found::Gone);
        }
        ensure!(time::Instant::now() < end, "unit {name}: systemd has not started it in {} seconds", QUEUED.as_secs());
        sleep(PAUSE);
    };
    match is_ours(&instance, bus, placement) {
        Err(error) if is_unknown(&error) => Ok(Found::Gone), // it ended between the questions
        Ok(true) => Ok(Found::Ours(instance)),
        Ok(false) => Ok(Found::Foreign),
        Err(error) => Err(error).with_context(describe),
    }
}

/// Whether a unit without an invocation id is the container's all the same.
fn is_queued(bus: &mut Bus, name: &str, placement: &Placement) -> Result<bool> {
    let Some(mark) = &placement.unit_mark else { return Ok(false) };
    Ok(bus.get(&object(name), UNIT, MARKED)?.body().texts_variant()?.iter().any(|text| text == mark))
}

fn is_ours(instance: &Instance, bus: &mut Bus, placement: &Placement) -> Result<bool> {
    if let Some(mark) = &placement.unit_mark {
        return Ok(instance.marks(bus)?.iter().any(|text| text == mark));
    }
    // The record is of a build that made no mark: the unit is the one with its description that has
    // its cgroup, or that has none any more.
    if !instance.text(bus, UNIT, "Description")?.starts_with("tare container ") {
        return Ok(false);
    }
    let group = instance.text(bus, "org.freedesktop.systemd1.Scope", "ControlGroup")?;
    let group = Path::new(group.trim_start_matches('/'));
    Ok(group.as_os_str().is_empty() || placement.paths.get("").is_some_and(|dir| dir.ends_with(group)))
}

/// One start of a unit, from its beginning until systemd forgets it.
#[derive(Debug)]
pub(super) struct Instance {
    /// Its object, named by the invocation id.
    object: String,
}

impl Instance {
    /// The unit that has a name now, if it has ever been started.
    pub(super) fn find(bus: &mut Bus, name: &str) -> Result<Option<Self>> {
        let id = bus.get(&object(name), UNIT, "InvocationID")?.body().bytes_variant()?;
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(id.is_empty() || id.len() == 16, "InvocationID: {} bytes", id.len());
        Ok((!id.is_empty()).then(|| Self { object: object(&hex) }))
    }

    fn marks(&self, bus: &mut Bus) -> Result<Vec<String>> {
        bus.get(&self.object, UNIT, MARKED)?.body().texts_variant()
    }

    fn text(&self, bus: &mut Bus, interface: &str, name: &str) -> Result<String> {
        bus.get(&self.object, interface, name)?.body().text_variant().map(str::to_owned)
    }

    /// Whether it has processes, or will have them.
    pub(super) fn is_active(&self, bus: &mut Bus) -> Result<bool> {
        match self.text(bus, UNIT, "ActiveState") {
            Err(error) if is_unknown(&error) => Ok(false),
            result => Ok(!matches!(result?.as_str(), "inactive" | "failed")),
        }
    }

    /// Whether it is what is left of a transient unit that has failed: a name without a process.
    pub(super) fn is_failed_leftover(&self, bus: &mut Bus) -> Result<bool> {
        Ok(self.text(bus, UNIT, "ActiveState")? == "failed"
            && bus.get(&self.object, UNIT, "Transient")?.body().bool_variant()?)
    }

    /// Stops it and waits until its job is done; being gone already is as good.
    pub(super) fn stop(&self, bus: &mut Bus) -> Result<()> {
        let mut body = Writer::default();
        body.text("replace");
        let answer = match bus.call(&self.object, UNIT, "Stop", "s", body) {
            Err(error) if is_unknown(&error) => return Ok(()),
            result => result?,
        };
        let job = answer.body().text()?.to_owned();
        match bus.job_result(&job)?.as_str() {
            "done" => Ok(()),
            other => Err(anyhow!("the job's result is {other:?}")),
        }
    }

    /// Has systemd forget it, if it has failed.
    pub(super) fn reset_failed(&self, bus: &mut Bus) -> Result<()> {
        match bus.call(&self.object, UNIT, "ResetFailed", "", Writer::default()) {
            Err(error) if is_unknown(&error) => Ok(()),
            result => result.map(drop),
        }
    }
}

/// Whether systemd has no such unit (any more).
fn is_unknown(error: &crate::error::Error) -> bool {
    ["NoUnitForInvocationID", "NoSuchUnit", "UnknownObject"].iter().any(|name| is_refused(error, name))
}

/// The object of a unit: its name, or its invocation id, with all but letters and digits as `_` and
/// two hex digits.
fn object(name: &str) -> String {
    let mut object = "/org/freedesktop/systemd1/unit/".to_owned();
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => object.push(byte.into()),
            b'0'..=b'9' if index > 0 => object.push(byte.into()),
            _ => object.push_str(&format!("_{byte:02x}")),
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_by_letters_and_digits() {
        assert_eq!(object("tt-x1.scope"), "/org/freedesktop/systemd1/unit/tt_2dx1_2escope");
        assert_eq!(object("1f00"), "/org/freedesktop/systemd1/unit/_31f00");
    }

    #[test]
    fn a_mark_joins_what_an_annotation_says() {
        let texts = |texts: &[&str]| {
            Value::Array("s".to_owned(), texts.iter().map(|text| Value::Text((*text).to_owned())).collect())
        };
        let mut properties = vec![("Description".to_owned(), Value::Text("x".to_owned()))];
        add_mark(&mut properties, "info:a");
        assert_eq!(properties[1], (MARKED.to_owned(), texts(&["info:a"])));
        add_mark(&mut properties, "info:b");
        assert_eq!(properties[1].1, texts(&["info:a", "info:b"]));
        assert_ne!(new_mark(), new_mark());
    }
}
