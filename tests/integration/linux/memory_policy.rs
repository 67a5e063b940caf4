//! `linux.memoryPolicy`

use std::path::Path;

use serde_json::{Value, json};

use crate::container::Container;
use crate::runtime::{only_tare, skip};

fn with(policy: Value) -> Container {
    let mut c = Container::new();
    c.args(&["head", "-n1", "/proc/self/numa_maps"]);
    c.config["linux"]["memoryPolicy"] = policy;
    c
}

#[test]
fn a_mode_is_in_force_with_its_nodes_and_flags() {
    only_tare!("runc 1.1 does not know it");
    if !Path::new("/proc/self/numa_maps").exists() {
        skip!("this kernel has no NUMA");
    }
    for (policy, shown) in [
        (json!({ "mode": "MPOL_BIND", "nodes": "0" }), " bind:0 "),
        (json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }), " bind=static:0 "),
        (json!({ "mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"] }), " prefer=relative:0 "),
        (json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0" }), " interleave:0 "),
        (json!({ "mode": "MPOL_LOCAL" }), " local "),
        (json!({ "mode": "MPOL_DEFAULT" }), " default "),
    ] {
        let outcome = with(policy.clone()).run().ok();
        assert!(outcome.stdout.contains(shown), "{policy}: {}", outcome.stdout);
    }
    let mut c = with(json!({ "mode": "MPOL_BIND", "nodes": "0" }));
    c.args(&["sleep", "1000"]);
    c.launch();
    let outcome = c.call(&["exec", &c.id, "head", "-n1", "/proc/self/numa_maps"]).ok();
    assert!(outcome.stdout.contains(" bind:0 "), "{}", outcome.stdout);
}

#[test]
fn what_is_no_policy_is_refused() {
    only_tare!("runc 1.1 does not know it");
    for (policy, word) in [
        (json!({ "mode": "MPOL_BIND" }), "linux.memoryPolicy.nodes"),
        (json!({ "mode": "MPOL_LOCAL", "nodes": "0" }), "linux.memoryPolicy.nodes"),
        (json!({ "mode": "MPOL_BIND", "nodes": "0-" }), "linux.memoryPolicy.nodes"),
        (json!({ "mode": "MPOL_X" }), "linux.memoryPolicy.mode"),
        (json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"] }), "linux.memoryPolicy.flags[0]"),
        (json!({ "mode": "MPOL_BIND", "nodes": "1000" }), "set_mempolicy MPOL_BIND"),
    ] {
        let c = with(policy);
        c.create().fails(&[word]);
        c.assert_nothing_left();
    }
}
