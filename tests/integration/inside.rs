//! What a program sees in a container of the default bundle.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use crate::bundle::is_rootless;
use crate::container::Container;
use crate::runtime::{need_root, only_tare, skip};

/// The namespaces of the default bundle, by their names in /proc/<pid>/ns.
const NAMESPACES: &[&str] = &["pid", "net", "ipc", "uts", "mnt", "cgroup"];

#[test]
fn it_is_process_1_without_a_parent_and_leads_its_session() {
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/stat"]);
    let outcome = c.run().ok();
    let fields: Vec<&str> = outcome.stdout.split_whitespace().collect();
    // pid (comm) state ppid pgrp session tty
    assert_eq!(&fields[..7], ["1", "(cat)", "R", "0", "1", "1", "0"]);
}

#[test]
fn its_namespaces_are_new() {
    let names = NAMESPACES.join(" ");
    let c = Container::sh(&format!("for n in {names}; do echo $n=$(readlink /proc/self/ns/$n); done"));
    let outcome = c.run().ok();
    for line in outcome.stdout.lines() {
        let (name, link) = line.split_once('=').expect("name=link");
        let own = fs::read_link(format!("/proc/self/ns/{name}")).expect("read the link");
        assert!(link.starts_with(name) && link != own.to_str().expect("text"), "{line} is the host's");
    }
    assert_eq!(outcome.stdout.lines().count(), NAMESPACES.len());
}

#[test]
fn namespaces_without_an_entry_stay_the_hosts() {
    need_root!(
        "an ordinary user's container has a user namespace, whose root may not mount what the host's namespaces show"
    );
    let mut c = Container::sh("for n in user time; do readlink /proc/self/ns/$n; done");
    let own = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).expect("read the link");
    c.run().ok().prints(&format!("{}\n{}\n", own("user").display(), own("time").display()));
    for kind in ["network", "ipc", "uts"] {
        c.drop_namespace(kind);
    }
    // Without a uts namespace a hostname cannot be set.
    c.config.as_object_mut().expect("an object").remove("hostname");
    c.script("for n in net ipc uts; do readlink /proc/self/ns/$n; done");
    let expected: String = ["net", "ipc", "uts"].map(|name| format!("{}\n", own(name).display())).concat();
    c.run().ok().prints(&expected);
}

#[test]
fn its_hostname_is_the_configured_one() {
    let c = Container::sh("hostname; uname -n");
    c.run().ok().prints("tare\ntare\n");
}

