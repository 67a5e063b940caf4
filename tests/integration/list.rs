//! list: as a table, as JSON, as ids.

use nix::unistd::{User, geteuid};
use serde_json::json;

use crate::container::Container;
use crate::runtime::only_tare;

#[test]
fn an_empty_root_lists_nothing() {
    let c = Container::new();
    c.call(&["list", "--quiet"]).ok().silent().prints("");
    let table = c.call(&["list"]).ok().silent();
    assert_eq!(table.stdout.lines().count(), 1, "{}", table.stdout);
    let json = c.call(&["list", "--format", "json"]).ok().silent().json();
    assert!(json.is_null() || json == json!([]), "{json}");
}

#[test]
fn containers_are_shown_with_what_one_asks_first() {
    let first = Container::sleeping();
    let second = first.twin();
    first.create().ok();
    second.launch();
    let mut ids = [first.id.clone(), second.id.clone()];
    ids.sort();

    let quiet = first.call(&["list", "-q"]).ok();
    assert_eq!(quiet.stdout.lines().collect::<Vec<_>>(), ids);

    let owner = User::from_uid(geteuid()).expect("passwd").expect("a user").name;
    let table = first.call(&["list"]).ok().silent().stdout;
    let header: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    for (c, status) in [(&first, "created"), (&second, "running")] {
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(&c.id)).expect("a row");
        let cells: Vec<&str> = row.split_whitespace().collect();
        let bundle = c.bundle.path();
        assert_eq!(&cells[..4], [&c.id, &c.pid().to_string(), status, bundle.to_str().expect("a path")]);
        assert_eq!(cells.get(5).or(cells.last()), Some(&owner.as_str()));
    }

    let list = first.call(&["list", "--format", "json"]).ok().silent().json();
    for (c, status) in [(&first, "created"), (&second, "running")] {
        let entry = list.as_array().expect("a list").iter().find(|entry| entry["id"] == json!(c.id));
        let entry = entry.expect("the container is listed");
        assert_eq!(entry["status"], json!(status));
        assert_eq!(entry["pid"], json!(c.pid()));
        assert_eq!(entry["bundle"], json!(c.bundle.path()));
        assert_eq!(entry["rootfs"], json!(c.rootfs()));
        assert_eq!(entry["owner"], json!(owner));
        assert!(entry["ociVersion"].is_string() && entry["created"].as_str().is_some_and(is_rfc3339), "{entry}");
    }
}

/// 2026-01-02T03:04:05[.678](Z|+00:00)
pub fn is_rfc3339(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else { return false };
    let digits = |part: &str, lengths: &[usize], separator: char| {
        let parts: Vec<&str> = part.split(separator).collect();
        parts.len() == lengths.len()
            && parts.iter().zip(lengths).all(|(p, n)| p.len() == *n && p.bytes().all(|b| b.is_ascii_digit()))
    };
    let clock = time.get(..8).unwrap_or_default();
    let mut rest = time.get(8..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let zone = rest == "Z" || rest.strip_prefix(['+', '-']).is_some_and(|offset| digits(offset, &[2, 2], ':'));
    digits(date, &[4, 2, 2], '-') && digits(clock, &[2, 2, 2], ':') && zone
}

#[test]
fn a_stopped_container_is_listed_as_such() {
    let c = Container::new();
    c.launch();
    c.wait_for_status("stopped");
    let list = c.call(&["list", "--format", "json"]).ok().json();
    assert_eq!(list[0]["status"], json!("stopped"));
    assert_eq!(list[0]["pid"], json!(0));
}

#[test]
fn an_unknown_format_is_refused() {
    Container::new().call(&["list", "--format", "xml"]).fails(&["format"]);
}

/// What a record holds need not be what was ever a path.
#[test]
fn a_field_of_any_length_is_shown() {
    only_tare!("the record is this runtime's own");
    let c = Container::sleeping();
    c.create().ok();
    let file = c.bundle.state_root().join(&c.id).join("state.json");
    let text = std::fs::read_to_string(&file).expect("read the record");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let long = format!("/{}", "x".repeat(100_000));
    record["bundle"] = json!(long);
    std::fs::write(&file, record.to_string()).expect("write the record");
    let table = c.call(&["list"]).ok().stdout;
    let row = table.lines().find(|line| line.starts_with(&c.id)).expect("a row");
    assert!(row.contains(&format!(" {long}   ")), "{} characters", row.len());
    assert_eq!(c.call(&["list", "--format", "json"]).ok().json()[0]["bundle"], json!(long));
    c.delete_force().ok();
}
