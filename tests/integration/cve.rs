//! Published attacks on container runtimes, tried as they were found.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::container::Container;
use crate::linux::uid_mappings::{call_as_ordinary_user, mapped, of_an_ordinary_user};
use crate::runtime::{copy_program, is_tare, need_root, only_tare, runtime, skip};
use crate::tracer;

/// A process in the container keeps the runtime's own file by /proc/<pid>/exe, and writes to it once it runs no more.
#[test]
fn cve_2019_5736_the_runtime_cannot_be_written_from_inside() {
    cannot_be_written_by_what_runs_from_it(&[]);
}

/// The kernel has two ways to exchange the file that a program runs from, and this capability is for one of them.
#[test]
fn cve_2019_5736_without_cap_sys_resource_it_cannot_be_written_either() {
    need_root!("an ordinary user has no capabilities anyway");
    cannot_be_written_by_what_runs_from_it(&[
        "setpriv",
        "--bounding-set=-sys_resource",
        "--inh-caps=-sys_resource",
        "--",
    ]);
}

fn cannot_be_written_by_what_runs_from_it(launcher: &[&str]) {
    let c = Container::sleeping();
    // A copy of its own: while any process executes a file, nobody can write to it.
    let copy = c.beside("runtime");
    copy_program(runtime(), &copy);
    let original = c.bundle_command("create", &[]);
    let words = launcher.iter().map(OsStr::new).chain([copy.as_os_str()]).chain(original.get_args());
    let words: Vec<&OsStr> = words.collect();
    c.save();
    c.finish(Command::new(words[0]).args(&words[1..])).ok();
    // What init runs, and each file that is a part of its memory.
    let init = PathBuf::from(format!("/proc/{}", c.pid()));
    let mapped = fs::read_dir(init.join("map_files")).into_iter().flatten().flatten().map(|entry| entry.path());
    let hold = |path: PathBuf| {
        // An ordinary user may not even open what is mapped.
        let held = File::options().read(true).custom_flags(nix::libc::O_PATH).open(&path);
        held.map_err(|error| assert!(path.parent() != Some(&init), "{path:?}: {error}")).ok().map(|held| (path, held))
    };
    let held: Vec<_> = mapped.chain([init.join("exe")]).filter_map(hold).collect();
    c.delete_force().ok();
    for (name, held) in held {
        let path = format!("/proc/self/fd/{}", held.as_raw_fd());
        // A read-only mount cannot be opened for it; a sealed copy, which an ordinary user gets, not be written.
        let error = File::options().write(true).open(&path).and_then(|mut file| file.write_all(b"#!/bin/sh\n"));
        let errno = error.expect_err("the runtime's file was written").raw_os_error();
        assert!(matches!(errno, Some(nix::libc::EROFS | nix::libc::EPERM)), "{name:?}: {errno:?}");
        let cut = File::options().write(true).truncate(true).open(&path);
        assert!(cut.is_err(), "the runtime's file was cut by {name:?}");
    }
}

/// What a process with a user and a mount namespace of its own can do to the mount that a file is of, which it has open as
/// its standard input: the error numbers of mount_setattr(2) without MOUNT_ATTR_RDONLY, of open_tree(2) with
/// OPEN_TREE_CLONE, and of faccessat2(2) with W_OK: to open it is ETXTBSY as long as it is executed.
const ATTACK: &str = r#"
    my $attributes = pack("Q4", 0, 1, 0, 0);
    my $changed = syscall(442, 0, my $empty = "", 0x1000, $attributes, 32) < 0 ? $! + 0 : 0;
    my $cloned = syscall(428, 0, $empty, 0x1001) < 0 ? $! + 0 : 0;
    my $written = syscall(439, -100, my $path = "/proc/self/fd/0", 2, 0) < 0 ? $! + 0 : 0;
    print "$changed $cloned $written";
"#;

