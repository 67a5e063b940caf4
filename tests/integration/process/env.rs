//! `process.env`

use serde_json::json;

use crate::container::Container;

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn it_is_exactly_the_configured_one_and_home() {
    let mut c = Container::new();
    c.args(&["env"]);
    c.save();
    let outcome = c.finish(c.bundle_command("run", &[]).env("OF_THE_HOST", "1")).ok();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(sorted(&outcome.stdout), ["HOME=/root", path, "TERM=xterm"]);
}

#[test]
fn home_comes_from_the_containers_passwd() {
    let mut c = Container::sh("echo $HOME");
    std::fs::write(c.rootfs().join("etc/passwd"), "a:x:0:0::/own:/bin/sh\nb:x:1000:1000::/place:/bin/sh\n")
        .expect("write");
    c.run().ok().prints("/own\n");
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    c.run().ok().prints("/place\n");
    // Not in the file: the root directory.
    c.config["process"]["user"] = json!({ "uid": 77, "gid": 77 });
    c.run().ok().prints("/\n");
}

#[test]
fn a_configured_home_stays() {
    let mut c = Container::sh("echo $HOME");
    c.config["process"]["env"] = json!(["PATH=/bin", "HOME=/configured"]);
    c.run().ok().prints("/configured\n");
}

#[test]
fn values_keep_spaces_equal_signs_and_emptiness() {
    let mut c = Container::sh("echo \"[$A][$B][$C]\"");
    c.config["process"]["env"] = json!(["PATH=/bin", "A=b=c d", "B=", "C= ü "]);
    c.run().ok().prints("[b=c d][][ ü ]\n");
}
