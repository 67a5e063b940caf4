//! `process.noNewPrivileges`

use serde_json::json;

use crate::container::Container;

#[test]
fn it_is_set_when_asked_for_and_only_then() {
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/status"]);
    assert_eq!(c.run().ok().field("NoNewPrivs"), "1");
    c.config["process"]["noNewPrivileges"] = json!(false);
    assert_eq!(c.run().ok().field("NoNewPrivs"), "0");
    c.config["process"].as_object_mut().expect("an object").remove("noNewPrivileges");
    assert_eq!(c.run().ok().field("NoNewPrivs"), "0");
}
