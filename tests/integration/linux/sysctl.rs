//! `linux.sysctl`

use serde_json::json;

use crate::container::Container;
use crate::runtime::need_root;

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