/// Attacks the file that a process runs from, as a process of the container that may trace it could.
fn attack(pid: i32) -> Option<String> {
    let exe = File::open(format!("/proc/{pid}/exe")).expect("what it runs from");
    let output = Command::new("unshare").args(["--map-root-user", "--mount", "perl", "-e", ATTACK]).stdin(exe).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// While a descriptor of a detached mount is open, any process with a user namespace of its own may change the mount's
/// attributes by any file of it: nothing that the container sees may run from it then.
#[test]
fn cve_2019_5736_the_runtimes_mount_cannot_be_made_writable_when_it_is_seen() {
    need_root!("an ordinary user may not look at a process that hides");
    only_tare!("runc 1.1 runs from a copy in memory");
    let pod = Container::sleeping();
    pod.launch();
    let init = pod.pid();
    let mut member = Container::sleeping();
    member.join_namespace("pid", &format!("/proc/{init}/ns/pid"));
    member.save();
    let bundle = member.bundle.path().display().to_string();
    let exec = ["exec", &pod.id, "true"];
    let create = ["create", "--bundle", &bundle, &member.id];
    let mut found = Vec::new();
    for (c, args) in [(&pod, &exec[..]), (&member, &create[..])] {
        let traced = tracer::run(c, args, |pid| {
            let is_seen = tracer::shares_pids(pid, init);
            if is_seen {
                found.push(attack(pid));
            }
            is_seen
        });
        let Some(traced) = traced else { skip!("ptrace is not permitted here") };
        assert_eq!(traced.code, 0, "{}", traced.stderr);
    }
    found.push(attack(member.pid()));
    for errors in found {
        let Some(errors) = errors else { skip!("no unshare, no perl, or no user namespaces") };
        let errors: Vec<i32> = errors.split(' ').map(|errno| errno.parse().expect("a number")).collect();
        // The mount is in no namespace, and read-only (EROFS).
        assert!(errors[0] != 0 && errors[1] != 0 && errors[2] == 30, "{errors:?}");
    }
}

/// An ordinary user's runtime is root's file: nobody in the container is root to it.
#[test]
fn cve_2019_5736_an_ordinary_users_container_cannot_write_what_is_roots() {
    need_root!("the runtime is root's, and another user calls it");
    let mut c = mapped("true");
    of_an_ordinary_user(&mut c);
    let bundle = c.bundle.path().display().to_string();
    call_as_ordinary_user(&c, &["create", "--bundle", &bundle, &c.id]).ok();
    // As the container's root, with all its capabilities.
    let pid = c.pid().to_string();
    let write = format!("id -u; : >>/proc/{pid}/exe");
    let mut command = Command::new("nsenter");
    let outcome = c.finish(command.args(["--user", "--target", &pid, "sh", "-c", &write]));
    assert!(outcome.stdout == "0\n" && outcome.stderr.contains("Permission denied"), "{}", outcome.stderr);
    if is_tare() {
        let exe = fs::metadata(format!("/proc/{pid}/exe")).expect("what init runs");
        let of_root = fs::metadata(c.beside("runtime")).expect("the runtime");
        assert_eq!((exe.dev(), exe.ino()), (of_root.dev(), of_root.ino()), "a copy was needed");
    }
}

/// A working directory that is a descriptor of the runtime's leads to the host.
#[test]
fn cve_2024_21626_the_working_directory_is_inside() {
    for fd in 3..16 {
        let mut c = Container::sh("ls ../../../../etc/hostname /proc/1/cwd/..");
        c.config["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}"));
        let outcome = c.create();
        assert_eq!(outcome.exit_code(), 1, "descriptor {fd}: {}", outcome.stdout);
        c.assert_nothing_left();
    }
}

/// Init waits for `start` where processes of a shared pid namespace, or the host's, see what it holds open.
#[test]
fn cve_2024_21626_a_created_container_holds_nothing_of_the_host() {
    let c = Container::sleeping();
    // One that the runtime itself inherits.
    let inherited = File::open("/etc/passwd").expect("open a file of the host");
    nix::fcntl::fcntl(&inherited, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).expect("pass it on");
    c.create().ok();
    for entry in fs::read_dir(format!("/proc/{}/fd", c.pid())).expect("init's descriptors") {
        let entry = entry.expect("a descriptor");
        let number: u32 = entry.file_name().to_string_lossy().parse().expect("a number");
        let target = fs::read_link(entry.path()).expect("what it is").display().to_string();
        let allowed =
            target.starts_with("socket:[") || target.starts_with("anon_inode:") || target.ends_with("/exec.fifo");
        assert!(number < 3 || allowed, "{number}: {target}");
    }
    c.start().ok();
    c.delete_force().ok();
}

