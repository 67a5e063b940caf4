//! `linux.namespaces`: new ones, the host's, and ones joined by path.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::container::Container;
use crate::runtime::{eventually, need_root, only_tare};

/// A process that holds namespaces for others to join.
pub struct Holder(Child);

impl Holder {
    /// `unshare FLAG`; returns when the namespace `name` exists.
    pub fn new(flags: &[&str], name: &str) -> Holder {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sleep", "1000"]).stdin(Stdio::null()).stdout(Stdio::null());
        let holder = Holder(command.spawn().expect("start unshare"));
        let own = fs::read_link(format!("/proc/self/ns/{name}")).expect("read the own namespace");
        eventually("the holder has its namespace", || {
            fs::read_link(holder.path(name)).ok().filter(|link| *link != own)
        });
        holder
    }

    pub fn path(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.0.id())
    }

    fn link(&self, name: &str) -> String {
        fs::read_link(self.path(name)).expect("read the holder's namespace").display().to_string()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_network_namespace_is_joined_by_path() {
    need_root!("a namespace that others can join without its user namespace");
    let holder = Holder::new(&["--net"], "net");
    let mut c = Container::sh("readlink /proc/self/ns/net");
    c.join_namespace("network", &holder.path("net"));
    c.run().ok().prints(&format!("{}\n", holder.link("net")));
    c.assert_nothing_left();
}

#[test]
fn ipc_and_uts_namespaces_are_joined_by_path() {
    need_root!("a namespace that others can join without its user namespace");
    let holder = Holder::new(&["--ipc", "--uts"], "uts");
    let mut c = Container::sh("readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts; hostname");
    c.join_namespace("ipc", &holder.path("ipc"));
    c.join_namespace("uts", &holder.path("uts"));
    // The configured hostname is set in the joined namespace.
    c.run().ok().prints(&format!("{}\n{}\ntare\n", holder.link("ipc"), holder.link("uts")));
}

#[test]
fn a_cgroup_namespace_is_joined_by_path() {
    need_root!("a namespace that others can join without its user namespace");
    let holder = Holder::new(&["--cgroup"], "cgroup");
    let mut c = Container::sh("readlink /proc/self/ns/cgroup");
    c.join_namespace("cgroup", &holder.path("cgroup"));
    c.run().ok().prints(&format!("{}\n", holder.link("cgroup")));
}

#[test]
fn a_pid_namespace_is_joined_by_path() {
    need_root!("a namespace that others can join without its user namespace");
    let holder = Holder::new(&["--pid", "--fork", "--kill-child"], "pid_for_children");
    let mut c = Container::sh("readlink /proc/self/ns/pid; [ $$ != 1 ] && echo not the first; cat /proc/1/comm");
    c.join_namespace("pid", &holder.path("pid_for_children"));
    c.run().ok().prints(&format!("{}\nnot the first\nsleep\n", holder.link("pid_for_children")));
    c.args(&["sleep", "1000"]);
    c.launch();
    c.delete_force().ok();
    c.assert_nothing_left();
    assert!(crate::container::is_alive(i32::try_from(holder.0.id()).expect("a pid")));
}

#[test]
fn a_containers_namespaces_are_joined_by_another() {
    need_root!("an ordinary user's container has to join the user namespace as well, see uid_mappings");
    let first = Container::sleeping();
    first.launch();
    let pid = first.pid();
    let mut second = Container::sh("for n in net ipc uts; do readlink /proc/self/ns/$n; done; hostname");
    second.config.as_object_mut().expect("an object").remove("hostname");
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        second.join_namespace(kind, &format!("/proc/{pid}/ns/{name}"));
    }
    let links: String = ["net", "ipc", "uts"]
        .map(|name| format!("{}\n", fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("readlink").display()))
        .concat();
    second.run().ok().prints(&format!("{links}tare\n"));
    assert_eq!(first.status(), "running");
}

#[test]
fn the_hosts_pid_namespace_shows_the_hosts_processes() {
    let mut c = Container::sh("cat /proc/1/comm; readlink /proc/self/ns/pid");
    c.share_the_hosts_pids();
    let comm = fs::read_to_string("/proc/1/comm").expect("read");
    let link = fs::read_link("/proc/self/ns/pid").expect("readlink");
    c.run().ok().prints(&format!("{comm}{}\n", link.display()));
}

#[test]
fn a_missing_path_is_named() {
    let mut c = Container::new();
    c.join_namespace("network", "/run/netns/nowhere");
    c.create().fails(&["/run/netns/nowhere", "no such file or directory"]);
    c.assert_nothing_left();
}

#[test]
fn a_path_of_another_type_is_refused() {
    need_root!("a namespace that others can join without its user namespace");
    let holder = Holder::new(&["--ipc"], "ipc");
    let mut c = Container::new();
    c.join_namespace("network", &holder.path("ipc"));
    let outcome = c.create().code(1);
    if crate::runtime::is_tare() {
        assert!(outcome.stderr.contains(&holder.path("ipc")), "{}", outcome.stderr);
    }
    c.assert_nothing_left();
}

#[test]
fn a_type_that_is_there_twice_is_refused() {
    let mut c = Container::new();
    c.add_namespace(json!({ "type": "uts" }));
    c.create().fails(&["duplicate", "uts"]);
    c.assert_nothing_left();
}

