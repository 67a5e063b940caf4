//! `process.args`: finding the program, and the messages when it is not there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::container::Container;
use crate::runtime::{copy_program, is_tare, only_tare};

#[test]
fn arguments_arrive_as_they_are() {
    let mut c = Container::new();
    c.args(&["printf", "[%s]", "a b", "", "$HOME", "'\"\\", "ü"]);
    c.run().ok().prints("[a b][][$HOME]['\"\\][ü]");
}

#[test]
fn the_program_is_looked_up_in_the_containers_path() {
    let mut c = Container::new();
    fs::create_dir_all(c.rootfs().join("own/bin")).expect("mkdir");
    fs::write(c.rootfs().join("own/bin/tool"), "#!/bin/sh\necho found\n").expect("write");
    fs::set_permissions(c.rootfs().join("own/bin/tool"), PermissionsExt::from_mode(0o755)).expect("chmod");
    c.config["process"]["env"] = json!(["PATH=/nowhere:/own/bin:/bin"]);
    c.args(&["tool"]);
    c.run().ok().prints("found\n");
    c.config["process"]["env"] = json!(["PATH=/nowhere:/bin"]);
    c.run().fails(&["tool", "executable file not found in $PATH"]);
    c.assert_nothing_left();
}

#[test]
fn an_entry_of_path_that_is_not_executable_is_passed_over() {
    let mut c = Container::new();
    fs::create_dir_all(c.rootfs().join("first")).expect("mkdir");
    fs::write(c.rootfs().join("first/tool"), "#!/bin/sh\necho first\n").expect("write");
    fs::write(c.rootfs().join("bin/tool"), "#!/bin/sh\necho second\n").expect("write");
    fs::set_permissions(c.rootfs().join("bin/tool"), PermissionsExt::from_mode(0o755)).expect("chmod");
    c.config["process"]["env"] = json!(["PATH=/first:/bin"]);
    c.args(&["tool"]);
    c.run().ok().prints("second\n");
}

#[test]
fn a_relative_program_is_found_from_the_working_directory() {
    let mut c = Container::new();
    c.config["process"]["cwd"] = json!("/bin");
    c.args(&["./echo", "fine"]);
    c.run().ok().prints("fine\n");
}

#[test]
fn a_missing_program_fails_create_with_the_words_that_callers_match() {
    let mut c = Container::new();
    c.args(&["no-such-tool"]);
    c.create().fails(&["no-such-tool", "executable file not found in $PATH"]);
    c.assert_nothing_left();
    c.args(&["/no/such/tool"]);
    c.create().fails(&["/no/such/tool", "no such file or directory"]);
    c.assert_nothing_left();
}

#[test]
fn the_part_of_the_path_that_is_missing_or_closed_is_named() {
    only_tare!("the reference names the whole path only");
    let mut c = Container::new();
    c.args(&["/no/such/tool"]);
    c.create().fails(&["/no/such/tool: no such file or directory (\\\"/no\\\" does not exist)"]);
    c.args(&["/etc/passwd/tool"]);
    c.create().fails(&["not a directory (\\\"/etc/passwd\\\" is not a directory)"]);
    let closed = c.rootfs().join("closed");
    fs::create_dir(&closed).expect("mkdir");
    fs::copy(c.rootfs().join("bin/busybox"), closed.join("true")).expect("copy");
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).expect("chmod");
    c.args(&["/closed/true"]);
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    c.create().fails(&["permission denied (\\\"/closed\\\" may not be searched"]);
    c.assert_nothing_left();
}

#[test]
fn a_file_without_execute_permission_is_denied() {
    let mut c = Container::new();
    c.args(&["/etc/passwd"]);
    c.create().fails(&["/etc/passwd", "permission denied"]);
    c.assert_nothing_left();
}

#[test]
fn a_directory_is_no_program() {
    let mut c = Container::new();
    c.args(&["/etc"]);
    let outcome = c.create().fails(&["/etc"]);
    let known = ["is a directory", "permission denied"];
    assert!(known.iter().any(|words| outcome.stderr.contains(words)), "{}", outcome.stderr);
    c.assert_nothing_left();
}

#[test]
fn a_dangling_link_is_no_program() {
    let mut c = Container::new();
    symlink("/bin/nowhere", c.rootfs().join("bin/tool")).expect("symlink");
    c.args(&["/bin/tool"]);
    c.run().fails(&["no such file or directory"]);
    c.assert_nothing_left();
}