/// Inheritable capabilities come back with programs that have them in their file.
#[test]
fn cve_2022_24769_inheritable_capabilities_are_empty_unless_configured() {
    let c = Container::sh("sed -n s/CapInh:.//p /proc/self/status");
    c.run().ok().prints("0000000000000000\n");
}

/// A link in place of /proc or /sys leads the runtime's own writes elsewhere.
#[test]
fn cve_2019_19921_proc_and_sys_are_no_links() {
    for (name, leads_somewhere) in [("proc", true), ("sys", true), ("proc", false), ("sys", false)] {
        let c = Container::sleeping();
        let place = c.rootfs().join(name);
        let _ = fs::remove_dir(&place);
        if leads_somewhere {
            fs::create_dir_all(c.rootfs().join("elsewhere")).expect("mkdir");
        }
        symlink("/elsewhere", &place).expect("a link");
        c.create().fails(&[name]);
        c.assert_nothing_left();
    }
}

/// A link swapped in between two looks at a mount's destination leads onto the host: it must not even matter that it is
/// there.
#[test]
fn cve_2021_30465_a_destination_never_leaves_the_rootfs() {
    let outside = crate::bundle::TempDir::new();
    let mut c = Container::sh("cat /link/below/marker");
    fs::write(c.beside("marker"), "mounted\n").expect("the source");
    symlink(outside.path(), c.rootfs().join("link")).expect("a link");
    let source = c.beside("marker");
    c.add_mount(json!({ "destination": "/link/below/marker", "type": "bind", "source": source, "options": ["bind"] }));
    c.run().ok().prints("mounted\n");
    let left = fs::read_dir(outside.path()).expect("the directory outside").count();
    assert_eq!(left, 0, "something was made outside of the rootfs");
}

/// A /dev/null of the image's making would be mounted over masked paths, to be written to.
#[test]
fn cve_2025_31133_the_mask_is_the_hosts_null_device() {
    let mut c = Container::sh("cat /proc/keys | wc -c; stat -c %t:%T /proc/keys");
    // No /dev of the runtime's: the image brings its own.
    c.config["mounts"]
        .as_array_mut()
        .expect("mounts")
        .retain(|mount| mount["destination"].as_str().is_some_and(|destination| !destination.starts_with("/dev")));
    c.config["linux"]["maskedPaths"] = json!(["/proc/keys"]);
    c.writable_root();
    fs::create_dir_all(c.rootfs().join("dev")).expect("mkdir");
    let _ = fs::remove_file(c.rootfs().join("dev/null"));
    symlink("/proc/sysrq-trigger", c.rootfs().join("dev/null")).expect("a link");
    let outcome = c.create();
    if outcome.exit_code() == 0 {
        c.start().ok();
        c.wait_for_output(&outcome, "1:3");
    } else {
        // What is in the place of a device is refused as well.
        let named = ["/dev/null", "sysrq-trigger"].iter().any(|name| outcome.stderr.contains(name));
        assert!(named, "{}", outcome.stderr);
    }
}

/// The console is a terminal of the container's own devpts, not what the image puts in its place.
#[test]
fn cve_2025_52565_the_console_does_not_follow_the_image() {
    let mut c = Container::sh("true");
    c.config["process"]["terminal"] = json!(true);
    c.config["mounts"].as_array_mut().expect("mounts").retain(|mount| mount["destination"] != "/dev/pts");
    let path = c.beside("console.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).expect("bind the console socket");
    let outcome = c.create_with(&["--console-socket", path.to_str().expect("a path")]);
    outcome.fails(&[if is_tare() { "/dev/pts" } else { "ptmx" }]);
    c.assert_nothing_left();
}

/// A container with a terminal and the image's own /dev, where nothing but a devpts is mounted.
fn with_a_terminal_in_the_images_dev(pts: &str) -> Container {
    let mut c = Container::sh("true");
    c.config["process"]["terminal"] = json!(true);
    c.writable_root();
    let mounts = c.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| {
        let destination = mount["destination"].as_str().expect("a destination");
        !destination.starts_with("/dev") || destination == "/dev/pts"
    });
    let devpts = mounts.iter_mut().find(|mount| mount["destination"] == "/dev/pts").expect("a devpts");
    devpts["destination"] = json!(pts);
    c
}

