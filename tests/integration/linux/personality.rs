//! `linux.personality`

use serde_json::{Value, json};

use crate::container::Container;
use crate::runtime::only_tare;

fn with(personality: Value) -> Container {
    let mut c = Container::new();
    c.args(&["uname", "-m"]);
    c.config["linux"]["personality"] = personality;
    c
}

/// What a 32-bit program is told that it runs on.
const OF_32_BITS: &str = if cfg!(target_arch = "x86_64") { "i686\n" } else { "armv8l\n" };

#[test]
fn programs_are_told_of_the_machine_of_the_domain() {
    only_tare!("runc 1.1 does not know it");
    with(json!({ "domain": "LINUX32", "flags": [] })).run().ok().prints(OF_32_BITS);
    let machine = format!("{}\n", std::env::consts::ARCH);
    with(json!({ "domain": "LINUX" })).run().ok().prints(&machine);
    with(Value::Null).run().ok().prints(&machine);
}

#[test]
fn a_further_program_has_it_too() {
    only_tare!("runc 1.1 does not know it");
    let mut c = with(json!({ "domain": "LINUX32" }));
    c.args(&["sleep", "1000"]);
    c.launch();
    c.call(&["exec", &c.id, "uname", "-m"]).ok().prints(OF_32_BITS);
}

#[test]
fn another_domain_or_a_flag_is_refused() {
    only_tare!("runc 1.1 does not know it");
    let c = with(json!({ "domain": "SOLARIS" }));
    c.create().fails(&["linux.personality.domain"]);
    c.assert_nothing_left();
    let c = with(json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] }));
    c.create().fails(&["linux.personality.flags", "ADDR_NO_RANDOMIZE"]);
    c.assert_nothing_left();
}
