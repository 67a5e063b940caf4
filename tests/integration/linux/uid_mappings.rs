//! `linux.uidMappings`, `linux.gidMappings` and the user namespace that they are for.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bundle::is_rootless;
use crate::container::Container;
use crate::runtime::{Outcome, copy_program, need_root, only_tare, runtime};

/// A container whose ids 0 to 65535 are 100000 and up on the host; an ordinary user's has the mappings that it always has.
pub fn mapped(script: &str) -> Container {
    let mut c = Container::sh(script);
    if !is_rootless() {
        c.add_namespace(json!({ "type": "user" }));
        let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        c.config["linux"]["uidMappings"] = mapping.clone();
        c.config["linux"]["gidMappings"] = mapping;
    }
    // The container's root is nobody to the directories above the rootfs.
    let rootfs = c.rootfs();
    for directory in rootfs.ancestors().take_while(|directory| *directory != std::env::temp_dir()) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    c
}

#[test]
fn root_inside_is_another_user_on_the_host() {
    need_root!("only root may use ids that are nobody's");
    let mut c = mapped(
        "id -u; cat /proc/self/uid_map | tr -s ' '; ls -ln /dev/null | cut -c1; echo x >/dev/null && exec sleep 1000",
    );
    c.config["process"]["noNewPrivileges"] = json!(true);
    let run = c.launch();
    c.wait_for_output(&run, "100000");
    let owner = fs::read_to_string(format!("/proc/{}/status", c.pid())).expect("the status of init");
    let uids = owner.lines().find(|line| line.starts_with("Uid:")).expect("a line of ids");
    assert_eq!(uids.split_whitespace().nth(1), Some("100000"), "{uids}");
    let text = fs::read_to_string(format!("/proc/{}/uid_map", c.pid())).expect("the map");
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    c.delete_force().ok();
    c.assert_nothing_left();
}

#[test]
fn another_user_and_raised_limits_work_in_it() {
    need_root!("only root may use ids that are nobody's");
    let mut c = mapped("id -u; id -g; ulimit -n");
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    c.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 512, "hard": 512 }]);
    c.run().ok().prints("1000\n1000\n512\n");
    c.assert_nothing_left();
}

#[test]
fn it_is_nothing_without_mappings_and_they_are_nothing_without_it() {
    need_root!("only root may use ids that are nobody's");
    let mut c = mapped("true");
    c.config["linux"]["uidMappings"] = json!([]);
    c.create().code(1);
    let mut c = mapped("true");
    c.drop_namespace("user");
    c.create().code(1);
    c.assert_nothing_left();
}

/// What an engine keeps for the containers of a pod: a container that has the namespaces.
pub fn pod() -> Container {
    let mut pod = mapped("exec sleep 1000");
    pod.script("exec sleep 1000");
    pod.launch();
    pod
}

/// A container of that pod.
pub fn member(pod: &Container, namespaces: &[(&str, &str)], script: &str) -> Container {
    let mut c = mapped(script);
    for name in ["uidMappings", "gidMappings"] {
        c.config["linux"].as_object_mut().expect("an object").remove(name);
    }
    c.config.as_object_mut().expect("an object").remove("hostname");
    for (kind, file) in namespaces {
        c.join_namespace(kind, &format!("/proc/{}/ns/{file}", pod.pid()));
    }
    c
}

const OF_A_POD: &[(&str, &str)] = &[("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")];

/// The container's mappings as the kernel shows them in it, by single spaces.
fn uid_map(c: &Container) -> String {
    let mappings = c.config["linux"]["uidMappings"].as_array().expect("a list of mappings");
    let line = |mapping: &Value| format!(" {} {} {}\n", mapping["containerID"], mapping["hostID"], mapping["size"]);
    mappings.iter().map(line).collect()
}

/// What the namespaces of a process are.
fn links(pid: &str, files: &[&str]) -> String {
    files
        .iter()
        .map(|file| format!("{}\n", fs::read_link(format!("/proc/{pid}/ns/{file}")).expect("readlink").display()))
        .collect()
}

#[test]
fn the_namespaces_of_a_pod_are_joined_and_what_is_new_belongs_to_its_user_namespace() {
    let pod = pod();
    let shared = ["user", "net", "ipc", "uts"];
    let script = "for n in user net ipc uts; do readlink /proc/self/ns/$n; done; hostname; id -u; echo $$
        cat /proc/self/uid_map | tr -s ' '; mount -t tmpfs x /tmp && echo mounted";
    let mut c = member(&pod, OF_A_POD, script);
    c.capabilities(&["CAP_SYS_ADMIN"]);
    let expected = format!("{}tare\n0\n1\n{}mounted\n", links(&pod.pid().to_string(), &shared), uid_map(&pod));
    c.run().ok().prints(&expected).silent();
    c.assert_nothing_left();
    assert_eq!(pod.status(), "running");
}