#[test]
fn an_unknown_type_is_refused_naming_it() {
    let mut c = Container::new();
    c.add_namespace(json!({ "type": "sideways" }));
    c.create().fails(&["namespace", "sideways"]);
    c.assert_nothing_left();
}

#[test]
fn a_hostname_without_a_uts_namespace_is_refused() {
    let mut c = Container::new();
    c.drop_namespace("uts");
    c.create().fails(&["hostname", "namespace"]);
    c.assert_nothing_left();
}

#[test]
fn a_domainname_is_set_in_the_new_uts_namespace() {
    only_tare!("runc 1.1 does not know domainname");
    let mut c = Container::sh("cat /proc/sys/kernel/domainname");
    c.config["domainname"] = json!("tare.example");
    c.run().ok().prints("tare.example\n");
}

#[test]
fn the_hosts_names_stay_as_they_are() {
    let names = || ["hostname", "domainname"].map(|name| fs::read(format!("/proc/sys/kernel/{name}")).expect("read"));
    let before = names();
    Container::new().run().ok();
    assert_eq!(names(), before);
}

#[test]
fn masked_paths_need_a_mount_namespace() {
    let mut c = Container::new();
    c.drop_namespace("mount");
    c.create().fails(&["namespace"]);
    c.assert_nothing_left();
}

/// In a mount namespace that the test may change: the rootfs is mounted there already, as engines do, then the runtime
/// runs, and the mount table is as before.
#[test]
fn without_a_mount_namespace_its_mounts_are_the_callers_until_it_is_deleted() {
    need_root!("an ordinary user may not mount in the own namespace");
    only_tare!("runc leaves the mounts behind");
    let mut c = Container::sh("readlink /proc/self/ns/mnt; ls -d /etc");
    c.drop_namespace("mount");
    c.config["linux"]["maskedPaths"] = json!([]);
    c.config["linux"]["readonlyPaths"] = json!([]);
    for (args, status) in [(None, 0), (Some("/no/such/program"), 1)] {
        if let Some(program) = args {
            c.args(&[program]);
        }
        c.save();
        for propagation in ["private", "shared"] {
            let script = "mount --bind \"$0\" \"$0\"; mount --make-private \"$0\"; mount --make-\"$1\" \"$0\"; shift
                cat /proc/self/mountinfo >before; readlink /proc/self/ns/mnt >ns
                \"$@\"; status=$?; cat /proc/self/mountinfo >after; exit $status";
            let mut command = Command::new("unshare");
            command.args(["-m", "--propagation", propagation, "sh", "-c", script]).arg(c.rootfs());
            c.append_run(command.arg(propagation));
            let outcome = c.finish(command.stdin(Stdio::null()).current_dir(c.bundle.dir.path())).code(status);
            let read = |name: &str| fs::read_to_string(c.beside(name)).expect("read");
            assert_eq!(read("after"), read("before"), "{propagation}");
            if status == 0 {
                assert_eq!(outcome.stdout, format!("{}/etc\n", read("ns")), "{propagation}");
            }
        }
    }
}

#[test]
fn an_empty_path_is_none() {
    let mut c = Container::sh("readlink /proc/self/ns/ipc");
    c.join_namespace("ipc", "");
    let own = fs::read_link("/proc/self/ns/ipc").expect("read the own namespace");
    let inside = c.run().ok().stdout;
    assert!(inside.starts_with("ipc:[") && inside.trim() != own.to_str().expect("a link"), "{inside}");
}

#[test]
fn the_hosts_name_is_not_changed_by_a_uts_namespace_that_is_joined() {
    only_tare!("the reference sets the host's name");
    need_root!("an ordinary user may not join the host's namespaces");
    // In a namespace of the test's own: a runtime that does it changes nobody's name.
    let changes = |c: &Container, path: &str| {
        let mut command = Command::new("unshare");
        command.args(["--uts", "sh", "-c", "hostname before; \"$@\"; status=$?; hostname; exit $status", "sh"]);
        c.save();
        c.append_run(&mut command);
        let outcome = c.finish(command.stdin(Stdio::null()));
        assert_eq!(outcome.stdout, "before\n", "{path}: {}", outcome.stderr);
        outcome
    };
    for path in ["/proc/self/ns/uts", "/proc/thread-self/ns/uts"] {
        let mut c = Container::new();
        c.join_namespace("uts", path);
        changes(&c, path).fails(&["hostname", "without a private UTS namespace"]);
        // What it is called already is no change.
        c.config["hostname"] = json!("before");
        changes(&c, path).ok();
        c.config["hostname"] = json!("");
        c.config["domainname"] = json!("example");
        changes(&c, path).fails(&["domainname", "without a private UTS namespace"]);
        c.assert_nothing_left();
    }
}

/// Its root would become the container's.
#[test]
fn the_hosts_mount_namespace_cannot_be_joined() {
    only_tare!("the reference changes the root of the host");
    need_root!("an ordinary user may not join the host's namespaces");
    let mut c = Container::new();
    c.join_namespace("mount", "/proc/self/ns/mnt");
    c.save();
    // A copy of the host's.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).stdin(Stdio::null());
    c.append_run(&mut command);
    c.finish(&mut command).fails(&["linux.namespaces", "mount namespace", "leave the entry out"]);
    c.assert_nothing_left();
}