#[test]
fn a_link_that_leaves_the_rootfs_stays_inside() {
    let mut c = Container::new();
    symlink("../../../../../../bin/echo", c.rootfs().join("bin/tool")).expect("symlink");
    c.args(&["/bin/tool", "echo", "inside"]);
    // busybox looks at its own name: `tool` is none of its applets, so the link must lead to the container's busybox.
    let outcome = c.run();
    assert!(outcome.stderr.contains("applet not found"), "{}", outcome.stderr);
}

#[test]
fn a_file_that_is_no_program_fails() {
    let mut c = Container::new();
    fs::write(c.rootfs().join("bin/noise"), "no magic number\n").expect("write");
    fs::set_permissions(c.rootfs().join("bin/noise"), PermissionsExt::from_mode(0o755)).expect("chmod");
    c.args(&["/bin/noise"]);
    c.run().fails(&["exec format error"]);
    c.assert_nothing_left();
}

#[test]
fn a_script_whose_interpreter_is_missing_fails() {
    let mut c = Container::new();
    fs::write(c.rootfs().join("bin/script"), "#!/no/interpreter\n").expect("write");
    fs::set_permissions(c.rootfs().join("bin/script"), PermissionsExt::from_mode(0o755)).expect("chmod");
    c.args(&["/bin/script"]);
    let outcome = c.run().fails(&["no such file or directory"]);
    if is_tare() {
        assert!(outcome.stderr.contains("its interpreter"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("/no/interpreter"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(r#"\"/no\" does not exist"#), "{}", outcome.stderr);
    }
    c.assert_nothing_left();
    // With an interpreter that may not be executed it is the permission that is missing.
    fs::write(c.rootfs().join("bin/script"), "#!/etc/passwd\n").expect("write");
    let outcome = c.run().fails(&["permission denied"]);
    assert!(!is_tare() || outcome.stderr.contains("/etc/passwd"), "{}", outcome.stderr);
}

#[test]
fn a_capability_makes_up_for_a_missing_permission() {
    let mut c = Container::new();
    let program = c.rootfs().join("true");
    copy_program(&c.rootfs().join("bin/busybox"), &program);
    fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).expect("chmod");
    c.args(&["/true"]);
    c.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    c.create().fails(&["permission denied"]);
    let sets = ["bounding", "effective", "permitted", "inheritable", "ambient"];
    for set in sets {
        c.config["process"]["capabilities"][set] = json!(["CAP_DAC_OVERRIDE"]);
    }
    c.run().ok();
}

/// Makes a fifo that everybody may execute, and nobody writes to.
fn make_fifo(path: &Path) {
    let _ = fs::remove_file(path);
    mkfifo(path, Mode::from_bits_truncate(0o777)).expect("mkfifo");
    fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("chmod");
}

#[test]
fn a_fifo_a_socket_and_a_device_are_no_programs() {
    let mut c = Container::sleeping();
    let tool = c.rootfs().join("bin/tool");
    make_fifo(&tool);
    let _socket = UnixListener::bind(c.rootfs().join("bin/socket")).expect("bind");
    fs::set_permissions(c.rootfs().join("bin/socket"), PermissionsExt::from_mode(0o777)).expect("chmod");
    c.launch();
    for program in ["/bin/tool", "tool", "/bin/socket", "/dev/null"] {
        let outcome = c.call(&["exec", &c.id, program]);
        assert!(matches!(outcome.exit_code(), 1 | 255), "{program}: {}", outcome.exit_code());
        assert!(outcome.stderr.to_lowercase().contains("permission denied"), "{program}: {}", outcome.stderr);
    }
    c.delete_force().ok();
    c.args(&["/bin/tool"]);
    c.run().fails(&["permission denied"]);
    c.assert_nothing_left();
}

#[test]
fn a_fifo_in_the_place_of_an_interpreter_is_not_waited_for() {
    let mut c = Container::new();
    make_fifo(&c.rootfs().join("bin/tool"));
    fs::write(c.rootfs().join("bin/script"), "#!/bin/tool\n").expect("write");
    fs::set_permissions(c.rootfs().join("bin/script"), PermissionsExt::from_mode(0o755)).expect("chmod");
    c.args(&["/bin/script"]);
    c.run().fails(&["permission denied"]);
    c.assert_nothing_left();
}

/// Why it could not be executed is looked for in the file, which is another one by then.
#[test]
fn a_program_that_becomes_a_fifo_before_it_is_started_is_not_waited_for() {
    let mut c = Container::new();
    let tool = c.rootfs().join("bin/tool");
    fs::write(&tool, "#!/bin/sh\n").expect("write");
    fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).expect("chmod");
    c.args(&["/bin/tool"]);
    c.create().ok();
    make_fifo(&tool);
    c.start().fails(&["permission denied"]);
    c.delete_force().ok();
    c.assert_nothing_left();
}