/// `target type options` and the superblock's options, without what depends on the kernel's version or build.
fn mount_table(text: &str) -> Vec<String> {
    let strip = |options: &str| {
        let noise = ["inode64", "seclabel"];
        // With a user namespace tmpfs and devpts show whose they are, in the host's numbers.
        let owned = |option: &str| is_rootless() && (option.starts_with("uid=") || option.starts_with("gid="));
        options.split(',').filter(|option| !noise.contains(option) && !owned(option)).collect::<Vec<_>>().join(",")
    };
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        Some(format!("{} {} {} {} {}", left[4], strip(left[5]), right[0], right[1], strip(right[2])))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn its_mounts_are_the_configured_ones_with_their_options() {
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/mountinfo"]);
    let outcome = c.run().ok();
    let mounts = mount_table(&outcome.stdout);
    assert!(mounts[0].starts_with("/ ro,") || mounts[0].starts_with("/ ro "), "{}", mounts[0]);
    let expected = [
        "/proc rw,relatime proc proc rw",
        "/dev rw,nosuid tmpfs tmpfs rw,size=65536k,mode=755",
        "/dev/pts rw,nosuid,noexec,relatime devpts devpts rw,gid=5,mode=620,ptmxmode=666",
        "/dev/shm rw,nosuid,nodev,noexec,relatime tmpfs shm rw,size=65536k",
        "/dev/mqueue rw,nosuid,nodev,noexec,relatime mqueue mqueue rw",
        "/sys ro,nosuid,nodev,noexec,relatime sysfs sysfs ro",
    ];
    let expected = expected.map(|line| if is_rootless() { line.replace(",gid=5", "") } else { line.to_owned() });
    let missing: Vec<_> = expected.iter().filter(|line| !mounts.iter().any(|mount| mount == *line)).collect();
    assert!(missing.is_empty(), "missing {missing:#?} in {mounts:#?}");
    // No mount of the host may show through.
    let ours = ["/", "/proc", "/dev", "/sys"];
    for line in &mounts {
        let point = line.split(' ').next().unwrap_or_default();
        assert!(ours.iter().any(|top| point == *top || point.starts_with(&format!("{top}/"))), "{line}");
    }
}

#[test]
fn its_mounts_do_not_propagate_to_or_from_the_host() {
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/mountinfo"]);
    let outcome = c.run().ok();
    for line in outcome.stdout.lines() {
        assert!(!line.contains(" shared:"), "{line}");
    }
}

#[test]
fn its_cgroup_is_the_root_of_the_cgroup_namespace() {
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/cgroup"]);
    let outcome = c.run().ok();
    assert!(!outcome.stdout.is_empty());
    for line in outcome.stdout.lines() {
        assert!(line.ends_with(":/"), "{line}");
    }
}

#[test]
fn its_dev_has_the_default_devices_and_links() {
    let c = Container::sh("cd /dev; for f in *; do stat -c '%n %F %a %t:%T %u:%g %N' $f; done");
    let outcome = c.run().ok();
    // An ordinary user's are the host's own, bound, whose owner has no number in the container.
    let owner = if is_rootless() { "65534:65534" } else { "0:0" };
    let device = |name: &str, numbers: &str| format!("{name} character special file 666 {numbers} {owner} {name}");
    let link = |name: &str, target: &str| format!("{name} symbolic link 777 0:0 0:0 '{name}' -> '{target}'");
    let expected = BTreeSet::from([
        device("full", "1:7"),
        device("null", "1:3"),
        device("random", "1:8"),
        device("tty", "5:0"),
        device("urandom", "1:9"),
        device("zero", "1:5"),
        link("fd", "/proc/self/fd"),
        link("ptmx", "pts/ptmx"),
        link("stderr", "/proc/self/fd/2"),
        link("stdin", "/proc/self/fd/0"),
        link("stdout", "/proc/self/fd/1"),
    ]);
    let plain = |line: &&str| !line.contains(" directory ") && !line.starts_with("core symbolic link");
    let found: BTreeSet<String> = outcome.stdout.lines().filter(plain).map(normalise_quotes).collect();
    assert_eq!(found, expected, "{}", outcome.stdout);
    for dir in ["mqueue directory 1777", "pts directory 755", "shm directory 1777"] {
        assert!(outcome.stdout.lines().any(|line| line.starts_with(dir)), "{dir} in {}", outcome.stdout);
    }
}

/// busybox quotes `%N` differently in its versions.
fn normalise_quotes(line: &str) -> String {
    match line.split_once(" -> ") {
        Some((left, target)) => {
            let (left, name) = left.rsplit_once(' ').expect("a name");
            format!("{left} '{}' -> '{}'", name.trim_matches('\''), target.trim_matches('\''))
        }
        None => line.replace('\'', ""),
    }
}

#[test]
fn its_devices_work() {
    let c = Container::sh(
        "echo x >/dev/null; head -c 3 /dev/zero | od -An -tx1; head -c 8 /dev/urandom | wc -c; \
         echo x 2>/dev/null >/dev/full || echo full; : </dev/tty",
    );
    let outcome = c.run();
    assert_eq!(outcome.stdout, " 00 00 00\n8\nfull\n", "{}", outcome.stderr);
    // No terminal is attached.
    assert!(outcome.stderr.contains("/dev/tty: No such device or address"), "{}", outcome.stderr);
}

#[test]
fn masked_paths_show_nothing() {
    let mut c = Container::sh(
        "for p in /proc/acpi /proc/asound /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats \
         /proc/sched_debug /sys/firmware /proc/scsi; do \
         if [ -d $p ]; then echo d $p $(ls -A $p); elif [ -e $p ]; then echo f $p $(cat $p); fi; done",
    );
    let outcome = c.run().ok().silent();
    for line in outcome.stdout.lines() {
        assert_eq!(line.split(' ').count(), 2, "{line} shows something");
    }
    assert!(outcome.stdout.contains("f /proc/keys"), "{}", outcome.stdout);
    // A masked directory cannot be filled, not even by a capable program.
    c.capabilities(&["CAP_DAC_OVERRIDE"]);
    c.script("mkdir /sys/firmware/x");
    let outcome = c.run().code(1);
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
}

#[test]
fn own_masked_paths_hide_files_and_directories_of_the_rootfs() {
    let mut c = Container::sh("cat /etc/secret; ls -A /etc/keys; echo x >/etc/secret && cat /etc/secret");
    fs::write(c.rootfs().join("etc/secret"), "secret\n").expect("write");
    fs::create_dir(c.rootfs().join("etc/keys")).expect("mkdir");
    fs::write(c.rootfs().join("etc/keys/key"), "secret\n").expect("write");
    c.config["linux"]["maskedPaths"] = json!(["/etc/secret", "/etc/keys", "/etc/nowhere"]);
    c.run().ok().prints("");
    assert_eq!(fs::read_to_string(c.rootfs().join("etc/secret")).expect("read"), "secret\n");
}

#[test]
fn read_only_paths_refuse_writes() {
    let mut c = Container::sh(
        "echo 1 >/proc/sys/kernel/domainname; echo h >/proc/sysrq-trigger; echo 1 >/proc/irq/default_smp_affinity; \
         touch /sys/kernel/x",
    );
    c.capabilities(&["CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN"]);
    let outcome = c.run().code(1);
    let refused: Vec<_> = outcome.stderr.lines().filter(|line| line.contains("Read-only file system")).collect();
    let expected = outcome.stderr.lines().filter(|line| !line.contains("nonexistent")).count();
    assert!(refused.len() >= 3 && refused.len() == expected, "{}", outcome.stderr);
}

#[test]
fn own_read_only_paths_cover_what_is_below_and_keep_mount_flags() {
    let mut c = Container::sh(
        "touch /data/x; touch /data/below/x; touch /tmp/file; touch /tmp/fine && echo fine; \
         grep -E ' /(data|tmp/file) ' /proc/mounts | cut -d' ' -f2,4",
    );
    c.writable_root();
    fs::create_dir_all(c.rootfs().join("data/below")).expect("mkdir");
    c.add_mount(json!({ "destination": "/data", "type": "tmpfs", "options": ["nosuid", "nodev", "noexec"] }));
    c.add_mount(json!({ "destination": "/data/below", "type": "tmpfs", "options": ["nosuid"] }));
    fs::write(c.rootfs().join("tmp/file"), "").expect("write");
    c.config["linux"]["readonlyPaths"] = json!(["/data", "/tmp/file", "/nowhere"]);
    let outcome = c.run().ok();
    assert!(outcome.stdout.starts_with("fine\n"), "{}", outcome.stdout);
    // Mounted read-only over itself, without losing nosuid, nodev and noexec.
    assert!(outcome.stdout.contains("/data ro,nosuid,nodev,noexec"), "{}", outcome.stdout);
    let errors: Vec<&str> = outcome.stderr.lines().collect();
    assert!(errors.iter().any(|line| line.contains("/data/x: Read-only file system")), "{errors:?}");
    assert!(errors.iter().any(|line| line.contains("/tmp/file: Read-only file system")), "{errors:?}");
}

#[test]
fn a_read_only_root_refuses_writes_and_a_writable_one_takes_them() {
    let mut c = Container::sh("touch /file && echo written");
    let outcome = c.run().code(1);
    assert!(outcome.stderr.contains("/file: Read-only file system"), "{}", outcome.stderr);
    assert!(!c.rootfs().join("file").exists());
    c.writable_root();
    c.run().ok().prints("written\n");
    assert!(c.rootfs().join("file").exists());
}

#[test]
fn no_file_descriptor_of_the_runtime_is_open() {
    let c = Container::sh("ls /proc/1/fd; true");
    c.run().ok().prints("0\n1\n2\n");
}

#[test]
fn no_file_descriptor_of_the_caller_is_open() {
    let c = Container::sh("ls /proc/1/fd; true");
    c.save();
    // A caller that forgot to close its files: the shell keeps 7, 8 and 9 open over exec.
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "exec 7</ 8</etc/passwd 9</; exec \"$@\"", "sh"]).stdin(std::process::Stdio::null());
    c.append_run(&mut command);
    c.finish(&mut command).ok().prints("0\n1\n2\n");
}

