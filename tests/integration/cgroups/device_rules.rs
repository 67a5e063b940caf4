//! linux.resources.devices: a list longer than the kernel takes.

use serde_json::json;

use crate::container::Container;
use crate::runtime::{need_root, only_tare};

#[test]
fn more_rules_than_a_filter_can_hold_are_refused_by_their_property_and_number() {
    only_tare!("runc leaves E2BIG without its number");
    need_root!("without privileges there is no device filter");
    let mut c = Container::new();
    let rule = |minor: u32| json!({ "allow": true, "type": "c", "major": 10, "minor": minor, "access": "rwm" });
    c.config["linux"]["resources"]["devices"] = (0..9000).map(rule).collect();
    let outcome = c.run();
    // v1 keeps a list, and a later kernel may verify more.
    if outcome.exit_code() != 0 {
        outcome.fails(&["linux.resources.devices: 90", " rules ", "list fewer"]);
    }
    c.assert_nothing_left();
}
