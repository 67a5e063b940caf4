//! `process.user`: uid, gid, additionalGids, umask.

use serde_json::json;

use crate::container::Container;

#[test]
fn ids_and_additional_groups_are_exact() {
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/status"]);
    c.config["process"]["user"] = json!({ "uid": 1234, "gid": 2345, "additionalGids": [7, 5, 60_000] });
    let outcome = c.run().ok();
    assert_eq!(outcome.field("Uid"), "1234\t1234\t1234\t1234");
    assert_eq!(outcome.field("Gid"), "2345\t2345\t2345\t2345");
    assert_eq!(outcome.field("Groups"), "5 7 60000");
}

#[test]
fn without_additional_groups_there_are_none() {
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/status"]);
    assert_eq!(c.run().ok().field("Groups"), "");
}

#[test]
fn the_umask_is_0022_or_the_configured_one() {
    let mut c = Container::sh("umask");
    c.run().ok().prints("0022\n");
    c.config["process"]["user"]["umask"] = json!(0o077);
    c.run().ok().prints("0077\n");
    c.config["process"]["user"]["umask"] = json!(0);
    c.run().ok().prints("0000\n");
}

#[test]
fn the_streams_belong_to_the_user_when_they_are_pipes() {
    let mut c = Container::sh("echo x | cat >/dev/stdout; echo y >/dev/stderr");
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    c.save();
    // Opening /dev/stdout anew asks for permission on the pipe: it has to be the user's.
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "set -e; { \"$@\" 2>&3 | cat; } 3>&1 | cat", "sh"]).stdin(std::process::Stdio::null());
    c.append_run(&mut command);
    let outcome = c.finish(&mut command).ok();
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["x", "y"]);
}
