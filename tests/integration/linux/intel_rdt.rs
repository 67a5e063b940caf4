//! `linux.intelRdt`, where there is none: what it does where there is one, the unit tests show on a directory that stands
//! for the filesystem.

use std::fs;

use serde_json::json;

use crate::container::Container;
use crate::runtime::{is_tare, skip};

#[test]
fn without_a_resctrl_filesystem_it_is_refused() {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    if table.contains(" - resctrl ") {
        skip!("there is a resctrl filesystem");
    }
    let mut c = Container::new();
    for rdt in [json!({}), json!({ "closID": "gold" }), json!({ "l3CacheSchema": "L3:0=f" })] {
        c.config["linux"]["intelRdt"] = rdt;
        let outcome = c.create().code(1);
        if is_tare() {
            outcome.fails(&["linux.intelRdt", "no resctrl filesystem is mounted"]);
        }
        c.assert_nothing_left();
    }
}

#[test]
fn what_is_no_class_or_schema_is_refused() {
    let mut c = Container::new();
    for (rdt, word) in [
        (json!({ "closID": "../gold" }), "linux.intelRdt.closID"),
        (json!({ "memBwSchema": "L3:0=f" }), "linux.intelRdt.memBwSchema"),
        (json!({ "schemata": ["L3:0=f\nMB:0=1"] }), "linux.intelRdt.schemata[0]"),
    ] {
        c.config["linux"]["intelRdt"] = rdt;
        let outcome = c.create().code(1);
        if is_tare() {
            outcome.fails(&[word]);
        }
        c.assert_nothing_left();
    }
}