/// Creates it with a console socket, which has to fail with these words and leave nothing.
fn refuses_the_terminal(c: &Container, words: &[&str]) {
    let path = c.beside("console.sock");
    let _ = fs::remove_file(&path);
    let _listener = std::os::unix::net::UnixListener::bind(&path).expect("bind the console socket");
    c.create_with(&["--console-socket", path.to_str().expect("a path")]).fails(words);
    c.assert_nothing_left();
}

/// The terminal would be mounted over a file of procfs that the container may not write to.
#[test]
fn cve_2025_52565_the_console_is_not_mounted_where_a_link_leads() {
    only_tare!("old references follow the link, and new ones replace it");
    for target in ["/proc/sys/kernel/domainname", "/etc/passwd", "/etc/missing", "pts/0"] {
        let c = with_a_terminal_in_the_images_dev("/dev/pts");
        symlink(target, c.rootfs().join("dev/console")).expect("a link");
        refuses_the_terminal(&c, &["/dev/console", "symbolic link"]);
        // In a volume.
        let mut c = with_a_terminal_in_the_images_dev("/dev/pts");
        let volume = c.beside("volume");
        fs::create_dir_all(volume.join("pts")).expect("mkdir");
        symlink(target, volume.join("console")).expect("a link");
        let mounts = c.config["mounts"].as_array_mut().expect("mounts");
        mounts.insert(0, json!({ "destination": "/dev", "type": "bind", "source": volume, "options": ["bind"] }));
        refuses_the_terminal(&c, &["/dev/console", "symbolic link"]);
        assert!(!c.rootfs().join("etc/missing").exists());
    }
}

#[test]
fn cve_2025_52565_a_devpts_by_a_link_is_not_the_containers() {
    only_tare!("old references follow the link");
    let c = with_a_terminal_in_the_images_dev("/elsewhere/pts");
    symlink("/elsewhere/pts", c.rootfs().join("dev/pts")).expect("a link");
    refuses_the_terminal(&c, &["/dev/pts", "symbolic link"]);
}

/// Device nodes, and the devices of the host that take their place in a user namespace, are not made where a link leads.
#[test]
fn cve_2025_52565_devices_are_not_made_where_a_link_leads() {
    only_tare!("the reference follows links of the image");
    let device = |path: &str| json!([{ "path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 0o666 }]);
    for path in ["/link/null", "/link/below/null", "/dangling/null"] {
        for mut c in [Container::new(), mapped("true")] {
            symlink("/tmp", c.rootfs().join("link")).expect("a link");
            symlink("/tmp/made", c.rootfs().join("dangling")).expect("a link");
            c.config["linux"]["devices"] = device(path);
            c.create().fails(&["linux.devices[0]", "symbolic link"]);
            c.assert_nothing_left();
            assert_eq!(fs::read_dir(c.rootfs().join("tmp")).expect("list").count(), 0, "{path}");
        }
    }
    // The image's /dev itself.
    let mut c = Container::new();
    let mounts = c.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| mount["destination"].as_str().is_some_and(|destination| !destination.starts_with("/dev")));
    fs::remove_dir(c.rootfs().join("dev")).expect("rmdir");
    symlink("tmp", c.rootfs().join("dev")).expect("a link");
    c.create().fails(&["/dev", "symbolic link"]);
    c.assert_nothing_left();
    assert_eq!(fs::read_dir(c.rootfs().join("tmp")).expect("list").count(), 0);
}