#[test]
fn preserved_file_descriptors_are_open_and_no_other() {
    let c = Container::sh("ls /proc/1/fd; cat <&3; cat <&4; echo \"$LISTEN_FDS\"");
    c.save();
    fs::write(c.beside("three"), "three\n").expect("write");
    fs::write(c.beside("four"), "four\n").expect("write");
    let shell = |script: &str, flag: &str| {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).stdin(std::process::Stdio::null()).current_dir(c.bundle.dir.path());
        command.arg(crate::runtime::runtime()).args(c.global_args());
        command.args(["run", "--preserve-fds", flag, "--bundle"]).arg(c.bundle.path()).arg(&c.id);
        c.finish(&mut command)
    };
    let outcome = shell("exec 3<three 4<four 5<four 9<four; exec \"$@\"", "2").ok();
    assert_eq!(outcome.stdout, "0\n1\n2\n3\n4\nthree\nfour\n\n", "{}", outcome.stderr);
    c.assert_nothing_left();
}

#[test]
fn the_sockets_of_a_service_manager_are_passed_on() {
    let c = Container::sh("env | grep LISTEN | sort; cat <&3; cat <&4");
    c.save();
    fs::write(c.beside("three"), "three\n").expect("write");
    fs::write(c.beside("four"), "four\n").expect("write");
    let shell = |pid: &str, flag: &str| {
        let script = format!("exec 3<three 4<four; LISTEN_PID={pid} LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$@\"");
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &script, "sh"]).stdin(std::process::Stdio::null()).current_dir(c.bundle.dir.path());
        command.arg(crate::runtime::runtime()).args(c.global_args());
        command.args(["run", "--preserve-fds", flag, "--bundle"]).arg(c.bundle.path()).arg(&c.id);
        c.finish(&mut command)
    };
    let told = if crate::runtime::is_tare() { "LISTEN_FDNAMES=web\n" } else { "" };
    shell("$$", "1").ok().prints(&format!("{told}LISTEN_FDS=1\nLISTEN_PID=1\nthree\nfour\n"));
    // Somebody else's.
    shell("1", "2").ok().prints("three\nfour\n");
}