#[test]
fn a_member_of_a_pod_lives_like_any_container() {
    let pod = pod();
    let mut c = member(&pod, OF_A_POD, "id -u; exec sleep 1000");
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    c.config["process"]["oomScoreAdj"] = json!(500);
    c.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 512, "hard": 512 }]);
    let run = c.launch();
    c.wait_for_output(&run, "1000");
    let status = fs::read_to_string(format!("/proc/{}/status", c.pid())).expect("the status of init");
    let uids = status.lines().find(|line| line.starts_with("Uid:")).expect("a line of ids");
    assert_eq!(uids.split_whitespace().nth(1), Some(pod.host_id("uidMappings", 1000).to_string().as_str()), "{uids}");
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", c.pid())).expect("the score of init");
    assert_eq!(score.trim(), "500");
    let inside =
        c.call(&["exec", "--user", "7", &c.id, "sh", "-c", "id -u; readlink /proc/self/ns/user; echo $$"]).ok();
    let user = links(&pod.pid().to_string(), &["user"]);
    assert!(inside.stdout.starts_with(&format!("7\n{user}")), "{}", inside.stdout);
    c.kill("KILL").ok();
    c.wait_for_status("stopped");
    c.delete().ok();
    c.assert_nothing_left();
    c.args(&["sh", "-c", "exit 7"]);
    c.run().code(7);
    c.assert_nothing_left();
}

#[test]
fn a_user_namespace_is_joined_together_with_a_pid_namespace_of_its_own() {
    let pod = pod();
    let namespaces = [OF_A_POD, &[("pid", "pid")]].concat();
    let c = member(&pod, &namespaces, "[ $$ != 1 ] && readlink /proc/self/ns/pid; cat /proc/1/comm");
    c.run().ok().prints(&format!("{}sleep\n", links(&pod.pid().to_string(), &["pid"])));
    c.assert_nothing_left();
}

#[test]
fn a_user_namespace_is_joined_together_with_a_network_of_the_hosts() {
    need_root!("an ordinary user cannot join a network of the host's");
    let pod = pod();
    let mut c = member(&pod, &[("user", "user")], "readlink /proc/self/ns/net; readlink /proc/self/ns/user");
    let mut other = Container::sleeping();
    other.config["linux"]["namespaces"].as_array_mut().expect("a list").retain(|entry| entry["type"] != "uts");
    other.config.as_object_mut().expect("an object").remove("hostname");
    other.launch();
    c.join_namespace("network", &format!("/proc/{}/ns/net", other.pid()));
    // The kernel mounts a sysfs for the owner of the network only.
    c.config["mounts"]
        .as_array_mut()
        .expect("a list")
        .retain(|mount| mount["type"] != "sysfs" && mount["type"] != "cgroup");
    c.config["linux"]["maskedPaths"] = json!([]);
    let expected = [links(&other.pid().to_string(), &["net"]), links(&pod.pid().to_string(), &["user"])].concat();
    c.run().ok().prints(&expected);
    c.assert_nothing_left();
}

#[test]
fn a_new_time_namespace_belongs_to_the_user_namespace_that_is_joined() {
    only_tare!("runc 1.1 has no time namespace");
    let pod = pod();
    let mut c = member(&pod, &[("user", "user")], "cut -d. -f1 /proc/uptime");
    c.add_namespace(json!({ "type": "time" }));
    c.config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 7_000_000 } });
    let outcome = c.run().ok();
    assert!(outcome.stdout.trim().parse::<u64>().is_ok_and(|uptime| uptime >= 7_000_000), "{}", outcome.stdout);
}

#[test]
fn mappings_beside_a_path_have_to_be_those_of_the_namespace() {
    only_tare!("runc 1.1 refuses both together");
    let pod = pod();
    let mut c = member(&pod, &[("user", "user")], "echo fine");
    for name in ["uidMappings", "gidMappings"] {
        c.config["linux"][name] = pod.config["linux"][name].clone();
    }
    c.run().ok().prints("fine\n").silent();
    c.config["linux"]["gidMappings"][0]["size"] = json!(65_535);
    c.create().fails(&["linux.gidMappings", "user namespace"]);
    c.assert_nothing_left();
}

#[test]
fn the_runtimes_own_user_namespace_is_refused() {
    let mut c = Container::new();
    c.join_namespace("user", "/proc/self/ns/user");
    let outcome = c.create().code(1);
    if crate::runtime::is_tare() {
        assert!(outcome.stderr.contains("own user namespace"), "{}", outcome.stderr);
    }
    c.assert_nothing_left();
}

#[test]
fn what_fails_in_a_user_namespace_that_is_joined_leaves_nothing_behind() {
    let pod = pod();
    let mut c = member(&pod, OF_A_POD, "true");
    c.add_mount(json!({ "destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"] }));
    c.create().fails(&["/no/such/source"]);
    c.assert_nothing_left();
    assert_eq!(pod.status(), "running");
}

