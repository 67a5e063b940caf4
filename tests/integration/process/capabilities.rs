//! `process.capabilities`: the five sets, exactly.

use serde_json::json;

use crate::container::Container;
use crate::runtime::{Outcome, only_tare};

const KILL_AUDIT_BIND: &str = "0000000020000420";
const NONE: &str = "0000000000000000";

fn status(c: &mut Container) -> Outcome {
    c.args(&["cat", "/proc/self/status"]);
    c.run().ok()
}

fn sets(outcome: &Outcome) -> [&str; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| outcome.field(name))
}

#[test]
fn root_has_the_configured_ones_and_no_more() {
    let outcome = status(&mut Container::new());
    assert_eq!(sets(&outcome), [NONE, KILL_AUDIT_BIND, KILL_AUDIT_BIND, KILL_AUDIT_BIND, NONE]);
}

#[test]
fn another_user_has_none_but_the_bounding_set_stays() {
    let mut c = Container::new();
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let outcome = status(&mut c);
    assert_eq!(sets(&outcome), [NONE, NONE, NONE, KILL_AUDIT_BIND, NONE]);
}

#[test]
fn ambient_ones_reach_another_users_program() {
    let mut c = Container::new();
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let some = json!(["CAP_KILL", "CAP_CHOWN"]);
    c.config["process"]["capabilities"] = json!({
        "bounding": some, "effective": some, "permitted": some, "inheritable": some, "ambient": ["CAP_CHOWN"]
    });
    let outcome = status(&mut c);
    let chown = "0000000000000001";
    let both = "0000000000000021";
    assert_eq!(sets(&outcome), [both, chown, chown, both, chown]);
}

#[test]
fn without_the_property_there_are_none() {
    only_tare!("without capabilities in the config runc keeps its own");
    let mut c = Container::new();
    c.config["process"].as_object_mut().expect("an object").remove("capabilities");
    let outcome = status(&mut c);
    assert_eq!(sets(&outcome), [NONE; 5]);
}

#[test]
fn empty_sets_leave_none() {
    let mut c = Container::new();
    c.config["process"]["capabilities"] = json!({});
    let outcome = status(&mut c);
    assert_eq!(sets(&outcome), [NONE; 5]);
}

#[test]
fn inheritable_is_what_is_configured() {
    let mut c = Container::new();
    let one = json!(["CAP_KILL"]);
    c.config["process"]["capabilities"] =
        json!({ "bounding": one, "effective": one, "permitted": one, "inheritable": one });
    let outcome = status(&mut c);
    let kill = "0000000000000020";
    assert_eq!(sets(&outcome), [kill, kill, kill, kill, NONE]);
}

#[test]
fn a_name_that_is_no_capability_is_warned_about_and_left_out() {
    let mut c = Container::new();
    c.capabilities(&["CAP_KILL", "CAP_OF_NOTHING", "NO_CAP"]);
    let outcome = status(&mut c);
    let kill = "0000000000000020";
    assert_eq!(sets(&outcome), [NONE, kill, kill, kill, NONE]);
    for name in ["CAP_OF_NOTHING", "NO_CAP"] {
        assert!(outcome.stderr.contains(name), "a warning that names {name}: {}", outcome.stderr);
    }
}

#[test]
fn they_are_enforced() {
    let mut c = Container::sh("chown 1:1 /tmp; mknod /tmp/x c 1 3");
    c.writable_root();
    let outcome = c.run().code(1);
    assert!(outcome.stderr.contains("chown: /tmp: Operation not permitted"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("mknod: /tmp/x: Operation not permitted"), "{}", outcome.stderr);
}
