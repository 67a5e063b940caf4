//! `process.rlimits`

use serde_json::json;

use crate::container::Container;
use crate::runtime::only_tare;

#[test]
fn soft_and_hard_limits_are_the_configured_ones() {
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/limits"]);
    c.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 4096 },
        { "type": "RLIMIT_NPROC", "soft": 300, "hard": 400 },
        { "type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152 },
        { "type": "RLIMIT_FSIZE", "soft": 5_000_000, "hard": 6_000_000 }
    ]);
    let outcome = c.run().ok();
    for (name, soft, hard) in [
        ("Max open files", "100", "200"),
        ("Max core file size", "0", "4096"),
        ("Max processes", "300", "400"),
        ("Max stack size", "1048576", "2097152"),
        ("Max file size", "5000000", "6000000"),
    ] {
        let line = outcome.stdout.lines().find_map(|line| line.strip_prefix(name)).expect("the limit's line");
        let values: Vec<&str> = line.split_whitespace().take(2).collect();
        assert_eq!(values, [soft, hard], "{name}");
    }
}

#[test]
fn a_limit_that_does_not_exist_is_refused() {
    let mut c = Container::new();
    c.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOTHING", "soft": 1, "hard": 1 }]);
    c.create().fails(&["RLIMIT_NOTHING"]);
    c.assert_nothing_left();
}

#[test]
fn a_limit_that_is_there_twice_is_refused() {
    only_tare!("runc 1.1 takes the last one");
    let mut c = Container::new();
    c.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 10, "hard": 20 }, { "type": "RLIMIT_NOFILE", "soft": 10, "hard": 20 }
    ]);
    c.create().fails(&["process.rlimits", "RLIMIT_NOFILE"]);
    c.assert_nothing_left();
}

#[test]
fn a_soft_limit_above_the_hard_one_is_refused() {
    let mut c = Container::new();
    c.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 200, "hard": 100 }]);
    c.create().fails(&["rlimit"]);
    c.assert_nothing_left();
}
