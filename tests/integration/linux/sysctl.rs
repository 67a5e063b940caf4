//! `linux.sysctl`

use serde_json::json;

use crate::bundle::is_rootless;
use crate::container::Container;
use crate::linux::namespaces::Holder;
use crate::linux::uid_mappings::mapped;
use crate::runtime::{Outcome, is_tare, need_root, only_tare};

fn with(name: &str, value: &str) -> Container {
    let mut c = Container::new();
    c.config["linux"]["sysctl"] = json!({ name: value });
    c
}

#[test]
fn values_are_set_in_the_containers_namespaces() {
    need_root!("the kernel lets only the host's root write some of these files");
    let mut c =
        Container::sh("cd /proc/sys; cat net/ipv4/ip_forward kernel/shmmni kernel/domainname fs/mqueue/msg_max");
    let own = |path: &str| std::fs::read_to_string(format!("/proc/sys/{path}")).expect("read");
    let before = [own("net/ipv4/ip_forward"), own("kernel/shmmni"), own("kernel/domainname")];
    c.config["linux"]["sysctl"] = json!({
        "net.ipv4.ip_forward": "1", "kernel.shmmni": "4000", "kernel.domainname": "example", "fs.mqueue.msg_max": "12"
    });
    c.run().ok().prints("1\n4000\nexample\n12\n");
    assert_eq!([own("net/ipv4/ip_forward"), own("kernel/shmmni"), own("kernel/domainname")], before);
}

#[test]
fn a_name_with_slashes_works_too() {
    let mut c = with("net/ipv4/ip_forward", "1");
    c.script("cat /proc/sys/net/ipv4/ip_forward");
    c.run().ok().prints("1\n");
}

#[test]
fn what_belongs_to_the_host_is_refused() {
    for name in ["vm.swappiness", "kernel.panic", "fs.file-max"] {
        let c = with(name, "1");
        c.create().fails(&[name, "namespace"]);
        c.assert_nothing_left();
    }
}

#[test]
fn those_of_a_namespace_that_is_the_hosts_are_refused() {
    for (name, namespace) in [("net.ipv4.ip_forward", "network"), ("kernel.shmmni", "ipc")] {
        let mut c = with(name, "1");
        c.drop_namespace(namespace);
        c.create().fails(&[name, "namespace"]);
        c.assert_nothing_left();
    }
}

#[test]
fn an_unknown_one_of_a_namespace_fails_naming_it() {
    let c = with("net.ipv4.no_such_thing", "1");
    let outcome = c.create().code(1);
    assert!(outcome.stderr.contains("no_such_thing"), "{}", outcome.stderr);
    c.assert_nothing_left();
}

#[test]
fn a_name_that_climbs_out_is_refused() {
    for name in ["net/../vm/swappiness", "net...vm.swappiness", "net.ipv4/../../kernel/panic"] {
        let before = std::fs::read_to_string("/proc/sys/vm/swappiness").expect("read");
        let c = with(name, "1");
        assert_eq!(c.create().exit_code(), 1, "{name}");
        assert_eq!(std::fs::read_to_string("/proc/sys/vm/swappiness").expect("read"), before);
        c.assert_nothing_left();
    }
}

/// Creates the container where a file is the caller's own namespace of this kind, as `ip netns` and engines have it: the
/// path says nothing of whose it is.
fn create_with_a_bound_namespace(c: &mut Container, kind: &str, file: &str) -> Outcome {
    let path = c.beside("bound").display().to_string();
    std::fs::write(&path, "").expect("write");
    c.join_namespace(kind, &path);
    c.save();
    let create = c.bundle_command("create", &[]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]).stdin(std::process::Stdio::null());
    command.args([&format!("mount --bind /proc/self/ns/{file} {path} && exec \"$@\""), "sh"]);
    c.finish(command.arg(create.get_program()).args(create.get_args()))
}

#[test]
fn those_of_the_hosts_namespace_by_path_are_refused_however_it_is_spelled() {
    only_tare!("the reference compares the link of /proc/self/ns with the path");
    for (name, kind, file) in [
        ("net.ipv4.ip_forward", "network", "net"),
        ("net.core.somaxconn", "network", "net"),
        ("kernel.shmmni", "ipc", "ipc"),
        ("fs.mqueue.msg_max", "ipc", "ipc"),
        ("kernel.domainname", "uts", "uts"),
    ] {
        let own = std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).expect("read");
        let mut c = with(name, own.trim());
        c.config["hostname"] = json!("");
        let words = [name, "namespace of the container's own"];
        for process in ["self", "1", "thread-self", "self/../1", "self/task/../../1"] {
            let path = format!("/proc/{process}/ns/{file}");
            // An ordinary user may not look at another's.
            if std::fs::metadata(&path).is_ok() {
                c.join_namespace(kind, &path);
                c.create().fails(&words);
                c.assert_nothing_left();
            }
        }
        if !is_rootless() {
            create_with_a_bound_namespace(&mut c, kind, file).fails(&words);
            c.assert_nothing_left();
        }
    }
}

#[test]
fn those_of_another_containers_namespace_are_set_by_path() {
    need_root!("a namespace that others can join without its user namespace");
    let holder = Holder::new(&["--net"], "net");
    let mut c = with("net.ipv4.ip_forward", "1");
    c.join_namespace("network", &holder.path("net"));
    c.script("cat /proc/sys/net/ipv4/ip_forward");
    c.run().ok().prints("1\n");
}

#[test]
fn they_are_set_without_a_proc_of_the_containers() {
    let without_proc = |mut c: Container| {
        c.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        let is_elsewhere = |mount: &serde_json::Value| mount["destination"] != "/proc";
        c.config["mounts"].as_array_mut().expect("mounts").retain(is_elsewhere);
        c.run()
    };
    if !is_rootless() {
        without_proc(Container::new()).ok();
    }
    // The kernel gives a user namespace no procfs where it sees none.
    let outcome = without_proc(mapped("true"));
    let told = outcome.exit_code() == 1 && outcome.stderr.contains("linux.sysctl");
    assert!(outcome.exit_code() == 0 || told || !is_tare(), "{}: {}", outcome.exit_code(), outcome.stderr);
}
