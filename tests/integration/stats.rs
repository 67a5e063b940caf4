//! `stats`: what containers use, as a table and as JSON. The reference has no such command.

use serde_json::{Value, json};

use crate::container::Container;
use crate::runtime::{by_systemd, eventually, only_tare};

fn busy() -> Container {
    let mut c = Container::sh("while :; do :; done");
    c.config["linux"]["resources"]["memory"] = json!({ "limit": 67_108_864 });
    c.config["linux"]["resources"]["pids"] = json!({ "limit": 21 });
    c
}

/// The rows of one call, with the given arguments.
#[track_caller]
fn rows(c: &Container, args: &[&str]) -> Vec<Value> {
    let all = [&["stats", "--format", "json", "--interval", "200ms"], args].concat();
    let json = c.call(&all).ok().silent().json();
    json.as_array().unwrap_or_else(|| panic!("{json} is no list")).clone()
}

#[test]
fn all_containers_are_listed_with_their_use_and_limits() {
    only_tare!("it has no such command");
    let c = busy();
    let mut idle = c.twin();
    idle.args(&["sleep", "1000"]);
    idle.config["linux"]["resources"] = json!({});
    assert_eq!(rows(&c, &[]), [] as [Value; 0]);
    c.launch();
    idle.launch();
    let rows = rows(&c, &[]);
    let row = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{id} is not in {rows:?}"));
    assert_eq!(rows.len(), 2);

    let (computes, sleeps) = (row(&c.id), row(&idle.id));
    let percent = |row: &Value| row["cpu_percent"].as_f64().unwrap_or_else(|| panic!("no share in {row}"));
    assert!((0.5..110.0).contains(&percent(computes)) && percent(sleeps) < percent(computes), "{rows:?}");
    let used = computes["memory_bytes"].as_u64().unwrap_or_default();
    assert!((4096..=67_108_864).contains(&used), "{computes}");
    assert_eq!((&computes["memory_limit_bytes"], &sleeps["memory_limit_bytes"]), (&json!(67_108_864), &Value::Null));
    assert_eq!((&computes["pids"], &computes["pids_limit"]), (&json!(1), &json!(21)));
    assert_eq!(&sleeps["pids"], &json!(1));
    // systemd limits the tasks of a unit that asks for nothing.
    assert!(by_systemd() || sleeps["pids_limit"].is_null(), "{sleeps}");
    for key in ["block_read_bytes", "block_write_bytes", "cpu_time_nanoseconds"] {
        assert!(computes[key].is_u64(), "{key}: {computes}");
    }
}

#[test]
fn a_quota_shows_in_the_shares() {
    only_tare!("it has no such command");
    let mut c = busy();
    c.config["linux"]["resources"]["cpu"] = json!({ "quota": 10_000, "period": 100_000 });
    c.launch();
    let row = eventually("it is throttled", || {
        let row = rows(&c, &[&c.id]).remove(0);
        (row["throttled_percent"].as_f64()? > 0.0).then_some(row)
    });
    assert!(row["cpu_percent"].as_f64().is_some_and(|percent| percent < 40.0), "a quota of 10: {row}");
}

#[test]
fn the_table_has_a_line_for_each_container() {
    only_tare!("it has no such command");
    let c = busy();
    let twin = c.twin();
    c.launch();
    twin.launch();
    let table = c.call(&["stats", "--interval", "100ms"]).ok().silent().stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("ID ") && lines[0].contains("CPU %"), "{table}");
    assert!(lines[1].starts_with(&c.id) && lines[1].contains("/ 64.0MiB") && lines[1].contains("1 / 21"), "{table}");
    let table = c.call(&["stats", "--interval", "100ms", &twin.id]).ok().stdout;
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains(&twin.id), "{table}");
}

#[test]
fn what_is_named_has_to_be_there_and_what_is_not_is_left_out() {
    only_tare!("it has no such command");
    let c = busy();
    let gone = c.twin();
    c.launch();
    c.call(&["stats", &c.id, &gone.id]).fails(&["does not exist"]);
    gone.launch();
    gone.kill("KILL").ok();
    gone.wait_for_status("stopped");
    c.call(&["stats", &c.id, &gone.id]).fails(&[&format!("container with id {} is not running", gone.id)]);
    assert_eq!(rows(&c, &[]).len(), 1);
    c.call(&["stats", "--interval", "0"]).fails(&["duration interval must be greater than 0"]);
}

#[test]
fn watching_goes_on_until_no_named_container_is_left() {
    only_tare!("it has no such command");
    let c = busy();
    c.launch();
    let table = c.spawn(&mut c.command(&["stats", "--watch", "--interval", "50ms", &c.id]));
    let json = c.spawn(&mut c.command(&["stats", "--watch", "--interval", "50ms", "--format", "json", &c.id]));
    eventually("there are tables", || (table.stdout().matches(&c.id).count() > 2).then_some(()));
    eventually("there are lists", || (json.stdout().lines().count() > 2).then_some(()));
    c.kill("KILL").ok();
    let (table, json) = (table.wait().ok().stdout, json.wait().ok().stdout);
    assert!(!table.contains('\x1b'), "only a terminal is drawn on: {table:?}");
    for line in json.lines() {
        let rows: Value = serde_json::from_str(line).expect("each line is JSON");
        assert!(rows.is_array(), "{line}");
    }
}
