//! Values that the library's types read differently from the specification: two flags of `process.scheduler`, and empty
//! lists of `process.execCPUAffinity`, which stand for none. And a process without `user`, which callers of `exec` write for
//! user 0, as runc reads it. Names in other letters, as the schema finds them. And capabilities of a name that the library
//! does not know, which are for a kernel newer than this program, or a typing error. Only a document that could not be read
//! is looked at.

use oci_spec::runtime::Capability;
use serde_json::{Map, Value};

use super::schema::Shape::{self, List, Map as AnyNames, Object};

/// What the specification says, and what the library takes for it.
const FLAGS: &[(&str, &str)] =
    &[("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];

/// The document as the library takes it; none if nothing in it is spelled differently. `process` is where in it the
/// process is (RFC 6901).
pub fn for_the_library(json: &[u8], process: &str, shape: &'static Shape) -> Option<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(json).ok()?;
    let mut changed = respell(&mut document, shape);
    if let Some(process) = document.pointer_mut(process) {
        changed |= respell_process(process);
        changed |= leave_out_unknown_capabilities(process);
    }
    if changed { serde_json::to_vec(&document).ok() } else { None }
}

/// Gives the properties of a document whose names are in other letters, such as `CPU` or `pagesize`, their own names; true
/// if there were any.
pub fn respell(value: &mut Value, shape: &'static Shape) -> bool {
    match (value, shape) {
        (Value::Array(items), List(shape)) => {
            items.iter_mut().fold(false, |changed, item| respell(item, shape) | changed)
        }
        (Value::Object(object), AnyNames(shape)) => {
            object.values_mut().fold(false, |changed, value| respell(value, shape) | changed)
        }
        (Value::Object(object), Object(properties, _)) => {
            let others: Vec<_> =
                object.keys().filter_map(|name| Some((name.clone(), shape.in_other_letters(name)?))).collect();
            for (name, known) in &others {
                let value = object.remove(name).unwrap_or_default();
                add(object, known, value);
            }
            let shaped = properties.iter().filter_map(|property| Some((property.0, property.2?)));
            shaped.fold(!others.is_empty(), |changed, (name, shape)| {
                object.get_mut(name).is_some_and(|value| respell(value, shape)) | changed
            })
        }
        _ => false,
    }
}

/// Sets a property, or what it lacks: Go's parser reads two of the same name into one. Where both say something, the one in
/// the right letters counts.
fn add(object: &mut Map<String, Value>, name: &str, value: Value) {
    match (object.get_mut(name), value) {
        (Some(Value::Object(own)), Value::Object(more)) => {
            more.into_iter().for_each(|(name, value)| add(own, &name, value))
        }
        (None | Some(Value::Null), value) => drop(object.insert(name.to_owned(), value)),
        (Some(_), _) => {}
    }
}

fn respell_process(process: &mut Value) -> bool {
    let mut changed = false;
    for flag in process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some((_, known)) = FLAGS.iter().find(|(name, _)| *flag == *name) {
            *flag = (*known).into();
            changed = true;
        }
    }
    for list in ["/execCPUAffinity/initial", "/execCPUAffinity/final"] {
        if let Some(list) = process.pointer_mut(list).filter(|list| *list == "") {
            *list = Value::Null;
            changed = true;
        }
    }
    if let Some(fields) = process.as_object_mut().filter(|fields| !fields.contains_key("user")) {
        fields.insert("user".to_owned(), Value::Object(Map::new()));
        changed = true;
    }
    changed
}

/// What cannot be granted is warned about and left out (config.md, "Linux Process"); true if there was any.
fn leave_out_unknown_capabilities(process: &mut Value) -> bool {
    let mut unknown = Vec::new();
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for set in sets.into_iter().flat_map(Map::values_mut).filter_map(Value::as_array_mut) {
        set.retain(|name| {
            let known = !name.is_string() || serde_json::from_slice::<Capability>(name.to_string().as_bytes()).is_ok();
            if !known && !unknown.contains(name) {
                unknown.push(name.clone());
            }
            known
        });
    }
    if !unknown.is_empty() {
        let names: Vec<_> = unknown.iter().map(Value::to_string).collect();
        log::warn!("process.capabilities: unknown, left out: {}", names.join(", "));
    }
    !unknown.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::{self, CONFIG, check};

    #[test]
    fn only_the_values_of_these_properties_are_respelled() {
        let json = br#"{"process":{"env":["SCHED_FLAG_DL_OVERRUN"],"scheduler":{"flags":["SCHED_FLAG_DL_OVERRUN"]},"user":{"uid":7},
            "execCPUAffinity":{"initial":"","final":"0"}},"hostname":""}"#;
        let found: Value = serde_json::from_slice(&for_the_library(json, "/process", &CONFIG).unwrap()).unwrap();
        let expected = serde_json::json!({
            "process": {
                "env": ["SCHED_FLAG_DL_OVERRUN"], "scheduler": { "flags": ["SCHED_FLAG_D_L_OVERRUN"] },
                "execCPUAffinity": { "initial": null, "final": "0" },
                "user": { "uid": 7 },
            },
            "hostname": "",
        });
        assert_eq!(found, expected);
        assert_eq!(
            for_the_library(br#"{"process":{"scheduler":{"flags":["x"]},"user":{}}}"#, "/process", &CONFIG),
            None
        );
        assert_eq!(for_the_library(b"{", "", &schema::PROCESS), None);
    }

    #[test]
    fn names_in_other_letters_are_those_of_their_properties() {
        let json = br#"{"ociVersion":"1.3.0","Hostname":"x","annotations":{"CPU":"a"},
            "linux":{"Resources":{"cpu":{"shares":7},"CPU":{"Cpus":"0","mems":"1","MEMS":"2"},"hugepageLimits":[{"pagesize":"2MB","limit":1}]}}}"#;
        assert!(check(json, &CONFIG).is_err());
        let mut document: Value = serde_json::from_slice(json).unwrap();
        assert!(respell(&mut document, &CONFIG));
        let expected = serde_json::json!({
            "ociVersion": "1.3.0", "hostname": "x", "annotations": { "CPU": "a" },
            "linux": { "resources": {
                "cpu": { "shares": 7, "cpus": "0", "mems": "1" },
                "hugepageLimits": [{ "pageSize": "2MB", "limit": 1 }],
            }},
        });
        assert_eq!(document, expected);
        assert!(!respell(&mut document, &CONFIG));
        let spec: oci_spec::runtime::Spec = crate::config::parse(json, "/process", &CONFIG).unwrap();
        assert_eq!(spec.hostname().as_deref(), Some("x"));
    }

    #[test]
    fn unknown_capabilities_are_left_out_and_what_is_no_name_is_not() {
        let json = br#"{"process":{"capabilities":{"bounding":["CAP_KILL","CAP_X"],"ambient":["CAP_X"]},"user":{}}}"#;
        let found: Value = serde_json::from_slice(&for_the_library(json, "/process", &CONFIG).unwrap()).unwrap();
        assert_eq!(found["process"]["capabilities"], serde_json::json!({ "bounding": ["CAP_KILL"], "ambient": [] }));
        assert_eq!(for_the_library(br#"{"capabilities":{"bounding":[7]},"user":{}}"#, "", &schema::PROCESS), None);
    }

    #[test]
    fn a_process_without_a_user_is_user_0s() {
        let process = crate::config::parse_process(br#"{"args":["sh"],"cwd":"/"}"#).unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (0, 0));
        assert!(crate::config::parse_process(br#"{"args":["sh"],"cwd":"/","user":{"uid":"x"}}"#).is_err());
    }
}