#[test]
fn a_source_below_a_directory_that_is_closed_to_the_containers_root_is_mounted() {
    need_root!("the host's root is what the container's is not");
    let mut c = mapped("cat /mnt/file /bound; touch /mnt/new && echo written");
    fs::create_dir(c.rootfs().join("mnt")).expect("mkdir");
    fs::write(c.rootfs().join("bound"), "").expect("write");
    let closed = c.beside("closed");
    fs::create_dir_all(closed.join("open")).expect("mkdir");
    fs::write(closed.join("open/file"), "in the directory\n").expect("write");
    fs::set_permissions(closed.join("open"), fs::Permissions::from_mode(0o777)).expect("chmod");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("chmod");
    c.add_mount(json!({ "destination": "/mnt", "source": closed.join("open"), "options": ["rbind", "ro"] }));
    c.add_mount(json!({ "destination": "/bound", "source": closed.join("open/file"), "options": ["bind"] }));
    c.writable_root();
    let outcome = c.run().code(1).prints("in the directory\nin the directory\n");
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
    c.assert_nothing_left();
}

/// The container as that of the ordinary user 1000, whose only id it has.
pub fn of_an_ordinary_user(c: &mut Container) {
    let mapping = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
    for name in ["uidMappings", "gidMappings"] {
        if c.config["linux"].get(name).is_some() {
            c.config["linux"][name] = mapping.clone();
        }
    }
    c.config["process"].as_object_mut().expect("an object").remove("rlimits");
    let mounts = c.config["mounts"].as_array_mut().expect("mounts is a list");
    mounts.retain(|mount| mount["type"] != "cgroup");
    for options in mounts.iter_mut().filter_map(|mount| mount.get_mut("options")?.as_array_mut()) {
        options.retain(|option| option != "gid=5");
    }
    chown(c.bundle.dir.path(), Some(1000), Some(1000)).expect("chown");
    c.save();
}

/// Calls the runtime as that user, who may not be able to reach the build directory, so by another name.
pub fn call_as_ordinary_user(c: &Container, args: &[&str]) -> Outcome {
    let here = c.beside("runtime");
    // A copy is for other filesystems only.
    if !here.exists() && fs::hard_link(runtime(), &here).is_err() {
        copy_program(runtime(), &here);
    }
    let mut command = Command::new(here);
    command.uid(1000).gid(1000).current_dir("/").stdin(Stdio::null()).env("XDG_RUNTIME_DIR", c.bundle.dir.path());
    command.arg("--root").arg(c.bundle.state_root()).args(args);
    c.finish(&mut command)
}

#[test]
fn an_ordinary_user_joins_the_namespaces_of_its_own_pod() {
    need_root!("only root may use ids that are nobody's");
    only_tare!("runc 1.1 wants the mappings beside the path");
    let mut pod = mapped("exec sleep 1000");
    of_an_ordinary_user(&mut pod);
    pod.config["process"]["oomScoreAdj"] = json!(600);
    pod.save();
    let bundle = pod.bundle.path().display().to_string();
    call_as_ordinary_user(&pod, &["run", "--detach", "--bundle", &bundle, &pod.id]).ok();
    let script = "readlink /proc/self/ns/user; readlink /proc/self/ns/net; id -u; echo $$; cut -d. -f1 /proc/uptime";
    let mut c = member(&pod, OF_A_POD, script);
    c.add_namespace(json!({ "type": "time" }));
    c.config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 7_000_000 } });
    of_an_ordinary_user(&mut c);
    let bundle = c.bundle.path().display().to_string();
    let outcome = call_as_ordinary_user(&c, &["run", "--bundle", &bundle, &c.id]).ok();
    let expected = format!("{}0\n1\n7", links(&pod.pid().to_string(), &["user", "net"]));
    assert!(outcome.stdout.starts_with(&expected), "{}\n{expected}", outcome.stdout);
    let inside = call_as_ordinary_user(&pod, &["exec", &pod.id, "sh", "-c", "id -u; cat /proc/self/oom_score_adj"]);
    inside.ok().prints("0\n600\n");
}

#[test]
fn an_ordinary_users_time_namespace_belongs_to_its_user_namespace() {
    need_root!("only root may use ids that are nobody's");
    only_tare!("runc 1.1 has no time namespace");
    let mut c = mapped("id -u; cut -d. -f1 /proc/uptime");
    c.add_namespace(json!({ "type": "time" }));
    c.config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 7_000_000 } });
    of_an_ordinary_user(&mut c);
    let bundle = c.bundle.path().display().to_string();
    let outcome = call_as_ordinary_user(&c, &["run", "--bundle", &bundle, &c.id]).ok();
    assert!(outcome.stdout.starts_with("0\n7"), "{}", outcome.stdout);
    c.assert_nothing_left();
}