#[test]
fn a_descriptor_that_is_not_open_cannot_be_preserved() {
    only_tare!("in runc the number may be taken by Go's own descriptors");
    let c = Container::new();
    c.run_with(&["--preserve-fds", "1"]).fails(&["3"]);
    c.assert_nothing_left();
}

#[test]
fn more_descriptors_than_there_can_be_are_refused() {
    only_tare!("the reference takes LISTEN_FDS as it is");
    let c = Container::sh("echo it runs");
    c.save();
    for count in ["4294967295", "4294967294", "4294967293", "4294967292", "2147483648", "2147483645", "1000"] {
        let (shown, flags) = ("--preserve-fds", ["--preserve-fds", count]);
        c.run_with(&flags).fails(&[shown, count]).prints("");
        let script = format!("LISTEN_PID=$$ LISTEN_FDS={count} exec \"$@\"");
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &script, "sh"]).stdin(std::process::Stdio::null());
        c.append_run(&mut command);
        c.finish(&mut command).fails(&["LISTEN_FDS", count]).prints("");
    }
    c.assert_nothing_left();
    // Both at once, of which the sum is too large.
    let mut command = std::process::Command::new("/bin/sh");
    let script = "exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    command.args(["-c", script, "sh"]).stdin(std::process::Stdio::null()).arg(crate::runtime::runtime());
    command.args(c.global_args()).args(["run", "--preserve-fds", "4294967295", "--bundle"]);
    c.finish(command.arg(c.bundle.path()).arg(&c.id)).fails(&["--preserve-fds"]).prints("");
    c.assert_nothing_left();
}

#[test]
fn its_signals_are_neither_ignored_nor_blocked_by_the_runtime() {
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/status"]);
    let outcome = c.run().ok();
    // What the caller ignores is inherited.
    let caller = c.finish(std::process::Command::new("cat").arg("/proc/self/status"));
    let mask = |text: &str| u64::from_str_radix(text, 16).expect("a signal mask");
    assert_eq!(mask(outcome.field("SigIgn")) & !mask(caller.field("SigIgn")), 0, "{}", outcome.field("SigIgn"));
    for field in ["SigBlk", "SigPnd", "ShdPnd"] {
        assert_eq!(mask(outcome.field(field)), 0, "{field}");
    }
}

#[test]
fn the_loopback_is_up_in_a_new_network_namespace() {
    let c = Container::sh("cat /sys/class/net/lo/flags; ls /sys/class/net");
    let outcome = c.run().ok();
    let flags = outcome.stdout.lines().next().unwrap_or_default().trim_start_matches("0x");
    let flags = u32::from_str_radix(flags, 16).unwrap_or_else(|_| outcome.fail("expected flags"));
    assert_eq!(flags & 1, 1, "IFF_UP of lo: {}", outcome.stdout);
}

#[test]
fn it_does_not_see_the_hosts_processes() {
    let c = Container::sh("ls /proc | grep -c '^[0-9]*$'; true");
    let outcome = c.run().ok();
    let count: u32 = outcome.stdout.trim().parse().unwrap_or_else(|_| outcome.fail("expected a number"));
    assert!(count <= 4, "{count} processes");
}

#[test]
fn it_works_as_non_root_user_with_nothing_writable() {
    let mut c = Container::sh("id -u; id -g; cat /proc/self/status");
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let outcome = c.run().ok();
    assert!(outcome.stdout.starts_with("1000\n1000\n"), "{}", outcome.stdout);
    assert_eq!(outcome.field("CapEff"), "0000000000000000");
}

#[test]
fn the_default_bundle_of_spec_runs() {
    let c = Container::new();
    let flags: &[&str] = if is_rootless() { &["spec", "--rootless"] } else { &["spec"] };
    c.finish(c.command(flags).arg("--bundle").arg(c.bundle.path())).ok();
    let written = fs::read_to_string(c.config_file()).expect("read config.json");
    let mut config: serde_json::Value = serde_json::from_str(&written).expect("JSON");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", "echo $$"]);
    let mut c = c;
    c.config = config;
    if c.config["linux"].is_null() {
        skip!("this runtime's spec is for another system");
    }
    c.run().ok().prints("1\n");
    c.assert_nothing_left();
}
