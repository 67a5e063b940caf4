//! `process.env`

use serde_json::json;

use crate::container::Container;
use crate::runtime::only_tare;

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

#[test]
fn bytes_that_are_no_utf8_do_not_hide_a_home() {
    only_tare!("runc 1.1 takes what Go makes of the bytes");
    let c = Container::sh("echo -n \"$HOME\" | od -An -tx1");
    let passwd = c.rootfs().join("etc/passwd");
    // Latin-1: in another one's line, in the own line's name, and in the directory itself.
    std::fs::write(&passwd, b"a:x:77:77:Ren\xe9:/:/bin/sh\nb:x:0:0:Ren\xe9:/own:/bin/sh\n").expect("write");
    c.run().ok().prints(" 2f 6f 77 6e\n");
    std::fs::write(&passwd, b"root:x:0:0::/h\xe9:/bin/sh").expect("write");
    c.run().ok().prints(" 2f 68 e9\n");
}

#[test]
fn a_large_environment_takes_no_more_than_its_share_of_time() {
    only_tare!("it is a bound on this runtime's own work");
    let mut c = Container::new();
    c.args(&["env"]);
    // Each name twice: the last one wins.
    let twice = [0, 1].map(|round| (0..40_000).map(move |n| format!("V{}={}", n * 2 + 1, n + round)));
    let env: Vec<String> = std::iter::once("PATH=/bin".to_owned()).chain(twice.into_iter().flatten()).collect();
    c.config["process"]["env"] = json!(env);
    let outcome = c.run().ok();
    assert_eq!(outcome.stdout.lines().filter(|line| line.starts_with('V')).count(), 40_000);
    for last in ["V1=1", "V3=2", "V79999=40000"] {
        assert_eq!(outcome.stdout.lines().filter(|line| *line == last).count(), 1, "{last}");
    }
}
